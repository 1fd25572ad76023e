"""One station with a cloud above it: what passes, what is answered here, what the cloud hears when it is back."""

import gc
import json

import pytest

from cem.csms.actions import PRIMARY, CloseStation, CloseUpstream, OpenUpstream
from tests.csms.rig import Rig, boot_payload

VERSIONS = ["1.6", "2.0.1", "2.1"]


@pytest.fixture(params=VERSIONS)
def rig(request):
    return joined(Rig(request.param, upstream=True))


def joined(rig):
    """A station that has booted through to the cloud."""
    rig.open()
    rig.cloud_opened()
    rig.text(json.dumps([2, "boot", "BootNotification", boot_payload(rig.version)]))
    assert rig.up[-1][:3] == [2, "boot", "BootNotification"]
    rig.cloud(3, "boot", {"status": "Accepted", "currentTime": "2026-11-22T10:00:00Z", "interval": 300})
    assert rig.down[-1][1] == "boot" or rig.calls_down()
    rig.obey()
    rig.up.clear()
    rig.up_text.clear()
    return rig


def profile(version, amps, *, number=1, purpose="TxDefaultProfile", stack=0, unit="A", evse=1, **more):
    schedule = {"chargingRateUnit": unit, "chargingSchedulePeriod": [{"startPeriod": 0, "limit": amps}]}
    common = {"stackLevel": stack, "chargingProfilePurpose": purpose, "chargingProfileKind": "Absolute", **more}
    if version == "1.6":
        schedule["startSchedule"] = "2026-11-22T00:00:00Z"
        return {
            "connectorId": evse,
            "csChargingProfiles": {"chargingProfileId": number, "chargingSchedule": schedule, **common},
        }
    schedule |= {"id": 1, "startSchedule": "2026-11-22T00:00:00Z"}
    return {"evseId": evse, "chargingProfile": {"id": number, "chargingSchedule": [schedule], **common}}


def start_up(rig, *, cloud_id=4711):
    """A transaction that the cloud hears of live; gives the station's id."""
    if rig.version == "1.6":
        payload = {"connectorId": 1, "idTag": "TAG", "meterStart": 10, "timestamp": rig.stamp()}
        rig.text(json.dumps([2, "start", "StartTransaction", payload]))
        rig.cloud(3, "start", {"transactionId": cloud_id, "idTagInfo": {"status": "Accepted"}})
        return cloud_id
    rig.start(tx="tx-9")
    rig.cloud(3, rig.up[-1][1], {"idTokenInfo": {"status": "Accepted"}})
    return "tx-9"


def test_the_uplink_opens_with_the_station_and_closes_with_it(rig):
    actions = rig.close()
    assert CloseUpstream() in actions
    assert OpenUpstream(f"ocpp{rig.version}") in rig.open()


def test_calls_pass_with_their_ids_and_answers_pass_back(rig):
    text = '[2, "abc",  "DataTransfer", {"vendorId": "X", "data": "\\u00e9é 1.0e2"}]'
    rig.text(text)
    assert rig.up_text == [text]
    answer = '[3,   "abc", {"status":"Accepted"} ]'
    rig.cloud_text(answer)
    assert rig.down_text[-1] == answer


def test_relayed_messages_leave_no_garbage_that_refers_to_itself(rig):
    """Such garbage waits for the collector, which walks all connections then, and pushes what is used out of the caches."""

    def relay(number):
        rig.text(json.dumps([2, f"m{number}", "DataTransfer", {"vendorId": "v"}]))
        rig.cloud(3, f"m{number}", {"status": "Accepted"})

    relay(0)
    gc.collect()
    gc.disable()
    try:
        for number in range(1, 21):
            relay(number)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_one_outstanding_call_upwards(rig):
    rig.text('[2,"a","Heartbeat",{}]')
    rig.text('[2,"b","Heartbeat",{}]')
    assert [m[1] for m in rig.up] == ["a"]
    rig.cloud(3, "a", {"currentTime": "2026-11-22T10:00:00Z"})
    assert [m[1] for m in rig.up] == ["a", "b"]


