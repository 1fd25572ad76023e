"""What we publish by MQTT, heard by an independent client: state, availability, commands, Home Assistant."""

import asyncio
import contextlib
import json
import time
from datetime import UTC, datetime, timedelta

import jinja2
import paho.mqtt.client as paho
import pytest

import adapters
from adapters.mqtt import outward
from adapters.mqtt.commands import read_command
from cem.config.mqtt_models import MqttOut
from cem.core.site import Evse, Mode, Protection, Site, Zone
from cem.core.wish import Wish
from cem.wishes import Wishes
from tests.adapters.broker import Broker
from tests.adapters.field import CLOCK, running, until
from tests.fakes import MemoryStore

SITE = Site(
    "Yard",
    230.0,
    3,
    (Zone("root", None, Protection(40.0)),),
    (Evse("A/1", "A", "root", 1, rotation=(0, 1, 2)), Evse("B:x/2", "B:x", "root", 2, rotation=(0, 1, 2))),
)


def picture(count=1, **evse):
    """Of a control cycle, with what ``site_view`` gives."""
    one = {
        "zone": "root", "online": True, "status": "Charging", "mode": "fast", "target": None,
        "setpoint_a": 16.0, "measured_a": [15.9, 15.8, 15.7], "reason": "fuse", **evse,
    }  # fmt: skip
    return {
        "name": "Yard",
        "time": datetime.now(UTC).isoformat(),
        "cycle": {"count": count},
        "zones": {"root": {"limit_a": [40, 40, 40], "measured_a": [16, 16, 16], "limit_source": "fuse"}},
        "evses": {"A/1": one, "B:x/2": one},
        "resources": {},
        "external_limits": {},
        "surplus_w": None,
        "problems": [],
    }


class Subscriber:
    """Everything that stands or happens on the broker, as another client hears it."""

    def __init__(self, port, version=paho.MQTTv311):
        self.heard, self.times = {}, {}
        self.retained = {}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=version)
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("#", 1)
        self.client.loop_start()

    def _on_message(self, _client, _userdata, message):
        self.heard.setdefault(message.topic, []).append(message.payload.decode(errors="replace"))
        self.times.setdefault(message.topic, []).append(time.monotonic())

    def last(self, topic):
        said = self.heard.get(topic)
        return json.loads(said[-1]) if said and said[-1] else None

    def says(self, topic):
        return (self.heard.get(topic) or [None])[-1]

    def say(self, topic, payload, *, retain=False):
        text = payload if isinstance(payload, str | bytes) else json.dumps(payload)
        self.client.publish(topic, text, qos=1, retain=retain).wait_for_publish(2)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@contextlib.contextmanager
def subscriber(port):
    made = Subscriber(port)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    yield broker
    broker.kill()


class Rig:
    """The adapter with the controller's own queue of wishes behind it."""

    def __init__(self, port, *, connection=None, **config):
        section = {"connection": {"kind": "mqtt", "host": "127.0.0.1", "port": port, **(connection or {})}}
        self.view = picture()
        self.wishes = Wishes(SITE, MemoryStore())
        self.adapter = adapters.create(
            "mqtt_out",
            MqttOut.model_validate({**section, "allow_control": True, **config}),
            lambda: self.view,
            self.wishes.latest,
            self.wishes.hand_in,
            CLOCK,
            version="1.2.3",
        )

    def taken(self):
        """What control finds at its next cycle."""
        self.wishes.take({}, CLOCK.monotonic_s(), CLOCK.utc())
        return self.wishes.current()


async def answer(heard, topic, command, *, count=1):
    before = len(heard.heard.get(f"{topic}/result", ()))
    heard.say(f"{topic}/set", command)
    await until(lambda: len(heard.heard.get(f"{topic}/result", ())) >= before + count)
    return heard.last(f"{topic}/result")


