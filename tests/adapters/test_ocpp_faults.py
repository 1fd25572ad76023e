"""Faults of stations and clouds over real sockets: silence, a lost acknowledgement, garbage and who else notices it."""

import asyncio
import contextlib
import json
import os
import random
import time
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from tests.adapters.ocpp_peers import free_port, local_csms, stamp, until
from tests.csms.fuzzing import Dice, Life
from tests.csms.rig import good_answer

BOOT = {"chargePointVendor": "V", "chargePointModel": "M"}
START = {"connectorId": 1, "idTag": "T", "meterStart": 5, "timestamp": "2026-11-22T10:00:00Z"}


class Sky:
    """A cloud as raw frames: keeps what it hears by station; ``mute`` leaves actions unanswered, ``cuts`` hangs up once."""

    def __init__(self):
        self.heard, self.sockets = {}, {}
        self.mute, self.cuts = set(), set()

    async def serve(self, ws):
        name = ws.request.path.rsplit("/", 1)[-1]
        self.sockets[name] = ws
        with contextlib.suppress(ConnectionClosed):
            async for text in ws:
                self.heard.setdefault(name, []).append(text)
                message = json.loads(text)
                if message[0] != 2 or message[2] in self.mute:
                    continue
                if message[2] in self.cuts:
                    self.cuts.clear()
                    ws.transport.abort()
                    return
                answer = {"status": "Accepted", "currentTime": stamp(), "interval": 300}
                if message[2] == "StartTransaction":
                    answer = {"transactionId": 77, "idTagInfo": {"status": "Accepted"}}
                await ws.send(json.dumps([3, message[1], answer]))

    def calls(self, name, action):
        return [t for t in self.heard.get(name, []) if json.loads(t)[0] == 2 and json.loads(t)[2] == action]


class Raw:
    """A station as raw frames: answers calls unless told to be silent, and keeps all it hears."""

    def __init__(self, ws):
        self.ws, self.heard, self.silent = ws, [], False

    async def read(self):
        with contextlib.suppress(ConnectionClosed):
            async for text in self.ws:
                self.heard.append((time.monotonic(), json.loads(text)))
                if self.heard[-1][1][0] == 2 and not self.silent:
                    await self.ws.send(json.dumps([3, self.heard[-1][1][1], good_answer(self.heard[-1][1], "1.6")]))

    async def ask(self, message_id, action, payload, timeout_s=15.0):
        await self.ws.send(json.dumps([2, message_id, action, payload]))
        await until(lambda: self.answer(message_id) is not None, timeout_s)
        return self.answer(message_id)

    def answer(self, message_id):
        return next((m[2] for _, m in self.heard if m[0] in {3, 4} and m[1] == message_id), None)

    def profiles(self):
        return [(at_s, m) for at_s, m in self.heard if m[0] == 2 and m[2] == "SetChargingProfile"]


@contextlib.asynccontextmanager
async def raw(address, name="S1"):
    async with connect(f"{address}/{name}", subprotocols=["ocpp1.6"], proxy=None) as ws:
        peer = Raw(ws)
        task = asyncio.create_task(peer.read())
        try:
            yield peer
        finally:
            task.cancel()


@contextlib.asynccontextmanager
async def under_a_sky(stations=("S1",), **csms):
    sky, port = Sky(), free_port()
    async with (
        serve(sky.serve, "127.0.0.1", port, subprotocols=["ocpp1.6"], close_timeout=0.2),
        local_csms(stations, upstream=f"ws://127.0.0.1:{port}/cloud", **csms) as local,
    ):
        yield sky, local


async def test_c5_an_acknowledgement_that_is_lost_on_the_wire_is_asked_for_with_the_same_words():
    async with under_a_sky() as (sky, local), raw(local.address) as peer:
        await peer.ask("b", "BootNotification", BOOT)
        assert (await peer.ask("s", "StartTransaction", START))["transactionId"] == 77
        sky.cuts = {"StopTransaction"}
        stop = {"transactionId": 77, "meterStop": 9, "timestamp": "2026-11-22T11:00:00Z"}
        assert await peer.ask("e", "StopTransaction", stop) == {}
        await until(lambda: len(sky.calls("S1", "StopTransaction")) == 2)
        first, second = sky.calls("S1", "StopTransaction")
        assert first == second
        await asyncio.sleep(1.0)
        assert len(sky.calls("S1", "StopTransaction")) == 2


async def test_c9_a_cloud_that_does_not_answer_delays_a_token_eight_seconds():
    async with under_a_sky(offline_authorization="accept") as (sky, local), raw(local.address) as peer:
        await peer.ask("b", "BootNotification", BOOT)
        sky.mute = {"Authorize"}
        began_s = time.monotonic()
        assert (await peer.ask("a", "Authorize", {"idTag": "T"}))["idTagInfo"]["status"] == "Accepted"
        assert 7.0 < time.monotonic() - began_s < 10.0


async def test_s16_a_limit_that_is_never_answered_goes_out_again_after_ten_seconds():
    async with local_csms() as local, raw(local.address) as peer:
        await peer.ask("b", "BootNotification", BOOT)
        await until(lambda: local.state("S1/1").in_force_a == 6.0)
        await peer.ask("s", "StartTransaction", START)
        peer.silent = True
        local.apply(S1=16.0)
        await until(lambda: any(limit(m) == 16.0 for _, m in peer.profiles()))
        first_s = next(at_s for at_s, m in peer.profiles() if limit(m) == 16.0)
        for _ in range(14):  # control says it every second
            local.apply(S1=16.0)
            await asyncio.sleep(1.0)
        again = [at_s - first_s for at_s, m in peer.profiles() if limit(m) == 16.0][1:]
        assert again
        assert 9.0 < again[0] < 12.5
        assert local.state("S1/1").confirmed_a is None


def limit(message):
    return message[3]["csChargingProfiles"]["chargingSchedule"]["chargingSchedulePeriod"][0]["limit"]


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


async def test_s14_garbage_on_every_leg_of_one_station_grows_nothing_and_nobody_else_hears_of_it():
    async with under_a_sky(("S1", "S2")) as (sky, local), raw(local.address, "S2") as other:
        await other.ask("b", "BootNotification", BOOT)
        await until(lambda: local.state("S2/1").in_force_a == 6.0 and "S2" in sky.sockets)
        await asyncio.sleep(0.5)
        heard_down, heard_up = len(other.heard), len(sky.heard["S2"])
        before_mb = None
        for life in range(5):
            dice = Life(Dice(random.Random(life).randbytes(12_000)))
            async with raw(local.address, "S1") as mad:
                await until(lambda: "S1" in sky.sockets)
                with contextlib.suppress(ConnectionClosed):
                    for number in range(60):
                        who = dice.stations[0]
                        await mad.ws.send(dice.frame(who, "station") if number % 20 != 19 else "x" * 500_000)
                        with contextlib.suppress(ConnectionClosed):
                            await sky.sockets["S1"].send(dice.frame(who, ""))
                    await mad.ws.send(b"\x00" * 100_000)
                await asyncio.sleep(0.2)
            if life == 1:
                before_mb = resident_mb()  # everything is imported and warm
        assert resident_mb() - before_mb < 10.0
        assert len(other.heard) == heard_down, other.heard[heard_down:]
        assert len(sky.heard["S2"]) == heard_up, sky.heard["S2"][heard_up:]
        assert (await other.ask("h", "Heartbeat", {}))["currentTime"]
        assert local.codes().count("bad_frame") <= 3 * 5
