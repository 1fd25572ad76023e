"""The EVSEs' states as arrays, read once a cycle: what ``EvseState`` holds for one, a column holds for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Self

import numpy as np

from cem.core.site import Evse, Mode
from cem.core.state import EvseState
from cem.core.topology import Bools, Floats, Ints
from cem.core.units import HIGHEST_V, LOWEST_V

MODES = tuple(Mode)
_NUMBER = {mode: number for number, mode in enumerate(MODES)}
_MISSING = (np.nan, np.nan, np.nan)
_NAMES = (
    "online",
    "connected",
    "charging",
    "fault",
    "shared",
    "in_force_a",
    "measured_s",
    "report_interval_s",
    "cloud_limit_a",
    "wished_a",
    "car_a",
    "since_s",
    "mode",
    "needed_wh",
    "departure_s",
    "phases_in_force",
    "by_power",
)
_READ = attrgetter(*_NAMES)
BY_POWER_GIVES = LOWEST_V / HIGHEST_V


@dataclass(frozen=True, slots=True)
class Columns:
    """One entry per EVSE, in the order of the site; the words are those of ``EvseState``.

    Attributes:
        states: As told.
        online: Its station is there.
        connected: A vehicle is known to be plugged in.
        charging: A transaction that may draw power is under way.
        holdable: Its station can be held by limits.
        shared: Many cars draw through it.
        in_force_a: The most that may be in force at its station.
        measured_s: When its values were taken; -inf with no value.
        interval_s: How often its station reports.
        cloud_limit_a: inf where the cloud set no limit.
        wished_a: inf where nobody at the site wants less than there is.
        car_a: inf where its car did not say how much it takes.
        since_s: When its transaction began; NaN outside one.
        mode: Number of the wished mode in ``MODES``; -1 where nobody wished any.
        needed_wh: NaN where no target is known.
        departure_s: NaN where unknown.
        phases_in_force: Phases it was confirmed to be switched to; 0 where nobody knows.
        by_power: Its station takes limits in W.
        gives: The part of a limit that its station gives at any voltage: 1, or less where it takes limits in W.
    """

    states: tuple[EvseState, ...]
    online: Bools
    connected: Bools
    charging: Bools
    holdable: Bools
    shared: Bools
    in_force_a: Floats
    measured_s: Floats
    interval_s: Floats
    cloud_limit_a: Floats
    wished_a: Floats
    car_a: Floats
    since_s: Floats
    mode: Ints
    needed_wh: Floats
    departure_s: Floats
    phases_in_force: Ints
    by_power: Bools
    gives: Floats

    @classmethod
    def of(cls, states: tuple[EvseState, ...]) -> Self:
        """From this cycle's states."""
        rows = [_READ(state) for state in states]
        told = dict(zip(_NAMES, zip(*rows, strict=True) if rows else ((),) * len(_NAMES), strict=True))
        at_work, in_watts = np.array(told["charging"], dtype=np.bool_), np.array(told["by_power"], dtype=np.bool_)
        return cls(
            states=states,
            online=np.array(told["online"], dtype=np.bool_),
            connected=np.array(told["connected"], dtype=np.bool_),
            charging=at_work,
            holdable=np.array([word is None for word in told["fault"]], dtype=np.bool_),
            shared=np.array(told["shared"], dtype=np.bool_),
            in_force_a=np.array(told["in_force_a"], dtype=np.float64),
            measured_s=_or(told["measured_s"], -np.inf),
            interval_s=np.array(told["report_interval_s"], dtype=np.float64),
            cloud_limit_a=_or(told["cloud_limit_a"], np.inf),
            wished_a=_or(told["wished_a"], np.inf),
            car_a=_or(told["car_a"], np.inf),
            since_s=np.where(at_work, _or(told["since_s"], np.nan), np.nan),
            mode=np.array([_NUMBER.get(one, -1) for one in told["mode"]], dtype=np.int64),
            needed_wh=_or(told["needed_wh"], np.nan),
            departure_s=_or(told["departure_s"], np.nan),
            phases_in_force=np.array([count or 0 for count in told["phases_in_force"]], dtype=np.int64),
            by_power=in_watts,
            gives=np.where(in_watts, BY_POWER_GIVES, 1.0),
        )

    def takes_a(self, min_a: Floats) -> Floats:
        """``(n,)`` the most worth offering by the cars' own word; one that says less than can be offered gets the least."""
        return np.maximum(self.car_a, min_a)

    def measured_a(self, some: Bools) -> Floats:
        """``(k, 3)`` the values of some, on the EVSEs' own phases; NaN where missing."""
        values = [self.states[i].measured_a or _MISSING for i in some.nonzero()[0].tolist()]
        return np.array(values, dtype=np.float64).reshape(-1, 3)


def built_modes(evses: Sequence[Evse]) -> Ints:
    """``(n,)`` number in ``MODES`` of each EVSE's mode as the site has it."""
    return np.array([_NUMBER[evse.mode] for evse in evses], dtype=np.int64)


def _or(values: Sequence[float | None], missing: float) -> Floats:
    """An array, with what is missing filled in."""
    found = np.array(values, dtype=np.float64)  # None becomes NaN
    return found if np.isnan(missing) else np.where(np.isnan(found), missing, found)