def test_cloud_commands_pass_down_one_at_a_time_and_answers_go_up(rig):
    rig.cloud_text('[2, "c1", "Reset", {"type":  "Soft"}]')
    rig.cloud_text('[2, "c2", "Reset", {"type":  "Soft"}]')
    assert rig.down_text[-1] == '[2, "c1", "Reset", {"type":  "Soft"}]'
    rig.text('[3,"c1",{"status":"Accepted"}]')
    assert rig.up_text[-1] == '[3,"c1",{"status":"Accepted"}]'
    assert rig.down[-1][1] == "c2"
    rig.text('[4,"c2","NotSupported","",{}]')
    assert rig.up_text[-1] == '[4,"c2","NotSupported","",{}]'


def test_answers_to_our_own_calls_never_leak_upwards(rig):
    rig.set_limit(12.0)
    start_up(rig)
    before = len(rig.up)
    assert rig.obey()
    rig.text('[3,"never-asked",{}]')
    assert len(rig.up) == before


def test_smart_charging_commands_never_reach_the_station(rig):
    rig.cloud(2, "p1", "SetChargingProfile", profile(rig.version, 10.0))
    assert rig.up[-1] == [3, "p1", {"status": "Accepted"}]
    evse_key = "connectorId" if rig.version == "1.6" else "evseId"
    rig.cloud(2, "p2", "GetCompositeSchedule", {evse_key: 1, "duration": 600})
    assert rig.up[-1][2]["status"] == "Accepted"
    rig.cloud(2, "p3", "ClearChargingProfile", {"id": 1} if rig.version == "1.6" else {"chargingProfileId": 1})
    assert rig.up[-1] == [3, "p3", {"status": "Accepted"}]
    rig.cloud(2, "p4", "ClearChargingProfile", {"id": 1} if rig.version == "1.6" else {"chargingProfileId": 1})
    assert rig.up[-1] == [3, "p4", {"status": "Unknown"}]
    assert rig.calls_down() == []


