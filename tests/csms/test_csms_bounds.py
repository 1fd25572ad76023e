"""The queue is bounded: samples in the middle go, nothing else ever does; and it is told at a pace that starves nobody."""

import json

import pytest

from cem.csms.pace import Pace, Room, Shared
from cem.csms.records import JournalMark
from cem.csms.thinning import NEVER, WHERE_DENSE, WHERE_SHORT, thin
from tests.csms.rig import Rig
from tests.csms.test_csms_ledger import OFFLINE, kinds, meter, told, waiting
from tests.csms.test_csms_proxy import VERSIONS, joined


def short_of_room(version="2.0.1", **room):
    return joined(Rig(version, upstream=True, options=OFFLINE, shared=Shared(Room(**room))))


def registers(rig):
    """The register of each sample that waits, in order."""
    found = []
    for entry in waiting(rig):
        values = json.loads(entry.text)[3].get("meterValue")
        if entry.kind == "update" and values:
            found.append(float(values[0]["sampledValue"][0]["value"]))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_samples_closer_than_a_minute_are_thinned_as_they_come_but_the_first_and_the_last(version):
    rig = short_of_room(version)
    rig.cloud_closed()
    tx = rig.start()
    for number in range(31):
        meter(rig, tx, 1000 + number, number=number + 1)
        rig.pass_time(10)
    rig.stop(tx)
    found = registers(rig)
    assert (found[0], found[-1]) == (1000, 1030)
    assert 5 <= len(found) <= 8
    assert rig.session.status()["queues"][0]["thinned"] == 31 - len(found)
    assert [e.code for e in rig.emitted].count("queue_thinned") == 1
    rig.cloud_opened()
    assert len(told(rig)) == len(found) + 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_thinned_sample_that_is_told_again_after_a_restart_does_not_pass_for_the_latest(version):
    rig = short_of_room(version)
    rig.cloud_closed()
    tx = rig.start()
    said = []
    for number in range(1, 4):
        rig.pass_time(10)
        said.append((rig.at_s, 1000 + number, number))
        meter(rig, tx, 1000 + number, number=number)
    assert registers(rig) == [1001, 1003]
    after = rig.again()
    after.open()
    for at_s, wh, number in said[1:]:  # what the station had no answer to
        after.at_s = at_s
        assert meter(after, tx, wh, number=number) is not None
    assert registers(after) == [1001, 1003]


@pytest.mark.parametrize("version", VERSIONS)
def test_i11_where_room_is_short_every_second_sample_goes_and_nothing_else(version):
    rig = short_of_room(version, per_station=20)
    rig.cloud_closed()
    for session in range(3):
        tx = rig.start(tx=f"tx{session}", meter=10_000 * session)
        for number in range(30):
            rig.pass_time(61, step=61)
            context = "Sample.Clock" if number % 2 else "Sample.Periodic"
            meter(rig, tx, 10_000 * session + number, number=number + 1, context=context)
        rig.stop(tx, meter=10_000 * session + 99)
    queue = waiting(rig)
    assert len(queue) <= 21
    assert [e.kind for e in queue].count("start") == [e.kind for e in queue].count("stop") == 3
    found = registers(rig)
    for session in range(3):
        assert 10_000 * session in found
        assert 10_000 * session + 29 in found
    assert found == sorted(found)
    dropped = [r for r in rig.records if isinstance(r, JournalMark) and r.state == "dropped"]
    assert len(dropped) + len(queue) == 96
    assert rig.again().session.status()["journal"] == len(queue)


