"""The controller is killed: what holds meanwhile, and what it takes up again."""

import asyncio
import csv
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.adapters.child import ROOT
from tests.adapters.ocpp_peers import Station16, Station201, free_port
from tests.e2e.chargers import Charger, House, living
from tests.e2e.controller import Controller
from tests.e2e.site_files import house

PAUSE_S = 25.0
"""L1 allows 30 s in all; the site file of this test asks for the shortest waits there are."""


async def test_l1_a_killed_controller_comes_back_to_its_limits_its_stations_and_their_sessions(
    start_controller, meter, dso
):
    controller = await start_controller(house(meter.port, dso_port=dso.port))
    a, b = Charger(Station16, controller.address, "A"), Charger(Station201, controller.address, "B")
    async with living(a, b, House(meter, [a, b])):
        await asyncio.gather(a.begin(), b.begin())
        dso.tell("enabled 1")
        await controller.sees(lambda p: p["external_limits"]["dso"]["state"] == "limited")
        await asyncio.gather(*(c.allows(lambda amps: 6 <= amps <= 9) for c in (a, b)))

        pauses = Pauses(a, b)
        watching = asyncio.create_task(pauses.watch())
        controller.kill()
        killed_s = time.monotonic()
        await asyncio.sleep(1.0)
        await controller.start()
        await asyncio.gather(*(c.gets(lambda amps: amps >= 6, 30.0, killed_s) for c in (a, b)))
        picture = await controller.sees(lambda p: p["external_limits"]["dso"]["state"] == "limited")
        assert picture["external_limits"]["dso"]["value"] == 20.0
        watching.cancel()
        assert pauses.longest_s < PAUSE_S
        # a restart escapes no limit: 20 A less the house's 5 A, whatever order the stations came back in
        assert max(amps for c in (a, b) for _, amps in c.live(killed_s)) <= 9.0
        assert a.allowed_a + b.allowed_a <= 15.0
        assert (a.connections, b.connections) == (2, 2)
        await controller.sees(lambda p: [e["online"] for e in p["evses"].values()] == [True, True])

        sessions = await controller.sessions()
        assert sorted((s["station_id"], s["open"]) for s in sessions) == [("A", True), ("B", True)]
        await asyncio.gather(a.end(meter=1500), b.end(meter=1500))
        async with asyncio.timeout(10):
            while any(s["open"] for s in await controller.sessions()):
                await asyncio.sleep(0.1)
        sessions = await controller.sessions()
        assert sorted((s["station_id"], s["energy_wh"]) for s in sessions) == [("A", 1400.0), ("B", 1400.0)]


class Pauses:
    """The longest time that any car was not charging."""

    def __init__(self, *chargers: Charger) -> None:
        self.chargers, self.longest_s = chargers, 0.0

    async def watch(self) -> None:
        since_s: dict[str, float] = {}
        while True:
            for charger in self.chargers:
                if charger.draw_a >= 6.0:
                    since_s.pop(charger.name, None)
                else:
                    began_s = since_s.setdefault(charger.name, time.monotonic())
                    self.longest_s = max(self.longest_s, time.monotonic() - began_s)
            await asyncio.sleep(0.05)


FUSE_A, WORST_A, RESTING_A = 63.0, 44.0, 6.0
LIFE_S = 60.0
DEAD_S = 600.0


def l16_site(folder: Path) -> dict:
    """Three stations under one fuse; with nobody in control 3 x 6 A and the house's worst case fit beneath it."""
    site = house(free_port(), ("S1", "S2", "S3"), cloud=f"ws://127.0.0.1:{free_port()}/ocpp")
    site["zones"][0] |= {"uncontrolled_max_a": WORST_A, "protection": {"rating_a": FUSE_A, "kind": "gg"}}
    site["csms"] |= {"profile_duration_s": LIFE_S, "profile_refresh_s": 20}
    return site


async def test_l16_a_dead_controller_and_the_house_at_its_worst_for_ten_minutes_trip_nothing(
    start_controller, tmp_path
):
    """Real: the controller and its death, the sockets, every profile a station holds. Simulated: the plant, the cars
    and the stations' firmware, which obeys its profile store; the ten minutes are virtual, for plant and stations.
    """
    site, truth = l16_site(tmp_path), tmp_path / "truth.csv"
    controller = Controller(tmp_path, site)
    simulated = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapters.simulated", str(controller.file), "--commands", "--story", "none"),
        *("--no-outside-steps", "--truth", str(truth), "--wait", "60"),
        cwd=ROOT, env=dict(os.environ), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        await controller.start()
        await _heard(simulated, "started")
        evses = [f"S{n}/1" for n in (1, 2, 3)]
        for evse in evses:
            car = {"evse": evse, "token": "TAG", "phases": 3, "max_a": 32.0, "draw": 1.0, "settle_s": 3.0}
            await _tell(simulated, do="plug", need_wh=1e6, **car)
        for evse in evses:
            await _tell(simulated, do="cloud_limit", station=evse.split("/")[0], limit_a=32.0)

        # the house rests, so the cars together draw far more than the worst case would leave them
        def draws_much(picture: dict) -> bool:
            evses = picture["evses"].values()
            drawn_a = sum((e["measured_a"] or [0.0])[0] for e in evses)
            return drawn_a > 35.0 and all(e["setpoint_a"] > RESTING_A for e in evses)

        await controller.sees(draws_much, 45.0)
        controller.kill()
        await _tell(simulated, do="worst")
        at_s = (await _ask(simulated, "fast_forwarded", do="fast_forward", seconds=DEAD_S))["t_s"]
        summary = await _ask(simulated, "summary", do="summary")
        assert summary["tripped"] == []
        assert summary["least_trip_margin"] > 0.0
        simulated.send_signal(signal.SIGTERM)
        await simulated.wait()
    finally:
        if simulated.returncode is None:
            simulated.kill()
            await simulated.wait()
        await controller.close()
    rows = [r for r in csv.DictReader(truth.read_text().splitlines()) if r["zone"] == "house"]
    dead_s = at_s - DEAD_S
    dead = [(float(r["t_s"]) - dead_s, float(r["current_a"])) for r in rows if dead_s < float(r["t_s"]) <= at_s]
    assert len(dead) > 3 * DEAD_S  # two rows a second on each phase: nothing was skipped
    assert max(a for _, a in dead) > FUSE_A  # the first minute was a real excess, or this test would show nothing
    settled = [a for t, a in dead if t > LIFE_S + 10.0]  # its profile's end and the car's lag
    assert max(settled) <= FUSE_A
    assert settled == pytest.approx([WORST_A + 3 * RESTING_A] * len(settled), abs=0.5)  # they charge, at their fallback


async def _tell(process: asyncio.subprocess.Process, **command: object) -> None:
    done = await _ask(process, "done", **command)
    assert done["do"] == command["do"]


async def _ask(process: asyncio.subprocess.Process, event: str, **command: object) -> dict:
    process.stdin.write(json.dumps(command).encode() + b"\n")
    await process.stdin.drain()
    return await _heard(process, event)


async def _heard(process: asyncio.subprocess.Process, event: str, timeout_s: float = 60.0) -> dict:
    async with asyncio.timeout(timeout_s):
        async for line in process.stdout:
            told = json.loads(line)
            assert told["event"] != "refused", told
            if told["event"] == event:
                return told
    raise AssertionError(f"the simulated site ended before {event}")
