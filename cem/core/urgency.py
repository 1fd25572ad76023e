"""How urgent each car with a session target is, and who can wait.

A car with a target and a departure needs a certain rate from now on, and could put charging off for a certain time.
Cars in a hurry weigh more. A car that needs little more than its minimum waits while others fill the limits: once
started it holds its minimum for good, because a running car is never paused for a gain.
"""

from dataclasses import dataclass

import numpy as np

from cem.core.columns import Columns
from cem.core.topology import Bools, Floats, Ints
from cem.core.units import LOWEST_V

LATE_START = 2.25
"""A car starts before others have all they want once it needs this many times its minimum."""

SOON_H = 0.25
"""Times well below this weigh alike."""

HURRY_H = 2.0
"""Each time what is to spare grows by this, two thirds of a car's hurry are gone."""

MET_WEIGHT = 0.001
"""Share of a car that has what it asked for, while others have not."""


@dataclass(frozen=True, slots=True)
class Urgency:
    """How urgent each car is, ``(n,)`` each.

    Attributes:
        needed_a: Current per phase that brings the rest by departure; what it can take where that is too late or
            target or departure is unknown; 0 where the target is met.
        weight: Its share among its equals; 1 where target or departure is unknown.
        worth: What its amperes are worth where energy counts: from 1 with much time to spare to 2 without any.
    """

    needed_a: Floats
    weight: Floats
    worth: Floats

    @classmethod
    def of(cls, evses: Columns, most_a: Floats, n_phases: Floats, now_s: float) -> "Urgency | None":
        """From the session targets; ``None`` where nobody has one with a departure.

        The weight falls with the time to spare, by its square, so that cars in a hurry are in time, and with the time the car still
        takes, so that where not all can have everything those who want little are served whole. A car without target
        or departure weighs 1, as one that takes 45 minutes and has as much to spare.

        Args:
            evses: As measured, with what was wished.
            most_a: What each could be given at best, per phase.
            n_phases: Phases each charges on.
            now_s: Monotonic.
        """
        stays_s, wanted_wh = evses.departure_s - now_s, evses.needed_wh
        known = ~np.isnan(stays_s + wanted_wh)
        if not known.any():
            return None
        wanted_ah = np.where(known, wanted_wh, 0.0) / (np.maximum(n_phases, 1.0) * LOWEST_V)
        stays_h = np.where(known, np.maximum(stays_s, 1.0), np.inf) / 3600.0
        needed_a = np.where(known, np.minimum(np.maximum(wanted_ah, 0.0) / stays_h, most_a), most_a)
        takes_h = wanted_ah / np.maximum(most_a, 1.0)
        spare_h = np.maximum(stays_h - takes_h, 0.0)
        open_ = known & (wanted_ah > 0)
        weight = np.where(open_, 1.0 / ((SOON_H + spare_h) ** 2 * (SOON_H + takes_h)), np.where(known, MET_WEIGHT, 1.0))
        return cls(needed_a, weight, np.where(open_, 1.0 + np.exp(-spare_h / HURRY_H), 1.0))


def can_wait(needed_a: Floats, *, wants: Bools, running: Bools, min_a: Floats, most_a: Floats, priority: Ints) -> Bools:
    """``(n,)`` who would start, but is in time all the same when others have all they want first.

    Nobody waits for a lower class.
    """
    lowest = priority[wants].min(initial=np.iinfo(np.int64).max)
    late: Bools = needed_a >= np.minimum(LATE_START * min_a, most_a)
    waits: Bools = wants & ~running & ~late & (priority <= lowest)
    return waits
