"""What the EVSEs are seen to draw: their reports as arrays on grid phases, with the report before the last kept."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cem.core.site import Evse, Site
from cem.core.state import EvseState
from cem.core.topology import Bools, Floats, Ints, grid_phases

_MISSING = (np.nan, np.nan, np.nan)


@dataclass(frozen=True, slots=True)
class Wiring:
    """How EVSEs hang on the grid phases, flattened once.

    Attributes:
        own_of_grid: ``(n, 3)`` the EVSE's own phase on each grid phase, -1 where none or unknown.
        counts_on: ``(n, 3)`` grid phases it may draw on; all three where the rotation is unknown.
        known: ``(n,)`` the rotation is known.
        phases: ``(n,)`` wired phases.
        discharge_a: ``(n,)`` most that an EV may feed back, a magnitude.
    """

    own_of_grid: Ints
    counts_on: Bools
    known: Bools
    phases: Ints
    discharge_a: Floats

    @classmethod
    def of(cls, site: Site) -> Self:
        """From the site as built."""
        rows = [_wire(evse) for evse in site.evses]
        own = np.array(rows, dtype=np.int64).reshape(-1, 3)
        known = np.array([evse.rotation is not None for evse in site.evses], dtype=np.bool_)
        phases = np.array([evse.phases for evse in site.evses], dtype=np.int64)
        counts = np.array([grid_phases(evse) for evse in site.evses], dtype=np.bool_).reshape(-1, 3)
        return cls(own, counts, known, phases, np.array([evse.discharge_a for evse in site.evses], dtype=np.float64))

    def on_grid(self, own_a: Floats) -> Floats:
        """Currents of the EVSEs' own phases as they fall on grid phases: ``(n, 3)``; what cannot be placed is 0.

        With an unknown rotation only the part that all three phases share can be placed.
        """
        placed = np.take_along_axis(own_a, np.maximum(self.own_of_grid, 0), axis=1)
        placed = np.where(self.own_of_grid >= 0, placed, 0.0)
        shared = np.where(self.phases == 3, own_a.min(axis=1, initial=np.inf), 0.0)
        return np.where(self.known[:, None], placed, np.where(self.counts_on, shared[:, None], 0.0))


def _wire(evse: Evse) -> tuple[int, int, int]:
    own = [-1, -1, -1]
    for own_phase, grid_phase in enumerate((evse.rotation or ())[: evse.phases]):
        own[grid_phase] = own_phase
    return own[0], own[1], own[2]


@dataclass(frozen=True, slots=True)
class Reports:
    """The last two reports of every EVSE. Missing is NaN.

    Attributes:
        last_a: ``(n, 3)`` own phases.
        last_s: ``(n,)`` when they were taken.
        before_a: ``(n, 3)`` the report before.
        interval_s: ``(n,)`` how often each reports.
        in_session: ``(n,)`` a transaction is under way, or nobody knows.
    """

    last_a: Floats
    last_s: Floats
    before_a: Floats
    interval_s: Floats
    in_session: Bools

    @classmethod
    def none(cls, count: int) -> Self:
        """Before anybody reported."""
        missing = np.full((count, 3), np.nan)
        never = np.full(count, -np.inf)
        return cls(missing, never, missing, np.full(count, 10.0), np.ones(count, dtype=np.bool_))

    def heard(self, evses: tuple[EvseState, ...]) -> Self:
        """With this cycle's reports taken in."""
        values = np.array([e.measured_a or _MISSING for e in evses], dtype=np.float64).reshape(-1, 3)
        taken_s = np.array([-np.inf if e.measured_s is None else e.measured_s for e in evses], dtype=np.float64)
        newer = taken_s > self.last_s
        return replace(
            self,
            last_a=np.where(newer[:, None], values, self.last_a),
            last_s=np.where(newer, taken_s, self.last_s),
            before_a=np.where(newer[:, None], self.last_a, self.before_a),
            interval_s=np.array([e.report_interval_s for e in evses], dtype=np.float64),
            in_session=np.array([e.charging or not e.online for e in evses], dtype=np.bool_),
        )

    def fresh(self, now_s: float) -> Bools:
        """Not older than two of its own intervals, and a number."""
        return (now_s - self.last_s <= 2.0 * self.interval_s) & ~np.isnan(self.last_a[:, 0])

    def subtractable(self, wiring: Wiring, at_s: Floats, now_s: float) -> Floats:
        """What may be subtracted from a meter read at ``at_s`` ``(n,)``: ``(n, 3)`` A on grid phases.

        A report newer than the meter's sample may show a rise that the meter has not seen: then the lower of the
        last two counts. What is old or missing subtracts 0 (it is reserved, not subtracted), or what an EV may be
        feeding back: that is credit which may end at any moment, and nobody measured it.
        """
        last = np.nan_to_num(self.last_a)
        before = np.nan_to_num(self.before_a)
        seen = np.where((self.last_s <= at_s)[:, None], last, np.minimum(last, before))
        fresh = self.fresh(now_s)
        known = wiring.on_grid(np.where(fresh[:, None], seen, 0.0))
        may_give_a = np.where(fresh | ~self.in_session, 0.0, wiring.discharge_a)
        return known - wiring.counts_on * may_give_a[:, None] if may_give_a.any() else known

    def highest(self, now_s: float) -> Floats:
        """``(n,)`` the highest phase of each fresh report, NaN elsewhere."""
        top = np.nan_to_num(self.last_a, nan=-np.inf).max(axis=1, initial=-np.inf)
        return np.where(self.fresh(now_s), top, np.nan)
