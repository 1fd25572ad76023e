"""A second CSMS that sees everything and decides nothing."""

import json

import pytest

from cem.csms.actions import CloseUpstream, OpenUpstream, Persist, SendDown
from cem.csms.pace import Room, Shared
from cem.csms.records import JournalEntry
from tests.csms.rig import Rig, boot_payload
from tests.csms.test_csms_ledger import answer_of_cloud, kinds, meter, waiting
from tests.csms.test_csms_proxy import VERSIONS, start_up

OTHER = "refund"


@pytest.fixture(params=VERSIONS)
def rig(request):
    return observed(request.param)


def observed(version, *, allow=(), on_rejected="finish", **more):
    observers = {OTHER: frozenset(allow)}
    options = {"offline_authorization": "accept", "observers": observers, "on_rejected": on_rejected}
    rig = Rig(version, upstream=True, options=options, **more)
    rig.open()
    assert OpenUpstream(f"ocpp{version}", OTHER) in rig.actions
    rig.cloud_opened()
    rig.cloud_opened(OTHER)
    rig.text(json.dumps([2, "boot", "BootNotification", boot_payload(version)]))
    rig.cloud(3, "boot", answer_of_cloud([2, "boot", "BootNotification"]))
    rig.cloud(3, "boot", answer_of_cloud([2, "boot", "BootNotification"]), who=OTHER)
    rig.obey()
    rig.up.clear()
    rig.up_text.clear()
    return rig


def heard(rig, given=900):
    """Lets the observer answer everything; gives what it heard of transactions."""
    done, at = [], 0
    while at < len(rig.seen.get(OTHER, [])):
        message = rig.seen[OTHER][at]
        at += 1
        if message[0] == 2:
            rig.cloud(3, message[1], answer_of_cloud(message, given), who=OTHER)
            rig.pass_time(0.5)
            done.append(message)
    return [m for m in done if m[2] in {"StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"}]


def test_it_sees_everything_and_its_answers_reach_nobody(rig):
    assert [m[2] for m in rig.seen[OTHER]] == ["BootNotification"]
    text = '[2, "h",  "Heartbeat", {}]'
    rig.text(text)
    assert rig.seen_text[OTHER][-1] == text
    before = len(rig.down)
    rig.cloud(3, "h", {"currentTime": "1999-01-01T00:00:00Z"}, who=OTHER)
    assert len(rig.down) == before
    rig.cloud(3, "h", {"currentTime": "2026-11-22T10:00:00Z"})
    assert rig.down[-1] == [3, "h", {"currentTime": "2026-11-22T10:00:00Z"}]


def test_a_transaction_has_the_observers_own_id_there_and_the_primarys_at_the_station():
    rig = observed("1.6")
    tx = start_up(rig, cloud_id=4711)
    meter(rig, tx, 20)
    rig.cloud(3, rig.up[-1][1], {})
    rig.stop(tx)
    rig.cloud(3, rig.up[-1][1], {})
    messages = heard(rig, given=900)
    assert kinds(messages) == ["start", "update", "stop"]
    assert [m[3].get("transactionId") for m in messages] == [None, 900, 900]
    assert waiting(rig) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_token_that_it_rejects_stops_nobody(version):
    rig = observed(version, on_rejected="stop")
    start_up(rig)
    begun = rig.seen[OTHER][-1]
    no = {"status": "Blocked"}
    rig.cloud(
        3, begun[1], {"transactionId": 5, "idTagInfo": no} if version == "1.6" else {"idTokenInfo": no}, who=OTHER
    )
    assert [m[2] for m in rig.calls_down() if "Stop" in m[2]] == []
    assert "token_rejected_later" not in [e.code for e in rig.emitted]
    assert waiting(rig) == []


def test_both_ids_differ_for_a_transaction_of_an_outage():
    rig = observed("1.6")
    rig.cloud_closed()
    tx = rig.start()
    assert tx not in {31, 900}
    messages = heard(rig, given=900)
    rig.stop(tx)
    messages = heard(rig, given=900)
    assert [m[3].get("transactionId") for m in messages] == [None, 900]
    rig.cloud_opened()
    while kinds([rig.up[-1]]) != ["start"]:
        rig.cloud(3, rig.up[-1][1], {})
    rig.cloud(3, rig.up[-1][1], answer_of_cloud(rig.up[-1], 31))
    assert (rig.up[-1][2], rig.up[-1][3]["transactionId"]) == ("StopTransaction", 31)


def test_i11_an_observer_that_had_no_room_for_a_start_is_not_told_of_the_rest_under_an_id_that_is_anothers_there():
    rig = observed("1.6", shared=Shared(Room(per_station=1)))
    rig.cloud_closed(OTHER)
    for number in range(5):  # ten messages: no room for another start, room for an end
        tx = start_up(rig, cloud_id=100 + number)
        rig.pass_time(1)
        rig.stop(tx)
        rig.cloud(3, rig.up[-1][1], {})
    tx = start_up(rig, cloud_id=900)
    rig.stop(tx)
    rig.cloud(3, rig.up[-1][1], {})
    rig.cloud_opened(OTHER)
    messages = heard(rig, given=900)
    assert kinds(messages) == ["start", "stop"] * 5
    assert waiting(rig) == []


