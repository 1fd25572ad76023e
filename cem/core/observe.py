"""What the EVSEs are seen to draw: their reports as arrays on grid phases, with the report before the last kept."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cem.core.columns import Columns
from cem.core.site import Evse, Site
from cem.core.topology import Bools, Floats, Ints, grid_phases


@dataclass(frozen=True, slots=True)
class Wiring:
    """How EVSEs hang on the grid phases, flattened once.

    Attributes:
        own_of_grid: ``(n, 3)`` the EVSE's own phase on each grid phase, -1 where none or unknown.
        placed: ``(n, 3)`` it has one there.
        place: ``(n, 3)`` where that phase is in a flattened ``(n, 3)`` array of own phases.
        counts_on: ``(n, 3)`` grid phases it may draw on; all three where the rotation is unknown.
        alike: ``(n, 3)`` 1.0 where a current that is the same on all its phases surely falls, else 0.
        known: ``(n,)`` the rotation is known.
        all_known: Of every EVSE.
        phases: ``(n,)`` wired phases.
        discharge_a: ``(n,)`` most that an EV may feed back, a magnitude.
    """

    own_of_grid: Ints
    placed: Bools
    place: Ints
    counts_on: Bools
    alike: Floats
    known: Bools
    all_known: bool
    phases: Ints
    discharge_a: Floats

    @classmethod
    def of(cls, site: Site) -> Self:
        """From the site as built."""
        own = np.array([_wire(evse) for evse in site.evses], dtype=np.int64).reshape(-1, 3)
        known = np.array([evse.rotation is not None for evse in site.evses], dtype=np.bool_)
        phases = np.array([evse.phases for evse in site.evses], dtype=np.int64)
        counts_on = np.array([grid_phases(evse) for evse in site.evses], dtype=np.bool_).reshape(-1, 3)
        placed = own >= 0
        return cls(
            own_of_grid=own,
            placed=placed,
            place=3 * np.arange(len(own))[:, None] + np.maximum(own, 0),
            counts_on=counts_on,
            alike=(placed | (~known & (phases == 3))[:, None]).astype(np.float64),
            known=known,
            all_known=bool(known.all()),
            phases=phases,
            discharge_a=np.array([evse.discharge_a for evse in site.evses], dtype=np.float64),
        )

    def on_grid(self, own_a: Floats) -> Floats:
        """Currents of the EVSEs' own phases as they fall on grid phases: ``(n, 3)``; what cannot be placed is 0.

        With an unknown rotation only the part that all three phases share can be placed.
        """
        placed = np.where(self.placed, own_a.ravel()[self.place], 0.0)
        if self.all_known:
            return placed
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

    def heard(self, evses: Columns) -> Self:
        """With this cycle's reports taken in."""
        newer = evses.measured_s > self.last_s
        last_a, last_s, before_a = self.last_a, self.last_s, self.before_a
        if np.count_nonzero(newer):
            last_a, before_a = self.last_a.copy(), self.before_a.copy()
            before_a[newer] = self.last_a[newer]
            last_a[newer] = evses.measured_a(newer)
            last_s = np.where(newer, evses.measured_s, self.last_s)
        in_session = evses.charging | ~evses.online
        return type(self)(last_a, last_s, before_a, interval_s=evses.interval_s, in_session=in_session)

    def at(self, now_s: float) -> "Seen":
        """What they say now."""
        return Seen.of(self, now_s)


@dataclass(frozen=True, slots=True)
class Seen:
    """The reports as they count at one moment. Missing is 0 here, beside what says that it is missing.

    Attributes:
        reports: As heard.
        fresh: ``(n,)`` not older than two of its own intervals, and a number.
        last_a: ``(n, 3)`` own phases, of whatever age.
        drawn_a: ``(n,)`` the highest phase where it is fresh.
    """

    reports: Reports
    fresh: Bools
    last_a: Floats
    drawn_a: Floats

    @classmethod
    def of(cls, reports: Reports, now_s: float) -> Self:
        """Reports at a monotonic time."""
        fresh = (now_s - reports.last_s <= 2.0 * reports.interval_s) & ~np.isnan(reports.last_a[:, 0])
        last_a = or_zero(reports.last_a)
        return cls(reports, fresh, last_a, np.where(fresh, highest_phase(last_a), 0.0))

    def subtractable(self, wiring: Wiring, at_s: Floats) -> Floats:
        """What may be subtracted from a meter read at ``at_s`` ``(n,)``: ``(n, 3)`` A on grid phases.

        A report newer than the meter's sample may show a rise that the meter has not seen: then the lower of the
        last two counts. What is old or missing subtracts 0 (it is reserved, not subtracted), or what an EV may be
        feeding back: that is credit which may end at any moment, and nobody measured it.
        """
        seen, newer = self.last_a, self.reports.last_s > at_s
        if np.count_nonzero(newer):
            seen = np.where(newer[:, None], np.minimum(seen, or_zero(self.reports.before_a)), seen)
        known = wiring.on_grid(np.where(self.fresh[:, None], seen, 0.0))
        may_give_a = np.where(self.fresh | ~self.reports.in_session, 0.0, wiring.discharge_a)
        return known - wiring.counts_on * may_give_a[:, None] if np.count_nonzero(may_give_a) else known


def or_zero(values: Floats) -> Floats:
    """The values, 0 where they are missing."""
    return np.where(np.isnan(values), 0.0, values)


def highest_phase(values: Floats) -> Floats:
    """``(n,)`` the highest of each row of ``(n, 3)``; NaN where one is."""
    return np.maximum(np.maximum(values[:, 0], values[:, 1]), values[:, 2])