def test_c7_the_lower_of_cloud_and_ours_is_in_force(rig):
    rig.cloud(2, "p1", "SetChargingProfile", profile(rig.version, 10.0))
    assert rig.state().cloud_limit_a == 10.0
    assert rig.news
    rig.set_limit(16.0)
    start_up(rig)
    assert rig.limits(rig.obey()) == [(1, "TxProfile", 10.0)]
    rig.cloud(2, "p2", "SetChargingProfile", profile(rig.version, 20.0))
    assert rig.limits(rig.obey()) == [(1, "TxProfile", 16.0)]
    evse_key = "connectorId" if rig.version == "1.6" else "evseId"
    rig.cloud(2, "p3", "GetCompositeSchedule", {evse_key: 1, "duration": 600})
    schedule = rig.up[-1][2]["chargingSchedule" if rig.version == "1.6" else "schedule"]
    assert schedule["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 16.0}]


def test_a_tx_profile_of_the_cloud_ends_with_its_transaction(rig):
    tx = start_up(rig)
    body = profile(rig.version, 8.0, purpose="TxProfile", transactionId=tx)
    rig.cloud(2, "p1", "SetChargingProfile", body)
    assert rig.up[-1][2]["status"] == "Accepted"
    assert rig.state().cloud_limit_a == 8.0
    rig.stop(tx)
    rig.pass_time(1)
    assert rig.state().cloud_limit_a is None
    rig.cloud(2, "p2", "SetChargingProfile", body)
    assert rig.up[-1][2]["status"] == "Rejected"


def test_a_profile_inside_a_remote_start_is_kept_here_and_binds_the_transaction(rig):
    inner = profile(rig.version, 7.0, purpose="TxProfile")
    inner = inner.get("csChargingProfiles") or inner["chargingProfile"]
    if rig.version == "1.6":
        rig.cloud(2, "r1", "RemoteStartTransaction", {"connectorId": 1, "chargingProfile": inner, "idTag": "TAG"})
        assert rig.down[-1] == [2, "r1", "RemoteStartTransaction", {"connectorId": 1, "idTag": "TAG"}]
    else:
        token = {"idToken": "TAG", "type": "ISO14443"}
        body = {"evseId": 1, "idToken": token, "remoteStartId": 5, "chargingProfile": inner}
        rig.cloud(2, "r1", "RequestStartTransaction", body)
        assert rig.down[-1][3] == {"evseId": 1, "idToken": token, "remoteStartId": 5}
    rig.reply(rig.down[-1], {"status": "Accepted"})
    assert rig.up[-1] == [3, "r1", {"status": "Accepted"}]
    rig.set_limit(16.0)
    start_up(rig)
    rig.pass_time(0.5)
    assert rig.limits(rig.obey())[-1] == (1, "TxProfile", 7.0)


def test_a_get_charging_profiles_is_answered_and_reported():
    rig = joined(Rig("2.0.1", upstream=True))
    rig.cloud(2, "p1", "SetChargingProfile", profile("2.0.1", 10.0, number=5))
    rig.cloud(2, "g1", "GetChargingProfiles", {"requestId": 3, "chargingProfile": {}})
    assert rig.up[-2] == [3, "g1", {"status": "Accepted"}]
    report = rig.up[-1]
    assert report[2] == "ReportChargingProfiles"
    assert report[3]["requestId"] == 3
    assert [p["id"] for p in report[3]["chargingProfile"]] == [5]
    before = len(rig.down)
    rig.cloud(3, report[1], {})
    assert len(rig.down) == before
    rig.cloud(2, "g2", "GetChargingProfiles", {"requestId": 4, "chargingProfile": {"chargingProfileId": [6]}})
    assert rig.up[-1] == [3, "g2", {"status": "NoProfiles"}]


def test_a_cloud_call_overtakes_a_question_of_ours_that_the_station_leaves_unanswered(rig):
    rig.close()
    rig.open()
    rig.cloud_opened()
    rig.call("BootNotification", boot_payload(rig.version), "b")
    rig.cloud(3, "b", {"status": "Accepted", "currentTime": "2026-11-22T10:00:00Z", "interval": 300})
    while (waiting := rig.calls_down())[0][2] in {"ClearChargingProfile", "SetChargingProfile"}:
        rig.reply(waiting[0], {"status": "Accepted"})
    assert [m[2] for m in waiting] in (["GetConfiguration"], ["GetVariables"])
    rig.cloud(2, "c1", "Reset", {"type": "Soft"})
    rig.cloud(2, "c2", "ClearCache", {})
    rig.pass_time(4)
    assert rig.calls_down() == waiting
    rig.pass_time(2)
    assert rig.calls_down()[1:] == [[2, "c1", "Reset", {"type": "Soft"}]], "and the cloud's own wait for each other"


def test_a_cloud_call_that_the_station_never_answers_is_answered(rig):
    rig.cloud(2, "c1", "Reset", {"type": "Soft"})
    rig.pass_time(31)
    assert rig.up[-1][:3] == [4, "c1", "GenericError"]


def test_a_cloud_call_for_a_station_that_leaves_is_answered(rig):
    rig.cloud(2, "c1", "Reset", {"type": "Soft"})
    rig.close()
    assert rig.up[-1][:3] == [4, "c1", "GenericError"]


def test_uplink_dies_in_between_a_call_and_its_answer(rig):
    rig.text('[2,"h","Heartbeat",{}]')
    assert rig.up[-1][1] == "h"
    rig.cloud_closed()
    assert rig.down[-1][:2] == [3, "h"]
    assert "currentTime" in rig.down[-1][2]


def test_c9_a_slow_cloud_authorize_falls_to_the_policy_after_eight_seconds():
    rig = joined(Rig("1.6", upstream=True))
    rig.text('[2,"a","Authorize",{"idTag":"NEW"}]')
    rig.pass_time(7.5)
    assert rig.down[-1][1] != "a"
    rig.pass_time(1)
    assert rig.down[-1] == [3, "a", {"idTagInfo": {"status": "Invalid"}}]
    rig.cloud(3, "a", {"idTagInfo": {"status": "Accepted"}})
    assert rig.down[-1] == [3, "a", {"idTagInfo": {"status": "Invalid"}}]  # the late answer stays here


@pytest.mark.parametrize(
    ("policy", "known", "unknown"), [("accept", True, True), ("reject", False, False), ("known", True, False)]
)
def test_offline_authorization(policy, known, unknown):
    rig = joined(Rig("1.6", upstream=True, options={"offline_authorization": policy}))
    rig.text('[2,"a","Authorize",{"idTag":"TAG"}]')
    rig.cloud(3, "a", {"idTagInfo": {"status": "Accepted"}})
    rig.text('[2,"b","Authorize",{"idTag":"BAD"}]')
    rig.cloud(3, "b", {"idTagInfo": {"status": "Blocked"}})
    rig.cloud_closed()
    said = [rig.call("Authorize", {"idTag": t})["idTagInfo"]["status"] == "Accepted" for t in ("TAG", "NEW", "BAD")]
    assert said == [known, unknown, False]


def test_c1_c4_a_session_of_the_outage_reaches_the_cloud_once_and_in_order_1_6():
    rig = joined(Rig("1.6", upstream=True, options={"offline_authorization": "accept"}))
    rig.cloud_closed()
    rig.set_limit(10.0)
    tx = rig.start(meter=100)
    assert tx not in {0, -1}
    assert (1, "TxProfile", 10.0) in rig.limits(rig.obey())
    sample = {"value": "10", "measurand": "Current.Import"}
    values = [{"timestamp": rig.stamp(), "sampledValue": [sample]}]
    rig.call("MeterValues", {"connectorId": 1, "transactionId": tx, "meterValue": values})
    rig.pass_time(60)
    rig.stop(tx, meter=900)
    rig.up.clear()
    rig.cloud_opened()
    # the latest status goes first, then the journal, one CALL at a time
    assert [m[2] for m in rig.up] == ["StatusNotification"]
    rig.cloud(3, rig.up[-1][1], {})
    assert rig.up[-1][2] == "StartTransaction"
    assert rig.up[-1][3]["meterStart"] == 100
    assert len(rig.up) == 2
    rig.cloud(3, rig.up[-1][1], {"transactionId": 8, "idTagInfo": {"status": "Accepted"}})
    assert (rig.up[-1][2], rig.up[-1][3]["transactionId"]) == ("MeterValues", 8)
    rig.cloud(3, rig.up[-1][1], {})
    assert (rig.up[-1][2], rig.up[-1][3]["transactionId"], rig.up[-1][3]["meterStop"]) == ("StopTransaction", 8, 900)
    rig.cloud(3, rig.up[-1][1], {})
    assert len(rig.up) == 4
    assert rig.session.status()["journal"] == 0
    assert [s.kind for s in rig.sessions()] == ["start", "stop"]


def test_ids_stay_mapped_in_both_directions_for_the_life_of_the_transaction():
    rig = joined(Rig("1.6", upstream=True, options={"offline_authorization": "accept"}))
    rig.cloud_closed()
    tx = rig.start()
    rig.obey()
    rig.cloud_opened()
    while rig.up[-1][2] != "StartTransaction":
        rig.cloud(3, rig.up[-1][1], {})
    rig.cloud(3, rig.up[-1][1], {"transactionId": 55, "idTagInfo": {"status": "Accepted"}})
    rig.cloud_text('[2, "r", "RemoteStopTransaction", { "transactionId" : 55 } ]')
    assert rig.down_text[-1] == f'[2, "r", "RemoteStopTransaction", {{ "transactionId" : {tx} }} ]'
    rig.reply(rig.down[-1], {"status": "Accepted"})
    body = profile("1.6", 7.0, purpose="TxProfile", transactionId=55)
    rig.cloud(2, "p", "SetChargingProfile", body)
    assert rig.up[-1] == [3, "p", {"status": "Accepted"}]
    rig.text(f'[2, "s", "StopTransaction", {{"meterStop":  5, "transactionId":{tx} ,"timestamp": "{rig.stamp()}"}}]')
    assert rig.up_text[-1] == (
        f'[2, "s", "StopTransaction", {{"meterStop":  5, "transactionId":55 ,"timestamp": "{rig.stamp()}"}}]'
    )


def test_c1_c4_a_session_of_the_outage_reaches_the_cloud_once_and_in_order_2x():
    rig = joined(Rig("2.0.1", upstream=True, options={"offline_authorization": "accept"}))
    rig.cloud_closed()
    tx = rig.start()
    rig.obey()
    rig.stop(tx)
    rig.up.clear()
    rig.cloud(2, "q", "GetTransactionStatus", {})
    rig.cloud_opened()
    for kind in ("Started", "Ended"):
        assert rig.up[-1][2] == "TransactionEvent"
        assert (rig.up[-1][3]["eventType"], rig.up[-1][3]["offline"]) == (kind, True)
        if kind == "Started":
            rig.cloud(2, "q", "GetTransactionStatus", {"transactionId": tx})
            assert rig.up[-1] == [3, "q", {"messagesInQueue": True, "ongoingIndicator": False}]
            del rig.up[-1]
        rig.cloud(3, rig.up[-1][1], {})
    assert rig.session.status()["journal"] == 0


def test_a_retried_start_gets_the_same_id_and_reaches_the_cloud_once():
    rig = joined(Rig("1.6", upstream=True, options={"offline_authorization": "accept"}))
    rig.cloud_closed()
    payload = {"connectorId": 1, "idTag": "TAG", "meterStart": 1, "timestamp": rig.stamp()}
    first = rig.call("StartTransaction", payload)["transactionId"]
    assert rig.call("StartTransaction", payload)["transactionId"] == first
    assert rig.session.status()["journal"] == 1
    assert [s.kind for s in rig.sessions()] == ["start"]


def test_a_late_answer_to_a_start_becomes_the_mapping_before_anything_is_sent_again():
    rig = joined(Rig("1.6", upstream=True, options={"offline_authorization": "accept"}))
    payload = {"connectorId": 1, "idTag": "TAG", "meterStart": 1, "timestamp": rig.stamp()}
    assert rig.call("StartTransaction", payload, "st") is None
    rig.pass_time(21)  # the station must not wait longer
    tx = next(m for m in rig.down if m[:2] == [3, "st"])[2]["transactionId"]
    rig.obey()
    starts = [m for m in rig.up if m[2] == "StartTransaction"]
    rig.cloud(3, "st", {"transactionId": 99, "idTagInfo": {"status": "Accepted"}})
    assert rig.session.status()["journal"] == 0
    assert [m[1] for m in starts] == ["st"]
    rig.stop(tx)
    assert rig.up[-1][3]["transactionId"] == 99


def test_c5_a_lost_acknowledgement_is_repeated_with_the_same_id_and_payload(rig):
    tx = start_up(rig)
    rig.obey()
    rig.stop(tx)
    sent = rig.up_text[-1]
    rig.cloud_closed()  # the cloud took it, its acknowledgement is lost
    assert rig.down[-1][0] == 3 or rig.down[-2][0] == 3
    rig.up_text.clear()
    rig.cloud_opened()
    assert sent in rig.up_text
    rig.cloud(3, json.loads(sent)[1], {})
    assert rig.session.status()["journal"] == 0


def test_c3_a_boot_while_the_cloud_is_away_is_accepted_and_told_later(rig):
    rig.close()
    rig.open()
    rig.cloud_closed()
    assert rig.boot()["status"] == "Accepted"
    rig.obey()
    assert rig.call("Heartbeat", {}) is not None
    rig.up.clear()
    rig.cloud_opened()
    assert [m[2] for m in rig.up] == ["BootNotification"]
    before = len(rig.down)
    rig.cloud(3, rig.up[0][1], {"status": "Accepted", "currentTime": "2026-11-22T10:00:00Z", "interval": 300})
    assert len(rig.down) == before
    rig.cloud_closed()
    rig.up.clear()
    rig.cloud_opened()
    assert [m for m in rig.up if m[2] == "BootNotification"] == []


def boots_up(rig, who=None):
    """Boots that the CSMS was sent, answered at once."""
    heard = rig.up if who is None else rig.seen.get(who, [])
    boots = [m for m in heard if m[0] == 2 and m[2] == "BootNotification"]
    for message in boots:
        if message[1] not in rig.answered:
            rig.answered.add(message[1])
            answer = {"status": "Accepted", "currentTime": "2026-11-22T10:00:00Z", "interval": 300}
            rig.cloud(3, message[1], answer, **({} if who is None else {"who": who}))
    return [m[3] for m in boots]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cloud_that_wants_a_boot_at_each_connection_gets_the_stations_last_one(version):
    rig = joined(Rig(version, upstream=True, options={"replay_boot": frozenset({PRIMARY})}))
    said = boot_payload(version)
    assert boots_up(rig) == []  # the live one is not told twice (``joined`` has taken it out)
    for count in (1, 2):
        rig.cloud_closed()
        rig.pass_time(30)
        rig.cloud_opened()
        assert boots_up(rig) == [said] * count
    rig.pass_time(60)
    before = len(rig.down)
    assert boots_up(rig) == [said] * 2
    assert not [m for m in rig.down[before:] if m[0] in {3, 4}]  # the answer is ours, the station hears nothing of it
    rig.close()
    rig.open()  # it comes back without a boot: told once it is clear that it will not boot itself
    rig.cloud_opened()
    assert boots_up(rig) == [said] * 2
    rig.pass_time(4)
    assert boots_up(rig) == [said] * 3
    after = rig.again()  # from disk
    after.open()
    after.cloud_opened()
    after.pass_time(4)
    assert boots_up(after) == [said]


@pytest.mark.parametrize("opened_first", [True, False])
def test_a_boot_of_the_station_itself_is_not_told_again_on_the_same_connection(opened_first):
    rig = joined(Rig("1.6", upstream=True, options={"replay_boot": frozenset({PRIMARY})}))
    rig.close()
    rig.open()
    if opened_first:
        rig.cloud_opened()
    rig.text(json.dumps([2, "again", "BootNotification", boot_payload("1.6")]))
    if not opened_first:
        rig.cloud_opened()
    rig.pass_time(1)
    assert boots_up(rig) == [boot_payload("1.6")]
    rig.pass_time(30)
    assert boots_up(rig) == [boot_payload("1.6")]


def test_an_observer_that_wants_a_boot_at_each_connection_gets_it_and_the_primary_does_not():
    options = {"observers": {"refund": frozenset()}, "replay_boot": frozenset({"refund"})}
    rig = joined(Rig("2.0.1", upstream=True, options=options))
    rig.cloud_opened("refund")
    assert boots_up(rig, "refund") == [boot_payload("2.0.1")]  # not answered before
    for who in (PRIMARY, "refund"):
        rig.cloud_closed(who)
        rig.cloud_opened(who)
    assert boots_up(rig, "refund") == [boot_payload("2.0.1")] * 2
    assert boots_up(rig) == []


def test_c3_a_boot_that_the_cloud_answered_is_not_replayed(rig):
    rig.cloud_closed()
    rig.cloud_opened()
    assert [m for m in rig.up if m[2] == "BootNotification"] == []


def test_c4_only_the_latest_status_is_told():
    rig = joined(Rig("1.6", upstream=True))
    rig.cloud_closed()
    for status in ("Preparing", "Charging", "Available"):
        rig.call("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": status})
    rig.up.clear()
    rig.cloud_opened()
    assert [m[3]["status"] for m in rig.up if m[2] == "StatusNotification"] == ["Available"]


