"""Which clock said what: a session's record keeps the station's times and ours, and says where one of them is doubtful."""

from datetime import timedelta

import pytest

from cem.csms.records import SessionUpdate
from cem.store import Store
from cem.store.details import read_details
from tests.csms.rig import START_UTC, Rig
from tests.csms.test_csms_standalone import online


class Moved(Rig):
    """One whose controller's clock can be set."""

    set_by = timedelta()

    @property
    def now(self):
        now = super().now
        return now._replace(utc=now.utc + self.set_by)


async def on_record(rig, folder):
    """The only session, as it stands in a real ledger."""
    store = Store(folder / "var")
    try:
        await store.commit([record for record in rig.records if isinstance(record, SessionUpdate)])
        [session] = store.sessions()
        return session, read_details(folder / "var" / "ledger.db", [session])[session.session_id]
    finally:
        store.close()


def session_of(rig, ahead=timedelta()):
    """A session of an hour with a station whose clock is off."""
    here = rig.stamp
    rig.stamp = lambda: (rig.now.utc + ahead).isoformat().replace("+00:00", "Z")
    tx = rig.start()
    rig.obey()
    for number in range(1, 7):
        rig.pass_time(600, step=60)
        if rig.version == "2.0.1":
            sample = {"value": number * 100, "context": "Sample.Periodic", "measurand": "Energy.Active.Import.Register"}
            rig.call("TransactionEvent", {
                "eventType": "Updated", "timestamp": rig.stamp(), "triggerReason": "MeterValuePeriodic", "seqNo": number,
                "transactionInfo": {"transactionId": tx}, "meterValue": [{"timestamp": rig.stamp(), "sampledValue": [sample]}],
            })  # fmt: skip
        rig.obey()
    rig.stop(tx)
    rig.stamp = here


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
async def test_s17_both_times_of_a_session_are_kept_and_a_wrong_clock_is_flagged(version, tmp_path):
    rig = Moved(version)
    rig.open()
    online(rig)
    began = rig.now.utc
    session_of(rig, ahead=timedelta(hours=2))
    session, details = await on_record(rig, tmp_path)
    assert session.started_utc == began + timedelta(hours=2)
    assert details.started_here_utc == began.isoformat()
    assert details.stopped_here_utc == rig.now.utc.isoformat()
    assert details.clock == "the station's clock was 7200 s ahead"


async def test_s17_right_clocks_leave_no_doubt(tmp_path):
    rig = Moved("2.0.1")
    rig.open()
    online(rig)
    session_of(rig)
    session, details = await on_record(rig, tmp_path)
    assert session.started_utc.isoformat() == details.started_here_utc
    assert details.clock == ""


@pytest.mark.parametrize("by", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=3650)])
async def test_l8_a_session_during_which_our_clock_was_set_is_flagged(by, tmp_path):
    rig = Moved("1.6")
    rig.open()
    online(rig)
    tx = rig.start()
    rig.set_by = by
    rig.pass_time(60, step=10)
    rig.stamp = lambda: (rig.now.utc - by).isoformat().replace("+00:00", "Z")  # the station's is right
    rig.stop(tx)
    session, details = await on_record(rig, tmp_path)
    assert session.stopped_utc - session.started_utc == timedelta(seconds=60)
    assert f"this controller's clock was set by {by.total_seconds():+.0f} s meanwhile" in details.clock
    assert details.started_here_utc == (START_UTC + timedelta(seconds=100)).isoformat()


async def test_s18_a_session_that_went_on_after_its_record_was_closed_has_its_own_end(tmp_path):
    steps = [
        ("start", 0, 1000.0, None), ("stop", 60, 1500.0, "Lost"), ("resume", 600, None, None), ("meter", 600, 3000.0, None),
        ("stop", 900, 4000.0, "Local"),
    ]  # fmt: skip
    store = Store(tmp_path)
    for count, (kind, after_s, wh, reason) in enumerate(steps, 1):
        at = START_UTC + timedelta(seconds=after_s)
        await store.commit([SessionUpdate("one", "S1", "S1/1", kind, at, "tx", wh, reason=reason, here_utc=at)])
        assert len(store.open_sessions()) == (count in {1, 3, 4})
        [session] = store.sessions()
        details = read_details(tmp_path / "ledger.db", [session])["one"]
        assert details.stopped_here_utc == (None if count in {1, 3, 4} else at.isoformat())
    assert (session.reason, session.energy_wh, session.stopped_utc) == ("Local", 3000.0, at)
    store.close()
