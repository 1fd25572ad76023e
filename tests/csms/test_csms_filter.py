"""What a cloud may not do to a station (C8), and what it believes to have set."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.csms.rig import Rig

VERSIONS = ["1.6", "2.0.1", "2.1"]
HOSTS = {"allowed_hosts": frozenset({"files.example"})}


def online(version, **options):
    rig = Rig(version, upstream=True, options={**HOSTS, **options})
    rig.open()
    rig.cloud_opened()
    rig.boot()
    rig.cloud(3, rig.up[-1][1], {"status": "Accepted", "currentTime": rig.stamp(), "interval": 300})
    rig.obey()
    rig.down.clear()
    rig.up.clear()
    rig.down_text.clear()
    return rig


def command(rig, action, payload, message_id="c1"):
    """A command of the cloud; gives (what reached the station, what the cloud was answered at once)."""
    before = len(rig.down), len(rig.up)
    rig.cloud(2, message_id, action, payload)
    down = next((m for m in rig.down[before[0] :] if m[0] == 2 and m[1] == message_id), None)
    up = next((m for m in rig.up[before[1] :] if m[0] in {3, 4} and m[1] == message_id), None)
    return down, up


def set_key(version, key, value, component="OCPPCommCtrlr"):
    if version == "1.6":
        return "ChangeConfiguration", {"key": key, "value": value}
    item = {"attributeValue": value, "component": {"name": component}, "variable": {"name": key}}
    return "SetVariables", {"setVariableData": [item]}


def status_of(answer):
    result = answer[2].get("setVariableResult") if isinstance(answer[2], dict) else None
    return result[0]["attributeStatus"] if result else answer[2]["status"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "key",
    [
        "AuthorizationKey", "authorizationkey", " Authorization-Key", "BasicAuthPassword", "SecurityProfile",
        "CentralSystemURL", "OCPP_Backend_Url", "OcppCsmsUrl", "NetworkConfigurationPriority", "Identity", "VendorProxy",
    ],
)  # fmt: skip
def test_c8_keys_of_the_stations_leg_are_refused(version, key):
    rig = online(version)
    down, up = command(rig, *set_key(version, key, "whatever"))
    assert down is None
    assert status_of(up) == "Rejected"
    assert [e.code for e in rig.emitted].count("cloud_refused") == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_c8_any_key_is_refused_the_address_of_a_csms(version):
    rig = online(version)
    down, up = command(rig, *set_key(version, "VendorThing", "x;WSS://evil.example/ocpp"))
    assert down is None
    assert status_of(up) == "Rejected"


@pytest.mark.parametrize("version", VERSIONS)
def test_other_keys_pass_as_they_are(version):
    rig = online(version)
    action, payload = set_key(version, "HeartbeatInterval", "600")
    text = f'[2, "c9" ,"{action}", {json.dumps(payload)} ]'
    rig.cloud_text(text)
    assert text in rig.down_text
    down, _ = command(rig, *set_key(version, "SecurityLogLevel", "3"))
    assert down is None  # single flight: the first is still to be answered
    rig.reply([2, "c9"], {"status": "Accepted"})
    assert any(m[1] == "c1" for m in rig.down)


REFUSED = [
    ("SetNetworkProfile", {"configurationSlot": 1, "connectionData": {}}),
    ("CertificateSigned", {"certificateChain": "x"}),
    ("CertificateSigned", {"certificateChain": "x", "certificateType": "ChargingStationCertificate"}),
    ("InstallCertificate", {"certificateType": "CSMSRootCertificate", "certificate": "x"}),
    ("InstallCertificate", {"certificateType": "CentralSystemRootCertificate", "certificate": "x"}),
    ("DeleteCertificate", {"certificateHashData": {"issuerNameHash": "a", "issuerKeyHash": "b", "serialNumber": "c"}}),
    ("DataTransfer", {"vendorId": "V", "data": '{"u":"wss:\\/\\/evil.example"}'}),
    ("UpdateFirmware", {"location": "http://evil.example/f", "retrieveDate": "2026-01-01T00:00:00Z"}),
    ("UpdateFirmware", {"requestId": 1, "firmware": {"location": "http://evil.example/f"}}),
    ("SignedUpdateFirmware", {"requestId": 1, "firmware": {"location": "ftp://evil.example/f"}}),
    ("PublishFirmware", {"location": "http://evil.example/f", "checksum": "x", "requestId": 1}),
    ("GetDiagnostics", {"location": "ftp://evil.example/"}),
    ("GetLog", {"logType": "SecurityLog", "requestId": 1, "log": {"remoteLocation": "ftp://evil.example/"}}),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("action", "payload"), REFUSED)
def test_c8_refused_and_told(version, action, payload):
    rig = online(version)
    down, up = command(rig, action, payload)
    assert down is None
    assert up[0] == 4 or up[2]["status"] in {"Rejected", "Failed"}
    assert "cloud_refused" in [e.code for e in rig.emitted]
    assert any(getattr(r, "code", None) == "cloud_refused" for r in rig.records)  # for the audit
    assert "evil-secret" not in str(rig.emitted)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "payload",
    [
        {"location": "https://files.example/f.bin", "retrieveDate": "2026-01-01T00:00:00Z"},
        {"requestId": 1, "firmware": {"location": "https://FILES.example.:8443/f.bin"}},
    ],
)
def test_c8_allowed_hosts_pass(version, payload):
    down, up = command(online(version), "UpdateFirmware", payload)
    assert down[3] == payload
    assert up is None


@pytest.mark.parametrize(
    "location",
    [
        "http://files.example@evil.example/", "http://evil.example\\@files.example/", "http://evil.example\t/",
        "//evil.example/", "evil.example/files.example", "http://files.example.evil.example/", "file:///etc/passwd", "",
        "http://[evil.example/", "http://files.example%2eevil.example/",
    ],
)  # fmt: skip
def test_c8_tricks_with_addresses(location):
    down, _ = command(online("2.0.1"), "UpdateFirmware", {"requestId": 1, "firmware": {"location": location}})
    assert down is None


def test_c8_a_mixed_request_is_split_and_the_answer_put_together():
    rig = online("2.0.1")

    def item(name, value):
        return {"attributeValue": value, "component": {"name": "SecurityCtrlr"}, "variable": {"name": name}}

    data = [item("BasicAuthPassword", "evil-secret-evil"), item("Vendor", "1"), item("OtherVendor", "2")]
    down, up = command(rig, "SetVariables", {"setVariableData": data})
    assert up is None
    assert down[3] == {"setVariableData": data[1:]}
    assert "evil-secret" not in "".join(rig.down_text) + str(rig.emitted) + str(rig.records)
    results = [
        {"attributeStatus": status, "component": d["component"], "variable": d["variable"]}
        for status, d in zip(("Accepted", "UnknownVariable"), data[1:], strict=True)
    ]
    rig.reply(down, {"setVariableResult": results})
    told = rig.up[-1][2]["setVariableResult"]
    assert [r["attributeStatus"] for r in told] == ["Rejected", "Accepted", "UnknownVariable"]
    assert [r["variable"]["name"] for r in told] == ["BasicAuthPassword", "Vendor", "OtherVendor"]


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
def test_c8_certificates_of_other_uses_may_be_deleted_once_the_station_named_them(version):
    rig = online(version)
    ours = {"issuerNameHash": "aa", "issuerKeyHash": "bb", "serialNumber": "01", "hashAlgorithm": "SHA256"}
    other = {**ours, "serialNumber": "02"}
    if version == "1.6":
        down, _ = command(rig, "GetInstalledCertificateIds", {"certificateType": "ManufacturerRootCertificate"}, "q")
        rig.reply(down, {"status": "Accepted", "certificateHashData": [other]})
        down, _ = command(rig, "GetInstalledCertificateIds", {"certificateType": "CentralSystemRootCertificate"}, "r")
        rig.reply(down, {"status": "Accepted", "certificateHashData": [ours]})
    else:
        down, _ = command(rig, "GetInstalledCertificateIds", {}, "q")
        chain = [
            {"certificateType": "CSMSRootCertificate", "certificateHashData": ours},
            {"certificateType": "V2GRootCertificate", "certificateHashData": other},
        ]
        rig.reply(down, {"status": "Accepted", "certificateHashDataChain": chain})
    assert command(rig, "DeleteCertificate", {"certificateHashData": ours}, "d1")[0] is None
    assert command(rig, "DeleteCertificate", {"certificateHashData": other}, "d2")[0] is not None


def test_c8_a_reset_storm_is_stopped():
    rig = online("1.6")
    passed = 0
    for n in range(10):
        down, up = command(rig, "Reset", {"type": "Hard"}, f"r{n}")
        passed += down is not None
        assert down is not None or up[2] == {"status": "Rejected"}
        rig.obey()
    assert passed == 3
    rig.pass_time(400)
    assert command(rig, "Reset", {"type": "Soft"}, "later")[0] is not None


def test_c8_a_key_written_twice_is_refused():
    rig = online("1.6")
    rig.cloud_text('[2,"c1","ChangeConfiguration",{"key":"AuthorizationKey","value":"evil","key":"HeartbeatInterval"}]')
    assert rig.down == []
    assert rig.up[-1][:3] == [4, "c1", "SecurityError"]


@pytest.mark.parametrize("version", VERSIONS)
def test_commands_in_another_case_or_as_unanswered_messages_do_not_pass(version):
    rig = online(version)
    assert command(rig, "changeconfiguration", {"key": "AuthorizationKey", "value": "evil"})[0] is None
    rig.cloud(6, "s1", "SetNetworkProfile", {"configurationSlot": 1})
    assert rig.down == []


# -- what the cloud believes to have set ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_c8_the_clouds_sampling_interval_is_kept_for_it_and_ours_stays(version):
    rig = online(version)
    key = "MeterValueSampleInterval" if version == "1.6" else "TxUpdatedInterval"
    down, up = command(rig, *set_key(version, key, "300", "SampledDataCtrlr"))
    assert down is None
    assert status_of(up) == "Accepted"
    if version == "1.6":
        down, _ = command(rig, "GetConfiguration", {"key": [key]}, "g")
        rig.reply(down, {"configurationKey": [{"key": key, "readonly": False, "value": "10"}]})
        assert rig.up[-1][2]["configurationKey"][0]["value"] == "300"
    else:
        asked = {"component": {"name": "SampledDataCtrlr"}, "variable": {"name": key}}
        down, _ = command(rig, "GetVariables", {"getVariableData": [asked]}, "g")
        rig.reply(down, {"getVariableResult": [{**asked, "attributeStatus": "Accepted", "attributeValue": "10"}]})
        assert rig.up[-1][2]["getVariableResult"][0]["attributeValue"] == "300"
    kept = [r for r in rig.records if getattr(r, "name", None) == "settings"]
    assert json.loads(kept[-1].text) == {key.lower(): "300"}


def sample(rig, tx, meter, context="Sample.Periodic"):
    value = {"value": str(meter), "context": context}
    payload = {
        "connectorId": 1, "transactionId": tx, "meterValue": [{"timestamp": rig.stamp(), "sampledValue": [value]}]
    }  # fmt: skip
    before = len(rig.up)
    answer = rig.call("MeterValues", payload)
    up = next((m for m in rig.up[before:] if m[0] == 2 and m[2] == "MeterValues"), None)
    if up is not None:
        rig.cloud(3, up[1], {})
    return up is not None, answer


def test_samples_are_thinned_to_what_the_cloud_asked_for():
    rig = online("1.6")
    command(rig, *set_key("1.6", "MeterValueSampleInterval", "60"))
    rig.start()
    for action, answer in (
        ("StatusNotification", {}),
        ("StartTransaction", {"transactionId": 7, "idTagInfo": {"status": "Accepted"}}),
    ):
        told = next(m for m in rig.up if m[2] == action)
        rig.cloud(3, told[1], answer)
    went = []
    for n in range(19):
        up, answer = sample(rig, 7, 1000 + n)
        went.append(up)
        assert answer == {} or up
        rig.at_s += 10
    assert [n for n, up in enumerate(went) if up] == [0, 6, 12, 18]
    assert sample(rig, 7, 2000, "Transaction.End")[0]  # more than a sample
    assert rig.sessions()[-1].meter_wh in {1018.0, 2000.0}  # all of it was learned from


# -- any cloud ------------------------------------------------------------------------------------------------------

EVIL = "evil"
KEYS = st.sampled_from(
    ["AuthorizationKey", "BasicAuthPassword", "SecurityProfile", "CentralSystemUrl", "OcppCsmsUrl", "BackendURL",
     "Identity", "NetworkConfigurationPriority"]
)  # fmt: skip


def disguised(draw, text):
    """The same name to a sloppy reader."""
    text = draw(st.sampled_from([text, text.upper(), text.lower(), f" {text}", f"{text}\n", "_".join(text)]))
    return text.replace("K", draw(st.sampled_from(["K", "k"])))


@st.composite
def attack(draw):
    key = disguised(draw, draw(KEYS))
    address = draw(st.sampled_from(["ws://evil", "wss://evil.example/x", "WSS:// evil", quote("wss://evil", safe="")]))
    kind = draw(st.integers(0, 7))
    if kind == 0:
        return "ChangeConfiguration", {"key": key, "value": "evil-password"}
    if kind == 1:
        return "ChangeConfiguration", {
            "key": draw(st.text(max_size=20)),
            "value": f"{draw(st.text(max_size=5))}{address}",
        }
    if kind == 2:
        bad = {
            "attributeValue": "evil-password",
            "component": {"name": draw(st.text(max_size=9))},
            "variable": {"name": key},
        }
        good = {"attributeValue": "1", "component": {"name": "X"}, "variable": {"name": "Y"}}
        return "SetVariables", {"setVariableData": draw(st.permutations([bad, good, good]))}
    if kind == 3:
        bad = {"attributeValue": "evil", "component": {"name": "NetworkConfiguration"}, "variable": {"name": "Z"}}
        return "SetVariables", {"setVariableData": [bad]}
    if kind == 4:
        return "SetNetworkProfile", {"configurationSlot": 1, "connectionData": {"ocppCsmsUrl": address}}
    if kind == 5:
        use = draw(st.sampled_from(["CSMSRootCertificate", "CentralSystemRootCertificate"]))
        return "InstallCertificate", {"certificateType": use, "certificate": "evil"}
    if kind == 6:
        return "CertificateSigned", {"certificateChain": "evil"}
    return "DataTransfer", {"vendorId": "V", "messageId": draw(st.text(max_size=5)), "data": json.dumps({"a": address})}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(VERSIONS), st.lists(attack(), min_size=1, max_size=4), st.booleans(), st.randoms())
def test_c8_no_command_that_reaches_a_station_points_it_elsewhere_or_holds_a_credential(
    version, attacks, ascii_only, rng
):
    rig = online(version)
    for n, (action, payload) in enumerate(attacks):
        text = json.dumps([2, f"a{n}", action, payload], ensure_ascii=ascii_only)
        if rng.random() < 0.3:  # a letter as an escape reads the same
            text = text.replace("evil", "\\u0065vil").replace("Key", "\\u004bey")
        rig.cloud_text(text)
        rig.obey()
    for sent in rig.down_text:
        assert EVIL not in json.dumps(json.loads(sent))
        assert "\\u0065vil" not in sent
