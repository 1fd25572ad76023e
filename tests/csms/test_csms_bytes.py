"""What passes through keeps every byte; and nothing a peer sends can break a session."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cem.csms.frames import parse, payload_text, with_value, without
from cem.csms.session import DIALECTS
from tests.csms.odd_frames import ANY_TEXT, HERE, IDS, answer, call, payload
from tests.csms.rig import Rig
from tests.csms.test_csms_proxy import joined, start_up

VERSIONS = st.sampled_from(["1.6", "2.0.1", "2.1"])

RELAYED_UP = st.sampled_from(
    ["DataTransfer", "Heartbeat", "StatusNotification", "FirmwareStatusNotification", "Whatever"]
)
RELAYED_DOWN = st.sampled_from(
    ["Reset", "GetConfiguration", "GetVariables", "TriggerMessage", "UnlockConnector", "Else"]
)
OFFLINE = {"offline_authorization": "accept"}
SPELLINGS = st.sampled_from(['"transactionId"', '"transaction\\u0049d"'])


@settings(max_examples=60, deadline=None)
@given(st.data(), VERSIONS, RELAYED_UP, IDS)
def test_upwards_every_byte_survives(data, version, action, message_id):
    rig = joined(Rig(version, upstream=True))
    text = call(data.draw, action, data.draw(payload()), message_id)
    rig.text(text)
    assert rig.up_text == [text]
    told = answer(data.draw, data.draw(payload()), message_id)
    rig.cloud_text(told)
    assert rig.down_text[-1] == told


@settings(max_examples=60, deadline=None)
@given(st.data(), VERSIONS, RELAYED_DOWN, IDS)
def test_downwards_every_byte_survives(data, version, action, message_id):
    rig = joined(Rig(version, upstream=True))
    text = call(data.draw, action, data.draw(payload()), message_id)
    rig.cloud_text(text)
    assert rig.down_text[-1] == text
    told = answer(data.draw, data.draw(payload()), message_id)
    rig.text(told)
    assert rig.up_text[-1] == told


def of_transaction(draw, version, kind, tx, message_id="id-1"):
    """An odd message of a transaction, and in 1.6 how it writes the id."""
    when = ('"timestamp"', '"2026-11-22T10:00:00.000Z"')
    if version != "1.6":
        info = draw(payload(fixed=[(draw(SPELLINGS), json.dumps(tx))]))
        words = {"start": "Started", "update": "Updated", "stop": "Ended"}
        fixed = [when, ('"eventType"', f'"{words[kind]}"'), ('"transactionInfo"', info), ('"seqNo"', "7")]
        return call(draw, "TransactionEvent", draw(payload(fixed=fixed)), message_id)
    named = (draw(SPELLINGS), str(tx))
    match kind:
        case "start":
            fixed = [when, ('"connectorId"', "1"), ('"idTag"', '"T\\u0041G"'), ('"meterStart"', "1e1")]
            return call(draw, "StartTransaction", draw(payload(fixed=fixed)), message_id)
        case "update":
            fixed = [named, ('"connectorId"', "1"), ('"meterValue"', f"[{draw(payload())}]")]
            return call(draw, "MeterValues", draw(payload(fixed=fixed)), message_id)
        case _:
            fixed = [when, named, ('"meterStop"', "12"), ('"transactionData"', f"[{draw(payload())}]")]
            return call(draw, "StopTransaction", draw(payload(fixed=fixed)), message_id)


@settings(max_examples=60, deadline=None)
@given(st.data(), VERSIONS, st.sampled_from(["start", "update", "stop"]), IDS)
def test_a_transactions_messages_pass_with_every_byte(data, version, kind, message_id):
    rig = joined(Rig(version, upstream=True))
    tx = start_up(rig) if kind != "start" else "tx-1"
    text = of_transaction(data.draw, version, kind, tx, message_id)
    rig.text(text)
    assert rig.up_text[-1] == text
    given = [('"transactionId"', "4712"), ('"idTagInfo"', '{ "status":"Accepted"}')]
    told = answer(data.draw, data.draw(payload(fixed=given)), message_id)
    before = len(rig.down_text)
    rig.cloud_text(told)
    assert rig.down_text[before] == told  # what follows a start are questions of ours


def mapped(given):
    """A 1.6 transaction that began while the cloud was away, and that it has given another id since."""
    rig = joined(Rig("1.6", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    tx = rig.start()
    rig.obey()
    rig.cloud_opened()
    while rig.up[-1][2] != "StartTransaction":
        rig.cloud(3, rig.up[-1][1], {})
    rig.cloud(3, rig.up[-1][1], {"transactionId": given, "idTagInfo": {"status": "Accepted"}})
    return rig, tx


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["update", "stop"]), st.integers(10**6, 10**9))
def test_of_a_mapped_transaction_the_id_alone_changes_on_its_way_up(data, kind, given):
    rig, tx = mapped(given)
    text = of_transaction(data.draw, "1.6", kind, HERE)
    rig.text(text.replace(HERE, str(tx)))
    assert rig.up_text[-1] == text.replace(HERE, str(given))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(10**6, 10**9))
def test_of_a_mapped_transaction_the_id_alone_changes_on_its_way_down(data, given):
    rig, tx = mapped(given)
    text = call(data.draw, "RemoteStopTransaction", data.draw(payload(fixed=[(data.draw(SPELLINGS), HERE)])))
    rig.cloud_text(text.replace(HERE, str(given)))
    assert rig.down_text[-1] == text.replace(HERE, str(tx))


@settings(max_examples=60, deadline=None)
@given(st.data(), VERSIONS, st.booleans())
def test_what_is_told_after_an_outage_keeps_every_other_byte(data, version, restarted):
    rig = joined(Rig(version, upstream=True, options=OFFLINE))
    rig.cloud_closed()
    tx = rig.start(tx="tx-1")
    texts = [of_transaction(data.draw, version, kind, tx, f"odd-{kind}") for kind in ("update", "stop")]
    for text in texts:
        rig.text(text)
    if restarted:
        rig = rig.again()
    rig.cloud_opened()
    for _ in range(8):
        if rig.up[-1][0] == 2:
            rig.cloud(3, rig.up[-1][1], {"transactionId": 8_000_001, "idTagInfo": {"status": "Accepted"}})
        rig.pass_time(1)
    told = [text for message, text in zip(rig.up, rig.up_text, strict=True) if message[1] in {"odd-update", "odd-stop"}]
    for sent, before in zip(told, texts, strict=True):
        if version == "1.6":
            assert sent.count("8000001") == 1
            assert sent.replace("8000001", str(tx)) == before
        else:
            assert sent.replace('"offline":true,', "", 1) == before


@given(IDS, IDS)
def test_a_repeat_is_answered_as_the_first_was_under_its_own_id(first, second):
    rig = joined(Rig("1.6", upstream=True))
    body = {"connectorId": 1, "idTag": "TAG", "meterStart": 10, "timestamp": rig.stamp()}
    for message_id in (first, second):
        rig.text(json.dumps([2, message_id, "StartTransaction", body]))
    rig.cloud_text(json.dumps([3, first])[:-1] + ',{"transactionId" : 31,"idTagInfo":{"status":"Accepted"} }]')
    answers = [m for m in rig.down if m[0] == 3 and m[1] in {first, second}]
    assert [m[1] for m in answers] == ([first] if first == second else [first, second])
    assert {json.dumps(m[2]) for m in answers} == {'{"transactionId": 31, "idTagInfo": {"status": "Accepted"}}'}


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 10**9))
def test_a_mapped_id_is_the_only_thing_that_changes(data, number):
    body = data.draw(payload(fixed=[('"transactionId"', HERE)]))
    text = call(data.draw, "StopTransaction", body)
    assert with_value(text, "transactionId", number) == text.replace(HERE, str(number))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_offline_is_the_only_thing_added_and_a_profile_the_only_thing_taken(data):
    text = call(data.draw, "TransactionEvent", data.draw(payload()))
    marked = with_value(text, "offline", value=True)
    assert parse(marked).payload == parse(text).payload | {"offline": True}
    assert marked.replace('"offline":true,', "", 1).replace('"offline":true', "", 1) == text
    start = call(data.draw, "RemoteStartTransaction", data.draw(payload(fixed=[('"chargingProfile"', '{"a":[1,{}]}')])))
    cut = parse(without(start, "chargingProfile"))
    assert cut.payload == {k: v for k, v in parse(start).payload.items() if k != "chargingProfile"}
    assert payload_text(parse(text)) in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT | st.just("2026-11-22T10:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
ACTIONS_UP = [
    "BootNotification",
    "StatusNotification",
    "StartTransaction",
    "StopTransaction",
    "MeterValues",
    "Authorize",
    "TransactionEvent",
]
ACTIONS_DOWN = [
    "SetChargingProfile", "ClearChargingProfile", "GetCompositeSchedule", "GetChargingProfiles", "RemoteStartTransaction",
    "RequestStartTransaction", "RemoteStopTransaction", "RequestStopTransaction", "GetTransactionStatus",
]  # fmt: skip
KEYS = st.sampled_from([
    "connectorId", "evseId", "transactionId", "transactionInfo", "meterValue", "sampledValue", "timestamp", "idTag", "idToken",
    "evse", "id", "eventType", "chargingProfile", "csChargingProfiles", "chargingSchedule", "chargingSchedulePeriod",
    "duration", "chargingProfileCriteria", "status", "meterStart", "value", "limit", "startPeriod", "requestId",
])  # fmt: skip
VALUES = st.recursive(
    JSON
    | st.sampled_from(
        ["Started", "Ended", "Updated", "Available", "Charging", "A", "TxProfile", "Absolute", "16,0", "NaN", 1e308]
    ),
    lambda inner: st.dictionaries(KEYS, inner, max_size=5) | st.lists(inner, max_size=2),
    max_leaves=12,
)
PAYLOAD = st.dictionaries(KEYS, VALUES, max_size=6)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VERSIONS, st.lists(st.tuples(st.booleans(), st.integers(0, 8), PAYLOAD), min_size=1, max_size=6))
def test_no_message_of_either_side_breaks_a_session(version, messages):
    rig = joined(Rig(version, upstream=True))
    rig.set_limit(10.0)
    for index, (up, action, body) in enumerate(messages):
        if up:
            name = ACTIONS_UP[action % len(ACTIONS_UP)]
            rig.text(json.dumps([2, f"u{index}", name, body]))
            if rig.up and rig.up[-1][:2] == [2, f"u{index}"]:
                rig.cloud(3, f"u{index}", body)
        else:
            rig.cloud(2, f"d{index}", ACTIONS_DOWN[action], body)
            if rig.down and rig.down[-1][:2] == [2, f"d{index}"]:
                rig.text(json.dumps([3, f"d{index}", body]))
        rig.pass_time(1)
    rig.cloud_closed()
    rig.pass_time(31)
    rig.cloud_opened()
    state = rig.state()
    assert 0.0 <= state.in_force_a <= 32.0


@settings(max_examples=100, deadline=None)
@given(VERSIONS, st.text(max_size=60) | JSON.map(json.dumps))
def test_no_text_breaks_a_session(version, text):
    rig = joined(Rig(version, upstream=True))
    rig.text(text)
    rig.cloud_text(text)
    assert rig.state() is not None


def test_every_subprotocol_has_its_dialect():
    assert {name: make().version for name, make in DIALECTS.items()} == {
        "ocpp1.6": "1.6",
        "ocpp2.0.1": "2.0.1",
        "ocpp2.1": "2.1",
    }
