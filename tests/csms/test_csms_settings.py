"""Sampling: ours for control, the cloud's for the cloud; and what the station itself does about a rejected token."""

import json

import pytest

from cem.csms.cutting import cut_samples
from tests.csms.rig import Rig, good_answer
from tests.csms.test_csms_filter import command, online, set_key, status_of

KEYS = {
    "1.6": ("MeterValueSampleInterval", "MeterValuesSampledData", "StopTransactionOnInvalidId"),
    "2.0.1": ("TxUpdatedInterval", "TxUpdatedMeasurands", "StopTxOnInvalidId"),
}
ENERGY = "Energy.Active.Import.Register"


def settings_answer(message, values):
    """A station's answer to a question for settings."""
    if message[2] == "GetConfiguration":
        return {"configurationKey": [
            {"key": key, "readonly": False, "value": values[key]} for key in message[3]["key"] if key in values
        ]}  # fmt: skip
    return {"getVariableResult": [
        {**asked, "attributeStatus": "Accepted", "attributeValue": values.get(asked["variable"]["name"], "")}
        for asked in message[3]["getVariableData"]
    ]}  # fmt: skip


def settings_made(message):
    """Name and value of what a station is told to set."""
    if message[2] == "ChangeConfiguration":
        return [(message[3]["key"], message[3]["value"])]
    if message[2] == "SetVariables":
        return [(d["variable"]["name"], d["attributeValue"]) for d in message[3]["setVariableData"]]
    return []


def with_station_of(version, values, **options):
    """A station with settings of its own is online; gives the rig and what it was told to set."""
    rig = Rig(version, upstream=True, options=options)
    rig.open()
    rig.cloud_opened()
    rig.boot()
    rig.cloud(3, rig.up[-1][1], {"status": "Accepted", "currentTime": rig.stamp(), "interval": 300})
    made = []
    while rig.calls_down():
        message = rig.calls_down()[0]
        made += settings_made(message)
        asks = message[2] in {"GetConfiguration", "GetVariables"}
        rig.reply(message, settings_answer(message, values) if asks else good_answer(message, version))
    rig.up.clear()
    rig.down.clear()
    return rig, made


def told(rig, version, *names):
    """What the cloud reads."""
    if version == "1.6":
        down, _ = command(rig, "GetConfiguration", {"key": list(names)}, f"g{rig.at_s}{len(rig.up)}")
        rig.reply(down, settings_answer(down, dict.fromkeys(names, "ours")))
        return [entry["value"] for entry in rig.up[-1][2]["configurationKey"]]
    asked = [{"component": {"name": "SampledDataCtrlr"}, "variable": {"name": name}} for name in names]
    down, _ = command(rig, "GetVariables", {"getVariableData": asked}, f"g{rig.at_s}{len(rig.up)}")
    rig.reply(down, settings_answer(down, dict.fromkeys(names, "ours")))
    return [entry["attributeValue"] for entry in rig.up[-1][2]["getVariableResult"]]


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_what_the_station_had_before_us_is_what_the_cloud_reads_also_after_a_restart(version):
    interval, measurands, stops = KEYS[version]
    rig, made = with_station_of(version, {interval: "900", measurands: f"{ENERGY},SoC", stops: "true"})
    assert dict(made)[interval] == "10"
    assert dict(made)[measurands].split(",")[-1] == "SoC", "the cloud's beside ours"
    assert {"Current.Import", "Voltage", ENERGY} <= set(dict(made)[measurands].split(","))
    assert told(rig, version, interval, measurands) == ["900", f"{ENERGY},SoC"]
    rig = rig.again()
    rig.open()
    rig.cloud_opened()
    assert told(rig, version, interval, measurands) == ["900", f"{ENERGY},SoC"]


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_the_clouds_measurands_reach_the_station_with_ours_and_count_once_it_accepted_them(version):
    rig = online(version)
    _, measurands, _ = KEYS[version]
    for status, shown in (("Rejected", "ours"), ("Accepted", "SoC")):
        down, _ = command(rig, *set_key(version, measurands, "SoC", "SampledDataCtrlr"), f"m{status}")
        ((_, value),) = settings_made(down)
        assert value.split(",")[-1] == "SoC"
        assert "Current.Import" in value
        if version == "1.6":
            rig.reply(down, {"status": status})
        else:
            (item,) = down[3]["setVariableData"]
            rig.reply(down, {"setVariableResult": [
                {"attributeStatus": status, "component": item["component"], "variable": item["variable"]}
            ]})  # fmt: skip
        assert status_of(rig.up[-1]) == status
        assert told(rig, version, measurands) == [shown]


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_a_cloud_that_wants_samples_more_often_than_we_do_has_them(version):
    interval, _, _ = KEYS[version]
    rig = online(version)
    down, up = command(rig, *set_key(version, interval, "5", "SampledDataCtrlr"))
    assert up is None
    assert settings_made(down) == [(interval, "5")]
    rig.reply(down, good_answer(down, version))
    assert rig.session._settings.interval_s == 5