def test_i11_what_must_not_be_dropped_stays_beyond_the_room_and_is_an_alarm():
    rig = short_of_room(per_station=10)
    rig.cloud_closed()
    for number in range(8):
        tx = rig.start(tx=f"tx{number}")
        meter(
            rig, tx, 1, number=1, signedMeterValue={"signedMeterData": "A", "signingMethod": "", "encodingMethod": ""}
        )
        rig.stop(tx)
    assert len(waiting(rig)) == 24
    assert [e.code for e in rig.emitted].count("queue_full") == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_i11_beyond_ten_times_the_room_a_start_is_refused_not_lost_and_a_stop_is_taken(version):
    rig = short_of_room(version, per_station=3)
    rig.cloud_closed()
    running = None
    taken = 0
    for number in range(40):
        before = len(rig.down)
        tx = rig.start(tx=f"tx{number}", meter=number)
        refused = [m for m in rig.down[before:] if m[0] == 4]
        if refused:
            break
        taken += 1
        running = tx
    assert taken == 30
    assert refused[0][2] == "InternalError"
    assert "queue_refuses" in [e.code for e in rig.emitted]
    assert rig.stop(running) is not None
    rig.cloud_opened()
    heard = kinds(told(rig))
    assert (heard.count("start"), heard.count("stop")) == (30, 1)
    for _ in range(2):  # told again, and the refused one was not: that is given up
        rig.start(tx="later", meter=777)
    assert kinds(told(rig)) == ["start"]  # there is room again


def say(rig, kind, tx, number):
    """One message of a 2.x transaction; whether it was taken."""
    payload = {
        "eventType": kind, "timestamp": f"2026-11-22T10:00:{number:02d}Z", "triggerReason": "RemoteStop", "seqNo": number,
        "transactionInfo": {"transactionId": tx}, "evse": {"id": 1, "connectorId": 1},
    }  # fmt: skip
    return rig.call("TransactionEvent", payload) is not None


def filled(per_station=3):
    """A station of which as much waits as may; its next start is refused, an end would be taken."""
    rig = short_of_room(per_station=per_station)
    rig.cloud_closed()
    for number in range(10 * per_station):
        assert say(rig, "Started", f"before-{number}", 0)
    return rig


def test_i6_the_end_of_a_transaction_is_not_taken_before_the_start_that_was_refused():
    """A station that does not wait for an answer tells the end before it repeats the start."""
    rig = filled()
    assert not say(rig, "Started", "tx", 0)
    assert not say(rig, "Updated", "tx", 1)
    rig.cloud_opened()
    told(rig)
    assert waiting(rig) == []
    assert not say(rig, "Ended", "tx", 2)  # there is room, but the start has still to come
    assert [say(rig, kind, "tx", n) for n, kind in enumerate(("Started", "Updated", "Ended"))] == [False] * 3
    # None of these is answered yet because they are on their way to the cloud.
    assert kinds(told(rig)) == ["start", "update", "stop"]
    assert say(rig, "Ended", "tx", 2)


def test_a_refused_start_that_is_refused_again_keeps_its_place():
    rig = filled()
    for _ in range(3):
        assert not say(rig, "Started", "tx", 0)
        assert not say(rig, "Ended", "tx", 1)
        rig.pass_time(35)
    rig.cloud_opened()
    told(rig)
    assert not say(rig, "Started", "another", 2)
    say(rig, "Started", "tx", 0)
    say(rig, "Ended", "tx", 1)
    say(rig, "Started", "another", 2)
    assert kinds(told(rig)) == ["start", "stop", "start"]


def test_a_station_that_gave_up_its_refused_start_is_heard_at_its_second_try():
    """It waits for each answer: what it goes on to tell proves that the start will not come again."""
    rig = filled()
    for _ in range(3):
        assert not say(rig, "Started", "tx", 0)
        rig.pass_time(10)
    assert not say(rig, "Ended", "tx", 1)
    assert say(rig, "Ended", "tx", 1)


def test_a_station_that_repeats_nothing_is_heard_again_after_two_minutes():
    rig = filled()
    for number in range(12):
        assert not say(rig, "Started", f"tx{number}", 0)
        rig.pass_time(9, step=9)
    rig.cloud_opened()
    told(rig)
    rig.pass_time(20)
    say(rig, "Started", "later", 0)
    assert kinds(told(rig)) == ["start"]


def test_the_site_is_bounded_too_and_shares_what_there_is():
    shared = Shared(Room(per_station=1000, per_site=40, stations=2))
    rig = joined(Rig("2.0.1", upstream=True, options=OFFLINE, shared=shared))
    rig.cloud_closed()
    tx = rig.start()
    shared.room.used += 30  # the other station's
    for number in range(60):
        rig.pass_time(61, step=61)
        meter(rig, tx, number, number=number + 1)
    assert len(waiting(rig)) <= 21
    assert shared.room.used == 30 + len(waiting(rig))
    rig.cloud_opened()
    told(rig)
    assert shared.room.used == 30