def stamp(age_s=0.0):
    return (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat()


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_state_is_retained_and_said_again_only_when_it_changed(broker, protocol):
    rig = Rig(broker.port, connection={"protocol": protocol}, base_topic="yard/cem")
    async with running(rig.adapter):
        with subscriber(broker.port) as heard:
            await until(lambda: heard.says("yard/cem/status") == "online")
            await until(lambda: heard.last("yard/cem/evse/B:x/2") is not None)
            assert heard.last("yard/cem/evse/A/1")["setpoint_a"] == 16.0
            assert heard.last("yard/cem/zone/root")["limit_source"] == "fuse"
            for count in range(2, 40):  # many cycles, one change
                rig.view = picture(count, setpoint_a=10.0)
                await asyncio.sleep(0.05)
            assert heard.last("yard/cem/evse/A/1")["setpoint_a"] == 10.0
            assert len(heard.heard["yard/cem/evse/A/1"]) == 2
            assert len(heard.heard["yard/cem/zone/root"]) == 1
            for count in range(40, 80):  # changes all the time: bounded rate
                rig.view = picture(count, setpoint_a=float(count))
                await asyncio.sleep(0.05)
            assert len(heard.heard["yard/cem/evse/A/1"]) <= 6
        with subscriber(broker.port) as late:
            await until(lambda: late.last("yard/cem/evse/A/1") is not None)  # retained
    with subscriber(broker.port) as later:
        await until(lambda: later.says("yard/cem/status") == "offline")  # said before an orderly end


async def test_the_last_will_and_a_stopped_control_say_offline(broker, monkeypatch):
    monkeypatch.setattr(outward, "ALIVE_S", 0.4)
    monkeypatch.setattr("adapters.mqtt.link.KEEPALIVE_S", 1)
    rig = Rig(broker.port)
    with subscriber(broker.port) as heard:
        async with running(rig.adapter):
            await until(lambda: heard.says("cem/status") == "online")
            await until(lambda: heard.says("cem/status") == "offline")  # the picture stands still
            monkeypatch.setattr(outward, "ALIVE_S", 60.0)
            rig.view = picture(2)
            await until(lambda: heard.says("cem/status") == "online")
            # a second connection with our will, cut without a word
            monkeypatch.setattr("adapters.mqtt.link.Link._say", lambda *_: None)
            other = Rig(broker.port, base_topic="other")
            run = asyncio.create_task(other.adapter.run())
            monkeypatch.setattr("paho.mqtt.client.Client.disconnect", lambda *_a, **_k: None)
            await asyncio.sleep(0.5)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            await until(lambda: heard.says("other/status") == "offline", 8)
            monkeypatch.undo()


async def test_commands_change_what_they_name_and_keep_the_rest(broker):
    rig = Rig(broker.port)
    topic = "cem/evse/A/1"
    async with running(rig.adapter):
        with subscriber(broker.port) as heard:
            await until(lambda: heard.says("cem/status") == "online")
            assert (await answer(heard, topic, {"mode": "surplus", "ts": stamp()}))["accepted"] is True
            departure = (datetime.now(UTC) + timedelta(hours=3)).replace(microsecond=0)
            command = {"target_kwh": 12.5, "departure": departure.isoformat(), "ttl_s": 5}
            assert (await answer(heard, topic, command))["accepted"] is True  # before control took the first
            assert rig.taken()["A/1"] == Wish(Mode.SURPLUS, 12_500.0, departure)
            assert (await answer(heard, topic, {"mode": "off", "ts": time.time()}))["accepted"] is True
            assert rig.taken()["A/1"] == Wish(Mode.OFF, 12_500.0, departure)
            assert (await answer(heard, topic, {"limit_a": 8, "ttl_s": 5}))["accepted"] is True
            assert rig.taken()["A/1"] == Wish(Mode.OFF, 12_500.0, departure, limit_a=8.0)
            nothing = {"mode": None, "target_kwh": 0, "limit_a": 0, "ttl_s": 5}
            assert (await answer(heard, topic, nothing))["accepted"] is True
            assert rig.taken() == {}
            assert (await answer(heard, "cem/evse/B:x/2", {"mode": "off", "ttl_s": 5}))["accepted"] is True
            assert rig.taken()["B:x/2"].mode is Mode.OFF


REFUSED = {
    "garbage": "not JSON",
    b"\xff\xfe": "not JSON",
    "[" * 3000: "not JSON",
    '{"mode": "off"}': "old commands do harm",
    '{"mode": "warp", "ttl_s": 5}': "mode is one of",
    '{"mode": ["off"], "ttl_s": 5}': "mode is one of",
    '{"mode": "off", "ttl_s": 0}': "ttl_s is",
    '{"mode": "off", "ttl_s": true}': "ttl_s is",
    '{"mode": "off", "ttl_s": 5, "ts": "yesterday"}': "ts is a time",
    '{"mode": "off", "ts": "2026-01-01T00:00:00"}': "ts is a time",
    '{"mode": "off", "ts": 1e300}': "ts is a time",
    '{"target_kwh": NaN, "ttl_s": 5}': "target_kwh is",
    '{"target_kwh": -1, "ttl_s": 5}': "target_kwh is",
    '{"limit_a": -1, "ttl_s": 5}': "limit_a is",
    '{"limit_a": "16", "ttl_s": 5}': "limit_a is",
    '{"departure": "2020-01-01T00:00:00Z", "target_kwh": 1, "ttl_s": 5}': "in the past",
    '{"departure": "2126-01-01T00:00:00Z", "ttl_s": 5}': "needs a target_kwh",
    '{"ttl_s": 5}': "wishes nothing",
    '{"modus": "off", "ttl_s": 5}': "unknown key 'modus'",
    '{"mode": "off", "x": "' + "y" * 5000 + '"}': "at most 4096 bytes",
    "7": "JSON object",
}


async def test_what_is_malformed_or_old_is_refused_and_told(broker):
    rig = Rig(broker.port)
    async with running(rig.adapter):
        with subscriber(broker.port) as heard:
            await until(lambda: heard.says("cem/status") == "online")
            for command, why in REFUSED.items():
                told = await answer(heard, "cem/evse/A/1", command)
                assert told["accepted"] is False
                assert why in told["problem"], (command[:60], told)
            for command, why in (
                ({"mode": "off", "ts": stamp(31)}, "31 s old and was meant for 30 s"),
                ({"mode": "off", "ts": stamp(4), "ttl_s": 2}, "4 s old and was meant for 2 s"),
                ({"mode": "off", "ts": stamp(-60)}, "ahead of this controller's clock"),
            ):
                assert why in (await answer(heard, "cem/evse/A/1", command))["problem"]
            assert "no EVSE C/1" in (await answer(heard, "cem/evse/C/1", {"mode": "off", "ttl_s": 5}))["problem"]
            assert rig.taken() == {}


async def test_l10_a_retained_command_is_not_obeyed_at_any_connect(broker):
    rig = Rig(broker.port)
    with subscriber(broker.port) as heard:
        heard.say("cem/evse/A/1/set", {"mode": "off", "ts": stamp(), "ttl_s": 3600}, retain=True)
        async with running(rig.adapter):
            await until(lambda: heard.says("cem/status") == "online")
            await asyncio.sleep(0.4)
            assert rig.taken() == {}
            assert "cem/evse/A/1/result" not in heard.heard


async def test_control_is_for_known_brokers_only_unless_the_site_file_allows_it(broker):
    rig = Rig(broker.port, allow_control=None, home_assistant=True)
    async with running(rig.adapter):
        with subscriber(broker.port) as heard:
            await until(lambda: heard.says("cem/status") == "online")
            told = await answer(heard, "cem/evse/A/1", {"mode": "off", "ttl_s": 5})
            assert "mqtt_out.allow_control" in told["problem"]
            found = [json.loads(heard.says(t)) for t in heard.heard if t.startswith("homeassistant/")]
            assert len(found) == 3
            assert all("mode" not in device["components"] for device in found)
    trusted = {"connection": {"kind": "mqtt", "host": "h", "username": "cem", "password": "x"}}
    assert MqttOut.model_validate(trusted).takes_commands


def discovered(heard):
    return {t: json.loads(p[-1]) for t, p in heard.heard.items() if t.startswith("homeassistant/") and p[-1]}


async def test_home_assistant_finds_site_and_evses_and_loses_what_is_gone(broker):
    """https://www.home-assistant.io/integrations/mqtt/: required are device, origin, and platform and unique_id of each."""
    on = Rig(broker.port, home_assistant=True)
    with subscriber(broker.port) as heard:
        heard.say("homeassistant/device/somebody_else/config", {"device": {}}, retain=True)
        async with running(on.adapter):
            await until(lambda: len(discovered(heard)) == 4)
            found = discovered(heard)
            found.pop("homeassistant/device/somebody_else/config")
            names = {device["device"]["name"]: device for device in found.values()}
            assert set(names) == {"Yard", "Yard A/1", "Yard B:x/2"}
            uniques = set()
            for topic, device in found.items():
                object_id = topic.split("/")[2]
                assert object_id.replace("_", "").replace("-", "").isalnum()
                assert device["device"]["identifiers"] == [object_id]
                assert device["origin"]["name"]
                assert device["availability_topic"] == "cem/status"
                for component in device["components"].values():
                    assert component["platform"] in {"sensor", "select", "number"}
                    assert component["state_topic"] in heard.heard
                    uniques.add(component["unique_id"])
            assert len(uniques) == sum(len(device["components"]) for device in found.values())
            evse = names["Yard A/1"]
            assert evse["device"]["via_device"] == names["Yard"]["device"]["identifiers"][0]
            mode, target = evse["components"]["mode"], evse["components"]["target"]
            assert mode["platform"] == "select"
            assert mode["options"] == ["fast", "min_surplus", "surplus", "off"]
            assert target["platform"] == "number"
            # the templates as Home Assistant would fill them in
            environment = jinja2.Environment()
            environment.filters["to_json"] = json.dumps
            fill = {"utcnow": lambda: datetime.now(UTC), "value_json": heard.last("cem/evse/A/1")}
            command = environment.from_string(mode["command_template"]).render(value="off", **fill)
            heard.say(mode["command_topic"], command)
            await until(lambda: heard.last("cem/evse/A/1/result") is not None)
            heard.say(
                target["command_topic"], environment.from_string(target["command_template"]).render(value=7.5, **fill)
            )
            await until(lambda: rig_wish(on) == Wish(Mode.OFF, 7500.0))
            limit = evse["components"]["limit"]
            heard.say(
                limit["command_topic"], environment.from_string(limit["command_template"]).render(value=10, **fill)
            )
            await until(lambda: rig_wish(on) == Wish(Mode.OFF, 7500.0, limit_a=10.0))
            for offered in range(limit["min"], limit["max"] + 1, limit["step"]):
                text = environment.from_string(limit["command_template"]).render(value=offered, **fill)
                assert read_command(text.encode(), Wish(), datetime.now(UTC)).limit_a == (offered or None)
            values = {
                key: environment.from_string(component["value_template"]).render(**fill)
                for key, component in evse["components"].items()
            }
            assert values == {
                "setpoint": "16.0", "measured": "15.9", "reason": "fuse", "state": "Charging", "mode": "fast",
                "target": "0.0", "limit": "0",
            }  # fmt: skip
            gone = picture(2)
            del gone["evses"]["A/1"]
            on.view = gone
            await until(lambda: len(discovered(heard)) == 3)
            assert heard.says("cem/evse/A/1") == ""
        off = Rig(broker.port, home_assistant=False)
        async with running(off.adapter):
            await until(lambda: set(discovered(heard)) == {"homeassistant/device/somebody_else/config"})
            await until(lambda: heard.last("cem/evse/A/1") is not None)


def rig_wish(rig):
    return rig.wishes.latest("A/1")


async def test_a_flood_of_commands_delays_nobody(broker):
    rig = Rig(broker.port)
    async with running(rig.adapter):
        with subscriber(broker.port) as heard:
            await until(lambda: heard.says("cem/status") == "online")
            for _ in range(3000):
                heard.client.publish("cem/evse/A/1/set", '{"mode": "off", "ttl_s": 5}')
            worst = 0.0
            for _ in range(50):
                before = time.monotonic()
                await asyncio.sleep(0.02)
                worst = max(worst, time.monotonic() - before)
                rig.taken()
            assert worst < 0.5
            problem = "not asked yet"
            for _ in range(100):  # what is left of the flood may still be coming in
                rig.taken()
                problem = (await answer(heard, "cem/evse/A/1", {"mode": "fast", "ttl_s": 5}))["problem"]
                if problem is None:
                    break
            assert problem is None


async def test_everything_is_said_anew_after_the_broker_came_back_empty(broker, monkeypatch):
    monkeypatch.setattr("cem.supervise.FIRST_PAUSE_S", 0.3)
    rig = Rig(broker.port)
    async with running(rig.adapter):
        with subscriber(broker.port) as heard:
            await until(lambda: heard.last("cem/evse/A/1") is not None)
        broker.kill()
        await asyncio.sleep(0.3)
        broker.start()
        with subscriber(broker.port) as heard:
            await until(lambda: heard.last("cem/evse/A/1") is not None, 10)
            assert heard.says("cem/status") == "online"
