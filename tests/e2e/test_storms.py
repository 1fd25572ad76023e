"""S13, S14: a fleet that floods, storms or talks garbage, in a process of its own, while the controller controls."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cem.csms.garbage import GARBAGE_LIMIT
from tests.benchmarks._proxy_peers import name
from tests.e2e.controller import watch_cycles
from tests.e2e.site_files import house

CYCLE_S = 1.5
"""FAULTS S13."""
GROWTH_MB = 10
GARBAGE = ("x" * ((1 << 20) + 1), b"\x00" * 4096, '[2,"1","X",' + "[" * 3000 + "]" * 3000 + "]", '[2,"1"', "{}")


@contextlib.contextmanager
def fleet_process():
    """The stations of the load benchmark; gives a function that has a command carried out and awaits its answer."""
    command = [sys.executable, "-m", "tests.benchmarks._proxy_peers", "stations", "", "plain"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(*words):
        process.stdin.write(json.dumps(words) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    try:
        yield lambda *words: asyncio.to_thread(ask, *words)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def car_park(meter_port, size):
    """Its fuse carries what all stations fall back to."""
    site = house(meter_port, tuple(name(number) for number in range(size)))
    site["zones"][0]["protection"]["rating_a"] = site["site"]["grid_connection"]["fuse_a"] = 60 + 6 * size
    return site


@pytest.mark.parametrize(
    ("size", "flooding", "storm_s"), [(60, 5, 8.0), pytest.param(1000, 50, 60.0, marks=pytest.mark.soak)]
)
async def test_s13_control_goes_on_in_a_flood_and_a_reconnect_storm(start_controller, meter, size, flooding, storm_s):
    controller = await start_controller(car_park(meter.port, size))
    with fleet_process() as ask:
        await ask("connect", "all", controller.address, size, 60.0)
        watching = asyncio.create_task(watch_cycles(controller, storm_s))
        storm = await ask("storm", "all", flooding, storm_s)
        a_second, oldest_s = await watching
        assert storm["cuts"] >= 3
        # In control's own words; what this test sees over HTTP on a busy machine may be late.
        cycle = (await controller.site())["cycle"]
        assert cycle["p99_ms"] < CYCLE_S * 1e3, cycle
        assert a_second > 1 / CYCLE_S, a_second
        assert oldest_s < 2 * CYCLE_S
        picture = await controller.sees(lambda now: all(s["online"] for s in now["csms"]["stations"]), 60.0)
        assert len(picture["csms"]["stations"]) == size
        assert await controller.events("station_flood")


def _rss_mb(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


async def _garbage(address, who, source, seconds):
    """Everything a station should not say, again and again, until the time is up; how many connections it cost."""
    until_s, connections = time.monotonic() + seconds, 0
    while time.monotonic() < until_s:
        with contextlib.suppress(ConnectionClosed, InvalidStatus, TimeoutError, OSError):
            async with connect(
                f"{address}/{who}", subprotocols=["ocpp1.6"], proxy=None, local_addr=(source, 0), close_timeout=1
            ) as socket:
                connections += 1
                for _ in range(GARBAGE_LIMIT):
                    for frame in GARBAGE[connections % len(GARBAGE) :]:
                        await socket.send(frame)
                async with asyncio.timeout(2.0):
                    await socket.wait_closed()
        await asyncio.sleep(0.05)
    return connections


async def test_s14_garbage_makes_nothing_grow_and_is_told_once_a_connection(start_controller, meter):
    controller = await start_controller(car_park(meter.port, 12))

    async def all_of_them(seconds, net):
        told = [
            _garbage(controller.address, who, f"127.0.{net}.{n + 1}", seconds)
            for n, who in enumerate(map(name, range(12)))
        ]
        return sum(await asyncio.gather(*told))

    assert await all_of_them(3.0, 1) >= 12  # what buffers and caches take once
    before_mb = _rss_mb(controller.pid)
    for net in range(2, 6):
        assert await all_of_them(2.0, net) >= 12
    grown_mb = _rss_mb(controller.pid) - before_mb
    assert grown_mb < GROWTH_MB, grown_mb
    assert (await controller.health())[0] == 200
    text = controller.text()
    assert len(text) < 200_000, "the log grew with the garbage"
