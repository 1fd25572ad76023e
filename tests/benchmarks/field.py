"""Cost of the field adapters: CPU, memory and age of what they know, beside the bare client libraries.

Each load (``_field_*.py``) has devices in a process of their own (``peer``), the product's adapters for them (``ours``)
and the same reads by the library alone (``bare``). Ours and bare run side by side, each in a process of its own with all
loads, so that whatever else the machine does touches both. Further loads join by being named in ``LOADS``.
"""

import asyncio
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import uvloop

from cem.clock import SystemClock
from cem.supervise import keep_running

LOADS = ("_field_modbus", "_field_mqtt", "_field_opcua")
WARM_UP_S = 3.0
MEASURED_S = 12.0
LOOK_S = 0.1


def run() -> dict[str, float]:
    running: list[subprocess.Popen] = []
    loads = [name for name in LOADS if getattr(_load(name), "available", lambda: True)()]

    def start(*words: str) -> subprocess.Popen:
        running.append(subprocess.Popen(_command(*words), stdout=subprocess.PIPE, text=True))
        return running[-1]

    try:
        peers = {name: start("peer", name) for name in loads}
        ports = json.dumps(
            {name: [int(port) for port in peer.stdout.readline().split()] for name, peer in peers.items()}
        )
        both = [start(mode, ports) for mode in ("ours", "bare")]
        ours, bare = (json.loads(process.communicate(timeout=60)[0]) for process in both)
    finally:
        for process in running:
            process.kill()
            process.wait()
            process.stdout.close()
    return {
        "field.cpu_percent": ours["cpu_percent"],
        "field.rss_mb": ours["rss_mb"],
        "field.age_p99_s": ours["age_p99_s"],
        "field.devices_heard": ours["heard"],
        "field.bare_cpu_percent": bare["cpu_percent"],
        "field.bare_rss_mb": bare["rss_mb"],
        "field.cpu_ratio": ours["cpu_percent"] / bare["cpu_percent"],
    }


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "tests.benchmarks.field", *words]


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"tests.benchmarks.{name}")


async def _ours(ports: dict[str, list[int]]) -> dict[str, float]:
    clock = SystemClock()
    made = [adapter for name, found in ports.items() for adapter in await _load(name).ours(found)]
    tasks = [asyncio.create_task(keep_running(adapter, clock)) for adapter in made]
    await asyncio.sleep(WARM_UP_S)
    ages: list[float] = []
    meter = _CpuMeter()
    end_s = time.monotonic() + MEASURED_S
    looking_s = 0.0
    while (now_s := time.monotonic()) < end_s:
        before = time.process_time()
        for adapter in made:
            ages += [now_s - found.taken_s for found in adapter.measurements().values()]
        looking_s += time.process_time() - before
        await asyncio.sleep(LOOK_S)
    figures = meter.figures(looking_s)
    assert all(not task.done() for task in tasks)
    heard = sum(len(adapter.measurements()) for adapter in made)
    ages.sort()
    return figures | {"age_p99_s": ages[int(0.99 * len(ages))], "heard": heard}


async def _bare(ports: dict[str, list[int]]) -> dict[str, float]:
    tasks = [asyncio.create_task(_load(name).bare(found)) for name, found in ports.items()]
    await asyncio.sleep(WARM_UP_S)
    meter = _CpuMeter()
    await asyncio.sleep(MEASURED_S)
    figures = meter.figures(0.0)
    assert all(not task.done() for task in tasks)
    return figures


class _CpuMeter:
    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.monotonic(), time.process_time()

    def figures(self, not_ours_s: float) -> dict[str, float]:
        """Percent of one core since it was made, without what the measuring itself took; memory now."""
        cpu_s = time.process_time() - self._cpu_s - not_ours_s
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return {
            "cpu_percent": 100 * cpu_s / (time.monotonic() - self._wall_s),
            "rss_mb": pages * resource.getpagesize() / 1e6,
        }


async def _measure(mode: str, ports: dict[str, list[int]]) -> None:
    print(json.dumps(await (_ours if mode == "ours" else _bare)(ports)), flush=True)
    os._exit(0)  # tasks of a library that loses cancellations (Python 3.11 wait_for) need not be waited for


def main() -> None:
    mode, what = sys.argv[1:]
    if mode == "peer":
        asyncio.run(_load(what).peer())
    else:
        uvloop.run(_measure(mode, json.loads(what)))


if __name__ == "__main__":
    main()
