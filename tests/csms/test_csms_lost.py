"""S18: a station reboots in a transaction and says nothing more of it, or goes on after all, or tells of its end late."""

import json

import pytest

from cem.csms.records import SessionUpdate
from cem.csms.transactions import LOST_ROOM, LOST_S
from cem.store.sessions import fold
from tests.csms.rig import Rig
from tests.csms.test_csms_ledger import OFFLINE, meter, told
from tests.csms.test_csms_proxy import VERSIONS, joined


@pytest.fixture(params=VERSIONS)
def rig(request):
    return joined(Rig(request.param, upstream=True, options=OFFLINE))


def begun(rig):
    """A transaction of which the cloud knows; gives the station's id for it."""
    rig.start()
    told(rig)
    if rig.version == "1.6":
        return [m for m in rig.down if m[0] == 3][-1][2]["transactionId"]
    meter(rig, "tx-1", 1000, context="Transaction.Begin")
    told(rig)
    return "tx-1"


def status(rig, word, number=1):
    if rig.version == "1.6":
        rig.call("StatusNotification", {"connectorId": number, "errorCode": "NoError", "status": word})
    else:
        word = "Occupied" if word == "Preparing" else word
        payload = {"timestamp": rig.stamp(), "connectorStatus": word, "evseId": number, "connectorId": 1}
        rig.call("StatusNotification", payload)
    told(rig)


def rebooted(rig, word="Available"):
    """The station starts anew and shows the connector free."""
    rig.close()
    rig.pass_time(20)
    rig.open()
    rig.cloud_opened()
    rig.text(json.dumps([2, f"boot{rig.at_s}", "BootNotification", {"reason": "PowerUp"}]))
    told(rig)
    status(rig, word)


def records(rig):
    """The sessions as the store folds them."""
    found = {}
    for step in rig.records:
        if isinstance(step, SessionUpdate):
            found[step.session_id] = fold(found.get(step.session_id), step)
    return list(found.values())


def heard(rig):
    """Transaction messages that the cloud was sent, by message id."""
    words = {"StartTransaction", "StopTransaction", "TransactionEvent"}
    return [m[1] for m in rig.up if m[0] == 2 and m[2] in words]


def test_s18_a_transaction_that_a_reboot_ended_is_closed_and_marked_in_our_own_record_alone(rig):
    tx = begun(rig)
    meter(rig, tx, 1500)
    told(rig)
    before = heard(rig)
    rebooted(rig)
    lost = rig.now.utc
    rig.pass_time(LOST_S - 5)
    assert records(rig)[0].open
    assert not rig.state().charging
    rig.pass_time(10)
    (session,) = records(rig)
    assert (session.open, session.reason, session.energy_wh) == (False, "Lost", 500)
    assert abs((session.stopped_utc - lost).total_seconds()) < 5  # when the connector was free, not when we gave up
    assert [e.code for e in rig.emitted].count("transaction_lost") == 1
    assert heard(rig) == before  # we author nothing
    rig.pass_time(600)
    assert [s.kind for s in rig.sessions()].count("stop") == 1


def test_s18_a_transaction_that_goes_on_after_all_is_one_record_with_its_own_end(rig):
    tx = begun(rig)
    rebooted(rig)
    rig.pass_time(LOST_S + 5)
    assert not records(rig)[0].open
    meter(rig, tx, 3000, number=5)
    told(rig)
    assert records(rig)[0].open
    assert rig.state().charging
    rig.pass_time(LOST_S + 5)
    rig.stop(tx, meter=6000)
    told(rig)
    (session,) = records(rig)
    assert (session.open, session.energy_wh) == (False, 5000)
    assert session.reason != "Lost"
    assert not rig.state().charging


@pytest.mark.parametrize("wait_s", [10, LOST_S + 5])
@pytest.mark.parametrize("another", [False, True])
def test_s18_a_late_stop_gives_its_energy_and_reason_and_reaches_the_cloud(rig, wait_s, another):
    tx = begun(rig)
    rebooted(rig)
    rig.pass_time(wait_s)
    if another:  # it stands at the EVSE when the old one's end is told
        rig.start(tx="tx-2", meter=8000)
        told(rig, cloud_id=32)
    measured_s = rig.state().measured_s
    payload = (
        {"transactionId": tx, "meterStop": 4200, "timestamp": rig.stamp(), "reason": "PowerLoss"}
        if rig.version == "1.6"
        else {
            "eventType": "Ended", "timestamp": rig.stamp(), "triggerReason": "AbnormalCondition", "seqNo": 9,
            "transactionInfo": {"transactionId": tx, "stoppedReason": "PowerLoss"},
            "meterValue": [{"timestamp": rig.stamp(), "sampledValue": [
                {"value": 4200}, {"value": 0, "measurand": "Current.Import"}
            ]}],
        }
    )  # fmt: skip
    rig.text(json.dumps([2, "late", "StopTransaction" if rig.version == "1.6" else "TransactionEvent", payload]))
    told(rig)
    session = records(rig)[0]
    assert (session.open, session.reason, session.energy_wh) == (False, "PowerLoss", 3200)
    assert heard(rig).count("late") == 1
    assert rig.state().charging == another
    assert not another or rig.state().measured_s == measured_s  # the old one's values are not the new one's
    assert [s.open for s in records(rig)[1:]] == [True] * another


@pytest.mark.parametrize("wait_s", [10, LOST_S + 5])
def test_s18_what_was_lost_is_not_charging_again_after_our_restart(rig, wait_s):
    tx = begun(rig)
    rebooted(rig)
    rig.pass_time(wait_s)
    after = rig.again()
    assert not after.state().charging
    after.open()
    after.cloud_opened()
    after.pass_time(LOST_S + 5)
    (session,) = records(after)
    assert (session.open, session.reason) == (False, "Lost")
    again = after.again()
    again.open()
    again.cloud_opened()
    meter(again, tx, 2500, number=6)
    told(again)
    assert again.state().charging
    third = again.again()
    assert third.state().charging
    third.open()
    third.cloud_opened()
    third.stop(tx, meter=2600)
    told(third)
    (session,) = records(third)
    assert (session.open, session.energy_wh) == (False, 1600)
    assert session.reason != "Lost"


def test_s18_in_1_6_a_plugged_car_without_a_transaction_after_a_reboot_has_lost_it():
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    begun(rig)
    status(rig, "Preparing")  # late, of its beginning
    rig.pass_time(LOST_S + 5)
    assert rig.state().charging
    rebooted(rig, "Preparing")
    assert not rig.state().charging
    assert rig.state().connected
    rig.pass_time(LOST_S + 5)
    assert [s.reason for s in records(rig)] == ["Lost"]


def test_i11_lost_transactions_whose_end_is_never_told_are_bounded():
    rig = Rig("2.1")
    rig.open()
    rig.boot()
    for number in range(LOST_ROOM + 10):
        rig.start(tx=f"tx-{number}")
        status(rig, "Available")
        rig.pass_time(LOST_S + 5, step=5)
    assert len(rig.session.picture.transactions.closed) == LOST_ROOM
    assert {s.reason for s in records(rig)} == {"Lost"}
