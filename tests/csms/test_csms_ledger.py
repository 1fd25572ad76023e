"""What a station is told is taken is on disk first, and reaches the cloud once, whatever is restarted in between."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cem.csms.actions import CloseUpstream, OpenUpstream, Persist, SendDown, SendUp
from cem.csms.frames import parse
from cem.csms.records import IdMap, JournalEntry, JournalMark, Noted, SessionUpdate
from tests.csms.rig import Rig
from tests.csms.test_csms_bytes import HERE, call, payload
from tests.csms.test_csms_proxy import VERSIONS, joined, profile

OFFLINE = {"offline_authorization": "accept"}


@pytest.fixture(params=VERSIONS)
def rig(request):
    return joined(Rig(request.param, upstream=True, options=OFFLINE))


def meter(rig, tx, wh, *, context="Sample.Periodic", number=1, **more):
    """A sample in a transaction."""
    sample = {"value": str(wh) if rig.version == "1.6" else wh, "context": context, **more}
    values = [{"timestamp": rig.stamp(), "sampledValue": [sample]}]
    if rig.version == "1.6":
        return rig.call("MeterValues", {"connectorId": 1, "transactionId": tx, "meterValue": values})
    return rig.call("TransactionEvent", {
        "eventType": "Updated", "timestamp": rig.stamp(), "triggerReason": "MeterValuePeriodic", "seqNo": number,
        "transactionInfo": {"transactionId": tx}, "meterValue": values,
    })  # fmt: skip


def told(rig, *, cloud_id=31, limit=500):
    """Lets the cloud answer everything it is sent; gives its transaction messages."""
    heard = []
    for _ in range(limit):
        calls = [m for m in rig.up if m[0] == 2 and m[1] not in rig.answered]
        if not calls:
            rig.pass_time(0.5)
            calls = [m for m in rig.up if m[0] == 2 and m[1] not in rig.answered]
            if not calls:
                return heard
        message = calls[0]
        rig.answered.add(message[1])
        if message[2] in {"StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent", SECURITY}:
            heard.append(message)
        rig.cloud(3, message[1], answer_of_cloud(message, cloud_id))
    return heard


SECURITY = "SecurityEventNotification"


def answer_of_cloud(message, cloud_id=31):
    if message[2] == "StartTransaction":
        return {"transactionId": cloud_id, "idTagInfo": {"status": "Accepted"}}
    if message[2] == "BootNotification":
        return {"status": "Accepted", "currentTime": "2026-11-22T10:00:00Z", "interval": 300}
    return {}


def kinds(messages):
    words = {"StartTransaction": "start", "StopTransaction": "stop", "MeterValues": "update"}
    events = {"Started": "start", "Updated": "update", "Ended": "stop"}
    return [words.get(m[2]) or events.get(m[3].get("eventType"), m[2]) for m in messages]


def waiting(rig):
    return [e for e in rig.store.journal().get("S1", ()) if e.state == "waiting"]


def test_i5_every_transaction_message_is_on_disk_before_its_answer(rig):
    rig.cloud_closed()
    tx = rig.start()
    steps = [list(rig.actions)]
    for wh in (1100, 1200):
        rig.pass_time(90)
        meter(rig, tx, wh, number=wh)
        steps.append(list(rig.actions))
    rig.stop(tx)
    steps.append(list(rig.actions))
    for actions in steps:
        written = [i for i, a in enumerate(actions) if isinstance(a, Persist) and holds(a, JournalEntry)]
        answered = [i for i, a in enumerate(actions) if isinstance(a, SendDown) and a.text.startswith("[3")]
        assert written
        assert written[0] < answered[0]
        assert actions[answered[0]].durable
    assert [e.kind for e in waiting(rig)] == ["start", "update", "update", "stop"]


def holds(action, kind):
    return any(isinstance(record, kind) for record in action.records)


def test_c2_meter_values_of_the_outage_survive_a_restart_in_order(rig):
    rig.cloud_closed()
    tx = rig.start()
    for wh in (1100, 1200, 1300):
        rig.pass_time(90)
        meter(rig, tx, wh, number=wh)
    rig.stop(tx)
    after = rig.again()
    assert OpenUpstream(f"ocpp{rig.version}") in after.session.tick(after.now) or after.session.clouds.primary.busy
    after.cloud_opened()
    assert kinds(told(after)) == ["start", "update", "update", "update", "stop"]
    assert waiting(after) == []


def test_what_the_cloud_acknowledged_is_marked_on_disk_before_the_next_goes_out(rig):
    rig.cloud_closed()
    tx = rig.start()
    rig.stop(tx)
    rig.cloud_opened()
    while kinds([rig.up[-1]]) != ["start"]:
        rig.cloud(3, rig.up[-1][1], answer_of_cloud(rig.up[-1]))
    rig.cloud(3, rig.up[-1][1], answer_of_cloud(rig.up[-1]))
    order = [
        "mark" if isinstance(a, Persist) and holds(a, JournalMark) else "next" if isinstance(a, SendUp) else None
        for a in rig.actions
    ]
    assert [o for o in order if o] == ["mark", "next"]
    assert next(a for a in rig.actions if isinstance(a, SendUp)).durable


@pytest.mark.parametrize("drained", [False, True])
def test_a_start_retried_after_a_restart_gets_the_same_id(drained):
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    start = {"connectorId": 1, "idTag": "TAG", "meterStart": 1, "timestamp": rig.stamp()}
    first = rig.call("StartTransaction", start)["transactionId"]
    after = rig.again()
    if drained:
        after.cloud_opened()
        assert kinds(told(after)) == ["start"]
        after = after.again()
    after.open()
    after.cloud_opened()
    assert after.call("StartTransaction", start)["transactionId"] == first
    assert kinds(told(after)) == ([] if drained else ["start"])


def test_a_live_start_retried_after_a_restart_does_not_reach_the_cloud_again():
    rig = joined(Rig("1.6", upstream=True))
    start = {"connectorId": 1, "idTag": "TAG", "meterStart": 1, "timestamp": rig.stamp()}
    rig.call("StartTransaction", start, "st")
    rig.cloud(3, "st", {"transactionId": 77, "idTagInfo": {"status": "Accepted"}})
    after = rig.again()
    after.open()
    after.cloud_opened()
    assert after.call("StartTransaction", start)["transactionId"] == 77
    assert told(after) == []


def test_a_start_retried_after_a_restart_without_a_cloud_gets_the_same_id():
    rig = Rig("1.6")
    rig.open()
    rig.boot()
    start = {"connectorId": 1, "idTag": "TAG", "meterStart": 1, "timestamp": rig.stamp()}
    first = rig.call("StartTransaction", start)["transactionId"]
    after = rig.again()
    after.open()
    assert after.call("StartTransaction", start)["transactionId"] == first
    assert [s.kind for s in after.sessions()] == ["start"]


def test_i6_a_repeat_of_what_was_delivered_before_a_restart_is_answered_here(rig):
    rig.cloud_closed()
    tx = rig.start()
    stop = {"transactionId": tx, "meterStop": 5, "timestamp": rig.stamp()}
    if rig.version != "1.6":
        stop = {
            "eventType": "Ended", "timestamp": rig.stamp(), "triggerReason": "Timeout", "seqNo": 3,
            "transactionInfo": {"transactionId": tx},
        }  # fmt: skip
    action = "StopTransaction" if rig.version == "1.6" else "TransactionEvent"
    rig.call(action, stop)
    rig.cloud_opened()
    assert kinds(told(rig)) == ["start", "stop"]
    after = rig.again()
    after.open()
    after.cloud_opened()
    assert after.call(action, stop) == {}
    assert told(after) == []


def test_both_ids_of_a_transaction_outlive_a_restart_in_both_directions():
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    tx = rig.start()
    rig.cloud_opened()
    assert kinds(told(rig, cloud_id=55)) == ["start"]
    after = rig.again()
    after.open()
    after.cloud_opened()
    after.pass_time(4)
    after.obey()
    after.cloud_text('[2, "r", "RemoteStopTransaction", { "transactionId" : 55 } ]')
    assert after.down_text[-1] == f'[2, "r", "RemoteStopTransaction", {{ "transactionId" : {tx} }} ]'
    after.reply(after.down[-1], {"status": "Accepted"})
    after.cloud(2, "p", "SetChargingProfile", profile("1.6", 7.0, purpose="TxProfile", transactionId=55))
    assert after.up[-1] == [3, "p", {"status": "Accepted"}]
    after.text(f'[2, "s", "StopTransaction", {{"meterStop":  5, "transactionId":{tx}, "timestamp":"{rig.stamp()}"}}]')
    assert after.up_text[-1].replace("55", str(tx)) == after_text(tx, rig)


def after_text(tx, rig):
    return f'[2, "s", "StopTransaction", {{"meterStop":  5, "transactionId":{tx}, "timestamp":"{rig.stamp()}"}}]'


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans())
def test_a_journaled_frame_differs_from_the_stations_in_the_id_alone(data, restart):
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    tx = rig.start()
    stop = call(data.draw, "StopTransaction", data.draw(payload(fixed=[('"transactionId"', HERE)])), "stop-id")
    rig.text(stop.replace(HERE, str(tx)))
    if restart:
        rig = rig.again()
    rig.cloud_opened()
    assert kinds(told(rig, cloud_id=31415926)) == ["start", "stop"]
    assert rig.up_text[-1] == stop.replace(HERE, "31415926")


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["2.0.1", "2.1"]), st.booleans())
def test_a_journaled_event_differs_from_the_stations_in_offline_alone(data, version, restart):
    rig = joined(Rig(version, upstream=True, options=OFFLINE))
    rig.cloud_closed()
    fixed = [
        ('"eventType"', '"Ended"'),
        ('"seqNo"', "007" if False else "7"),
        ('"transactionInfo"', '{"transactionId":"tx"}'),
    ]
    text = call(data.draw, "TransactionEvent", data.draw(payload(fixed=fixed)), "event-id")
    rig.text(text)
    if restart:
        rig = rig.again()
    rig.cloud_opened()
    assert len(told(rig)) == 1
    sent = rig.up_text[-1]
    assert sent.replace('"offline":true,', "", 1) == text
    assert parse(sent).payload["offline"] is True


def test_security_events_and_signed_values_are_journaled_heartbeats_and_statuses_are_not(rig):
    rig.cloud_closed()
    rig.call(SECURITY, {"type": "TamperDetectionActivated", "timestamp": rig.stamp()})
    rig.call("Heartbeat", {})
    signed = {"value": "AAAA", "format": "SignedData"}
    if rig.version != "1.6":
        signed = {
            "value": 1.0,
            "signedMeterValue": {"signedMeterData": "AAAA", "signingMethod": "", "encodingMethod": ""},
        }
    where = {"connectorId": 1} if rig.version == "1.6" else {"evseId": 1}
    rig.call("MeterValues", {**where, "meterValue": [{"timestamp": rig.stamp(), "sampledValue": [signed]}]})
    rig.call("MeterValues", {**where, "meterValue": [{"timestamp": rig.stamp(), "sampledValue": [{"value": "1"}]}]})
    assert [e.action for e in waiting(rig)] == [SECURITY, "MeterValues"]
    after = rig.again()
    after.cloud_opened()
    assert [m[2] for m in told(after)] == [SECURITY, "MeterValues"]


def test_c5_a_repeat_is_flagged_in_the_status(rig):
    rig.cloud_closed()
    rig.start()
    assert rig.session.status()["queues"][0]["repeats"] == 0
    rig.cloud_opened()
    while kinds([rig.up[-1]]) != ["start"]:
        rig.cloud(3, rig.up[-1][1], answer_of_cloud(rig.up[-1]))
    first = rig.up_text[-1]
    rig.cloud_closed()
    (queue,) = rig.session.status()["queues"]
    assert (queue["waiting"], queue["repeats"]) == (1, 1)
    after = rig.again()  # whether it went out before is not known any more, so it may be a repeat
    assert after.session.status()["queues"][0]["repeats"] == 1
    after.cloud_opened()
    assert after.up_text[-1] == first


def test_get_transaction_status_tells_of_our_queue_after_a_restart():
    rig = joined(Rig("2.0.1", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    tx = rig.start()
    after = rig.again()
    after.cloud_opened()
    after.cloud(2, "q", "GetTransactionStatus", {"transactionId": tx})
    assert after.up[-1] == [3, "q", {"messagesInQueue": True, "ongoingIndicator": True}]
    after.cloud(2, "q2", "GetTransactionStatus", {})
    assert after.up[-1] == [3, "q2", {"messagesInQueue": True}]


@pytest.mark.parametrize("policy", ["finish", "stop"])
def test_c6_a_token_rejected_later_stops_the_transaction_or_lets_it_finish(rig, policy):
    rig = joined(Rig(rig.version, upstream=True, options=OFFLINE | {"on_rejected": policy}))
    rig.cloud_closed()
    tx = rig.start()
    rig.obey()
    rig.cloud_opened()
    while kinds([rig.up[-1]]) != ["start"]:
        rig.cloud(3, rig.up[-1][1], answer_of_cloud(rig.up[-1]))
    answer = {"transactionId": 9, "idTagInfo": {"status": "Blocked"}}
    rig.cloud(3, rig.up[-1][1], answer if rig.version == "1.6" else {"idTokenInfo": {"status": "Blocked"}})
    stops = [m for m in rig.calls_down() if "Stop" in m[2]]
    assert [m[3] for m in stops] == ([{"transactionId": tx}] if policy == "stop" else [])
    (noted,) = [r for r in rig.records if isinstance(r, Noted)]
    assert noted.code == "token_rejected_later"
    assert "token_rejected_later" in [e.code for e in rig.emitted]
    assert waiting(rig) == []
    before = len(rig.up)
    for message in stops:
        rig.reply(message, {"status": "Accepted"})
    assert len(rig.up) == before  # the answer to a call of ours is nobody's business


def test_a_station_with_a_new_ocpp_version_has_its_old_messages_told_in_the_old_one():
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    tx = rig.start()
    rig.stop(tx)
    rig.close()
    rig.version = "2.0.1"
    rig.all_actions.clear()
    rig.open()
    opened = [a for a in rig.all_actions if isinstance(a, OpenUpstream)]
    assert opened == [OpenUpstream("ocpp1.6")]
    rig.boot()
    rig.start(tx="new")
    rig.cloud_opened()
    assert kinds(told(rig)) == ["start", "stop"]
    assert [m[2] for m in rig.up if m[0] == 2 and m[2] == "TransactionEvent"] == []
    changes = [a for a in rig.all_actions if isinstance(a, OpenUpstream | CloseUpstream)]
    assert changes[-2:] == [CloseUpstream(), OpenUpstream("ocpp2.0.1")]
    rig.cloud_opened()
    assert kinds(told(rig)) == ["start"]


def test_a_cloud_that_left_the_old_version_behind_does_not_block_the_new_one():
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    rig.start()
    rig.close()
    rig.version = "2.0.1"
    rig.open()
    rig.boot()
    rig.start(tx="new")
    rig.cloud_closed(refused_version=True)
    assert "queue_version_refused" in [e.code for e in rig.emitted]
    rig.cloud_opened()
    assert kinds(told(rig)) == ["start"]
    assert [e.state for e in rig.store.journal()["S1"]] == ["refused", "delivered"]


def test_what_the_cloud_refuses_is_kept_and_may_be_tried_again():
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    first = rig.start()
    meter(rig, first, 1100)
    rig.stop(first)
    second = rig.start(meter=7)
    rig.stop(second)
    rig.cloud_opened()
    while kinds([rig.up[-1]]) != ["start"]:
        rig.cloud(3, rig.up[-1][1], answer_of_cloud(rig.up[-1]))
    for _ in range(3):
        assert rig.up[-1][3]["meterStart"] == 1000
        rig.cloud(4, rig.up[-1][1], "InternalError", "", {})
        rig.pass_time(31)
    assert rig.up[-1][3]["meterStart"] == 7  # what belongs to the first waits with its start, the second goes on
    rig.answered |= {m[1] for m in rig.up[:-1]}
    assert kinds(told(rig)) == ["start", "stop"]
    assert [e.kind for e in rig.store.journal()["S1"] if e.state == "refused"] == ["start", "update", "stop"]
    after = rig.again()
    assert after.session.status()["queues"][0]["refused"] == 3
    after.take(after.session.retry_refused(after.now))
    after.open()
    after.cloud_opened()
    assert kinds(told(after)) == ["start", "update", "stop"]
    assert waiting(after) == []


def test_a_later_message_of_a_refused_transaction_does_not_reach_the_cloud_under_an_id_it_does_not_know():
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    tx = rig.start()
    rig.cloud_opened()
    for _ in range(3):
        while kinds([rig.up[-1]]) != ["start"]:
            rig.cloud(3, rig.up[-1][1], answer_of_cloud(rig.up[-1]))
        rig.cloud(4, rig.up[-1][1], "InternalError", "", {})
        rig.pass_time(31)
    before = len(rig.up)
    assert rig.stop(tx) is not None
    assert len(rig.up) == before
    assert [e.state for e in rig.store.journal()["S1"]] == ["refused", "refused"]


def test_a_pipelined_message_does_not_overtake_one_that_the_cloud_left_unanswered(rig):
    if rig.version == "1.6":
        return
    rig.start(tx="a")
    rig.cloud(3, rig.up[-1][1], {})
    rig.stop("a")
    rig.start(tx="b")
    rig.pass_time(21)
    assert [m[3]["transactionInfo"]["transactionId"] for m in rig.up if m[2] == "TransactionEvent"] == ["a", "a"]
    assert [e.local_id for e in waiting(rig)] == ["a", "b"]
    offline = [json.loads(e.text)[3] for e in waiting(rig)]
    assert [e.live for e in waiting(rig)] == [True, False]
    assert len(offline) == 2


def test_id_maps_are_forgotten_oldest_first_and_never_of_a_running_transaction():
    rig = joined(Rig("1.6", upstream=True))
    running = None
    for number in range(600):
        start = {"connectorId": 1, "idTag": "T", "meterStart": number, "timestamp": rig.stamp()}
        rig.call("StartTransaction", start, f"st{number}")
        rig.cloud(3, f"st{number}", {"transactionId": 5000 + number, "idTagInfo": {"status": "Accepted"}})
        running = 5000 + number
    forgotten = [r.local_id for r in rig.records if isinstance(r, IdMap) and r.cloud_id is None]
    assert forgotten == [str(5000 + n) for n in range(100)]
    assert rig.session.clouds.primary.ids.knows(str(running))


def test_what_waits_for_an_upstream_that_is_no_longer_named_is_kept_and_told():
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    rig.start()
    after = rig.again(options=OFFLINE | {"primary_id": "renamed"})
    after.pass_time(1)
    assert [e.code for e in after.emitted] == ["queue_orphaned"]
    assert len(waiting(after)) == 1
    assert after.session.status()["journal"] == 0
    back = after.again(options=OFFLINE)
    back.cloud_opened()
    assert kinds(told(back)) == ["start"]


def records_of_sessions(rig):
    steps = [r for r in rig.records if isinstance(r, SessionUpdate)]
    return [(s.kind, s.transaction_id) for s in steps if s.kind != "meter"]


@pytest.mark.parametrize("version", VERSIONS)
def test_values_after_the_end_do_not_begin_the_transaction_anew_not_even_after_a_restart(version):
    """Some stations tell samples of a transaction after its end; one that dies between may tell them again."""
    rig = joined(Rig(version, upstream=True, options=OFFLINE))
    rig.cloud_closed()
    tx = rig.start()
    rig.stop(tx)
    meter(rig, tx, 5001, number=8)
    again = rig.again()
    again.open()
    again.boot()
    meter(again, tx, 5002, number=9)
    assert [kind for kind, _ in records_of_sessions(again)] == ["start", "stop"]
    assert not again.state().charging
    assert kinds([json.loads(e.text) for e in waiting(again)])[-2:] == ["update", "update"]  # the cloud hears of them


def test_an_id_that_a_cloud_gives_again_is_another_transaction():
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    for meter_wh in (100, 200):
        payload = {"connectorId": 1, "idTag": "TAG", "meterStart": meter_wh, "timestamp": rig.stamp()}
        rig.text(json.dumps([2, f"s{meter_wh}", "StartTransaction", payload]))
        rig.cloud(3, f"s{meter_wh}", {"transactionId": 7, "idTagInfo": {"status": "Accepted"}})
        rig.text(
            json.dumps(
                [
                    2,
                    f"e{meter_wh}",
                    "StopTransaction",
                    {
                        "transactionId": [m for m in rig.down if m[0] == 3][-1][2]["transactionId"],
                        "meterStop": 300,
                        "timestamp": rig.stamp(),
                    },
                ]
            )
        )
        rig.cloud(3, f"e{meter_wh}", {})
        rig.pass_time(1)
    assert [kind for kind, _ in records_of_sessions(rig)] == ["start", "stop"] * 2


@pytest.mark.parametrize("version", VERSIONS)
def test_i5_what_one_message_leaves_on_disk_is_one_write(version):
    """A death between two writes would leave a session that the cloud never hears of, or a start no observer hears."""
    options = OFFLINE | {"observers": {"refund": frozenset()}}
    rig = joined(Rig(version, upstream=True, options=options))
    rig.start()
    rig.cloud(3, rig.up[-1][1], answer_of_cloud(rig.up[-1], 4711))
    rig.cloud_closed()
    tx = 4711 if version == "1.6" else "tx-1"
    rig.stop(tx)
    rig.start(tx="tx-2", meter=7000)
    writes = [a for a in rig.actions if isinstance(a, Persist)]
    assert len(writes) == 1
    kept = {type(r) for r in writes[0].records}
    assert {JournalEntry, SessionUpdate} <= kept
    assert {r.upstream_id for r in writes[0].records if isinstance(r, JournalEntry)} == {"cloud", "refund"}


def test_c9_a_cloud_that_takes_a_minute_is_not_told_again():
    """I6: a repeat only where the acknowledgement was lost; a slow one is not lost."""
    rig = joined(Rig("2.0.1", upstream=True, options=OFFLINE))
    rig.start()
    sent = rig.up[-1]
    rig.pass_time(60)
    assert [m for m in rig.up if m[0] == 2 and m[1] == sent[1]] == [sent]
    rig.cloud(3, sent[1], {})
    rig.pass_time(120)
    assert [m for m in rig.up if m[0] == 2 and m[1] == sent[1]] == [sent]
    assert waiting(rig) == []


def test_a_station_that_leaves_takes_no_security_event_with_it():
    """What must reach the cloud keeps the uplink open, whatever it is."""
    rig = joined(Rig("2.0.1", upstream=True, options=OFFLINE))
    rig.text(json.dumps([2, "e", SECURITY, {"type": "StartupOfTheDevice", "timestamp": rig.stamp()}]))
    rig.close()
    assert CloseUpstream() not in rig.actions
    rig.cloud_closed()
    rig.cloud_opened()
    assert [m[1] for m in rig.up if m[0] == 2 and m[2] == SECURITY] == ["e", "e"]
    rig.cloud(3, "e", {})
    rig.pass_time(1)
    assert CloseUpstream() in rig.all_actions
