"""A limit of the grid operator to all stations of a large site: when each has it on its wire, and when the plant obeys.

The controller is ``cem run`` as it is installed; the operator's OPC UA server, the cloud, and the stations with their cars
are processes of their own, all on 127.0.0.1. Each round all cars charge with all they take, then the limit cuts every one
of them. In the second half of the rounds the cloud has just asked a tenth of the stations something that they never answer.
Times count from the operator's write; ``plant_down_s`` is when all cars together draw no more than the limit.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.adapters.dso_server import DsoProcess
from tests.adapters.ocpp_peers import free_port
from tests.benchmarks import _fanout_day
from tests.benchmarks._fanout_peers import CAR_A, LAGS_S
from tests.benchmarks._fanout_site import site_file
from tests.benchmarks.proxy import Process
from tests.e2e.controller import CEM

STATIONS = int(os.environ.get("FANOUT_STATIONS", "1000"))
ROUNDS = int(os.environ.get("FANOUT_ROUNDS", "3"))
DAY_HOURS = float(os.environ.get("FANOUT_DAY_HOURS", "24"))
BUSY = 10
"""One station in so many is busy."""
A_SECOND = 30.0
"""Stations are switched on, and cars plugged in, one after the other."""
SHARE_A = 9.0
"""What the limit leaves each car."""
WAITS_S = 180.0
SETTLES_S = 12.0
AFTER_S = 12.0
"""As long a round is watched."""


class Controller(Process):
    """``cem run`` of a site file."""

    def __init__(self, file: Path) -> None:
        self._run([*CEM, "run", str(file), "--log-level", "error"])


def run() -> dict[str, float]:
    """Figures by name; ``FANOUT_...`` in the environment make it smaller."""
    with tempfile.TemporaryDirectory() as folder:
        running: list[Any] = []
        try:
            figures = _measure(Path(folder), running)
        finally:
            for process in reversed(running):
                process.kill() if isinstance(process, DsoProcess) else process.close()
    return figures | _fanout_day.messages(DAY_HOURS)


def _measure(folder: Path, running: list[Any]) -> dict[str, float]:
    dso = DsoProcess()
    running.append(dso)
    dso.tell("enabled 0")
    cloud_port = free_port()
    file = site_file(folder, STATIONS, dso_port=dso.port, cloud_port=cloud_port)

    def start(module: str, *words: str) -> Process:
        running.append(Process(module, *words))
        assert running[-1].read() == "ready"
        return running[-1]

    cloud = start("_fanout_peers", "cloud", str(cloud_port))
    fleet = start("_fanout_peers", "fleet", str(file))
    controller = Controller(file)
    running.append(controller)
    fleet.ask("connect", A_SECOND)
    _wait(lambda: cloud.ask()["connected"] == STATIONS)
    fleet.ask("plug", A_SECOND)
    busy = [f"CS{number:04d}" for number in range(0, STATIONS, BUSY)]
    figures: dict[str, float] = {}
    for name, asked in (("fanout", ()), ("fanout.busy", busy)):
        cuts: list[float] = []
        downs: list[float] = []
        for _ in range(ROUNDS):
            found = _round(dso, cloud, fleet, asked)
            cuts += found["cuts"]
            downs.append(found["down"])
        cuts.sort()
        figures |= {
            f"{name}.p50_s": statistics.median(cuts),
            f"{name}.p99_s": cuts[int(0.99 * len(cuts))],
            f"{name}.last_s": cuts[-1],
            f"{name}.plant_down_s": max(downs),
        }
    figures["fanout.ev_lag_s"] = max(LAGS_S)
    _wait(lambda: _at_rest(fleet.ask("told")))
    figures["fanout.cpu_of_controller"] = _share_of_a_core(controller)
    return figures


def _round(dso: DsoProcess, cloud: Process, fleet: Process, busy: list[str]) -> dict[str, Any]:
    """All charge with all they take; then the limit comes."""
    _wait(lambda: _at_rest(fleet.ask("told")))
    time.sleep(SETTLES_S)
    limit_w = STATIONS * SHARE_A * 230.0
    dso.tell(f"limit {limit_w / 1000}")
    if busy:
        cloud.ask(*busy)
        time.sleep(0.2)
    fleet.ask("watch", limit_w)
    dso.tell("enabled 1")
    time.sleep(AFTER_S)
    found = fleet.ask("seen")
    assert len(found["cuts"]) == STATIONS, f"{len(found['cuts'])} of {STATIONS} stations were cut"
    assert found["down"] is not None, f"{fleet.ask('told')} where {limit_w:.0f} W are allowed"
    dso.tell("enabled 0")
    return found


def _at_rest(told: dict[str, Any]) -> bool:
    """All may draw what they take, and do."""
    return told["least_a"] >= CAR_A and told["drawn_w"] >= 0.97 * STATIONS * CAR_A * 230.0


def _wait(until: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAITS_S
    while not until():
        assert time.monotonic() < end_s, f"not in {WAITS_S:g} s"
        time.sleep(0.25)


def _share_of_a_core(controller: Process) -> float:
    """Of the controller while all stations charge and nothing happens."""
    time.sleep(SETTLES_S)
    before_s, began_s = controller.cpu_s(), time.monotonic()
    time.sleep(20.0)
    return (controller.cpu_s() - before_s) / (time.monotonic() - began_s)
