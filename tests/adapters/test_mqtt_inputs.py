"""MQTT inputs: recipes of the readme, last wills, keepalives, MQTT 5, TLS with client certificates, contacts."""

import asyncio
import json
import re
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import trustme
import yaml

import adapters
from cem.config.contact_models import ContactSection
from cem.config.models import Device
from cem.errors import AdapterError, DeviceMisconfigured
from tests.adapters.broker import MOSQUITTO, Broker
from tests.adapters.field import CLOCK, running, until

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed (make system)")

README = Path(__file__).parents[2] / "adapters" / "README.md"


def recipe(title: str) -> dict:
    """The YAML under a heading of the readme."""
    text = README.read_text().partition("## MQTT recipes")[2]
    block = re.search(rf"^### {re.escape(title)}$.*?```yaml\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    return yaml.safe_load(block[1])


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.kill()


class Peer:
    """An independent client."""

    def __init__(self, port):
        self.heard = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _c, _u, m: self.heard.append((m.topic, m.payload))
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("R/#")
        self.client.loop_start()

    def say(self, topic, payload, *, retain=False):
        text = payload if isinstance(payload, str | bytes) else json.dumps(payload)
        self.client.publish(topic, text, qos=1, retain=retain).wait_for_publish(2)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def peer(broker):
    peer = Peer(broker.port)
    yield peer
    peer.close()


def device(port, section, *, connection=None, **more):
    at = {"kind": "mqtt", "host": "127.0.0.1", "port": port, **(connection or {})}
    return Device.model_validate({"id": "meter", "role": "household_meter", "connection": at, **section, **more})


def make(*devices, contacts=(), news=lambda: None):
    connection = (devices or contacts)[0].connection
    return adapters.create("mqtt", connection, devices, CLOCK, news, contacts)


# Payloads as printed in public documents or sent by the devices: Tasmota "Power Monitoring Calibration / ENERGY",
# Shelly "EM.GetStatus", DSMR-reader "MQTT" (plain values in kW), Victron "dbus-mqtt", evcc "MQTT API", Home Assistant
# "MQTT Statestream", zigbee2mqtt "MQTT Topics and Messages". Expected values worked out by hand.
TASMOTA = (
    '{"Time":"2026-03-01T12:00:10","ENERGY":{"TotalStartTime":"2025-01-01T00:00:00","Total":1234.567,"Yesterday":7.1,'
    '"Today":3.2,"Power":[230,115,-460],"ApparentPower":[231,116,461],"ReactivePower":[5,3,9],"Factor":[0.99,0.99,0.99],'
    '"Frequency":50,"Voltage":[230,231,229],"Current":[1.004,0.502,2.013]}}'
)
SHELLY = (
    '{"id":0,"a_current":4.029,"a_voltage":236.1,"a_act_power":951.2,"a_aprt_power":951.9,"a_pf":1.00,"a_freq":50.0,'
    '"b_current":4.027,"b_voltage":236.201,"b_act_power":-951.1,"b_aprt_power":951.8,"b_pf":1.00,"b_freq":50.0,'
    '"c_current":3.03,"c_voltage":236.402,"c_act_power":715.4,"c_aprt_power":716.2,"c_pf":1.00,"c_freq":50.0,'
    '"n_current":11.029,"total_current":11.083,"total_act_power":715.5,"total_aprt_power":2619.9,'
    '"user_calibrated_phase":[]}'
)
DSMR = "dsmr/reading/phase_currently"
GRID = "N/c0619ab1d2e3/system/0/Ac/Grid"
RECIPES = {
    "Tasmota": (
        [("tele/grid/SENSOR", TASMOTA)],
        {"power_w": (230, 115, -460), "voltage_v": (230, 231, 229), "energy_wh": 1_234_567.0, "total_power_w": -115},
        {},
    ),
    "Shelly Gen2 (Pro 3EM)": (
        [("shellypro3em-aabbcc/status/em:0", SHELLY)],
        {"power_w": (951.2, -951.1, 715.4), "current_a": (4.029, -4.027, 3.03), "voltage_v": (236.1, 236.201, 236.402)},
        {},
    ),
    "DSMR P1 (DSMR-reader)": (
        [
            (f"{DSMR}_delivered_l1", "0.517"), (f"{DSMR}_returned_l1", "0.000"),
            (f"{DSMR}_delivered_l2", "0.000"), (f"{DSMR}_returned_l2", "1.204"),
            (f"{DSMR}_delivered_l3", "0.033"), (f"{DSMR}_returned_l3", "0.000"),
        ],
        {"power_w": (517, -1204, 33), "total_power_w": -654},
        {},
    ),
    "Victron (GX device)": (
        [(f"{GRID}/L1/Power", '{"value": 312.5}'), (f"{GRID}/L2/Power", '{"value": -1500}'),
         (f"{GRID}/L3/Power", '{"value": 0}')],
        {"power_w": (312.5, -1500, 0)},
        {},
    ),
    "evcc": ([("evcc/site/pvPower", "6310.5")], {"total_power_w": -6310.5}, {"role": "pv"}),
    "Home Assistant (statestream)": (
        [("homeassistant/state/sensor/grid_power/state", "-1840.0")], {"total_power_w": -1840.0}, {},
    ),
    "zigbee2mqtt": (
        [("zigbee2mqtt/heat pump", '{"current":3.21,"energy":812.4,"linkquality":105,"power":722,"state":"ON","voltage":229}')],
        {"total_power_w": 722.0, "current_a": (3.21, 0, 0), "energy_wh": 812_400.0},
        {"phases": 1},
    ),
}  # fmt: skip


def test_every_recipe_of_the_readme_is_tested():
    titles = re.findall(
        r"^### (.+)$", README.read_text().partition("## MQTT recipes")[2].partition("\n## ")[0], re.MULTILINE
    )
    assert titles == list(RECIPES)


async def test_recipes_with_real_payloads(broker, peer):
    """All on one broker; each as the readme writes it."""
    made = {}
    for title, (_, _, more) in RECIPES.items():
        section = {**recipe(title), **more}
        made[title] = device(broker.port, section, id=re.sub(r"\W+", "_", title).strip("_"))
    adapter = make(*made.values())
    async with running(adapter):
        await asyncio.sleep(0.4)
        for messages, _, _ in RECIPES.values():
            for topic, payload in messages:
                peer.say(topic, payload)
        await until(lambda: len(adapter.measurements()) == len(RECIPES))
        await asyncio.sleep(0.1)
        for title, (_, expected, _) in RECIPES.items():
            found = adapter.measurements()[made[title].id]
            assert made[title].id not in adapter.problems()
            for key, value in expected.items():
                assert getattr(found, key) == pytest.approx(value), (title, key)
        await until(lambda: ("R/c0619ab1d2e3/keepalive", b"") in peer.heard)
        peer.say("homeassistant/state/sensor/grid_power/state", "unavailable")
        await until(lambda: "Home_Assistant_statestream" in adapter.problems())


async def test_a_keepalive_goes_on(broker, peer):
    section = {**recipe("Victron (GX device)"), "keepalive": {"topic": "R/x/keepalive", "payload": "[]", "every_s": 5}}
    slow = device(broker.port, section)
    quick = slow.model_copy(update={"keepalive": slow.keepalive.model_copy(update={"every_s": 0.3})})
    async with running(make(quick)):
        await until(lambda: peer.heard.count(("R/x/keepalive", b"[]")) >= 3)


async def test_the_last_will_of_a_device_is_told_and_nothing_counts_until_it_is_back(broker, peer):
    section = {
        "availability": {"topic": "pump/lwt", "online": "Online", "offline": "Offline"},
        "values": {"total_power_w": {"topic": "pump/w"}},
    }
    adapter = make(device(broker.port, section))
    peer.say("pump/lwt", "Offline", retain=True)
    async with running(adapter):
        await until(lambda: "says that it is offline" in adapter.problems()["meter"])
        peer.say("pump/w", "700")  # from a queue somewhere
        await asyncio.sleep(0.2)
        assert adapter.measurements() == {}
        peer.say("pump/lwt", "Online", retain=True)
        peer.say("pump/w", "800")
        await until(adapter.measurements)
        assert adapter.measurements()["meter"].total_power_w == 800
        assert adapter.problems() == {}
        taken_s = adapter.measurements()["meter"].taken_s
        peer.say("pump/lwt", "Offline", retain=True)
        await until(lambda: "meter" in adapter.problems())
        assert adapter.measurements()["meter"].taken_s == taken_s  # the last good value stays; its age tells


async def test_half_of_a_difference_is_no_value(broker, peer):
    values = {"total_power_w": {"topic": "p1", "path": "import", "minus_path": "export", "scale": 1000}}
    adapter = make(device(broker.port, {"values": values}))
    async with running(adapter):
        await asyncio.sleep(0.4)
        peer.say("p1", {"import": 1.5})
        await until(lambda: "export" in adapter.problems().get("meter", ""))
        assert adapter.measurements() == {}
        peer.say("p1", {"import": 0.0, "export": 2.25})
        await until(adapter.measurements)
        assert adapter.measurements()["meter"].total_power_w == -2250


# paho leaves the socket of a failed handshake to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_mqtt_5_over_tls_with_a_client_certificate(tmp_path):
    ca, stranger = trustme.CA(), trustme.CA()
    server, client, other = ca.issue_cert("127.0.0.1"), ca.issue_cert("cem.local"), stranger.issue_cert("evil.local")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "stranger.pem")
    for name, pair in (("server", server), ("client", client), ("other", other)):
        pair.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        pair.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    tmp_path.chmod(0o755)
    broker = Broker(
        tmp_path,
        f"allow_anonymous true\ncafile {tmp_path}/ca.pem\ncertfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.key\n"
        "require_certificate true\nuser root",
    )
    good = {
        "protocol": "5", "tls": True, "ca_file": str(tmp_path / "ca.pem"),
        "certificate_file": str(tmp_path / "client.pem"), "key_file": str(tmp_path / "client.key"),
    }  # fmt: skip
    section = {"values": {"total_power_w": {"topic": "pump/w"}}}
    try:
        adapter = make(device(broker.port, section, connection=good))
        async with running(adapter):
            talker = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
            talker.tls_set(str(tmp_path / "ca.pem"), str(tmp_path / "client.pem"), str(tmp_path / "client.key"))
            talker.connect("127.0.0.1", broker.port)
            talker.loop_start()
            while not adapter.measurements():
                talker.publish("pump/w", "55")
                await asyncio.sleep(0.05)
            talker.disconnect()
            talker.loop_stop()
        for wrong in (
            {**good, "ca_file": str(tmp_path / "stranger.pem")},
            {**good, "certificate_file": str(tmp_path / "other.pem"), "key_file": str(tmp_path / "other.key")},
            {**good, "certificate_file": None, "key_file": None},
        ):
            with pytest.raises(AdapterError):
                await asyncio.wait_for(make(device(broker.port, section, connection=wrong)).run(), 6)
        missing = {**good, "ca_file": str(tmp_path / "missing.pem")}
        with pytest.raises(DeviceMisconfigured, match=r"missing\.pem.* cannot be used"):
            await asyncio.wait_for(make(device(broker.port, section, connection=missing)).run(), 6)
    finally:
        broker.kill()


