"""The cloud's smart charging as it sees it through the proxy: answered in the station's place, kept, and forgotten in time."""

import pytest

from tests.csms.rig import Rig, boot_payload, evse, good_answer
from tests.csms.test_csms_proxy import joined, profile, start_up

VERSIONS = ["1.6", "2.0.1", "2.1"]
TOKEN = {"idToken": "TAG", "type": "ISO14443"}


@pytest.fixture(params=VERSIONS)
def rig(request):
    return joined(Rig(request.param, upstream=True))


def ask(rig, action, payload, who="q"):
    rig.cloud(2, who, action, payload)
    return next(m[2] for m in reversed(rig.up) if m[0] == 3 and m[1] == who)


def inner(version, limit, **more):
    body = profile(version, limit, purpose="TxProfile", **more)
    return body.get("csChargingProfiles") or body["chargingProfile"]


def remote_start(rig, raw, number=5, token="TAG"):
    if rig.version == "1.6":
        rig.cloud(2, "r", "RemoteStartTransaction", {"connectorId": 1, "idTag": token, "chargingProfile": raw})
    else:
        body = {"evseId": 1, "idToken": TOKEN | {"idToken": token}, "remoteStartId": number, "chargingProfile": raw}
        rig.cloud(2, "r", "RequestStartTransaction", body)


def test_a_refusal_says_why_since_2(rig):
    told = ask(rig, "SetChargingProfile", profile(rig.version, 10.0, evse=9))
    assert told["status"] == "Rejected"
    assert told.get("statusInfo", {}).get("reasonCode") == (None if rig.version == "1.6" else "UnknownEvse")
    key = "connectorId" if rig.version == "1.6" else "evseId"
    assert ask(rig, "GetCompositeSchedule", {key: 9, "duration": 60})["status"] == "Rejected"
    assert ask(rig, "GetCompositeSchedule", {key: 1, "duration": 60, "chargingRateUnit": "V"})["status"] == "Rejected"
    assert ask(rig, "GetCompositeSchedule", {key: 1})["status"] == "Rejected"
    assert rig.calls_down() == []


def test_a_clear_that_cannot_be_read_clears_nothing(rig):
    ask(rig, "SetChargingProfile", profile(rig.version, 10.0))
    for nonsense in ("x", True, [1], 1.5):
        if rig.version == "1.6":
            bodies = [{"id": nonsense}, {"connectorId": nonsense}, {"stackLevel": nonsense}]
        else:
            bodies = [{"chargingProfileId": nonsense}, {"chargingProfileCriteria": {"evseId": nonsense}}]
        for body in bodies:
            assert ask(rig, "ClearChargingProfile", body) == {"status": "Unknown"}
    assert rig.state().cloud_limit_a == 10.0


def test_a_start_with_a_profile_that_no_station_takes_is_refused_here(rig):
    wrong = profile(rig.version, 7.0, purpose="TxDefaultProfile")
    remote_start(rig, wrong.get("csChargingProfiles") or wrong["chargingProfile"])
    assert rig.up[-1][2]["status"] == "Rejected"
    assert rig.calls_down() == []


def test_the_profile_of_a_start_that_the_station_refuses_is_void(rig):
    remote_start(rig, inner(rig.version, 7.0))
    rig.reply(rig.down[-1], {"status": "Rejected"})
    rig.set_limit(16.0)
    start_up(rig)
    rig.pass_time(0.5)
    assert rig.state().cloud_limit_a is None


def test_the_profile_of_a_start_waits_for_its_own_transaction_also_over_a_restart(rig):
    remote_start(rig, inner(rig.version, 7.0), token="OTHER")
    rig.reply(rig.down[-1], {"status": "Accepted"})
    rig.set_limit(16.0)
    tx = start_up(rig)
    rig.pass_time(0.5)
    assert rig.state().cloud_limit_a is None  # somebody else began
    rig.stop(tx)
    after = rig.again()
    after.open()
    after.cloud_opened()
    after.boot()
    if after.up[-1][2] == "BootNotification":
        after.cloud(3, after.up[-1][1], {"status": "Accepted", "currentTime": after.stamp(), "interval": 300})
    after.obey()
    if rig.version == "1.6":
        body = {"connectorId": 1, "idTag": "OTHER", "meterStart": 0, "timestamp": after.stamp()}
        after.call("StartTransaction", body)
        after.cloud(3, after.up[-1][1], {"transactionId": 77, "idTagInfo": {"status": "Accepted"}})
    else:
        info = {"transactionId": "tx-2", "remoteStartId": 5}
        after.call("TransactionEvent", {
            "eventType": "Started", "timestamp": after.stamp(), "triggerReason": "RemoteStart", "seqNo": 0,
            "transactionInfo": info, "evse": {"id": 1, "connectorId": 1},
        })  # fmt: skip
    after.pass_time(0.5)
    assert after.state().cloud_limit_a == 7.0
    if rig.version != "1.6":
        after.cloud(3, next(m[1] for m in after.up if m[2] == "TransactionEvent"), {})
        ask(after, "GetChargingProfiles", {"requestId": 1, "chargingProfile": {}})
        (told,) = after.up[-1][3]["chargingProfile"]
        assert told["transactionId"] == "tx-2"


