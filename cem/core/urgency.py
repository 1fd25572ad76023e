"""How urgent each car with a session target is, and who can wait.

A car with a target and a departure needs a certain rate from now on, and could put charging off for a certain time.
Cars in a hurry come first. A car that needs little more than its minimum waits while others fill the limits, and one
with hours to spare makes way for them when its turn is over: it starts by itself in time, and nobody is paused for a
mere gain sooner than that.
"""

from dataclasses import dataclass

import numpy as np

from cem.core.columns import Columns
from cem.core.topology import Bools, Floats, Ints
from cem.core.units import LOWEST_V

LATE_START = 2.25
"""A car starts before others have all they want once it needs this many times its minimum."""

RELAXED_MINIMA, RELAXED_SPARE_H, RELAXED_TAKES_H = 2.0, 4.0, 0.5
"""One that runs makes way after its turn where it needs fewer minima than this and has more hours to spare; but not in
the last half hour of its charging, which is better brought to its end."""

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
        weight: Its share among its equals; 1 where target or departure is unknown.
        worth: What its amperes are worth where energy counts: from 1 with much time to spare to 2 without any.
        late: It needs so much that it starts before others have all they want; also where nobody knows.
        relaxed: It needs little and has hours to spare.
        start_by_s: Monotonic time at which it is late; NaN where nobody knows.
    """

    weight: Floats
    worth: Floats
    late: Bools
    relaxed: Bools
    start_by_s: Floats

    @classmethod
    def of(cls, evses: Columns, min_a: Floats, most_a: Floats, n_phases: Floats, now_s: float) -> "Urgency | None":
        """From the session targets; ``None`` where nobody has one with a departure.

        The weight falls steeply with the time to spare, so that cars in a hurry are in time, and with the time the car still
        takes, so that where not all can have everything those who want little are served whole. A car without target
        or departure weighs 1, as one that takes 45 minutes and has as much to spare.

        Args:
            evses: As measured, with what was wished.
            min_a: Least current of each, per phase.
            most_a: What each could be given at best, per phase.
            n_phases: Phases each charges on.
            now_s: Monotonic.
        """
        known = ~np.isnan(evses.departure_s + evses.needed_wh)
        if not np.count_nonzero(known):
            return None
        wanted_ah = np.maximum(np.where(known, evses.needed_wh, 0.0), 0.0) / (np.maximum(n_phases, 1.0) * LOWEST_V)
        stays_h = np.maximum(np.where(known, evses.departure_s - now_s, np.inf), 1.0) / 3600.0
        needed_a = np.minimum(wanted_ah / stays_h, most_a)
        takes_h = wanted_ah / np.maximum(most_a, 1.0)
        spare_h = np.maximum(stays_h - takes_h, 0.0)
        late_a = np.minimum(LATE_START * min_a, most_a)
        aims = known & (wanted_ah > 0)
        charging_s = 3600.0 * wanted_ah / np.maximum(late_a, 1.0)
        return cls(
            weight=np.where(
                aims, 1.0 / ((SOON_H + spare_h) ** 4 * (SOON_H + takes_h) ** 2), np.where(known, MET_WEIGHT, 1.0)
            ),
            worth=np.where(aims, 1.0 + np.exp(-spare_h / HURRY_H), 1.0),
            late=~known | (needed_a >= late_a),
            relaxed=aims
            & (needed_a < RELAXED_MINIMA * min_a)
            & (spare_h > RELAXED_SPARE_H)
            & (takes_h > RELAXED_TAKES_H),
            start_by_s=np.where(known, evses.departure_s - charging_s, np.nan),
        )

    def can_wait(self, *, wants: Bools, running: Bools, turn_over: Bools, priority: Ints) -> Bools:
        """``(n,)`` who would charge, but is in time all the same when others have all they want first.

        Nobody waits for a lower class, and nobody who runs before its turn is over.

        Args:
            wants: Takes part in the sharing.
            running: Is offered current.
            turn_over: Has been for a whole turn.
            priority: Classes.
        """
        lowest = priority[wants].min(initial=np.iinfo(np.int64).max)
        waits: Bools = wants & np.where(running, turn_over & self.relaxed, ~self.late) & (priority <= lowest)
        return waits