def test_a_report_shows_the_clouds_own():
    rig = online("2.0.1")
    command(rig, *set_key("2.0.1", "TxUpdatedInterval", "300", "SampledDataCtrlr"))
    variable = {"name": "TxUpdatedInterval"}
    rig.call("NotifyReport", {"requestId": 1, "seqNo": 0, "generatedAt": rig.stamp(), "reportData": [
        {"component": {"name": "SampledDataCtrlr"}, "variable": variable,
         "variableAttribute": [{"type": "Actual", "value": "10"}, {"type": "MinSet", "value": "1"}],
         "variableCharacteristics": {"dataType": "integer", "supportsMonitoring": False}},
        {"component": {"name": "EVSE"}, "variable": {"name": "Power"}, "variableAttribute": [{"value": "10"}]},
    ]})  # fmt: skip
    first, second = rig.up[-1][3]["reportData"]
    assert [a["value"] for a in first["variableAttribute"]] == ["300", "1"]
    assert second["variableAttribute"] == [{"value": "10"}]


def samples(rig, *measurands, value="7.50"):
    inner = ", ".join(f'{{"value":{value},  "measurand":"{name}"}}' for name in measurands)
    return f'[{{"timestamp":"{rig.stamp()}","sampledValue":[{inner}]}}]'


def event(rig, seq, *measurands, kind="Updated", trigger="MeterValuePeriodic", state="Charging"):
    """A numbered event; gives the message as the cloud got it, and its text."""
    before = len(rig.up)
    rig.text(
        f'[2,"e{seq}","TransactionEvent",{{"eventType":"{kind}","timestamp":"{rig.stamp()}","triggerReason":"{trigger}",'
        f'"seqNo":{seq},"transactionInfo":{{"transactionId":"t","chargingState":"{state}"}},"evse":{{"id":1}},'
        f'"meterValue": {samples(rig, *measurands)}}}]'
    )
    up = next((m for m in rig.up[before:] if m[0] == 2), None)
    if up is not None:
        rig.cloud(3, up[1], {})
    rig.at_s += 10
    return up


@pytest.mark.parametrize("choice", ["empty", "drop"])
def test_2x_samples_are_thinned_to_what_the_cloud_asked_for_and_no_number_is_missing_unless_chosen(choice):
    rig, _ = with_station_of(
        "2.0.1", {"TxUpdatedInterval": "60", "TxUpdatedMeasurands": ENERGY}, unwanted_samples=choice
    )
    went = [event(rig, 0, "Voltage", ENERGY, kind="Started", trigger="Authorized")]
    went += [event(rig, n, "Current.Import", ENERGY, "Voltage") for n in range(1, 14)]
    went.append(event(rig, 14, ENERGY, state="SuspendedEV"))
    went.append(event(rig, 15, "Voltage", kind="Ended", trigger="StopAuthorized", state="SuspendedEV"))
    numbers = [up[3]["seqNo"] for up in went if up is not None]
    with_values = [up[3]["seqNo"] for up in went if up is not None and "meterValue" in up[3]]
    assert with_values == [0, 1, 7, 13, 15]
    assert numbers == (list(range(16)) if choice == "empty" else [0, 1, 7, 13, 14, 15])
    for up in went[1:14]:
        for value in (up or [0, 0, 0, {}])[3].get("meterValue", []):
            assert [s["measurand"] for s in value["sampledValue"]] == [ENERGY]
    assert len(went[0][3]["meterValue"][0]["sampledValue"]) == 2, "the first is whole"
    assert rig.state().status == "SuspendedEV"


