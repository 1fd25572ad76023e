"""Control quality in closed loop: excess over the limit, pauses and energy of the engine and of usual controllers.

24 charging points, 3 x 100 A, cars with delay 1-8 s and lag 1-12 s, some lazy, slow, asleep or deaf, and a building
whose load steps. Whose excess it was is found by the same seed without the steps. Plant and seeds are fixed: neither
is to be changed with the engine.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from cem.core.units import PerPhase
from cem.simulate.judge import Judge
from tests.benchmarks._loop_controllers import (
    WIRED,
    EverybodyDown,
    Integrating,
    IntegratingPerPhase,
    OneAtATime,
    OneAtATimePerPhase,
    Ours,
    SlowUpFastDown,
    site,
)
from tests.benchmarks._loop_site import Cars, lay_out

FIRST_SEED = 1000
SEEDS = int(os.environ.get("LOOP_SEEDS", "20"))
MINUTES = int(os.environ.get("LOOP_MINUTES", "15"))
WARM_UP_S = 300
"""Cars that were there before the controller get their first current in this time; of it only trips are judged."""
REPORTS_S = (1, 10, 60)


@dataclass
class Outcome:
    """What a controller did in all its runs.

    Attributes:
        hours: Judged time.
        over_as: A.s above the limit, the phases added.
        longest_s: Longest stretch above it.
        trips: Runs in which the fuse would have tripped.
        pauses: Times a car that listens was set to 0 while it charged.
        turns: Times a current turned from rising to falling or back.
        served_ah: Given to cars, the phases added.
        peak_a: Highest current on any phase.
    """

    hours: float = 0.0
    over_as: float = 0.0
    longest_s: float = 0.0
    trips: int = 0
    pauses: int = 0
    turns: int = 0
    served_ah: float = 0.0
    peak_a: float = 0.0


Controller = Ours | Integrating | IntegratingPerPhase | OneAtATime | OneAtATimePerPhase


PEERS: dict[str, Callable[[], Controller]] = {
    "integrating": Integrating,
    "one at a time": OneAtATime,
    "slow up fast down": SlowUpFastDown,
    "integrating per phase": IntegratingPerPhase,
    "one at a time per phase": OneAtATimePerPhase,
}


def simulate(controller: Controller, seed: int, length_s: int, load: str, into: Outcome) -> Outcome:
    """One run, added to an outcome."""
    day = lay_out(seed, length_s + WARM_UP_S, load)
    cars = Cars(day)
    fuse, judge = Judge(site(), lambda _: None), Judge(site(), lambda _: None)
    meter, pilot = day.building_a[0], np.zeros(len(WIRED))
    way = np.zeros(len(WIRED))
    for t in range(day.length_s):
        there = ~np.isnan(day.wants_a[t])
        before, pilot = pilot, controller.step(t, meter, cars.current_a, there).copy()
        drawn = cars.step(t, pilot)
        meter = day.building_a[t] + drawn @ WIRED
        truth = PerPhase.of(meter.tolist())
        fuse.watch(t, 1.0, lambda _, truth=truth: truth)
        change = np.sign(pilot - before) * there
        if t >= WARM_UP_S:
            judge.watch(t, 1.0, lambda _, truth=truth: truth)
            into.peak_a = max(into.peak_a, float(meter.max()))
            into.pauses += int((there & ~day.deaf & (before > 0) & (pilot == 0)).sum())
            into.turns += int((change * way < 0).sum())
            into.served_ah += float((drawn @ WIRED).sum()) / 3600
        way = np.where(change != 0, change, way)
    into.over_as += judge.total_as
    into.longest_s = max(into.longest_s, judge.longest_s)
    into.trips += bool(fuse.tripped)
    into.hours += length_s / 3600
    return into


def all_seeds(make: Callable[[], Controller], load: str, seeds: int, length_s: int) -> Outcome:
    """One controller on every seed."""
    outcome = Outcome()
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        simulate(make(), seed, length_s, load, outcome)
    return outcome


def run() -> dict[str, float]:
    """Figures by name, all per hour."""
    length_s = MINUTES * 60
    rows: dict[str, Outcome] = {}
    for load in ("steps", "calm", "constant"):
        for report_s in REPORTS_S:
            rows[f"ours, reports {report_s} s, {load}"] = all_seeds(lambda s=report_s: Ours(s), load, SEEDS, length_s)
    rows["everybody down, steps"] = all_seeds(lambda: EverybodyDown(1), "steps", SEEDS, length_s)
    for load in ("steps", "constant"):
        for name, make in PEERS.items():
            rows[f"{name}, {load}"] = all_seeds(make, load, SEEDS, length_s)
    table = Table("controller", "A.s/h over", "longest s", "peak A", "trips", "pauses/h", "turns/h", "Ah/h served")
    for name, o in rows.items():
        an_hour = (f"{figure / o.hours:.1f}" for figure in (o.pauses, o.turns, o.served_ah))
        table.add_row(
            name, f"{o.over_as / o.hours:.1f}", f"{o.longest_s:.0f}", f"{o.peak_a:.1f}", str(o.trips), *an_hour
        )
    Console(width=120).print(table)
    return _figures(rows)


def _figures(rows: dict[str, Outcome]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for peer in ("everybody down", *PEERS):
        row, name = rows[f"{peer}, steps"], peer.replace(" ", "_")
        figures[f"loop.as_per_h.{name}"] = row.over_as / row.hours
        figures[f"loop.served_ah.{name}"] = row.served_ah / row.hours
        figures[f"loop.trips.{name}"] = row.trips
    ours = [rows[f"ours, reports {s} s, steps"] for s in REPORTS_S]
    figures["loop.as_per_h.ours"] = max(o.over_as / o.hours for o in ours)
    figures["loop.served_ah.ours"] = min(o.served_ah / o.hours for o in ours)
    figures["loop.trips.ours"] = sum(o.trips for o in ours)
    for s, o in zip(REPORTS_S, ours, strict=True):
        figures[f"loop.as_per_h.ours.reports_{s}_s"] = o.over_as / o.hours
        figures[f"loop.served_ah.ours.reports_{s}_s"] = o.served_ah / o.hours
        figures[f"loop.pauses_per_h.ours.reports_{s}_s"] = o.pauses / o.hours
    figures["loop.own_as"] = sum(rows[f"ours, reports {s} s, calm"].over_as for s in REPORTS_S)
    figures["loop.constant_as"] = sum(rows[f"ours, reports {s} s, constant"].over_as for s in REPORTS_S)
    figures["loop.constant_pauses"] = sum(rows[f"ours, reports {s} s, constant"].pauses for s in REPORTS_S)
    return figures
