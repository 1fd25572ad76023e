"""The controller as a real process that is killed again and again; a station and a cloud that remember everything."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from adapters.ocpp.server import OcppServer
from cem.config.csms_models import Csms, Listen, Upstream
from cem.config.models import StationSection
from cem.core.site import Evse, Protection, Site, Zone
from cem.store import Store
from tests.adapters.ocpp_peers import free_port
from tests.fakes import RealClock

ROUNDS = 100
ROOT = Path(__file__).parents[2]


@dataclass
class Figures:
    """What was played."""

    rounds: int = 0
    made: int = 0
    heard: int = 0
    repeats: int = 0
    destroyed: int = 0


# -- the controller: forked from a process that has imported everything, so that a life begins at once ----------------


async def _serve(directory, port, url):
    store = Store(Path(directory))
    section = StationSection(id="S1", zone="z", breaker_a=40, fallback_a=6)
    site = Site(
        "t", 230.0, 3, (Zone("z", None, Protection(63)),), (Evse("S1/1", "S1", "z", 1, max_a=32, fallback_a=6),)
    )
    csms = Csms(
        listen=Listen(host="127.0.0.1", port=port), upstreams=(Upstream(id="cloud", url=url),),
        offline_authorization="accept",
    )  # fmt: skip
    server = OcppServer(csms, [section], site, store, RealClock(), lambda: None, lambda _event: None)
    task = asyncio.create_task(server.run())
    await server.listening.wait()
    print("ready", flush=True)
    await task


def main():
    """Begins a life for each line on standard input; tells its process id, and when it is ready."""
    for line in sys.stdin:
        words = line.split()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                asyncio.run(_serve(words[0], int(words[1]), words[2]))
            os._exit(1)
        print(pid, flush=True)
        os.waitpid(pid, 0)


class Controller:
    """One life after the other."""

    def __init__(self, directory, port, url):
        self.line = f"{directory} {port} {url}\n".encode()
        self.process = None
        self.pid = 0

    async def begin(self):
        if self.process is None:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.csms.killed", cwd=ROOT, stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        self.process.stdin.write(self.line)
        self.pid = int(await self.process.stdout.readline())
        assert (await self.process.stdout.readline()).strip() == b"ready"

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    async def end(self):
        self.kill()
        self.process.stdin.close()
        await self.process.wait()


# -- the cloud and the station ---------------------------------------------------------------------------------------


class Cloud:
    """Hears; sometimes hangs up before it answers."""

    def __init__(self, dice, version):
        self.dice = dice
        self.version = version
        self.heard = []
        self.next_id = 9000
        self.cuts = 0
        self.rude = 0.0

    async def serve(self, ws):
        with contextlib.suppress(ConnectionClosed):
            async for text in ws:
                message = json.loads(text)
                if message[0] != 2:
                    continue
                answer = {}
                if message[2] == "BootNotification":
                    answer = {"status": "Accepted", "currentTime": "2026-11-22T10:00:00Z", "interval": 300}
                elif message[2] in {"StartTransaction", "MeterValues", "StopTransaction", "TransactionEvent"}:
                    payload = message[3]
                    given = payload.get("transactionId")
                    if message[2] == "StartTransaction":
                        self.next_id += 1
                        given = self.next_id
                        answer = {"transactionId": given, "idTagInfo": {"status": "Accepted"}}
                    key = payload.get("timestamp") or payload["meterValue"][0]["timestamp"]
                    self.heard.append((key, payload, given))
                    if self.dice.random() < self.rude:
                        self.cuts += 1
                        ws.transport.abort()
                        return
                await ws.send(json.dumps([3, message[1], answer]))


class Station:
    """Sends its messages in order, each until it is acknowledged, over every connection it can get."""

    def __init__(self, dice, version, url):
        self.dice, self.version, self.url = dice, version, url
        self.made, self.queue = [], []
        self.given = None
        self.tx = 0
        self.register = 1000
        self.started_wh = {}
        self.energy_wh = 0
        self.count = 0

    def make(self, kind):
        self.count += 1
        key = datetime.fromtimestamp(1_800_000_000 + 61 * self.count, UTC).isoformat()
        self.register += self.dice.randint(1, 500)
        wh = self.register
        if kind == "start":
            self.tx += 1
            self.started_wh[self.tx] = wh
        elif kind == "stop":
            self.energy_wh += wh - self.started_wh[self.tx]
        value = {"value": str(wh) if self.version == "ocpp1.6" else wh, "context": "Trigger"}  # never thinned
        sample = [{"timestamp": key, "sampledValue": [value]}]
        if self.version == "ocpp1.6":
            action, payload = {
                "start": ("StartTransaction", {"connectorId": 1, "idTag": "T", "meterStart": wh, "timestamp": key}),
                "update": ("MeterValues", {"connectorId": 1, "transactionId": None, "meterValue": sample}),
                "stop": ("StopTransaction", {"transactionId": None, "meterStop": wh, "timestamp": key}),
            }[kind]
        else:
            action = "TransactionEvent"
            payload = {
                "eventType": {"start": "Started", "update": "Updated", "stop": "Ended"}[kind], "timestamp": key,
                "triggerReason": "ChargingStateChanged", "seqNo": self.count,
                "transactionInfo": {"transactionId": f"tx-{self.tx}"}, "evse": {"id": 1, "connectorId": 1},
                "meterValue": sample,
            }  # fmt: skip
        self.made.append((key, kind, self.tx))
        self.queue.append((key, kind, action, payload))

    async def run(self):
        """For ever: connect, say what is to be said."""
        while True:
            with contextlib.suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError):
                async with connect(self.url, subprotocols=[self.version], proxy=None, open_timeout=2) as ws:
                    await self.talk(ws)
            await asyncio.sleep(0.005)

    async def talk(self, ws):
        number = self.count * 1000
        boot = {"chargePointVendor": "V", "chargePointModel": "M"}
        if self.version != "ocpp1.6":
            boot = {"reason": "PowerUp", "chargingStation": {"vendorName": "V", "model": "M"}}
        await self.ask(ws, f"b{time.monotonic_ns()}", "BootNotification", boot)
        while True:
            if not self.queue:
                await asyncio.sleep(0.005)
                continue
            _, kind, action, payload = self.queue[0]
            if payload.get("transactionId", 0) is None:
                payload["transactionId"] = self.given
            number += 1
            answer = await self.ask(ws, f"m{number}-{time.monotonic_ns()}", action, payload)
            if kind == "start":
                self.given = answer.get("transactionId")
            self.queue.pop(0)

    async def ask(self, ws, message_id, action, payload):
        await ws.send(json.dumps([2, message_id, action, payload]))
        async with asyncio.timeout(30):
            while True:
                message = json.loads(await ws.recv())
                if message[0] == 2:
                    await ws.send(json.dumps([4, message[1], "NotSupported", "", {}]))
                elif message[1] == message_id and message[0] == 3:
                    return message[2]


# -- the play --------------------------------------------------------------------------------------------------------


async def play_for_real(directory, *, rounds, seconds, seed):
    """Kills the controller so many times, or for so long; raises where the histories do not fit."""
    dice = random.Random(seed)
    version = dice.choice(["ocpp1.6", "ocpp2.0.1"]) if seed > 1 else "ocpp1.6"
    cloud, port, sky_port = Cloud(dice, version), free_port(), free_port()
    figures = Figures()
    station = Station(dice, version, f"ws://127.0.0.1:{port}/ocpp/S1")
    controller = Controller(directory / "var", port, f"ws://127.0.0.1:{sky_port}/cloud")
    server = None
    began_s = time.monotonic()
    task = asyncio.create_task(station.run())
    try:
        while figures.rounds < rounds and time.monotonic() - began_s < seconds:
            await controller.begin()
            if server is None and dice.random() < 0.7:
                server = await serve(cloud.serve, "127.0.0.1", sky_port, subprotocols=[version], close_timeout=0.2)
            elif server is not None and dice.random() < 0.4:
                server.close()
                await server.wait_closed()
                server = None
            cloud.rude = dice.choice((0.0, 0.0, 0.3))
            for _ in range(dice.randint(1, 4)):
                idle = not station.made or station.made[-1][1] == "stop"
                station.make("start" if idle else dice.choice(("update", "stop")))
            await asyncio.sleep(dice.random() ** 2 * 0.6)
            controller.kill()
            figures.rounds += 1
        await settled(controller, cloud, station, server, sky_port, version)
    finally:
        task.cancel()
        with contextlib.suppress(ProcessLookupError):
            await controller.end()
    judge(figures, cloud, station)
    return figures


async def settled(controller, cloud, station, server, sky_port, version):
    """All is well again: everything is told within moments, and the ledger is empty."""
    cloud.rude = 0.0
    if station.made and station.made[-1][1] != "stop":
        station.make("stop")
    await controller.begin()
    server = server or await serve(cloud.serve, "127.0.0.1", sky_port, subprotocols=[version], close_timeout=0.2)
    try:
        async with asyncio.timeout(60):
            while {key for key, _, _ in station.made} - {key for key, _, _ in cloud.heard} or station.queue:
                await asyncio.sleep(0.05)
    except TimeoutError:
        lost = {key for key, _, _ in station.made} - {key for key, _, _ in cloud.heard}
        raise AssertionError(f"not told after all: {lost}, still to say: {station.queue}") from None
    finally:
        server.close()


def judge(figures, cloud, station):
    """Nothing lost, in order, repeats only where an acknowledgement was destroyed, the energy right."""
    order, seen = [], Counter()
    for key, _, _ in cloud.heard:
        if not seen[key]:
            order.append(key)
        seen[key] += 1
    assert order == [key for key, _, _ in station.made], "lost or out of order"
    figures.made, figures.heard = len(station.made), len(cloud.heard)
    figures.repeats = len(cloud.heard) - len(order)
    figures.destroyed = figures.rounds + cloud.cuts  # each death and each rude end costs at most the one on its way
    assert figures.repeats <= figures.destroyed, figures
    begun, ended = {}, {}
    kinds = {key: (kind, tx) for key, kind, tx in station.made}
    for key, payload, given in cloud.heard:
        kind, tx = kinds[key]
        name = given if station.version == "ocpp1.6" else tx
        wh = payload.get("meterStart") or payload.get("meterStop")
        if wh is None:
            wh = float(payload["meterValue"][0]["sampledValue"][0]["value"])
        if kind == "start":
            begun[name] = wh, tx
        else:
            assert begun[name][1] == tx, "told under another transaction's id"
            if kind == "stop":
                ended[tx] = wh - begun[name][0]
    assert sum(ended.values()) == station.energy_wh


if __name__ == "__main__":
    main()