def test_room_is_counted_right_through_refusal_and_retry():
    shared = Shared()
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE, shared=shared))
    rig.cloud_closed()
    rig.stop(rig.start())
    rig.cloud_opened()
    rig.cloud(3, rig.up[-1][1], {})
    for _ in range(3):
        rig.cloud(4, rig.up[-1][1], "InternalError", "", {})
        rig.pass_time(31)
    assert (rig.session.status()["journal"], shared.room.used) == (0, 2)
    rig.take(rig.session.retry_refused(rig.now))
    told(rig)
    assert shared.room.used == 0


@pytest.mark.parametrize(
    ("payload", "how"),
    [
        ({"triggerReason": "MeterValuePeriodic", "meterValue": []}, WHERE_DENSE),
        ({"triggerReason": "MeterValueClock", "meterValue": []}, WHERE_SHORT),
        ({"triggerReason": "ChargingStateChanged", "meterValue": []}, NEVER),
        ({"triggerReason": "MeterValuePeriodic", "idToken": {}}, NEVER),
        ({"triggerReason": "MeterValuePeriodic", "customData": {}}, NEVER),
        ({"triggerReason": "MeterValuePeriodic", "transactionInfo": {"stoppedReason": "Local"}}, NEVER),
        ({"meterValue": [{"sampledValue": [{"value": "1"}]}]}, WHERE_DENSE),
        ({"meterValue": [{"sampledValue": [{"value": "1", "context": "Sample.Clock"}, {"value": "2"}]}]}, WHERE_SHORT),
        ({"meterValue": [{"sampledValue": [{"value": "1", "context": "Transaction.Begin"}]}]}, NEVER),
        ({"meterValue": [{"sampledValue": [{"value": "A", "format": "SignedData"}]}]}, NEVER),
        ({"meterValue": []}, NEVER),
        ({}, NEVER),
    ],
)
def test_what_may_be_dropped(payload, how):
    text = json.dumps([2, "i", "X", payload])
    assert thin("update", text, payload) == how
    assert thin("start", text, payload) == thin("stop", text, payload) == NEVER


def test_c4_the_pace_is_kept_whoever_asks_and_a_clock_that_stands_gives_nothing():
    pace = Pace(rate_per_s=10, burst=5)
    assert sum(pace.take(100.0) for _ in range(50)) in range(5, 21)
    pace = Pace(rate_per_s=10, burst=5)
    taken = sum(pace.take(100.0 + tenth / 10) for tenth in range(1001) for _ in range(3))
    assert 1000 <= taken <= 1021


def test_c4_live_messages_go_before_the_backlog_and_may_overtake_one_that_is_left_unanswered():
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    rig.stop(rig.start())
    rig.cloud_opened()
    rig.cloud(3, rig.up[-1][1], {})
    assert kinds([rig.up[-1]]) == ["start"]
    start = rig.up[-1]
    rig.text('[2,"a","Authorize",{"idTag":"TAG"}]')
    assert rig.up[-1] == start  # one CALL at a time
    rig.pass_time(6)
    assert rig.up[-1][2] == "Authorize"
    rig.cloud(3, "a", {"idTagInfo": {"status": "Accepted"}})
    assert [m for m in rig.down if m[:2] == [3, "a"]]
    assert [m[1] for m in rig.up].count(start[1]) == 1
    rig.cloud(3, start[1], {"transactionId": 3, "idTagInfo": {"status": "Accepted"}})
    assert kinds([rig.up[-1]]) == ["stop"]


def test_a_live_message_that_shares_its_id_with_one_of_the_backlog_waits_for_it():
    rig = joined(Rig("2.0.1", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    rig.start()
    rig.cloud_opened()
    while kinds([rig.up[-1]]) != ["start"]:
        rig.cloud(3, rig.up[-1][1], {})
    same = rig.up[-1][1]
    rig.text(json.dumps([2, same, "Authorize", {"idToken": {"idToken": "TAG", "type": "ISO14443"}}]))
    rig.pass_time(6)
    assert rig.up[-1][2] == "TransactionEvent"
    rig.cloud(3, same, {})
    assert rig.up[-1][:3] == [2, same, "Authorize"]
    assert waiting(rig) == []
