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
_READ = attrgetter(
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
    "since_s",
    "mode",
    "needed_wh",
    "departure_s",
    "phases_in_force",
    "by_power",
)
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
        columns = zip(*rows, strict=True) if rows else ((),) * 16
        online, connected, charging, fault, shared, in_force, taken, interval, cloud, wished, since, mode, *rest = (
            columns
        )
        needed, departure, phases, by_power = rest
        at_work, in_watts = np.array(charging, dtype=np.bool_), np.array(by_power, dtype=np.bool_)
        return cls(
            states=states,
            online=np.array(online, dtype=np.bool_),
            connected=np.array(connected, dtype=np.bool_),
            charging=at_work,
            holdable=np.array([word is None for word in fault], dtype=np.bool_),
            shared=np.array(shared, dtype=np.bool_),
            in_force_a=np.array(in_force, dtype=np.float64),
            measured_s=_or(taken, -np.inf),
            interval_s=np.array(interval, dtype=np.float64),
            cloud_limit_a=_or(cloud, np.inf),
            wished_a=_or(wished, np.inf),
            since_s=np.where(at_work, _or(since, np.nan), np.nan),
            mode=np.array([_NUMBER.get(one, -1) for one in mode], dtype=np.int64),
            needed_wh=_or(needed, np.nan),
            departure_s=_or(departure, np.nan),
            phases_in_force=np.array([count or 0 for count in phases], dtype=np.int64),
            by_power=in_watts,
            gives=np.where(in_watts, BY_POWER_GIVES, 1.0),
        )

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
