"""A scenario: what happens to a site, and what must hold. The plant's currents are the judge.

A file lists ``steps``, each with ``at_s`` and one or more words (``plug``, ``load``, ``limit`` ... or ``expect``), and
what must hold ``at_end``. ``site``, ``timings``, ``seed`` and ``habits`` (of stations) are optional sections.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cem.config.plain import read_plain
from cem.core.limits import Limit, LimitKind
from cem.core.timings import Timings
from cem.core.units import PerPhase
from cem.errors import CemError
from cem.simulate.loop import ClosedLoop
from cem.simulate.sessions import Car
from cem.simulate.stations import StationHabits

OUTSIDE = frozenset({"load", "limit", "limit_w", "release", "cut_meter", "restore_meter", "trip_inverter"})
"""Steps from outside: the counterfactual day leaves them out."""

SECTIONS = ("site", "timings", "seed", "habits", "steps", "at_end", "faulty", "for_s")
FOREVER_S = 1e9
SLACK_A = 0.05


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario file that may be used.

    Attributes:
        path: Where it was read.
        site: Its own site, as in a site file; ``None`` where it is for any.
        timings: Of the engine, beside the defaults.
        seed: Of the plant.
        habits: EVSE id to how its station behaves.
        steps: In the order of time.
        at_end: What must hold then.
        for_s: How long it lasts; until the last step where left out.
    """

    path: Path
    site: Mapping[str, Any] | None
    timings: Timings
    seed: int
    habits: Mapping[str, StationHabits]
    steps: tuple[Mapping[str, Any], ...]
    at_end: Mapping[str, Any]
    for_s: float

    @property
    def length_s(self) -> float:
        """How long it lasts."""
        return max(self.for_s, self.steps[-1]["at_s"] if self.steps else 0.0)


def read_scenario(path: Path) -> Scenario:
    """Read and check a scenario file.

    Raises:
        CemError: It cannot be read, or has a word that no scenario knows.
    """
    data = read_plain(path)
    if not isinstance(data, dict) or not isinstance(data.get("steps"), list):
        raise CemError(f"{path}: a scenario is a mapping with a list of steps")
    _known(path, data, SECTIONS, "section")
    for step in data["steps"]:
        if not isinstance(step, dict) or not isinstance(step.get("at_s"), (int, float)):
            raise CemError(f"{path}: a step without at_s, its time in seconds: {step}")
        _known(path, step, ("at_s", "expect", *STEPS), f"word in the step at {step['at_s']} s")
        _known(path, step.get("expect", {}), CHECKS, f"expectation at {step['at_s']} s")
    _known(path, data.get("at_end", {}), CHECKS, "expectation at_end")
    try:
        timings = Timings(**data.get("timings", {}))
        habits = {evse: StationHabits(**how) for evse, how in data.get("habits", {}).items()}
    except TypeError as error:
        raise CemError(f"{path}: timings or habits: {error}") from error
    steps = tuple(sorted(data["steps"], key=lambda step: step["at_s"]))
    site = data.get("site")
    return Scenario(
        path, site, timings, data.get("seed", 1), habits, steps, data.get("at_end", {}), data.get("for_s", 0)
    )


