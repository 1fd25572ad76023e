"""Control quality in closed loop: excess over the limit, pauses and energy of the engine and of two usual controllers.

24 charging points, 3 x 100 A, cars with delay 1-8 s and lag 1-12 s, some lazy, slow, asleep or deaf, and a building
whose load steps. Whose excess it was is found by the same seed without the steps.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.benchmarks._loop_controllers import WIRED, Integrating, OneAtATime, Ours
from tests.benchmarks._loop_site import LIMIT_A, Cars, lay_out

SEEDS = int(os.environ.get("LOOP_SEEDS", "20"))
MINUTES = int(os.environ.get("LOOP_MINUTES", "15"))
WARM_UP_S = 300
"""Cars that were there before the controller get their first current in this time; not judged."""
REPORTS_S = (1, 10, 60)
NOISE_A = 0.05


@dataclass
class Outcome:
    """What a controller did in all its runs.

    Attributes:
        hours: Judged time.
        over_as: A.s above the limit, the phases added.
        longest_s: Longest stretch above it.
        pauses: Times a car that listens was set to 0 while it charged.
        turns: Times a current turned from rising to falling or back.
        served_ah: Given to cars, the phases added.
        peak_a: Highest current on any phase.
    """

    hours: float = 0.0
    over_as: float = 0.0
    longest_s: int = 0
    pauses: int = 0
    turns: int = 0
    served_ah: float = 0.0
    peak_a: float = 0.0


Controller = Ours | Integrating | OneAtATime


def simulate(controller: Controller, seed: int, length_s: int, load: str, into: Outcome) -> Outcome:
    """One run, added to an outcome."""
    day = lay_out(seed, length_s + WARM_UP_S, load)
    cars = Cars(day)
    meter, pilot = day.building_a[0], np.zeros(len(WIRED))
    way, over_s = np.zeros(len(WIRED)), np.zeros(3, dtype=int)
    for t in range(day.length_s):
        there = ~np.isnan(day.wants_a[t])
        before, pilot = pilot, controller.step(t, meter, cars.current_a, there).copy()
        drawn = cars.step(t, pilot)
        meter = day.building_a[t] + drawn @ WIRED
        change = np.sign(pilot - before) * there
        if t >= WARM_UP_S:
            over = np.maximum(meter - LIMIT_A - NOISE_A, 0.0)
            over_s = np.where(over > 0, over_s + 1, 0)
            into.over_as += float(over.sum())
            into.longest_s = max(into.longest_s, int(over_s.max()))
            into.peak_a = max(into.peak_a, float(meter.max()))
            into.pauses += int((there & ~day.deaf & (before > 0) & (pilot == 0)).sum())
            into.turns += int((change * way < 0).sum())
            into.served_ah += float((drawn @ WIRED).sum()) / 3600
        way = np.where(change != 0, change, way)
    into.hours += length_s / 3600
    return into


def all_seeds(make: Callable[[], Controller], load: str, seeds: int, length_s: int) -> Outcome:
    """One controller on every seed."""
    outcome = Outcome()
    for seed in range(seeds):
        simulate(make(), seed, length_s, load, outcome)
    return outcome


def run() -> dict[str, float]:
    """Figures by name, all per hour."""
    length_s = MINUTES * 60
    rows: dict[str, Outcome] = {}
    for load in ("steps", "calm", "constant"):
        for report_s in REPORTS_S:
            rows[f"ours, reports {report_s} s, {load}"] = all_seeds(lambda s=report_s: Ours(s), load, SEEDS, length_s)
    for load in ("steps", "constant"):
        rows[f"integrating, {load}"] = all_seeds(Integrating, load, SEEDS, length_s)
        rows[f"one at a time, {load}"] = all_seeds(OneAtATime, load, SEEDS, length_s)
    table = Table("controller", "A.s/h over", "longest s", "peak A", "pauses/h", "turns/h", "Ah/h served")
    for name, o in rows.items():
        figures = (o.over_as, o.longest_s * o.hours, o.peak_a * o.hours, o.pauses, o.turns, o.served_ah)
        table.add_row(name, *(f"{figure / o.hours:.1f}" for figure in figures))
    Console(width=110).print(table)
    return _figures(rows)


def _figures(rows: dict[str, Outcome]) -> dict[str, float]:
    figures: dict[str, float] = {}
    peers = {"integrating": "integrating, steps", "one_at_a_time": "one at a time, steps"}
    for name, row in peers.items():
        figures[f"loop.as_per_h.{name}"] = rows[row].over_as / rows[row].hours
        figures[f"loop.served_ah.{name}"] = rows[row].served_ah / rows[row].hours
    ours = [rows[f"ours, reports {s} s, steps"] for s in REPORTS_S]
    figures["loop.as_per_h.ours"] = max(o.over_as / o.hours for o in ours)
    figures["loop.served_ah.ours"] = min(o.served_ah / o.hours for o in ours)
    for s, o in zip(REPORTS_S, ours, strict=True):
        figures[f"loop.as_per_h.ours.reports_{s}_s"] = o.over_as / o.hours
        figures[f"loop.served_ah.ours.reports_{s}_s"] = o.served_ah / o.hours
        figures[f"loop.pauses_per_h.ours.reports_{s}_s"] = o.pauses / o.hours
    figures["loop.own_as"] = sum(rows[f"ours, reports {s} s, calm"].over_as for s in REPORTS_S)
    figures["loop.constant_as"] = sum(rows[f"ours, reports {s} s, constant"].over_as for s in REPORTS_S)
    figures["loop.constant_pauses"] = sum(rows[f"ours, reports {s} s, constant"].pauses for s in REPORTS_S)
    return figures
