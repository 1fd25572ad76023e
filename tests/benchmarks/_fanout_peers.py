"""Both ends of the fan-out benchmark, each a process of its own: all the stations with their cars and meter, and the cloud.

Stations and cars are those of the simulated site. Commands come as JSON, one a line; each is answered by one line.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from adapters.simulated.cloud import Cloud
from adapters.simulated.ev import EvType
from adapters.simulated.personality import Personality
from adapters.simulated.plant import Plant
from adapters.simulated.wiring import modbus_device, stations
from cem.config.loader import load_site_file
from tests.benchmarks._proxy_peers import lines

STEP_S = 0.25
TURNS = 4
"""A station looks after itself every so many steps; its pilot follows a new profile at once."""
LAGS_S = (1.0, 2.0, 3.0, 4.0, 4.8)
CAR_A = 16.0
UNANSWERED = "DataTransfer"
SAME_A = 0.01


class Fleet:
    """The stations of a site file, each with a car that takes all it gets."""

    def __init__(self, file: Path) -> None:
        loaded = load_site_file(file)
        self.plant = Plant(loaded.site, appliances=False)  # a base load, whose last digit never rests
        odd = dict.fromkeys((s.id for s in loaded.file.stations), Personality(mute=(UNANSWERED,)))
        self.stations = stations(loaded.file, self.plant, emit=self._hear, utc_s=time.time, personalities=odd)
        self.meters = [modbus_device(device, self.plant) for device in loaded.file.devices]
        self.offered_a: dict[str, float] = {}
        self.cut_s: dict[str, float] = {}
        self.messages = 0
        self._limit_w = float("inf")
        self._since_s = 0.0
        self._down_s: float | None = None

    def _hear(self, event: str, **data: Any) -> None:
        if event == "limit_received":
            self.messages += 1
            who, limit_a = data["station"], data["limit_a"]
            if limit_a < self.offered_a.get(who, CAR_A) - SAME_A:
                self.cut_s.setdefault(who, time.monotonic())
            self.offered_a[who] = limit_a

    async def live(self) -> None:
        """Cars and stations, in real time."""
        turn, due_s = 0, time.monotonic()
        everybody = list(self.stations.values())
        while True:
            due_s += STEP_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            turn += 1
            for station in everybody[turn % TURNS :: TURNS]:
                station.live()
            self.plant.step(STEP_S)
            if self._down_s is None and self.drawn_w <= self._limit_w:
                self._down_s = time.monotonic()

    @property
    def drawn_w(self) -> float:
        """By the plant's truth."""
        return self.plant.zone_power_w(self.plant.site.root.zone_id).total

    async def connect(self, a_second: float) -> dict[str, Any]:
        """Switches them on one after the other, and waits until all are served."""
        began_s = time.monotonic()
        running = set()
        for number, station in enumerate(self.stations.values()):
            running.add(asyncio.create_task(station.link.run()))
            await asyncio.sleep(max(0.0, began_s + number / a_second - time.monotonic()))
        self._running = running
        while not all(station.link.online for station in self.stations.values()):
            await asyncio.sleep(0.1)
        return {"s": time.monotonic() - began_s}

    async def plug(self, a_second: float) -> dict[str, Any]:
        """Cars everywhere, one after the other."""
        began_s = time.monotonic()
        for number, station in enumerate(self.stations.values()):
            kind = EvType(phases=1, max_a=CAR_A, settle_s=LAGS_S[number % len(LAGS_S)], draw=0.98, need_wh=1e9)
            station.plug(1, kind, f"TAG{number:05d}")
            await asyncio.sleep(max(0.0, began_s + number / a_second - time.monotonic()))
        return {}

    def told(self) -> dict[str, Any]:
        """How things stand."""
        offered = [self.offered_a.get(who, 0.0) for who in self.stations]
        return {
            "least_a": min(offered),
            "most_a": max(offered),
            "drawn_w": self.drawn_w,
            "messages": self.messages,
            "cut": len(self.cut_s),
        }

    def watch(self, limit_w: float) -> dict[str, Any]:
        """From now on notes when each station hears of a cut, and when all draw no more than this."""
        self.cut_s.clear()
        self._limit_w, self._down_s, self._since_s = limit_w, None, time.monotonic()
        return {"at_s": self._since_s}

    def seen(self) -> dict[str, Any]:
        """What was noted, in seconds from then."""
        return {
            "cuts": [at_s - self._since_s for at_s in self.cut_s.values()],
            "down": None if self._down_s is None else self._down_s - self._since_s,
        }


async def fleet(file: str) -> None:
    """Carries out commands."""
    all_of = Fleet(Path(file))
    for meter in all_of.meters:
        await meter.start()
    living = asyncio.create_task(all_of.live())
    print("ready", flush=True)
    async for line in lines():
        do, *words = json.loads(line)
        found = getattr(all_of, do)(*words)
        print(json.dumps(await found if asyncio.iscoroutine(found) else found), flush=True)
    living.cancel()


async def cloud(port: str) -> None:
    """The operator's CSMS; told identities it commands each of them to do what it will not answer."""
    server = Cloud(int(port), utc_s=time.time)
    await server.start()
    print("ready", flush=True)
    asking: set[asyncio.Task[Any]] = set()

    async def ask(who: str) -> None:
        await server.call(who, UNANSWERED, {"vendorId": "bench"})

    async for line in lines():
        for who in json.loads(line):
            task = asyncio.create_task(ask(who))
            asking.add(task)
            task.add_done_callback(lambda t: asking.discard(t) or t.cancelled() or t.exception())
        await asyncio.sleep(0)
        print(json.dumps({"connected": len(server.stations)}), flush=True)


def main(words: Sequence[str]) -> None:
    what, place = words
    logging.disable()  # what is not answered is part of it
    uvloop.run((fleet if what == "fleet" else cloud)(place))


if __name__ == "__main__":
    main(sys.argv[1:])