def test_a_station_that_connects_first_waits_for_its_uplink_before_we_answer(rig):
    rig.close()
    rig.open()
    assert rig.boot() is None
    rig.pass_time(2)
    rig.cloud_opened()
    assert rig.up[-1][2] == "BootNotification"
    rig.close()
    rig.open()
    rig.call("BootNotification", boot_payload(rig.version), "late")
    rig.pass_time(6)
    assert any(m[:2] == [3, "late"] for m in rig.down)


def test_the_cloud_decides_whether_a_station_is_accepted(rig):
    rig.close()
    rig.open()
    rig.cloud_opened()
    rig.call("BootNotification", boot_payload(rig.version), "b")
    rig.cloud(3, "b", {"status": "Pending", "currentTime": "2026-11-22T10:00:00Z", "interval": 300})
    rig.pass_time(10)
    assert not rig.state().online
    assert rig.calls_down() == []


def test_on_csms_loss_close(rig):
    strict = joined(Rig(rig.version, upstream=True, options={"on_csms_loss": "close"}))
    assert CloseStation(1001, "uplink lost") in strict.cloud_closed()
    assert CloseStation(1001, "uplink lost") not in rig.cloud_closed()


def test_a_station_lost_with_a_journal_keeps_its_uplink_until_it_is_drained():
    rig = joined(Rig("2.0.1", upstream=True, options={"offline_authorization": "accept"}))
    rig.cloud_closed()
    rig.start()
    assert CloseUpstream() not in rig.close()
    rig.pass_time(5)
    rig.cloud_opened()
    assert rig.up[-1][2] == "TransactionEvent"
    rig.cloud(3, rig.up[-1][1], {})
    closing = []
    for _ in range(3):
        rig.pass_time(0.5)
        closing += rig.actions
    assert CloseUpstream() in closing


