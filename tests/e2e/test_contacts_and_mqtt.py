"""A contact and a broker as an installer meets them: the whole controller, a real mosquitto, a station that charges."""

import asyncio
import json
import time

import paho.mqtt.client as paho

from tests.adapters.ocpp_peers import Station201, until
from tests.e2e.chargers import Charger, House, living
from tests.e2e.site_files import house

ONE_CYCLE_S = 2.0


class Peer:
    """Another client of the broker."""

    def __init__(self, port):
        self.last = {}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("#", 1)
        self.client.loop_start()

    def _on_message(self, _client, _userdata, message):
        self.last[message.topic] = message.payload.decode()

    def say(self, topic, payload, *, retain=False):
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(2)

    def state(self, topic):
        return json.loads(self.last.get(topic) or "{}")

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


async def test_d6_a_contact_stops_cars_within_a_cycle_and_mqtt_tells_and_commands(start_controller, meter, broker):
    at = {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port}
    site = house(meter.port, ("A",))
    site["contacts"] = [
        {
            "id": "fire", "kind": "load_shed", "connection": at, "topic": "fire/in", "active_when": "open",
            "availability": {"topic": "fire/lwt"}, "release_delay_s": 3,
        }
    ]  # fmt: skip
    site["mqtt_out"] = {"connection": at, "home_assistant": True, "allow_control": True, "base_topic": "yard"}
    site["devices"].append(
        {
            "id": "rest", "role": "household_meter", "connection": {"kind": "virtual", "formulas": ["grid - cars"]},
        }
    )  # fmt: skip
    peer = Peer(broker.port)
    try:
        peer.say("fire/lwt", "online", retain=True)
        peer.say("fire/in", "true", retain=True)
        controller = await start_controller(site)
        a = Charger(Station201, controller.address, "A")
        async with living(a, House(meter, [a])):
            await a.begin()
            await a.allows(lambda amps: amps >= 20)
            await until(lambda: peer.last.get("yard/status") == "online", 5)
            await until(lambda: peer.state("yard/evse/A/1").get("setpoint_a", 0) >= 20, 5)
            assert len([t for t in peer.last if t.startswith("homeassistant/device/")]) == 2
            await controller.sees(lambda p: "rest" in p["devices"])

            opened_s = time.monotonic()
            peer.say("fire/in", "false", retain=True)
            told_s, _ = await a.gets(lambda amps: amps == 0, 10.0, opened_s)
            print(f"\ncontact to station: {told_s - opened_s:.2f} s")
            assert told_s - opened_s < ONE_CYCLE_S
            await until(lambda: peer.state("yard/evse/A/1").get("reason") == "load_shed", 5)
            closed_s = time.monotonic()
            peer.say("fire/in", "true", retain=True)
            back_s, _ = await a.gets(lambda amps: amps >= 6, 30.0, closed_s)
            assert back_s - closed_s >= 3.0

            peer.say("yard/evse/A/1/set", json.dumps({"mode": "off", "ttl_s": 5}))
            await a.gets(lambda amps: amps == 0, 10.0, time.monotonic() - 0.5)
            await until(lambda: peer.state("yard/evse/A/1/result").get("accepted") is True, 5)
            await until(lambda: peer.state("yard/evse/A/1").get("mode") == "off", 5)
            assert [e["data"]["state"] for e in await controller.events("contact")].count("active") == 1

            peer.say("yard/evse/A/1/set", json.dumps({"mode": "fast", "ttl_s": 5}))
            await a.gets(lambda amps: amps >= 6, 30.0, time.monotonic() - 0.5)
            gone_s = time.monotonic()
            peer.say("fire/lwt", "offline", retain=True)  # its device: counts as acting after 5 s
            told_s, _ = await a.gets(lambda amps: amps == 0, 15.0, gone_s)
            assert 4.0 < told_s - gone_s < 8.0
        controller.kill()
        await until(lambda: peer.last.get("yard/status") == "offline", 10)
    finally:
        peer.close()
        await asyncio.sleep(0)
