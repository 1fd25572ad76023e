"""Simulated days: cars that come and go by a seeded daily pattern, and a DSO that asks for less now and then."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cem.core.limits import Limit
from cem.core.site import Evse, Site
from cem.simulate.loop import EPOCH, ClosedLoop
from cem.simulate.sessions import Car

HOME_EVSES = 4
"""Up to this many EVSEs a site is taken for a home."""

DAY_S = 86_400.0
DEMAND = 0.85
"""A car never needs more than this part of what it could take alone in its time: what it does not get was withheld."""

GOES, COMES = 0, 1
LOW_LIMIT_S = (1800.0, 5400.0)

PatternName = Literal["home", "office"]


@dataclass(frozen=True, slots=True)
class Pattern:
    """When cars come and go; hours of the local day.

    Attributes:
        start_hour: The simulated days begin here, where few cars are plugged in.
        arrive: Mean and spread of the main arrival.
        leave: Mean and spread of the departure; on the next day where it is the earlier hour.
        comes: How likely a car comes on one day.
        second: How likely a short second visit follows the first.
        need_wh: Least and most energy asked for.
    """

    start_hour: float
    arrive: tuple[float, float]
    leave: tuple[float, float]
    comes: float
    second: float
    need_wh: tuple[float, float]


PATTERNS: dict[PatternName, Pattern] = {
    "home": Pattern(12.0, (17.8, 1.3), (7.3, 0.6), 0.9, 0.0, (5_000.0, 35_000.0)),
    "office": Pattern(0.0, (8.4, 0.8), (16.8, 1.0), 0.85, 0.35, (5_000.0, 30_000.0)),
}


@dataclass(frozen=True, slots=True)
class Visit:
    """One car's stay, in plant time."""

    evse_id: str
    arrive_s: float
    leave_s: float
    car: Car


def pattern_for(site: Site) -> PatternName:
    """What a site of this size most likely is."""
    return "home" if len(site.evses) <= HOME_EVSES else "office"


def visits(site: Site, days: int, seed: int, pattern: Pattern) -> list[Visit]:
    """Every car's stay, by the seed; nobody stays beyond the end."""
    found: list[Visit] = []
    for evse in site.evses:
        rng = random.Random(f"{seed}/{evse.evse_id}/visits")  # noqa: S311 - a pattern of cars needs no cryptography
        free_s = 0.0
        for day in range(days):
            midnight_s = day * DAY_S - pattern.start_hour * 3600
            arrive_s = midnight_s + 3600 * _near(rng, pattern.arrive)
            leave_s = midnight_s + 3600 * _near(rng, pattern.leave)
            if leave_s <= arrive_s:
                leave_s += DAY_S
            if rng.random() < pattern.comes:
                free_s = _stay(found, rng, site, evse, (max(arrive_s, free_s), leave_s, days * DAY_S), pattern)
            if rng.random() < pattern.second:
                back_s = max(free_s + 600, leave_s) + rng.uniform(0, 5400)
                until_s = back_s + rng.uniform(3600, 9000)
                free_s = _stay(found, rng, site, evse, (back_s, until_s, days * DAY_S), pattern)
    return sorted(found, key=lambda visit: (visit.arrive_s, visit.evse_id))


def _near(rng: random.Random, about: tuple[float, float]) -> float:
    mean, spread = about
    return mean + max(-2 * spread, min(2 * spread, rng.gauss(0.0, spread)))


def _stay(
    found: list[Visit],
    rng: random.Random,
    site: Site,
    evse: Evse,
    times_s: tuple[float, float, float],
    pattern: Pattern,
) -> float:
    arrive_s, leave_s, end_s = times_s
    arrive_s, leave_s = float(round(arrive_s)), float(round(min(leave_s, end_s - 60)))
    phases = min(evse.phases, rng.choice((1, 3, 3)))
    max_a = rng.choice((32.0, 32.0, 16.0) if phases == 1 else (32.0, 16.0, 16.0, 13.0))
    settle_s, draw, need_wh = rng.uniform(1.0, 4.8), rng.uniform(0.96, 1.0), rng.uniform(*pattern.need_wh)
    alone_wh = min(max_a, evse.max_a) * phases * site.nominal_voltage_v * (leave_s - arrive_s) / 3600
    if leave_s - arrive_s < 1200:
        return leave_s
    need_wh = min(need_wh, DEMAND * alone_wh)
    found.append(Visit(evse.evse_id, arrive_s, leave_s, Car(phases, max_a, settle_s, draw, need_wh)))
    return leave_s + 60


def play_days(loop: ClosedLoop, coming: Sequence[Visit], days: int, low_limits: Sequence[Limit], seed: int) -> None:
    """Live through the days.

    Args:
        loop: At plant time 0.
        coming: From ``visits``.
        days: How many.
        low_limits: Outside limits, each set once a day for a while.
        seed: Draws those times.
    """
    moments: list[tuple[float, int, Visit | Limit]] = []
    for visit in coming:
        moments += [(visit.leave_s, GOES, visit), (visit.arrive_s, COMES, visit)]
    rng = random.Random(f"{seed}/limits")  # noqa: S311 - a pattern of limits needs no cryptography
    for limit in low_limits:
        for day in range(days):
            start_s = float(round(day * DAY_S + rng.uniform(0.2, 0.9) * DAY_S))
            end_s = min(start_s + round(rng.uniform(*LOW_LIMIT_S)), days * DAY_S - 60)
            moments += [(start_s, COMES, limit), (end_s, GOES, limit)]
    for at_s, what, who in sorted(moments, key=lambda moment: moment[:2]):
        loop.run(at_s)
        match who:
            case Visit() if what == COMES:
                loop.plug(who.evse_id, who.car)
            case Visit():
                loop.unplug(who.evse_id)
            case Limit():
                others = tuple(held for held in loop.limits if held != who)
                loop.limits = (*others, who) if what == COMES else others
    loop.run(days * DAY_S)


def start_of(pattern: Pattern) -> datetime:
    """UTC at plant time 0."""
    return EPOCH + timedelta(hours=pattern.start_hour)