def test_a_cloud_that_refuses_a_message_for_good_does_not_block_the_rest():
    rig = joined(Rig("2.0.1", upstream=True, options={"offline_authorization": "accept"}))
    rig.cloud_closed()
    tx = rig.start()
    rig.obey()
    rig.stop(tx)
    rig.up.clear()
    rig.cloud_opened()
    for _ in range(3):
        rig.cloud(4, rig.up[-1][1], "InternalError", "", {})
        rig.pass_time(31)
    assert rig.up[-1][3]["eventType"] == "Ended"
    assert "message_set_aside" in [e.code for e in rig.emitted]


def test_garbage_from_the_cloud_harms_nobody(rig):
    for text in ("", "{", "[]", '[2,"x"]', '[2,"y","Reset",7]', '[9,"z",{}]', "[3]", '[3,"unknown",{}]', '["2"]'):
        rig.cloud_text(text)
    assert rig.calls_down() == []
    rig.cloud(2, "p", "SetChargingProfile", {"connectorId": "x", "csChargingProfiles": 7, "evseId": None})
    assert rig.up[-1][:2] == [3, "p"]
    assert rig.up[-1][2]["status"] == "Rejected"


def test_types_5_and_6_of_2_1_pass_both_ways():
    rig = joined(Rig("2.1", upstream=True))
    rig.text('[6, "s", "NotifyPeriodicEventStream", {"id": 1}]')
    assert rig.up_text[-1] == '[6, "s", "NotifyPeriodicEventStream", {"id": 1}]'
    rig.cloud_text('[5, "s", "FormatViolation", "", {}]')
    assert rig.down_text[-1] == '[5, "s", "FormatViolation", "", {}]'


