"""MQTT inputs: recipes, last wills, keepalives, MQTT 5, TLS with client certificates, contacts."""

import asyncio
import json
import re
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import trustme
import yaml

import adapters
from adapters.mqtt.device import MqttDevice
from adapters.trouble import Trouble
from cem.config.contact_models import ContactSection
from cem.config.models import Device
from cem.core.site import Meter
from cem.errors import AdapterError, DeviceMisconfigured
from tests.adapters.broker import Broker
from tests.adapters.field import CLOCK, running, until

RECIPES = Path(__file__).parents[2] / "adapters" / "mqtt" / "recipes.md"
PAYLOADS = yaml.safe_load((Path(__file__).parent / "mqtt_payloads.yaml").read_text())


def recipe(title: str) -> dict:
    """The YAML under a heading of the recipes."""
    block = re.search(rf"^## {re.escape(title)}$.*?```yaml\n(.*?)```", RECIPES.read_text(), re.DOTALL | re.MULTILINE)
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


def test_every_recipe_is_tested_and_names_its_sources():
    text = RECIPES.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(PAYLOADS)
    for title in PAYLOADS:
        assert "Sources: " in text.partition(f"## {title}\n")[2].partition("\n## ")[0], title


@pytest.mark.parametrize("title", PAYLOADS)
def test_each_recipe_expects_what_its_device_can_keep(title):
    """One message may be lost before raises are held back."""
    stated = recipe(title)
    assert "poll_s" in stated, "the default of 1 s is for what is said once a second"
    every_s, meter = PAYLOADS[title].get("says_every_s"), Meter("m", stated["poll_s"])
    text = RECIPES.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    if every_s is None:
        assert "only\nwhen it changes" in text
        assert "not for the meter that guards a fuse" in text
    else:
        assert 2 * every_s < meter.stale_after_s
        assert every_s < meter.safe_after_s
        assert (stated["poll_s"] < 10) or re.search(r"guards a\s+fuse|heat pump", text)


def test_a_p1_meter_that_gives_nothing_back_stays_fresh():
    """600 telegrams, one a second: the export rests at 0.000 all the time, and what the broker kept is not counted."""
    section = device(1883, recipe("DSMR P1 (DSMR-reader)"))
    heard = MqttDevice(section, Trouble("meter", CLOCK, lambda: None))

    def telegram(second):
        known = {f"phase_currently_{way}_l{n}": "0.000" for way in ("delivered", "returned") for n in (1, 2, 3)}
        known |= {
            "timestamp": f"2026-01-09T18:{second // 60:02}:{second % 60:02}Z",
            "phase_currently_delivered_l1": f"0.{second:03}",
        }
        return json.dumps(known).encode()

    heard.heard("dsmr/json", telegram(0), 0.0, retained=True)
    assert heard.latest is None
    for second in range(1, 600):
        heard.heard("dsmr/json", telegram(second), float(second), retained=False)
        assert heard.latest.taken_s == second
        assert heard.latest.power_w == pytest.approx((second, 0, 0))
    assert heard.trouble.problem is None


async def test_recipes_with_payloads_of_their_sources(broker, peer):
    """All on one broker; each as the recipe writes it."""
    made = {
        title: device(
            broker.port, {**recipe(title), **said.get("section", {})}, id=re.sub(r"\W+", "_", title).strip("_")
        )
        for title, said in PAYLOADS.items()
    }
    adapter = make(*made.values())
    async with running(adapter):
        await asyncio.sleep(0.4)
        for said in PAYLOADS.values():
            for message in said["messages"]:
                peer.say(message["topic"], message["payload"])
        await until(lambda: len(adapter.measurements()) == len(PAYLOADS))
        await asyncio.sleep(0.1)
        for title, said in PAYLOADS.items():
            found = adapter.measurements()[made[title].id]
            assert made[title].id not in adapter.problems()
            for key, value in said["expect"].items():
                assert getattr(found, key) == pytest.approx(value, abs=0.01), (title, key)
        await until(lambda: ("R/c0619ab1d2e3/keepalive", b"") in peer.heard)
        for title, said in PAYLOADS.items():
            if "lost" in said:
                peer.say(said["lost"]["topic"], said["lost"]["payload"])
                await until(lambda title=title: made[title].id in adapter.problems())


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