def test_what_was_thinned_waits_thinned_through_an_outage_and_a_repeat_is_known():
    rig, _ = with_station_of("2.0.1", {"TxUpdatedInterval": "60", "TxUpdatedMeasurands": ENERGY})
    event(rig, 0, ENERGY, kind="Started", trigger="Authorized")
    rig.cloud_closed()
    event(rig, 1, "Voltage", ENERGY)
    rig.at_s -= 10
    event(rig, 1, "Voltage", ENERGY)
    waiting = [entry.text for entry in rig.store.journal()["S1"] if entry.state == "waiting"]
    assert len(waiting) == 1
    assert "Voltage" not in waiting[0]
    assert '"value":7.50,  "measurand"' in waiting[0], "what stays is as it was written"


def test_1_6_messages_are_cut_and_dropped_and_what_says_more_is_whole():
    rig, _ = with_station_of("1.6", {"MeterValueSampleInterval": "60", "MeterValuesSampledData": ENERGY})

    def meter(inner):
        before = len(rig.up)
        rig.text(f'[2,"m{rig.at_s}","MeterValues",{{"connectorId":1,"meterValue":[{{"timestamp":"{rig.stamp()}",'
                 f'"sampledValue":[{inner}]}}]}}]')  # fmt: skip
        rig.at_s += 10
        up = next((m for m in rig.up[before:] if m[0] == 2), None)
        if up is not None:
            rig.cloud(3, up[1], {})
        return None if up is None else [s["value"] for s in up[3]["meterValue"][0]["sampledValue"]]

    volts, energy = '{"value":"230","measurand":"Voltage"}', '{"value":"5"}'
    assert meter(f"{volts},{energy}") == ["5"]
    assert meter(f"{volts},{energy}") is None
    assert meter('{"value":"x","format":"SignedData","measurand":"Voltage"}') == ["x"]
    assert meter('{"value":"9","measurand":"Voltage","context":"Trigger"}') == ["9"]
    rig.at_s += 60
    assert meter(volts) is None, "nothing of it was asked for"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('[2,"a","X",{"meterValue":[{"sampledValue":[ {"m":1.0} , {"m":2} ],"t":1e2}]}]',
         '[2,"a","X",{"meterValue":[{"sampledValue":[{"m":1.0}],"t":1e2}]}]'),
        ('[2,"a","X",{"meterValue":[{"sampledValue":[{"m":2}]}, {"sampledValue":[ {"m":1.0} ]}], "é":[]}]',
         '[2,"a","X",{"meterValue":[{"sampledValue":[ {"m":1.0} ]}], "é":[]}]'),
        ('[2,"a","X",{"meterValue":[{"sampledValue":[{"m":2}]}]}]', None),
        ('[2,"a","X",{"meterValue":  [{"sampledValue":[{"m":1}]} , 7]}]',
         '[2,"a","X",{"meterValue":  [{"sampledValue":[{"m":1}]} , 7]}]'),
        ('[2,"a","X",{"meterValue":7}]', '[2,"a","X",{"meterValue":7}]'),
    ],
)  # fmt: skip
def test_samples_are_cut_out_and_nothing_else_changes(text, left):
    assert cut_samples(text, lambda sample: sample.get("m") != 2) == left


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
@pytest.mark.parametrize("stops", ["true", "false", None])
def test_c6_a_token_rejected_later_is_treated_as_the_station_itself_would(version, stops):
    name = KEYS[version][2]
    rig, _ = with_station_of(version, {} if stops is None else {name: stops}, offline_authorization="accept")
    rig.cloud_closed()
    rig.start("BAD")
    rig.obey()
    rig.down.clear()
    rig.cloud_opened()
    rig.pass_time(1)
    for status in [m for m in rig.up if m[2] == "StatusNotification"]:
        rig.cloud(3, status[1], {})
    rig.pass_time(1)
    sent = next(m for m in rig.up if m[2] in {"StartTransaction", "TransactionEvent"})
    bad = (
        {"idTagInfo": {"status": "Blocked"}, "transactionId": 5}
        if version == "1.6"
        else {"idTokenInfo": {"status": "Blocked"}}
    )
    rig.cloud(3, sent[1], bad)
    stopped = [m for m in rig.down if m[0] == 2 and m[2] in {"RemoteStopTransaction", "RequestStopTransaction"}]
    assert bool(stopped) is (stops == "true")
    assert "token_rejected_later" in [e.code for e in rig.emitted]


def test_the_clouds_own_change_of_what_a_rejected_token_means_is_followed():
    rig = online("1.6")
    down, _ = command(rig, *set_key("1.6", "StopTransactionOnInvalidId", "true"))
    assert json.loads(rig.down_text[-1])[3]["value"] == "true"
    rig.reply(down, {"status": "Accepted"})
    assert rig.session._settings.stops_on_invalid is True