@pytest.mark.parametrize("version", VERSIONS)
def test_c2_a_restart_in_the_outage_loses_no_session(version):
    before = joined(Rig(version, upstream=True, options={"offline_authorization": "accept"}))
    before.cloud_closed()
    tx = before.start(meter=100)
    before.obey()

    after = Rig(version, upstream=True, store=before.store, at_s=before.at_s + 20)
    assert after.state().charging
    after.open()
    after.cloud_closed()
    after.stop(tx, meter=900)
    after.obey()

    last = Rig(version, upstream=True, store=before.store, at_s=after.at_s + 20)
    last.open()
    last.cloud_opened()
    told = []
    while last.up and last.up[-1][0] == 2 and len(told) < 6:
        message = last.up.pop()
        told.append(message)
        last.cloud(3, message[1], {"transactionId": 31, "idTagInfo": {"status": "Accepted"}})
    if version == "1.6":
        assert [m[2] for m in told] == ["StartTransaction", "StopTransaction"]
        assert told[1][3]["transactionId"] == 31
    else:
        assert [m[3]["eventType"] for m in told] == ["Started", "Ended"]
    assert last.session.status()["journal"] == 0
    assert [e for e in last.store.journal()["S1"] if e.state != "delivered"] == []
    assert [s.kind for s in before.store.sessions()] == ["start", "stop"]


