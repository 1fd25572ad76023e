"""A station without a cloud: served, held and recorded by us."""

import json

import pytest

from cem.csms.actions import CloseStation
from cem.csms.ladder import LADDER
from tests.csms.rig import Rig, boot_payload, evse, good_answer

VERSIONS = ["1.6", "2.0.1", "2.1"]


@pytest.fixture(params=VERSIONS)
def rig(request):
    rig = Rig(request.param)
    rig.open()
    return rig


def online(rig):
    assert rig.boot()["status"] == "Accepted"
    rig.session.keeper.study.proven("seen at another time", safe=True)
    rig.obey()
    return rig


def test_boot_is_accepted_and_the_safe_default_installed_after_clearing(rig):
    assert not rig.state().online
    assert rig.boot()["status"] == "Accepted"
    sent = rig.obey()
    actions = [m[2] for m in sent]
    first_limit = actions.index("SetChargingProfile")
    assert set(actions[:first_limit]) == {"ClearChargingProfile"}
    assert rig.limits(sent) == [(1, "TxDefaultProfile", 6.0)]
    assert rig.state().online
    assert rig.records[-1].safe_default
    assert [e.code for e in rig.emitted] == ["station_online"]


def test_in_force_is_the_maximum_until_the_safe_default_is_acknowledged(rig):
    rig.boot()
    assert rig.state().in_force_a == 32.0
    rig.obey()
    assert rig.state().in_force_a == 6.0


def test_meter_values_are_asked_for(rig):
    rig.boot()
    asked = json.dumps(rig.obey())
    assert "Current.Import" in asked
    assert '"10"' in asked


def test_a_transaction_gets_its_limit_and_keeps_it_fresh(rig):
    online(rig)
    rig.set_limit(16.0)
    assert rig.calls_down() == []  # nothing to limit outside a transaction
    rig.start()
    assert rig.state().charging
    sent = rig.obey()
    assert rig.limits(sent) == [(1, "TxProfile", 16.0)]
    assert rig.state().in_force_a == 16.0
    assert rig.state().confirmed_a == 16.0
    rig.pass_time(39)
    assert rig.limits(rig.obey()) == []
    rig.pass_time(2)
    assert rig.limits(rig.obey()) == [(1, "TxProfile", 16.0)]


def test_a_raise_counts_when_sent_and_a_cut_when_confirmed(rig):
    online(rig)
    rig.set_limit(10.0)
    rig.start()
    rig.obey()
    rig.set_limit(20.0)
    assert rig.state().in_force_a == 20.0
    rig.obey()
    rig.set_limit(8.0)
    assert rig.state().in_force_a == 20.0
    rig.obey()
    assert rig.state().in_force_a == 8.0


def test_a_pause_counts_only_while_it_is_surely_refreshed(rig):
    online(rig)
    rig.set_limit(0.0)
    rig.start()
    rig.obey()
    assert rig.state().in_force_a == 0.0
    rig.at_s += 119  # nothing was refreshed: the station may be back at its fallback
    assert rig.state().in_force_a == 6.0


def test_limits_are_not_refreshed_when_control_is_silent(rig):
    online(rig)
    rig.set_limit(16.0)
    rig.start()
    rig.obey()
    rig.pass_time(100, keep_setpoints=False)
    assert rig.limits(rig.obey()) == []
    rig.pass_time(60, keep_setpoints=False)
    assert rig.state().in_force_a == 6.0


def test_the_limit_ends_with_the_transaction(rig):
    online(rig)
    rig.set_limit(16.0)
    tx = rig.start()
    rig.obey()
    rig.stop(tx)
    assert rig.state().in_force_a == 6.0
    assert not rig.state().charging
    assert rig.state().confirmed_a is None


def test_sessions_are_on_record_before_the_station_is_answered(rig):
    online(rig)
    rig.start(meter=1000)
    kinds = [type(a).__name__ for a in rig.actions]
    assert kinds.index("Persist") < kinds.index("SendDown")
    tx = "tx-1" if rig.version != "1.6" else 1001
    rig.stop(tx, meter=5000)
    kinds = [type(a).__name__ for a in rig.actions]
    assert kinds.index("Persist") < kinds.index("SendDown")
    start, stop = rig.sessions()
    assert (start.kind, stop.kind) == ("start", "stop")
    assert start.session_id == stop.session_id
    assert stop.meter_wh == 5000
    assert start.token_hash is not None
    assert "TAG" not in repr(rig.records[1:])