def _known(path: Path, found: Any, known: Iterable[str], what: str) -> None:
    if not isinstance(found, dict):
        raise CemError(f"{path}: {what}: names with values are wanted, not {found!r}")
    names = sorted(known)
    for word in found:
        if word not in names:
            near = difflib.get_close_matches(str(word), names, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
            raise CemError(f"{path}: unknown {what}: {word} ({hint})")


def play(scenario: Scenario, loop: ClosedLoop, *, outside: bool = True) -> list[str]:
    """Live through a scenario.

    Args:
        scenario: What happens.
        loop: At plant time 0, without any load.
        outside: ``False`` leaves the steps from outside and the expectations out.

    Returns:
        What did not hold, in words.

    Raises:
        CemError: A step names something that the site does not have, or says it in another way.
    """
    failed: list[str] = []
    for step in scenario.steps:
        at_s = step["at_s"]
        loop.run(at_s)
        for word, what in step.items():
            try:
                if word in STEPS and (outside or word not in OUTSIDE):
                    STEPS[word](loop, what)
                elif word == "expect" and outside:
                    failed += [f"at {at_s} s: {text}" for text in _unmet(loop, what)]
            except (KeyError, TypeError, ValueError) as error:
                raise CemError(f"{scenario.path}: the step at {at_s} s: {word} {what}: {error!r}") from error
    loop.run(scenario.length_s)
    if outside:
        failed += [f"at the end: {text}" for text in _unmet(loop, scenario.at_end)]
    return failed


def _plug(loop: ClosedLoop, what: Mapping[str, Any]) -> None:
    known = {field.name for field in fields(Car)}
    loop.plug(what["evse"], Car(**{key: value for key, value in what.items() if key != "evse"}))
    if unknown := set(what) - known - {"evse"}:
        raise ValueError(f"a car has no {', '.join(sorted(unknown))}")


def _load(loop: ClosedLoop, what: Mapping[str, Any]) -> None:
    watts = PerPhase.of(a * loop.plant.voltage_v for a in what["amps"])
    loop.plant.add_load(what["zone"], watts, what.get("for_s", FOREVER_S))


def _limit(loop: ClosedLoop, what: Mapping[str, Any]) -> None:
    zone_id = what["zone"]
    if zone_id not in {zone.zone_id for zone in loop.plan.site.zones}:
        raise KeyError(zone_id)
    amps, watts = what.get("amps"), what.get("watts")
    value_a = None if amps is None else PerPhase.of(amps)
    kind, source = LimitKind(what.get("kind", "import")), what.get("source", "dso")
    loop.limits = (Limit(kind, zone_id, source, value_w=watts, value_a=value_a),)


def _release(loop: ClosedLoop, _: Any) -> None:
    loop.limits = ()


def _alive(loop: ClosedLoop, _: Any) -> None:
    loop.alive = False


def _online(*, online: bool) -> Callable[[ClosedLoop, Any], None]:
    def change(loop: ClosedLoop, evse_id: Any) -> None:
        loop.stations[evse_id].online = online

    return change


STEPS: Mapping[str, Callable[[ClosedLoop, Any], None]] = {
    "plug": _plug,
    "unplug": lambda loop, what: loop.unplug(what),
    "sleep": lambda loop, what: loop.plant.set_car_max(what, 0.0),
    "wake": lambda loop, what: loop.plant.set_car_max(what["evse"], what["max_a"]),
    "load": _load,
    "limit": _limit,
    "limit_w": _limit,
    "release": _release,
    "cut_meter": lambda loop, what: loop.cut_meters.add(what),
    "restore_meter": lambda loop, what: loop.cut_meters.discard(what),
    "trip_inverter": lambda loop, what: loop.plant.trip_inverter(what),
    "offline": _online(online=False),
    "online": _online(online=True),
    "kill_controller": _alive,
}
"""What may happen, by its word in a scenario file."""


def _unmet(loop: ClosedLoop, expected: Mapping[str, Any]) -> list[str]:
    return [text for name, value in expected.items() for text in CHECKS[name](loop, value)]


def _ranges(value: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    for evse_id, bounds in value.items():
        low, high = bounds if isinstance(bounds, list) else (bounds, bounds)
        yield evse_id, low, high


def _setpoint(loop: ClosedLoop, value: Any) -> Iterator[str]:
    for evse_id, low, high in _ranges(value):
        got = loop.setpoint_a(evse_id)
        if not low <= got <= high:
            yield f"{evse_id} has setpoint {got}, not {low}..{high}"


def _draw(loop: ClosedLoop, value: Any) -> Iterator[str]:
    for evse_id, low, high in _ranges(value):
        got = max(loop.plant.points[evse_id].own_current_a)
        if not low <= got <= high:
            yield f"{evse_id} draws {got:.1f} A, not {low}..{high}"


def _zone_at_most(loop: ClosedLoop, value: Any) -> Iterator[str]:
    for zone_id, most in value.items():
        got = max(loop.plant.zone_current_a(zone_id))
        if got > most + SLACK_A:
            yield f"zone {zone_id} carries {got:.1f} A, more than {most}"


def _reason(loop: ClosedLoop, value: Any) -> Iterator[str]:
    ids = [evse.evse_id for evse in loop.plan.site.evses]
    for evse_id, code in value.items():
        got = None if loop.decision is None else loop.decision.binding(loop.plan, ids.index(evse_id)).code
        if got != code:
            yield f"{evse_id} is bound by {got}, not {code}"


def _no_trip(loop: ClosedLoop, _: Any) -> Iterator[str]:
    if loop.judge.tripped:
        yield f"tripped {loop.judge.tripped}"


def _at_most(name: str, unit: str, figure: Callable[[ClosedLoop], float]) -> Callable[[ClosedLoop, Any], Iterator[str]]:
    def check(loop: ClosedLoop, most: Any) -> Iterator[str]:
        if figure(loop) > most:
            yield f"{name} {figure(loop):.1f}{unit}, more than {most}"

    return check


CHECKS: Mapping[str, Callable[[ClosedLoop, Any], Iterable[str]]] = {
    "setpoint": _setpoint,
    "draw": _draw,
    "zone_at_most": _zone_at_most,
    "reason": _reason,
    "no_trip": _no_trip,
    "longest_excess_s": _at_most("the longest excess lasted", " s", lambda loop: loop.judge.longest_s),
    "excess_as": _at_most("above limits:", " A.s", lambda loop: loop.judge.total_as),
    "pauses": _at_most("pauses:", "", lambda loop: loop.tally.pauses),
}
"""What may be expected."""
