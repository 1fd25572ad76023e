"""Devices that hang, are missing or talk nonsense: the controller cycles on, says so once, and shows it."""

import asyncio
import contextlib
import json
import socket

import paho.mqtt.publish
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.adapters.ocpp_peers import Station16, free_port
from tests.e2e.chargers import Charger, House, living
from tests.e2e.controller import watch_cycles
from tests.e2e.site_files import FAILSAFE_A, house, modbus

CYCLES_PER_S = 0.8
P99_MS = 500.0
STALLED_S = 2.0


@pytest.fixture
async def deaf_port():
    """Accepts every connection and never says a word."""
    open_writers = []

    async def serve(reader, writer):
        open_writers.append(writer)
        with contextlib.suppress(OSError):
            while await reader.read(4096):
                pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in open_writers:
        writer.transport.abort()
    await asyncio.sleep(0)


async def test_l14_devices_that_hang_or_are_missing_delay_neither_the_start_nor_a_cycle(
    start_controller, meter, deaf_port
):
    site = house(meter.port, ("A",), dso_port=deaf_port)
    site["external_limits"][0]["settle_s"] = 600  # the failsafe value holds for all of this test
    nobody = free_port()
    household = {"total_power_w": {"topic": "house/power"}}
    site["devices"] += [
        {"id": "pv", "role": "pv", "model": "sunspec_inverter", "max_w": 9000, "connection": modbus(nobody)},
        {
            "id": "battery",
            "role": "battery",
            "model": "sunspec_battery",
            "max_w": 5000,
            "connection": modbus(deaf_port),
        },
        {
            "id": "house1",
            "role": "household_meter",
            "connection": {"kind": "mqtt", "host": "127.0.0.1", "port": deaf_port},
            "values": household,
        },
        {
            "id": "house2",
            "role": "household_meter",
            "connection": {"kind": "mqtt", "host": "127.0.0.1", "port": nobody},
            "values": household,
        },
    ]
    controller = await start_controller(site)
    a = Charger(Station16, controller.address, "A")
    async with living(a, House(meter, [a])):
        await a.begin()
        rate, oldest_s = await watch_cycles(controller, 8.0)
        await a.allows(lambda amps: 14 <= amps <= 15)  # the failsafe of 20 A less the house: what works is used
        picture = await controller.sees(lambda p: p["zones"]["house"]["measured_a"] is not None)
    assert rate >= CYCLES_PER_S
    assert oldest_s < STALLED_S
    assert picture["cycle"]["p99_ms"] < P99_MS
    assert picture["external_limits"]["dso"]["value"] == FAILSAFE_A  # D3: no contact, no more than that
    assert picture["zones"]["house"]["limit_source"] == "dso"
    assert set(picture["devices"]) == {"grid"}
    hung, missing = f"127.0.0.1:{deaf_port}", f"127.0.0.1:{nobody}"
    for name in ("battery", "opcua dso", f"mqtt {hung}", f"mqtt {missing}", f"modbus {missing}"):
        assert len(controller.lines("WARNING", name)) == 1, (name, controller.text())
    assert not controller.lines("Traceback"), controller.text()
    assert controller.stop() == 0