def test_s1_offline_keeps_its_reserve_until_the_expiry(rig):
    online(rig)
    rig.set_limit(16.0)
    rig.start()
    rig.obey()
    rig.close()
    assert not rig.state().online
    assert rig.state().in_force_a == 16.0
    rig.at_s += 124
    assert rig.state().in_force_a == 16.0
    rig.at_s += 2
    assert rig.state().in_force_a == 6.0
    assert rig.emitted[-1].code == "station_offline"


def test_s5_limit_is_sent_again_on_reconnect_without_a_boot(rig):
    online(rig)
    rig.set_limit(16.0)
    rig.start()
    rig.obey()
    rig.close()
    rig.pass_time(5)
    rig.open()
    rig.pass_time(3.5)
    sent = rig.obey()
    assert rig.limits(sent)[:2] == [(1, "TxDefaultProfile", 6.0), (1, "TxProfile", 16.0)]
    assert all(m[2] != "ClearChargingProfile" for m in sent)  # that would free the car for a moment


def test_s5_a_station_that_confirms_nothing_after_a_reconnect_counts_with_its_maximum(rig):
    online(rig)
    rig.close()
    rig.open()
    rig.pass_time(4.9)
    assert rig.state().in_force_a == 6.0
    rig.pass_time(0.2)
    assert rig.state().in_force_a == 32.0
    rig.obey()
    assert rig.state().in_force_a == 6.0


def test_s3_ladder_ends_in_a_fault_and_its_maximum(rig):
    online(rig)
    rig.set_limit(10.0)
    rig.start()
    purposes = []
    for _ in range(40):
        calls = rig.calls_down("SetChargingProfile")
        if not calls:
            break
        purposes.append(rig.limits(calls[:1])[0][1])
        rig.reply(calls[0], {"status": "Rejected"})
    most = "ChargePointMaxProfile" if rig.version == "1.6" else "ChargingStationMaxProfile"
    if rig.version == "2.1":
        purposes.pop(0)  # once with maxOfflineDuration
    assert purposes[:8] == ["TxProfile"] * 4 + ["TxDefaultProfile"] * 2 + [most] * 2
    assert len(purposes) == 2 * len(LADDER)
    assert rig.state().fault is not None
    assert rig.state().in_force_a == 32.0
    assert [e.code for e in rig.emitted].count("limit_refused") == 1
    rig.pass_time(31)
    rig.obey()
    assert rig.state().fault is None
    assert rig.state().in_force_a == 10.0


def test_s3_a_refused_default_is_told_and_reserves_the_maximum(rig):
    rig.boot()
    for _ in range(20):
        calls = rig.calls_down()
        if not calls:
            break
        refuse = calls[0][2] == "SetChargingProfile"
        rig.reply(calls[0], {"status": "Rejected"} if refuse else good_answer(calls[0], rig.version))
    assert rig.state().fault is not None
    assert rig.state().in_force_a == 32.0
    assert rig.state().online


def test_s16_an_unanswered_limit_is_given_up_after_ten_seconds_and_sent_again(rig):
    online(rig)
    rig.set_limit(16.0)
    rig.start()
    first = rig.calls_down("SetChargingProfile")
    assert len(first) == 1
    rig.pass_time(9.5)
    assert rig.calls_down("SetChargingProfile") == first  # one outstanding CALL
    rig.pass_time(1)
    assert len(rig.calls_down("SetChargingProfile")) == 2
    assert rig.state().in_force_a == 16.0


def test_unknown_action_and_garbage_are_answered(rig):
    online(rig)
    rig.text('[2,"x1","MakeCoffee",{}]')
    assert rig.down[-1][:3] == [4, "x1", "NotImplemented"]
    rig.text('[2,"x2","Heartbeat"]')
    assert rig.down[-1][1] == "x2"
    assert rig.down[-1][2] in {"FormationViolation", "FormatViolation"}
    for _ in range(3):
        rig.text("}{")
    rig.text("[")
    assert rig.actions[-1] == CloseStation(1007, "unreadable frames")
    assert [e.code for e in rig.emitted].count("bad_frame") == 1


def test_every_station_action_of_the_standard_is_answered(rig):
    online(rig)
    for action in ("Heartbeat", "Authorize", "StatusNotification", "MeterValues", "DataTransfer"):
        assert rig.call(action, {}) is not None, action


def test_s18_a_reboot_in_a_transaction_keeps_the_record_open(rig):
    online(rig)
    tx = rig.start()
    rig.obey()
    rig.close()
    rig.open()
    assert rig.boot()["status"] == "Accepted"
    rig.obey()
    rig.stop(tx)
    assert [s.kind for s in rig.sessions()] == ["start", "stop"]


