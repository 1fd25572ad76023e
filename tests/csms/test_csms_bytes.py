"""What passes through keeps every byte; and nothing a peer sends can break a session."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cem.csms.frames import parse, payload_text, with_value, without
from cem.csms.session import DIALECTS
from tests.csms.rig import Rig
from tests.csms.test_csms_proxy import joined

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
HERE = "31415926535897"  # a number that stands nowhere else
NUMBERS = st.sampled_from(["0", "-0", "1.0", "1e3", "1.50E-7", "12345678901234567890123", "0.1000", "-5"])
SPACE = st.sampled_from(["", " ", "\t", "\r\n", "  \n "])
VERSIONS = st.sampled_from(["1.6", "2.0.1", "2.1"])


@st.composite
def token(draw, depth=2):
    """JSON as odd as the grammar allows, as text."""
    kind = draw(st.integers(0, 6 if depth else 4))
    gap = draw(SPACE)
    if kind == 0:
        return draw(NUMBERS)
    if kind == 1:
        return json.dumps(draw(ANY_TEXT), ensure_ascii=draw(st.booleans()))
    if kind in {2, 3, 4}:
        return draw(st.sampled_from(["true", "false", "null"]))
    inner = draw(st.lists(token(depth=depth - 1), max_size=3))
    if kind == 5:
        return "[" + gap + (gap + ",").join(inner) + gap + "]"
    keys = [json.dumps(draw(ANY_TEXT), ensure_ascii=False) for _ in inner]
    return "{" + gap + ("," + gap).join(f"{k}{gap}:{gap}{v}" for k, v in zip(keys, inner, strict=True)) + gap + "}"


@st.composite
def payload(draw, fixed=()):
    members = [*fixed, ('"customData"', draw(token()))] if draw(st.booleans()) else list(fixed)
    members += [
        (json.dumps("x" + draw(ANY_TEXT), ensure_ascii=draw(st.booleans())), draw(token()))
        for _ in range(draw(st.integers(0, 4)))
    ]
    members = draw(st.permutations(members))
    gap = draw(SPACE)
    return "{" + gap + ("," + gap).join(f"{k}{gap}:{gap}{v}" for k, v in members) + gap + "}"


def call(draw, action, body, message_id="id-1"):
    gap = draw(SPACE)
    return f'{gap}[{gap}2{gap},{gap}"{message_id}",{gap}"{action}"{gap},{gap}{body}{gap}]{gap}'


RELAYED_UP = st.sampled_from(
    ["DataTransfer", "Heartbeat", "StatusNotification", "FirmwareStatusNotification", "Whatever"]
)
RELAYED_DOWN = st.sampled_from(
    ["Reset", "GetConfiguration", "GetVariables", "TriggerMessage", "UnlockConnector", "Else"]
)


@settings(max_examples=60, deadline=None)
@given(st.data(), VERSIONS, RELAYED_UP)
def test_upwards_every_byte_survives(data, version, action):
    rig = joined(Rig(version, upstream=True))
    text = call(data.draw, action, data.draw(payload()))
    rig.text(text)
    assert rig.up_text == [text]
    answer = f'[3, "id-1" ,{data.draw(payload())}]'
    rig.cloud_text(answer)
    assert rig.down_text[-1] == answer


@settings(max_examples=60, deadline=None)
@given(st.data(), VERSIONS, RELAYED_DOWN)
def test_downwards_every_byte_survives(data, version, action):
    rig = joined(Rig(version, upstream=True))
    text = call(data.draw, action, data.draw(payload()))
    rig.cloud_text(text)
    assert rig.down_text[-1] == text
    answer = f'[3, "id-1" ,{data.draw(payload())}]'
    rig.text(answer)
    assert rig.up_text[-1] == answer


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
