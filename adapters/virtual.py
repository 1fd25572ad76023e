"""Meters that are worked out from others: house = grid - pv - battery - cars, or a second meter for the same point.

Each has formulas in order of trust; the first whose terms are all fresh counts. What comes out is as old as the oldest
of its terms, and a value that one term does not give is not given: a missing phase is not 0.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cem.config.formula import CARS, terms
from cem.config.models import Device, Virtual
from cem.core.limits import LimitSignal
from cem.core.state import EvseState, Measurement
from cem.core.units import PerPhase
from cem.ports import Clock, News

FRESH_S = 8.0
"""A term older than this, and than three periods (``poll_s``) of the virtual meter, makes room for the next formula."""

APART_W, APART, APART_S = 300.0, 0.1, 30.0
"""Meters of one point may differ so far, or by this share, and longer while a load changes."""

_log = logging.getLogger(__name__)

Read = Callable[[], Mapping[str, Measurement]]


class VirtualMeters:
    """Works out every virtual meter when it is asked for measurements; has no connection of its own.

    Args:
        devices: Every virtual meter.
        clock: Monotonic time.
        news: Called when one changes to another formula.
        read: What is measured now, ``cars`` among it.
    """

    def __init__(self, devices: Sequence[Device], clock: Clock, news: News, read: Read) -> None:
        self.name = "virtual meters"
        self._devices = [(device, [terms(formula) for formula in _formulas(device)]) for device in devices]
        self._clock = clock
        self._news = news
        self._read = read
        self._used: dict[str, int | None] = {}
        self._latest: dict[str, Measurement] = {}
        self._problems: dict[str, str] = {}
        self._apart_since_s: dict[str, float] = {}

    def measurements(self) -> Mapping[str, Measurement]:
        """Worked out now; one whose formulas all fail keeps its last value, whose age tells."""
        read = self._read()
        now_s = self._clock.monotonic_s()
        for device, formulas in self._devices:
            worked_out: dict[int, Measurement] = {}
            for index, formula in enumerate(formulas):
                if all(
                    name in read and now_s - read[name].taken_s <= max(FRESH_S, 3 * device.poll_s)
                    for _, name in formula
                ):
                    found = _sum(device.id, [(sign, read[name]) for sign, name in formula])
                    if found is not None:
                        worked_out[index] = found
                        if not _votes(device):
                            break
            if not worked_out:
                self._tell(device, None)
                continue
            used = _middle(worked_out) if _votes(device) else min(worked_out)
            self._latest[device.id] = worked_out[used]
            if _votes(device):
                self._tell_vote(device, worked_out, used, now_s)
            else:
                self._tell(device, used)
        return dict(self._latest)

    def signals(self) -> Mapping[str, LimitSignal]:
        """None: no limit comes by this adapter."""
        return {}

    def problems(self) -> Mapping[str, str]:
        """Meters that are worked out by other than their first formula, or not at all."""
        return dict(self._problems)

    async def run(self) -> None:
        """Nothing to connect to."""
        await asyncio.Event().wait()

    def _tell_vote(self, device: Device, voted: Mapping[int, Measurement], used: int, now_s: float) -> None:
        """Meters of one point that differ for longer than their beats do are told: one of them is wrong."""
        formulas = _formulas(device)
        self._tell(device, 0)
        if len(voted) < len(formulas):
            silent = ", ".join(f"'{formula}'" for index, formula in enumerate(formulas) if index not in voted)
            self._problems[device.id] = f"{device.id}: {silent} cannot be worked out and has no vote"
            return
        apart = {index: _apart_w(found, voted[used]) for index, found in voted.items()}
        worst = max(apart, key=lambda index: apart[index])
        agreed_w = max(APART_W, APART * abs(_watts(voted[used])))
        if apart[worst] <= agreed_w:
            self._apart_since_s.pop(device.id, None)
        elif now_s - self._apart_since_s.setdefault(device.id, now_s) >= APART_S:
            self._problems[device.id] = (
                f"{device.id}: '{formulas[worst]}' is {apart[worst]:.0f} W away from '{formulas[used]}', which counts; "
                "check their signs, transformers and wiring"
            )

    def _tell(self, device: Device, used: int | None) -> None:
        formulas = _formulas(device)
        if used == 0:
            self._problems.pop(device.id, None)
        elif used is not None:
            self._problems[device.id] = (
                f"{device.id}: '{formulas[0]}' cannot be worked out; '{formulas[used]}' stands in"
            )
        else:
            self._problems[device.id] = f"{device.id}: none of its formulas can be worked out: a meter in each is away"
        before = self._used.get(device.id, 0)
        self._used[device.id] = used
        if before != used:
            _log.warning("%s", self._problems.get(device.id, f"{device.id}: worked out by '{formulas[0]}' again"))
            self._news()


def cars(states: Iterable[EvseState], now_s: float, nominal_v: float) -> Measurement | None:
    """What all our EVSEs draw together, as a measurement of now.

    Stations report every few seconds; a report counts for two of its intervals. ``None`` where one is older, or an EVSE
    that may draw is not measured.

    Args:
        states: Every EVSE.
        now_s: Monotonic.
        nominal_v: Phase to neutral.
    """
    drawn = [0.0, 0.0, 0.0]
    for state in states:
        if state.measured_a is None or state.measured_s is None:
            if state.charging or not state.online:
                return None
            continue
        if state.charging and now_s - state.measured_s > 2 * state.report_interval_s:
            return None
        if state.charging:
            drawn = [a + b for a, b in zip(drawn, state.measured_a, strict=True)]
    power = PerPhase.of(nominal_v * amps for amps in drawn)
    return Measurement(CARS, now_s, current_a=PerPhase.of(drawn), power_w=power, total_power_w=power.total)


def _formulas(device: Device) -> tuple[str, ...]:
    return device.connection.formulas if isinstance(device.connection, Virtual) else ()


def _votes(device: Device) -> bool:
    return isinstance(device.connection, Virtual) and device.connection.choose == "vote"


def _middle(voted: Mapping[int, Measurement]) -> int:
    """The middle one by power; of an even number the one that draws more of the two in the middle, which is the safer."""
    ordered = sorted(voted, key=lambda index: _watts(voted[index]))
    return ordered[len(ordered) // 2]


def _watts(found: Measurement) -> float:
    if found.total_power_w is not None:
        return found.total_power_w
    return 230.0 * found.current_a.total if found.current_a is not None else 0.0


def _apart_w(one: Measurement, other: Measurement) -> float:
    """By total, and by phase where both have phases: two turned phases may well sum to the same."""
    if one.power_w is not None and other.power_w is not None:
        return max(abs(a - b) for a, b in zip(one.power_w, other.power_w, strict=True))
    return abs(_watts(one) - _watts(other))


def _sum(name: str, parts: Sequence[tuple[int, Measurement]]) -> Measurement | None:
    """Signed currents add up where each part knows its direction; a single part passes as it is, but for its name."""
    current = _phases([(sign, part.current_a) for sign, part in parts])
    power = _phases([(sign, part.power_w) for sign, part in parts])
    totals = [part.total_power_w for _, part in parts]
    total = None
    if all(w is not None for w in totals):
        total = sum(sign * w for (sign, _), w in zip(parts, totals, strict=True) if w is not None)
    if current is None and power is None and total is None:
        return None
    alone: dict[str, Any] = {}
    if len(parts) == 1 and parts[0][0] == 1:
        alone = {"energy_wh": parts[0][1].energy_wh, "soc_percent": parts[0][1].soc_percent}
    voltage = next((part.voltage_v for _, part in parts if part.voltage_v is not None), None)
    taken_s = min(part.taken_s for _, part in parts)
    return Measurement(name, taken_s, current_a=current, power_w=power, total_power_w=total, voltage_v=voltage, **alone)


def _phases(parts: Sequence[tuple[int, PerPhase | None]]) -> PerPhase | None:
    found = [(sign, value) for sign, value in parts if value is not None]
    if len(found) < len(parts):
        return None
    return PerPhase.of([sum(sign * value[phase] for sign, value in found) for phase in range(3)])