def test_ours_are_in_no_report_and_in_every_composite():
    rig = joined(Rig("2.1", upstream=True))
    rig.set_limit(9.0)
    start_up(rig)
    rig.obey()
    assert ask(rig, "GetChargingProfiles", {"requestId": 1, "chargingProfile": {}}) == {"status": "NoProfiles"}
    ask(rig, "SetChargingProfile", profile("2.1", 20.0))
    sources = {"requestId": 1, "chargingProfile": {"chargingLimitSource": ["EMS"]}}
    assert ask(rig, "GetChargingProfiles", sources) == {"status": "NoProfiles"}
    told = ask(rig, "GetCompositeSchedule", {"evseId": 1, "duration": 60})["schedule"]
    assert told["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 9.0}]
    told = ask(rig, "GetCompositeSchedule", {"evseId": 1, "duration": 60, "chargingRateUnit": "W"})["schedule"]
    assert told["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 6210.0}]


def test_the_composite_of_a_station_is_the_sum_of_its_evses(rig):
    rig = joined(Rig(rig.version, upstream=True, evses=(evse(1), evse(2, fallback_a=8.0))))
    key, member = ("connectorId", "chargingSchedule") if rig.version == "1.6" else ("evseId", "schedule")
    told = ask(rig, "GetCompositeSchedule", {key: 0, "duration": 60})[member]
    assert [p["limit"] for p in told["chargingSchedulePeriod"]] == [14.0]


def test_priority_and_dynamic_profiles_of_2_1():
    rig = joined(Rig("2.1", upstream=True))
    body = profile("2.1", 8.0)
    body["chargingProfile"] |= {"chargingProfileKind": "Dynamic", "dynUpdateInterval": 60}
    assert ask(rig, "SetChargingProfile", body)["status"] == "Accepted"
    update = {"chargingProfileId": 1, "scheduleUpdate": {"limit": 12}}
    assert ask(rig, "UpdateDynamicSchedule", update) == {"status": "Accepted"}
    assert rig.state().cloud_limit_a == 12.0
    assert ask(rig, "UpdateDynamicSchedule", update | {"chargingProfileId": 4})["status"] == "Rejected"
    rig.pass_time(61)
    (pull,) = [m for m in rig.up if m[0] == 2 and m[2] == "PullDynamicScheduleUpdate"]
    assert pull[3] == {"chargingProfileId": 1}
    rig.cloud(3, pull[1], {"status": "Accepted", "scheduleUpdate": {"limit": 10}})
    rig.pass_time(0.5)
    assert rig.state().cloud_limit_a == 10.0
    use = {"transactionId": "tx-9", "activate": True}
    assert ask(rig, "UsePriorityCharging", use) == {"status": "Rejected"}
    start_up(rig)
    assert ask(rig, "UsePriorityCharging", use) == {"status": "NoProfile"}
    ask(rig, "SetChargingProfile", profile("2.1", 32.0, number=2, purpose="PriorityCharging"))
    assert rig.state().cloud_limit_a == 10.0
    assert ask(rig, "UsePriorityCharging", use) == {"status": "Accepted"}
    assert rig.state().cloud_limit_a == 32.0


def test_each_update_keeps_a_dynamic_profile_alive_and_without_it_ends():
    rig = joined(Rig("2.1", upstream=True))
    body = profile("2.1", 8.0)
    body["chargingProfile"]["chargingProfileKind"] = "Dynamic"
    body["chargingProfile"]["chargingSchedule"][0] |= {"duration": 60}
    ask(rig, "SetChargingProfile", body)
    update = {"chargingProfileId": 1, "scheduleUpdate": {"limit": 12}}
    for wait_s, limit in ((50, 8.0), (50, 12.0), (11, None)):
        rig.pass_time(wait_s)
        assert rig.state().cloud_limit_a == limit
        if limit == 8.0:
            ask(rig, "UpdateDynamicSchedule", update)
    ask(rig, "UpdateDynamicSchedule", update)  # K28.FR.14: it is back
    assert rig.state().cloud_limit_a == 12.0


def test_a_profile_that_ends_while_the_cloud_is_away():
    rig = joined(Rig("2.1", upstream=True))
    body = profile("2.1", 20.0)
    body["chargingProfile"]["maxOfflineDuration"] = 60
    ask(rig, "SetChargingProfile", body)
    ask(rig, "SetChargingProfile", profile("2.1", 6.0, number=2, purpose="TxDefaultProfile", evse=0))
    rig.cloud_closed()
    rig.pass_time(50)
    assert rig.state().cloud_limit_a is not None
    rig.pass_time(20)
    away = rig.state().cloud_limit_a
    rig.cloud_opened()
    rig.pass_time(1)
    assert (away, rig.state().cloud_limit_a) == (None, 20.0)


def test_a_step_of_the_cloud_reaches_the_station_by_its_time(rig):
    rig.set_limit(16.0)
    start_up(rig)
    rig.obey()
    body = profile(rig.version, 14.0)
    raw = body.get("csChargingProfiles") or body["chargingProfile"]
    schedule = raw["chargingSchedule"] if rig.version == "1.6" else raw["chargingSchedule"][0]
    schedule["startSchedule"] = rig.stamp()
    schedule["chargingSchedulePeriod"].append({"startPeriod": 30, "limit": 7})
    begun = rig.at_s
    ask(rig, "SetChargingProfile", body)
    assert rig.limits(rig.obey())[-1][2] == 14.0
    while rig.at_s < begun + 29.5:
        rig.pass_time(0.5)
        told = rig.limits(rig.obey())
        if told and told[-1][2] == 7.0:
            break
    assert 27 <= rig.at_s - begun < 30


# -- profiles of others in a station that is new to us --------------------------------------------------------------


def fresh(version):
    rig = Rig(version)
    rig.open()
    rig.call("BootNotification", boot_payload(version))
    return rig


def answer_all(rig, answers, limit=60):
    """Answers every CALL; those of these actions with the next of these answers."""
    while rig.calls_down() and limit:
        limit -= 1
        message = rig.calls_down()[0]
        waiting = answers.get(message[2])
        if waiting:
            rig.reply(message, waiting.pop(0))
        else:
            rig.reply(message, good_answer(message, rig.version))


def report(rig, ids, *, more=False):
    held = [{"id": i} for i in ids]
    body = {"requestId": 900_000_001, "chargingLimitSource": "CSO", "evseId": 1, "chargingProfile": held, "tbc": more}
    assert rig.call("ReportChargingProfiles", body) == {}


def test_a_new_station_is_asked_whether_it_holds_other_profiles():
    rig = fresh("2.0.1")
    answer_all(rig, {})
    report(rig, [900_000_001], more=True)
    report(rig, [900_100_001])
    assert rig.session.status()["only_our_profiles"] is True
    assert rig.state().in_force_a == 6.0


def test_foreign_profiles_are_cleared_by_id_and_told_where_they_stay():
    rig = fresh("2.0.1")
    answer_all(rig, {})
    report(rig, [900_000_001, 5])
    assert [m[3] for m in rig.calls_down("ClearChargingProfile")] == [{"chargingProfileId": 5}]
    answer_all(rig, {})
    report(rig, [900_000_001, 5])
    assert rig.session.status()["only_our_profiles"] is False
    assert [e.code for e in rig.emitted].count("foreign_profiles") == 1
    assert rig.state().in_force_a == 32.0  # it would not fall back to ours


def composite(limit):
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}]}
    return {"status": "Accepted", "connectorId": 1, "chargingSchedule": schedule}


@pytest.mark.parametrize(
    ("told", "verified", "in_force_a"), [(16.0, True, 6.0), (20.0, False, 32.0), (None, None, 6.0)]
)
def test_foreign_profiles_of_a_1_6_station_show_in_its_composite_schedule(told, verified, in_force_a):
    rig = fresh("1.6")
    answer_all(rig, {})
    rig.set_limit(16.0)
    assert [m for m in rig.down if m[2] == "GetCompositeSchedule"] == []  # an idle station may tell its maximum
    tx = rig.start()
    answer_all(rig, {"GetCompositeSchedule": [{"status": "Rejected"} if told is None else composite(told)]})
    assert rig.session.status()["only_our_profiles"] is verified
    rig.stop(tx)
    assert rig.state().in_force_a == in_force_a