@pytest.mark.parametrize("version", VERSIONS)
def test_after_our_restart_everything_goes_on_from_the_records(version):
    before = Rig(version)
    before.open()
    online(before)
    before.set_limit(16.0)
    tx = before.start()
    before.obey()

    after = Rig(version, store=before.store, at_s=before.at_s + 20)
    assert after.state().in_force_a == 16.0
    assert after.state().charging
    after.set_limit(12.0)
    after.open()
    after.pass_time(3.5)  # it does not boot: for the station nothing happened
    sent = after.obey()
    assert (1, "TxProfile", 12.0) in after.limits(sent)
    assert after.state().online
    assert after.state().in_force_a == 12.0
    after.stop(tx, meter=7000)
    assert [s.kind for s in after.sessions()] == ["start", "stop"]
    assert len({s.session_id for s in after.sessions()}) == 1


def test_a_grant_on_record_never_understates(rig):
    online(rig)
    rig.set_limit(10.0)
    rig.start()
    rig.obey()
    written = len(rig.records)
    rig.set_limit(20.0)
    kinds = [type(a).__name__ for a in rig.actions]
    assert kinds.index("Persist") < kinds.index("SendDown")
    assert rig.records[-1].limit_a == 20.0
    rig.obey()
    rig.set_limit(8.0)
    rig.obey()
    rig.pass_time(300)
    rig.obey()
    assert len(rig.records) == written + 1  # cuts and refreshes need no write
    assert rig.store.grants()["S1/1"].limit_a == 20.0


def test_a_station_that_goes_on_with_an_unknown_transaction_is_adopted():
    rig = Rig("1.6")
    rig.open()
    online(rig)
    rig.set_limit(9.0)
    sample = {"value": "12,5", "measurand": "Current.Import", "phase": "L1", "unit": "A"}
    payload = {
        "connectorId": 1,
        "transactionId": 77,
        "meterValue": [{"timestamp": rig.stamp(), "sampledValue": [sample]}],
    }
    assert rig.call("MeterValues", payload) == {}
    assert rig.state().charging
    assert rig.state().measured_a[0] == 12.5
    assert rig.limits(rig.obey()) == [(1, "TxProfile", 9.0)]
    assert "transaction_adopted" in [e.code for e in rig.emitted]


def test_a_clock_that_is_wrong_is_allowed_for():
    """S17: the schedule starts by the station's own clock."""
    rig = Rig("1.6")
    rig.open()
    online(rig)
    rig.set_limit(9.0)
    rig.start()
    rig.obey()
    ahead = rig.now.utc.replace(hour=13).isoformat()
    sample = {"value": "6", "measurand": "Current.Import"}
    rig.call("MeterValues", {"connectorId": 1, "meterValue": [{"timestamp": ahead, "sampledValue": [sample]}]})
    rig.set_limit(11.0)
    start = rig.calls_down("SetChargingProfile")[0][3]["csChargingProfiles"]["chargingSchedule"]["startSchedule"]
    assert start.startswith(("2026-11-22T13:00", "2026-11-22T12:59"))