def test_i5_what_it_must_hear_is_on_disk_before_the_station_is_answered(rig):
    rig.cloud_closed(OTHER)
    tx = start_up(rig)
    rig.stop(tx)
    rig.cloud(3, rig.up[-1][1], {})
    persisted = [i for i, a in enumerate(rig.actions) if isinstance(a, Persist) and of_observer(a)]
    answered = [i for i, a in enumerate(rig.actions) if isinstance(a, SendDown)]
    assert persisted[0] < answered[0]
    after = rig.again()
    after.cloud_opened(OTHER)
    messages = heard(after)
    assert kinds(messages) == ["start", "stop"]
    if rig.version != "1.6":
        assert all(m[3]["offline"] for m in messages)
    assert [m for m in after.up if m[0] == 2] == []


def of_observer(action):
    return any(isinstance(r, JournalEntry) and r.upstream_id == OTHER for r in action.records)


def test_what_it_sees_live_is_byte_for_byte(rig):
    if rig.version == "1.6":
        return
    rig.start()
    rig.cloud(3, rig.up[-1][1], {})
    assert rig.seen_text[OTHER][-1] == rig.up_text[-1]


def test_its_commands_are_refused(rig):
    rig.cloud(2, "c", "Reset", {"type": "Soft"}, who=OTHER)
    assert rig.seen[OTHER][-1][:3] == [4, "c", "SecurityError"]
    rig.cloud(2, "p", "SetChargingProfile", {}, who=OTHER)
    assert rig.seen[OTHER][-1][:3] == [4, "p", "SecurityError"]
    assert rig.calls_down() == []
    assert rig.up == []


def test_what_it_is_allowed_passes_and_is_answered_to_it_alone():
    rig = observed("1.6", allow=["TriggerMessage", "RemoteStopTransaction"])
    tx = start_up(rig, cloud_id=4711)
    heard(rig, given=900)
    rig.obey()
    ups = len(rig.up)
    rig.cloud_text('[2, "t", "TriggerMessage", {"requestedMessage":  "Heartbeat"}]', OTHER)
    assert rig.down_text[-1] == '[2, "t", "TriggerMessage", {"requestedMessage":  "Heartbeat"}]'
    rig.reply(rig.down[-1], {"status": "Accepted"})
    assert rig.seen[OTHER][-1] == [3, "t", {"status": "Accepted"}]
    rig.cloud(2, "s", "RemoteStopTransaction", {"transactionId": 900}, who=OTHER)
    assert rig.down[-1][3] == {"transactionId": tx}
    assert len(rig.up) == ups


def test_its_outage_changes_nothing_for_the_station(rig):
    rig.cloud_closed(OTHER)
    rig.text('[2,"h","Heartbeat",{}]')
    rig.cloud(3, "h", {"currentTime": "2026-11-22T10:00:00Z"})
    assert rig.down[-1][1] == "h"
    strict = observed(rig.version)
    assert strict.session.evse_states(strict.at_s)[0].online


def test_the_uplinks_close_each_when_it_has_heard_everything(rig):
    rig.cloud_closed(OTHER)
    tx = start_up(rig)
    rig.stop(tx)
    rig.cloud(3, rig.up[-1][1], {})
    actions = rig.close()
    assert CloseUpstream() in actions
    assert CloseUpstream(OTHER) not in actions
    rig.cloud_opened(OTHER)
    rig.all_actions.clear()
    heard(rig)
    rig.pass_time(1)
    assert CloseUpstream(OTHER) in rig.all_actions


def test_a_boot_that_it_missed_is_told_when_it_is_there(rig):
    rig.cloud_closed(OTHER)
    rig.text(json.dumps([2, "boot2", "BootNotification", boot_payload(rig.version)]))
    rig.cloud(3, "boot2", answer_of_cloud([2, "boot2", "BootNotification"]))
    rig.seen[OTHER].clear()
    rig.cloud_opened(OTHER)
    assert [m[2] for m in rig.seen[OTHER]] == ["BootNotification"]
    rig.cloud(3, rig.seen[OTHER][-1][1], answer_of_cloud([2, "", "BootNotification"]), who=OTHER)
    rig.cloud_closed(OTHER)
    rig.seen[OTHER].clear()
    rig.cloud_opened(OTHER)
    assert [m[2] for m in rig.seen[OTHER] if m[2] == "BootNotification"] == []


def test_a_repeat_of_the_station_reaches_it_once(rig):
    tx = start_up(rig)
    rig.stop(tx)
    stop = rig.up_text[-1]
    rig.close()  # before the answer came
    rig.open()
    rig.text(stop)
    rig.text(stop.replace(json.loads(stop)[1], "another-id"))
    assert rig.up_text.count(stop) == 1
    rig.cloud(3, json.loads(stop)[1], {})
    assert [m[1] for m in rig.down if m[0] == 3][-2:] == [json.loads(stop)[1], "another-id"]
    assert len([m for m in rig.up if m[0] == 2 and kinds([m]) == ["stop"]]) == 1
    assert kinds(heard(rig)) == ["start", "stop"]