# -- contacts ---------------------------------------------------------------------------------------------------------
def contact(port, **more):
    at = {"kind": "mqtt", "host": "127.0.0.1", "port": port}
    section = {"id": "fire", "kind": "load_shed", "connection": at, "topic": "fire/in", "active_when": "open"}
    return ContactSection.model_validate({**section, **more})


def state(adapter):
    return adapter.contacts()["fire"]


async def test_a_contact_acts_by_its_wire_break_direction_and_control_is_told_at_once(broker, peer):
    told = []
    adapter = make(contacts=[contact(broker.port, path="input.0")], news=lambda: told.append(state(adapter)))
    async with running(adapter):
        assert state(adapter) is None
        await asyncio.sleep(0.4)
        peer.say("fire/in", {"input": [True]})
        await until(lambda: state(adapter) is False)
        peer.say("fire/in", {"input": [False]})
        await until(lambda: state(adapter) is True)
        assert told[:2] == [False, True]
        peer.say("fire/in", {"input": ["wet"]})
        await until(lambda: state(adapter) is None)
        assert "neither 'true' nor 'false'" in adapter.problems()["fire"]
    assert state(adapter) is None  # no broker, no state


async def test_a_contact_that_does_not_repeat_itself_cannot_be_read(broker, peer):
    section = contact(broker.port, active_when="closed", closed="ON", open="OFF", repeated_s=0.6)
    peer.say("fire/in", "OFF", retain=True)
    adapter = make(contacts=[section])
    async with running(adapter):
        await asyncio.sleep(0.4)
        assert state(adapter) is None  # retained is no sign of life
        peer.say("fire/in", "off")
        await until(lambda: state(adapter) is False)
        await until(lambda: state(adapter) is None)
        assert "silent on fire/in" in adapter.problems()["fire"]


async def test_with_a_last_will_the_retained_state_holds_until_the_device_is_gone(broker, peer):
    section = contact(broker.port, availability={"topic": "fire/lwt"}, repeated_s=0.3)
    peer.say("fire/in", "true", retain=True)
    adapter = make(contacts=[section])
    async with running(adapter):
        await asyncio.sleep(0.4)
        assert state(adapter) is None  # nobody says that it lives
        peer.say("fire/lwt", "online", retain=True)
        await until(lambda: state(adapter) is False)
        await asyncio.sleep(0.5)
        assert state(adapter) is False
        peer.say("fire/lwt", "offline", retain=True)
        await until(lambda: state(adapter) is None)
        assert "offline" in adapter.problems()["fire"]
        peer.say("fire/lwt", "online", retain=True)
        await until(lambda: state(adapter) is False)
        broker.kill()
        await until(lambda: state(adapter) is None)