@pytest.mark.parametrize("began", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("then", ["0001-01-01T00:00:0{}Z", "9999-12-31T23:59:5{}Z", "1980-01-01T00:00:0{}Z"])
def test_s17_times_that_no_date_can_be_reckoned_from_hold_a_station_all_the_same(began, then):
    rig = Rig("2.0.1")
    rig.open()
    online(rig)
    rig.set_limit(9.0)
    for number in range(4):
        kind, at = ("Started", began) if number == 0 else ("Updated", then.format(2 * number))
        event = {
            "eventType": kind, "timestamp": at, "triggerReason": "Trigger", "seqNo": number, "evse": {"id": 1},
            "transactionInfo": {"transactionId": "t", "chargingState": "Charging"},
            "meterValue": [{"timestamp": at, "sampledValue": [{"value": 6, "measurand": "Current.Import"}]}],
        }  # fmt: skip
        assert rig.call("TransactionEvent", event) == {}
        rig.pass_time(2)
    rig.pass_time(70)  # it goes on beyond the last date there is
    assert rig.limits(rig.obey())[-1] == (1, "TxProfile", 9.0)


def test_limits_of_1_6_are_rounded_down_to_tenths():
    rig = Rig("1.6")
    rig.open()
    online(rig)
    rig.set_limit(9.99)
    rig.start()
    assert rig.limits(rig.obey()) == [(1, "TxProfile", 9.9)]


def test_cuts_go_before_raises():
    rig = Rig("2.0.1", evses=(evse(1), evse(2)))
    rig.open()
    online(rig)
    rig.set_limit(10.0, 1)
    rig.set_limit(16.0, 2)
    rig.start(evse_number=1, tx="a")
    rig.start(evse_number=2, tx="b")
    rig.obey()
    rig.session.keeper.set_limit(1, 20.0, rig.now)
    rig.session.keeper.set_limit(2, 6.0, rig.now)
    rig.take(rig.session.tick(rig.now))
    assert rig.limits(rig.obey()) == [(2, "TxProfile", 6.0), (1, "TxProfile", 20.0)]


def test_a_boot_payload_shows_in_the_status(rig):
    online(rig)
    status = rig.session.status()
    assert (status["vendor"], status["model"], status["online"]) == ("V", "M", True)
    assert boot_payload(rig.version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_station_that_cannot_tell_voltage_is_asked_for_less(version):
    rig = Rig(version)
    rig.open()
    rig.boot()
    asked = []
    while rig.calls_down():
        message = rig.calls_down()[0]
        told = json.dumps(message[3])
        if "Voltage" not in told:
            asked.append(told)
            rig.reply(message, good_answer(message, version))
        elif version == "1.6":
            rig.reply(message, {"status": "Rejected"})
        else:
            data = message[3]["setVariableData"][0]
            one = {"attributeStatus": "Rejected", "component": data["component"], "variable": data["variable"]}
            rig.reply(message, {"setVariableResult": [one]})
    assert any("Power.Active.Import,Energy.Active.Import.Register" in told for told in asked)
    assert rig.state().online


@pytest.mark.parametrize("version", VERSIONS)
def test_a_station_maximum_never_stands_for_one_of_several_evses(version):
    rig = Rig(version, evses=(evse(1), evse(2)))
    rig.open()
    online(rig)
    rig.set_limit(10.0)
    rig.start()
    purposes = []
    while calls := rig.calls_down("SetChargingProfile"):
        purposes.append(rig.limits(calls[:1])[0][1])
        rig.reply(calls[0], {"status": "Rejected"})
    assert set(purposes) == {"TxProfile", "TxDefaultProfile"}
    assert rig.state().fault is not None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_grant_on_record_ends_with_its_transaction(version):
    rig = Rig(version)
    rig.open()
    online(rig)
    rig.set_limit(16.0)
    tx = rig.start()
    rig.obey()
    rig.stop(tx)
    assert rig.store.grants()["S1/1"].limit_a == 6.0
    again = Rig(version, store=rig.store, at_s=rig.at_s + 5)
    assert again.state().in_force_a == 6.0


def test_an_emptied_queue_does_not_look_like_a_slow_clock():
    """S17: a station that was offline tells of an hour ago; its clock is right all the same."""
    rig = Rig("1.6")
    rig.open()
    online(rig)
    rig.set_limit(9.0)
    tx = rig.start()
    for minute in range(10):
        at = rig.now.utc.replace(hour=9, minute=minute).isoformat()
        sample = {"value": "6", "measurand": "Current.Import"}
        values = [{"timestamp": at, "sampledValue": [sample]}]
        rig.call("MeterValues", {"connectorId": 1, "transactionId": tx, "meterValue": values})
    assert rig.session.picture.clock.ahead_s == 0.0
    for _ in range(3):
        rig.pass_time(10)
        at = rig.now.utc.replace(hour=9).isoformat()
        values = [{"timestamp": at, "sampledValue": [sample]}]
        rig.call("MeterValues", {"connectorId": 1, "transactionId": tx, "meterValue": values})
    assert rig.session.picture.clock.ahead_s == -3600.0
    assert [e.code for e in rig.emitted].count("station_clock") == 1


def test_every_limit_that_was_never_answered_may_be_in_force(rig):
    online(rig)
    rig.set_limit(6.0)
    rig.start()
    rig.obey()
    for amps in (30.0, 20.0, 8.0):
        rig.set_limit(amps)
        rig.pass_time(10.5)  # no answer
    assert rig.state().in_force_a == 30.0
    for message in rig.calls_down("SetChargingProfile"):
        rig.answered.add(message[1])
    rig.set_limit(7.0)
    rig.pass_time(10.5)
    rig.reply(rig.calls_down("SetChargingProfile")[-1], {"status": "Accepted"})
    assert rig.state().in_force_a == 7.0
