"""Everything that we write ourselves is valid by the standard's own schemas."""

import json
from importlib.resources import files

import jsonschema_rs
import pytest

from tests.csms.rig import Rig, boot_payload, evse
from tests.csms.test_csms_proxy import joined, profile

VERSIONS = ["1.6", "2.0.1", "2.1"]
EMPTY_CALLS = {
    "1.6": ["Heartbeat", "Authorize", "StartTransaction", "StopTransaction", "MeterValues", "StatusNotification", "DataTransfer",
            "DiagnosticsStatusNotification", "FirmwareStatusNotification", "LogStatusNotification", "SecurityEventNotification",
            "SignedFirmwareStatusNotification", "SignCertificate", "BootNotification"],
    "2.0.1": ["Heartbeat", "Authorize", "TransactionEvent", "MeterValues", "StatusNotification", "DataTransfer", "NotifyReport",
              "NotifyEvent", "NotifyMonitoringReport", "FirmwareStatusNotification", "LogStatusNotification", "SignCertificate",
              "SecurityEventNotification", "NotifyChargingLimit", "ClearedChargingLimit", "ReportChargingProfiles",
              "NotifyCustomerInformation", "NotifyDisplayMessages", "PublishFirmwareStatusNotification", "BootNotification",
              "ReservationStatusUpdate", "NotifyEVChargingNeeds", "NotifyEVChargingSchedule", "GetCertificateStatus",
              "Get15118EVCertificate"],
}  # fmt: skip
EMPTY_CALLS["2.1"] = [*EMPTY_CALLS["2.0.1"], "NotifyPriorityCharging", "NotifySettlement", "NotifyDERAlarm"]


def validator(version, name):
    folder = "v" + version.replace(".", "")
    text = (files("ocpp") / folder / "schemas" / f"{name}.json").read_text(encoding="utf-8-sig")
    return jsonschema_rs.validator_for(json.loads(text))


def check(version, action, payload, *, answer):
    name = f"{action}Response" if answer else action if version == "1.6" else f"{action}Request"
    errors = [str(e.message) for e in validator(version, name).iter_errors(payload)]
    # 1.6 limits are multiples of 0.1, which binary floating point cannot show; the rounding has its own test.
    assert [e for e in errors if "multiple of" not in e] == [], (action, payload)


@pytest.mark.parametrize("version", VERSIONS)
def test_our_calls_to_a_station(version):
    rig = Rig(version, evses=(evse(1), evse(2, fallback_a=0.0)))
    rig.open()
    rig.close()
    rig.open()
    rig.pass_time(4)  # no boot: state and boot are asked for
    sent = rig.obey()
    rig.boot()
    sent += rig.obey()
    rig.set_limit(13.37)
    rig.start()
    for _ in range(12):  # down the whole ladder
        calls = rig.calls_down()
        sent += calls
        for call in calls:
            rig.reply(call, {"status": "Rejected"})
    assert {m[2] for m in sent} >= {"SetChargingProfile", "ClearChargingProfile", "TriggerMessage"}
    for message in sent:
        assert len(message[1]) <= 36
        check(version, message[2], message[3], answer=False)


@pytest.mark.parametrize("version", VERSIONS)
def test_our_answers_to_a_station(version):
    rig = Rig(version)
    rig.open()
    check(version, "BootNotification", rig.boot(), answer=True)
    rig.obey()
    token = {"idTag": "T"} if version == "1.6" else {"idToken": {"idToken": "T", "type": "Local"}}
    for action in EMPTY_CALLS[version]:
        for payload in ({}, {"connectorId": 1, **token}):
            answer = rig.call(action, payload)
            assert answer is not None, action
            check(version, action, answer, answer=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_our_answers_to_the_cloud(version):
    rig = joined(Rig(version, upstream=True))
    where = {"connectorId": 1} if version == "1.6" else {"evseId": 1}
    asks = [
        ("SetChargingProfile", profile(version, 9.0)),
        ("SetChargingProfile", profile(version, 9.0, purpose="TxProfile")),
        ("GetCompositeSchedule", {**where, "duration": 3600}),
        ("GetCompositeSchedule", {**where, "duration": 3600, "chargingRateUnit": "W"}),
        ("GetCompositeSchedule", {"connectorId": 9, "evseId": 9, "duration": 3600}),
        ("GetCompositeSchedule", {"connectorId": 0, "evseId": 0, "duration": 3600}),
        ("ClearChargingProfile", {}),
    ]
    if version != "1.6":
        asks.insert(2, ("GetChargingProfiles", {"requestId": 1, "chargingProfile": {}}))
        asks.append(("GetChargingProfiles", {"requestId": 1, "chargingProfile": {}}))
    for index, (action, payload) in enumerate(asks):
        before = len(rig.up)
        rig.cloud(2, f"c{index}", action, payload)
        for message in rig.up[before:]:
            if message[0] == 3:
                check(version, action, message[2], answer=True)
            else:
                check(version, message[2], message[3], answer=False)
                rig.cloud(3, message[1], {})


@pytest.mark.parametrize("version", VERSIONS)
def test_what_we_replay_to_the_cloud(version):
    rig = joined(Rig(version, upstream=True, options={"offline_authorization": "accept"}))
    rig.close()
    rig.open()
    rig.cloud_closed()
    rig.call("BootNotification", boot_payload(version))
    rig.obey()
    tx = rig.start()
    rig.obey()
    rig.stop(tx)
    rig.up.clear()
    rig.cloud_opened()
    for _ in range(8):
        message = rig.up[-1]
        check(version, message[2], message[3], answer=False)
        rig.cloud(3, message[1], {"status": "Accepted", "transactionId": 5, "idTagInfo": {"status": "Accepted"}})
    assert rig.session.status()["journal"] == 0
