"""Contactors over MQTT: a relay behind a real broker, told, read back, told anew, and what is wrong said once."""

import asyncio
import json
from contextlib import contextmanager

import paho.mqtt.client as paho
import pytest

import adapters
from cem.app import field_adapters
from cem.config.contact_models import ContactorSection
from cem.config.loader import load_site_file
from cem.ports import ContactorSwitch
from tests.adapters.broker import Broker
from tests.adapters.field import CLOCK, running, until
from tests.adapters.test_device_tools import SITE, cem


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.kill()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("cem.supervise.FIRST_PAUSE_S", 0.3)
    monkeypatch.setattr("adapters.mqtt.output.FOLLOWS_S", 0.6)
    monkeypatch.setattr("adapters.mqtt.output.AGAIN_S", 1.0)
    monkeypatch.setattr("adapters.mqtt.output.LOOK_S", 0.05)


class Relay:
    """As a Shelly of the second generation: plain words in, JSON with a boolean out, and only when it is told or changes."""

    def __init__(self, port):
        self.on, self.deaf, self.told, self.stuck = True, False, [], False
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_message = self._message
        self.client.on_connect = lambda *_: self.client.subscribe("relay/command/switch:0")
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port, 5)
        self.client.loop_start()

    def _message(self, _client, _userdata, message):
        self.told.append(message.payload.decode())
        if not self.deaf:
            self.turn(self.told[-1] == "on")

    def turn(self, on):
        self.on = on
        self.client.publish("relay/status/switch:0", json.dumps({"id": 0, "output": on}))
        if not self.stuck:
            self.client.publish("relay/auxiliary", "true" if on else "false")


@contextmanager
def relay_at(broker):
    relay = Relay(broker.port)
    try:
        yield relay
    finally:
        relay.client.disconnect()
        relay.client.loop_stop()


def section(port, **more):
    return {
        "id": "k1", "stations": ["box"], "connection": {"kind": "mqtt", "host": "127.0.0.1", "port": port},
        "topic": "relay/command/switch:0", "state_topic": "relay/status/switch:0", "state_path": "output",
        "state_on": "true", "state_off": "false", **more,
    }  # fmt: skip


def make(port, **more):
    contactor = ContactorSection.model_validate(section(port, **more))
    return adapters.create("mqtt", contactor.connection, [], CLOCK, lambda: None, [], [contactor])


async def test_it_is_opened_closed_read_back_and_put_right(broker):
    with relay_at(broker) as relay:
        adapter = make(broker.port)
        async with running(adapter):
            await asyncio.sleep(0.3)
            assert adapter.contactors() == {"k1": None}
            assert relay.told == []  # nobody has decided anything yet
            adapter.switch("k1", False)
            adapter.switch("another", True)
            took = await until(lambda: adapter.contactors() == {"k1": False})
            assert took < 1.0
            assert relay.told[0] == "off"
            adapter.switch("k1", True)
            await until(lambda: adapter.contactors() == {"k1": True}, 1)
            relay.turn(False)  # somebody at its button
            await until(lambda: adapter.contactors() == {"k1": False}, 1)
            await until(lambda: adapter.contactors() == {"k1": True}, 2)
            count = len(relay.told)
            await until(lambda: len(relay.told) > count, 2)  # and now and then, whatever it says
            assert adapter.problems() == {}


@pytest.mark.parametrize(("closed_when", "word"), [("on", "off"), ("off", "on")])
async def test_to_open_is_the_word_of_its_direction(broker, closed_when, word):
    with relay_at(broker) as relay:
        adapter = make(broker.port, closed_when=closed_when)
        async with running(adapter):
            adapter.switch("k1", False)
            await until(lambda: adapter.contactors() == {"k1": False})
            assert set(relay.told) == {word}


async def test_a_relay_that_does_not_follow_is_told_of_once(broker, caplog):
    with relay_at(broker) as relay:
        relay.deaf = True
        adapter = make(broker.port)
        async with running(adapter):
            await asyncio.sleep(0.3)
            adapter.switch("k1", False)
            await until(lambda: "says nothing" in adapter.problems().get("k1", ""), 3)
            relay.turn(True)
            await until(lambda: "was told off by relay/command/switch:0" in adapter.problems()["k1"]
                        and "says on" in adapter.problems()["k1"], 3)  # fmt: skip
            assert len(relay.told) >= 2  # it is told again until it follows
            relay.deaf = False
            await until(lambda: adapter.contactors() == {"k1": False} and not adapter.problems(), 3)
    assert len([r for r in caplog.records if "contactor k1" in r.getMessage()]) == 1


async def test_an_auxiliary_contact_that_does_not_follow(broker):
    with relay_at(broker) as relay:
        adapter = make(broker.port, feedback_topic="relay/auxiliary")
        async with running(adapter):
            await asyncio.sleep(0.3)
            adapter.switch("k1", True)
            await until(lambda: adapter.contactors() == {"k1": True})
            relay.stuck = True  # welded
            adapter.switch("k1", False)
            await until(lambda: "does not say that it is open" in adapter.problems().get("k1", ""), 3)
            assert adapter.contactors() == {"k1": True}


async def test_what_the_broker_kept_is_no_state_and_after_its_outage_it_is_told_anew(broker):
    with relay_at(broker) as relay:
        relay.client.publish("relay/status/switch:0", json.dumps({"output": False}), retain=True).wait_for_publish(2)
        adapter = make(broker.port)
        async with running(adapter):
            adapter.switch("k1", True)
            await until(lambda: adapter.contactors() == {"k1": True})
            broker.kill()
            await until(lambda: adapter.contactors() == {"k1": None}, 3)
            relay.told.clear()
            await asyncio.to_thread(broker.start)
            await until(lambda: relay.told and adapter.contactors() == {"k1": True}, 8)


def test_check_wants_topics_over_mqtt_and_a_coil_over_modbus(tmp_path):
    path = tmp_path / "site.yaml"
    site = SITE.replace("stations: []\ndevices:\n", "stations:\n- {id: box, zone: root, breaker_a: 32}\n")
    bad = section(1883)
    del bad["state_topic"]
    path.write_text(site + f"contactors:\n- {json.dumps(bad)}\n")
    assert "contactor 'k1' over MQTT needs topic" in cem("check", path).output
    bad |= {"connection": {"kind": "modbus_tcp", "host": "127.0.0.1"}}
    path.write_text(site + f"contactors:\n- {json.dumps(bad)}\n")
    assert "contactor 'k1' over Modbus needs the address of its coil" in cem("check", path).output
    path.write_text(site + f"contactors:\n- {json.dumps(section(1883))}\n")
    assert cem("check", path).exit_code == 0, cem("check", path).output


async def test_the_site_s_contactors_reach_the_broker(broker, tmp_path):
    """As ``cem run`` joins them: one adapter for the broker, switched by the contactor's name."""
    path = tmp_path / "site.yaml"
    site = SITE.replace("stations: []\ndevices:\n", "stations:\n- {id: box, zone: root, breaker_a: 32}\n")
    path.write_text(site + f"contactors:\n- {json.dumps(section(broker.port))}\n")
    (field,) = field_adapters(load_site_file(path, known_models={}).file, CLOCK, lambda: None)
    assert isinstance(field, ContactorSwitch)
    with relay_at(broker) as relay:
        async with running(field):
            field.switch("k1", False)
            await until(lambda: field.contactors() == {"k1": False})
            assert relay.told[0] == "off"
