"""Runs a scenario file: a site, what happens to it, what must hold. The plant's currents are the judge."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from adapters.simulated.ev import EvType
from adapters.simulated.plant import Plant
from cem.config.loader import load_site_file
from cem.core.engine import Plan
from cem.core.limits import Limit, LimitKind
from cem.core.timings import Timings
from cem.core.units import PerPhase
from cem.simulate.loop import ClosedLoop
from cem.simulate.stations import StationHabits

OUTSIDE = ("load", "limit", "release", "cut_meter", "restore_meter", "trip_inverter")
"""Steps from outside: the counterfactual day leaves them out."""


@dataclass
class Run:
    loop: ClosedLoop
    checks: list[str] = field(default_factory=list)

    @property
    def failed(self):
        return [c for c in self.checks if c]


def run_scenario(path: Path, tmp_path: Path, *, outside: bool = True) -> Run:
    scenario = yaml.safe_load(path.read_text())
    site_path = tmp_path / "site.yaml"
    site_path.write_text(yaml.safe_dump({"version": 1, **scenario["site"]}))
    site = load_site_file(site_path).site
    timings = Timings(**scenario.get("timings", {}))
    plant = Plant(site, scenario.get("seed", 1), appliances=outside and scenario.get("appliances", False))
    plant.households.clear()  # loads are said in the scenario alone
    habits = {evse: StationHabits(**how) for evse, how in scenario.get("habits", {}).items()}
    loop = ClosedLoop(Plan.of(site, timings), plant, habits)
    run = Run(loop)
    steps = sorted(scenario["steps"], key=lambda step: step["at_s"])
    for step in steps:
        loop.run(step["at_s"])
        for word, what in step.items():
            if word != "at_s" and (outside or word not in OUTSIDE) and (outside or word != "expect"):
                _do(run, word, what, step["at_s"])
    if outside:
        for word, what in scenario.get("at_end", {}).items():
            _check(run, word, what, "at the end")
    return run


def _do(run: Run, word: str, what: Any, at_s: float) -> None:
    loop, plant = run.loop, run.loop.plant
    match word:
        case "plug":
            what = dict(what)
            evse = what.pop("evse")
            plant.points[evse].plug(EvType(**{"draw": 1.0, "need_wh": 1e9, **what}))
            loop.stations[evse].begin(plant.t_s)
        case "unplug":
            plant.points[what].unplug()
            loop.stations[what].end()
        case "sleep":
            plant.points[what].ev.kind = EvType(**{**_as_dict(plant.points[what].ev.kind), "max_a": 0.0})
        case "wake":
            plant.points[what["evse"]].ev.kind = EvType(
                **{**_as_dict(plant.points[what["evse"]].ev.kind), "max_a": what["max_a"]}
            )
        case "load":
            watts = PerPhase.of(a * plant.voltage_v for a in what["amps"])
            plant.add_load(what["zone"], watts, what.get("for_s", 1e9))
        case "limit":
            amps, kind = PerPhase.of(what["amps"]), LimitKind(what.get("kind", "import"))
            loop.limits = (Limit(kind, what["zone"], what.get("source", "dso"), value_a=amps),)
        case "limit_w":
            kind = LimitKind(what.get("kind", "import"))
            loop.limits = (Limit(kind, what["zone"], what.get("source", "dso"), value_w=what["watts"]),)
        case "release":
            loop.limits = ()
        case "cut_meter":
            loop.cut_meters.add(what)
        case "restore_meter":
            loop.cut_meters.discard(what)
        case "trip_inverter":
            plant.inverters[what].running = False
        case "offline":
            loop.stations[what].online = False
        case "online":
            loop.stations[what].online = True
        case "kill_controller":
            loop.alive = False
        case "expect":
            for name, value in what.items():
                _check(run, name, value, f"at {at_s} s")
        case _:
            raise AssertionError(f"unknown step {word}")


def _as_dict(kind: EvType) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in EvType.__dataclass_fields__}


def _check(run: Run, name: str, value: Any, when: str) -> None:
    loop = run.loop
    found: list[str] = []
    match name:
        case "setpoint":
            for evse, (low, high) in _ranges(value):
                got = loop.setpoint_a(evse)
                if not low <= got <= high:
                    found.append(f"{when}: {evse} has setpoint {got}, not {low}..{high}")
        case "draw":
            for evse, (low, high) in _ranges(value):
                got = max(loop.plant.points[evse].own_current_a)
                if not low <= got <= high:
                    found.append(f"{when}: {evse} draws {got:.1f}, not {low}..{high}")
        case "zone_at_most":
            for zone, most in value.items():
                got = max(loop.plant.zone_current_a(zone))
                if got > most + 0.05:
                    found.append(f"{when}: zone {zone} carries {got:.1f} A, more than {most}")
        case "reason":
            ids = [evse.evse_id for evse in loop.plan.site.evses]
            for evse, code in value.items():
                got = loop.decision.binding(loop.plan, ids.index(evse)).code
                if got != code:
                    found.append(f"{when}: {evse} is bound by {got}, not {code}")
        case "no_trip":
            if loop.judge.tripped:
                found.append(f"{when}: tripped {loop.judge.tripped}")
        case "longest_excess_s":
            if loop.judge.longest_s > value:
                found.append(f"{when}: an excess lasted {loop.judge.longest_s} s, more than {value}")
        case "excess_as":
            if loop.judge.total_as > value:
                found.append(f"{when}: {loop.judge.total_as:.1f} A.s above limits, more than {value}")
        case "pauses":
            if loop.tally.pauses > value:
                found.append(f"{when}: {loop.tally.pauses} pauses, more than {value}")
        case _:
            raise AssertionError(f"unknown expectation {name}")
    run.checks.extend(found)


def _ranges(value: dict[str, Any]):
    for evse, bounds in value.items():
        yield evse, tuple(bounds) if isinstance(bounds, list) else (bounds, bounds)