def test_c2_ids_stay_mapped_over_a_restart():
    before = joined(Rig("1.6", upstream=True, options={"offline_authorization": "accept"}))
    before.cloud_closed()
    tx = before.start()
    before.obey()
    before.cloud_opened()
    while before.up[-1][2] != "StartTransaction":
        before.cloud(3, before.up[-1][1], {})
    before.cloud(3, before.up[-1][1], {"transactionId": 55, "idTagInfo": {"status": "Accepted"}})

    after = Rig("1.6", upstream=True, store=before.store, at_s=before.at_s + 20)
    after.open()
    after.cloud_opened()
    after.stop(tx)
    assert (after.up[-1][2], after.up[-1][3]["transactionId"]) == ("StopTransaction", 55)


def test_the_clouds_profiles_outlive_a_restart(rig):
    rig.cloud(2, "p1", "SetChargingProfile", profile(rig.version, 10.0))
    tx = start_up(rig)
    rig.cloud(2, "p2", "SetChargingProfile", profile(rig.version, 8.0, number=2, purpose="TxProfile", transactionId=tx))
    after = Rig(rig.version, upstream=True, store=rig.store, at_s=rig.at_s + 20)
    after.open()
    after.pass_time(1)
    assert after.state().cloud_limit_a == 8.0
    after.cloud_opened()
    after.cloud(2, "p3", "ClearChargingProfile", {"id": 2} if rig.version == "1.6" else {"chargingProfileId": 2})
    assert after.state().cloud_limit_a == 10.0