async def test_garbage_from_stations_is_survived_logged_once_and_shown(start_controller, meter):
    controller = await start_controller(house(meter.port, ("A", "B")))
    b = Charger(Station16, controller.address, "B")
    async with living(b, House(meter, [b])):
        await b.begin()
        watching = asyncio.create_task(watch_cycles(controller, 8.0))
        deep = "[" * 200_000
        frames = ["", "not json", "{}", "[2]", '[2,"1","Boot', '[9,"1",{}]', '[2,"1","Heartbeat",[]]', deep]
        async with _dial(controller, "A") as ws:
            for frame in frames:
                with contextlib.suppress(WebSocketException):
                    await ws.send(frame)
            await asyncio.sleep(0.3)
        for payload in (b"\x00\xff" * 100, "x" * (2 << 20)):  # binary; more than a frame may hold
            async with _dial(controller, "A") as ws:
                with contextlib.suppress(WebSocketException, OSError):
                    await ws.send(payload)
                    await asyncio.wait_for(ws.wait_closed(), 10)
                assert ws.close_code in {1003, 1009, 1006}
        for _ in range(3):
            async with connect(f"{controller.address}/A", subprotocols=["ocpp1.5"], proxy=None, compression=None) as ws:
                await asyncio.wait_for(ws.wait_closed(), 10)
                assert (ws.subprotocol, ws.close_code) == (None, 1002)
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(range(256)), b"\r\n" * 50):
            with socket.create_connection(("127.0.0.1", controller.ocpp_port), 5) as raw:
                raw.sendall(noise)

        a = Charger(Station16, controller.address, "A")
        async with living(a):
            await a.begin()  # the same station, now in its right mind
            await a.gets(lambda amps: amps >= 6)
        rate, oldest_s = await watching
        assert rate >= CYCLES_PER_S
        assert oldest_s < STALLED_S
    assert len(await controller.events("station_subprotocol")) == 1
    assert len(controller.lines("speaks none of")) == 1
    told = [e["text"] for e in await controller.events("bad_frame")]
    for what in ("cannot be read", "a binary frame", "exceeds limit"):  # one for each of its three connections
        assert len([text for text in told if what in text]) == 1, told
    assert len(told) == len(controller.lines("A sent ")) <= 4, told  # and that too many of them ended the first one
    assert not controller.lines("Traceback"), controller.text()
    assert controller.lines("ERROR") == []


def _dial(controller, name):
    return connect(
        f"{controller.address}/{name}", subprotocols=["ocpp1.6"], proxy=None, compression=None, close_timeout=2
    )


async def test_m4_l9_nan_registers_malformed_json_and_a_dead_broker_are_survived_logged_once_and_shown(
    start_controller, meter, broker
):
    site = house(meter.port, ("A",))
    site["zones"].append(
        {
            "id": "yard",
            "parent": "house",
            "protection": {"rating_a": 32, "kind": "mcb"},
            "meter": "yard_meter",
            "fallback_limit_a": 6,
        }
    )
    values = {f"current_l{p}_a": {"topic": "yard/meter", "path": f"a.l{p}"} for p in (1, 2, 3)}
    site["devices"].append(
        {
            "id": "yard_meter",
            "role": "zone_meter",
            "connection": {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port},
            "values": values,
        }
    )
    site["stations"][0]["zone"] = "yard"
    controller = await start_controller(site)
    a = Charger(Station16, controller.address, "A")
    home, yard = House(meter, [a]), Yard(broker.port, a)
    async with living(a, home, yard):
        await a.begin()
        await a.allows(lambda amps: amps >= 20)
        watching = asyncio.create_task(watch_cycles(controller, 10.0))

        home.broken, yard.payload = True, '{"a": {"l1": 16.0, "l2": '
        picture = await controller.sees(lambda p: all(z["meter"] == "lost" for z in p["zones"].values()))
        assert {z["limit_source"] for z in picture["zones"].values()} == {"fallback"}
        assert all(z["stale"] and z["measured_a"] is None for z in picture["zones"].values())
        await a.allows(lambda amps: amps == 6.0)
        for name in ("grid", "yard_meter"):
            assert len(controller.lines("WARNING", name)) == 1, controller.text()
        rate, oldest_s = await watching
        assert rate >= CYCLES_PER_S
        assert oldest_s < STALLED_S

        home.broken, yard.payload = False, None
        await controller.sees(lambda p: not any(z["stale"] for z in p["zones"].values()), 30.0)
        broker.kill()
        picture = await controller.sees(lambda p: p["zones"]["yard"]["meter"] == "lost")
        assert picture["zones"]["house"]["meter"] == "good"
        assert len(controller.lines("WARNING", f"mqtt 127.0.0.1:{broker.port}")) == 1, controller.text()
    assert not controller.lines("Traceback"), controller.text()


class Yard:
    """Publishes what the station draws as JSON on the broker, or a given payload instead."""

    def __init__(self, port: int, charger: Charger) -> None:
        self.port, self.charger = port, charger
        self.payload: str | None = None

    async def run(self) -> None:
        beat = 0
        while True:
            beat += 1
            amps = self.charger.draw_a + 0.001 * (beat % 9)
            payload = self.payload or json.dumps({"a": {f"l{p}": amps for p in (1, 2, 3)}})
            with contextlib.suppress(OSError):
                await asyncio.to_thread(
                    paho.mqtt.publish.single, "yard/meter", payload, hostname="127.0.0.1", port=self.port
                )
            await asyncio.sleep(0.5)