def test_a_journal_from_before_the_restart_is_told_though_the_station_stays_away():
    before = joined(Rig("2.0.1", upstream=True, options={"offline_authorization": "accept"}))
    before.cloud_closed()
    before.start()
    after = Rig("2.0.1", upstream=True, store=before.store, at_s=before.at_s + 20)
    after.pass_time(0.5)
    assert OpenUpstream("ocpp2.0.1") in after.all_actions
    after.cloud_opened()
    assert after.up[-1][2] == "TransactionEvent"
    after.cloud(3, after.up[-1][1], {})
    after.pass_time(1)
    assert CloseUpstream() in after.all_actions


def test_a_second_cloud_call_waits_for_the_first_however_long(rig):
    rig.cloud(2, "c1", "Reset", {"type": "Soft"})
    rig.cloud(2, "c2", "Reset", {"type": "Soft"})
    rig.pass_time(20)
    assert [m[1] for m in rig.calls_down("Reset")] == ["c1"]


def test_i6_a_repeat_of_what_the_cloud_has_is_answered_here(rig):
    """The cloud acknowledged, but the acknowledgement never reached the station: it tells again, perhaps under a new id."""
    tx = start_up(rig)
    rig.obey()
    stop = {"transactionId": tx, "meterStop": 5, "timestamp": rig.stamp()}
    action = "StopTransaction"
    if rig.version != "1.6":
        action = "TransactionEvent"
        info = {"transactionId": tx, "stoppedReason": "Local"}
        stop = {
            "eventType": "Ended",
            "timestamp": rig.stamp(),
            "triggerReason": "Timeout",
            "seqNo": 3,
            "transactionInfo": info,
        }
    rig.call(action, stop, "stop-1")
    rig.close()
    rig.cloud(3, "stop-1", {})
    rig.open()
    rig.cloud_opened()
    told = len([m for m in rig.up if m[2] == action])
    rig.call(action, stop, "stop-2")
    assert rig.down[-1] == [3, "stop-2", {}] or [3, "stop-2", {}] in rig.down
    assert len([m for m in rig.up if m[2] == action]) == told


def test_i6_a_repeat_of_what_is_journaled_is_journaled_once():
    rig = joined(Rig("1.6", upstream=True, options={"offline_authorization": "accept"}))
    rig.cloud_closed()
    tx = rig.start()
    rig.obey()
    stop = {"transactionId": tx, "meterStop": 5, "timestamp": rig.stamp()}
    assert rig.call("StopTransaction", stop) == {}
    assert rig.call("StopTransaction", stop) == {}
    assert rig.session.status()["journal"] == 2
