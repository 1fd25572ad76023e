"""Load that is not ours: what the meters show beyond our EVSEs, and its peaks of the last two minutes.

Feed-forward, never an integrator: other load = meter - our EVSEs as measured at the meter's own time. It counts at
once when it rises and lets headroom rise only after it stayed low for longer than the slowest report beneath.

A meter shows an EV's rise before the EV's own report does. While a raise is in flight, a rise of the meter up to what
was granted is therefore not held to be other load (nobody is cut for it), but nothing more is raised on it either.
Other load is never taken to be lower for it than it was known to be before.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cem.core.meter_health import MeterMemory
from cem.core.observe import Seen
from cem.core.timings import Timings
from cem.core.topology import SUM, Bools, Floats
from cem.core.units import HIGHEST_V, LOWEST_V
from cem.core.zone_plan import ZonePlan

BUCKET_S = 2.5
BUCKETS = 56
_EACH = np.arange(BUCKETS)
"""The peak memory: the highest other load of each 2.5 s, 140 s back (two reports of the slowest station, 60 s)."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """The recent peaks of each scope's other load.

    Attributes:
        highest: ``(s, BUCKETS, 4)`` A on L1, L2, L3 and W in total; -inf where nothing was seen.
        bucket: Number of the 2.5 s bucket written last.
    """

    highest: Floats
    bucket: int

    @classmethod
    def none(cls, scopes: int) -> Self:
        """Before the first measurement."""
        return cls(np.full((scopes, BUCKETS, 4), -np.inf), -1)

    def at(self, now_s: float) -> Self:
        """With the buckets since the last cycle emptied; its array is its own."""
        bucket = int(now_s // BUCKET_S)
        highest = self.highest.copy()
        for empty in range(max(self.bucket + 1, bucket - BUCKETS + 1), bucket + 1):
            highest[:, empty % BUCKETS] = -np.inf
        return type(self)(highest, bucket)

    def take(self, other: Floats) -> None:
        """Notes this cycle's other load, in place."""
        now = self.highest[:, self.bucket % BUCKETS]
        np.fmax(now, other, out=now)

    def within(self, window_s: Floats) -> Floats:
        """``(s, 4)`` the highest of each scope's window; NaN where nothing is known."""
        within = (self.bucket - _EACH) % BUCKETS * BUCKET_S <= window_s[:, None]
        peak = np.where(within[:, :, None], self.highest, -np.inf).max(axis=1)
        return np.where(np.isfinite(peak), peak, np.nan)


@dataclass(frozen=True, slots=True)
class Voltages:
    """Voltage at each zone, ``(z,)``: lowest and highest phase, at the edge of what is plausible where unmeasured."""

    lowest: Floats
    highest: Floats

    @classmethod
    def of(cls, meters: tuple[MeterMemory, ...], phases: int) -> Self:
        """As last measured."""
        seen = [None if m.voltage_v is None else m.voltage_v[:phases] for m in meters]
        return cls(
            np.array([LOWEST_V if volts is None else min(volts) for volts in seen]),
            np.array([HIGHEST_V if volts is None else max(volts) for volts in seen]),
        )


def read_at(plan: ZonePlan, meters: tuple[MeterMemory, ...], blind: Bools) -> Floats:
    """``(n,)`` the oldest reading that an EVSE's report is subtracted from, inf where there is none."""
    read_s = np.full(len(plan.meters), np.inf)
    for z, parent in enumerate(plan.parent.tolist()):
        above_s = read_s[parent] if parent >= 0 else np.inf
        own_s = None if blind[z] else meters[z].taken_s
        read_s[z] = above_s if own_s is None else min(above_s, own_s)
    at_s: Floats = read_s[plan.zone_of]
    return at_s


def shown_by_meters(
    plan: ZonePlan, meters: tuple[MeterMemory, ...], blind: Bools, ours_a: Floats, lowest_v: Floats
) -> tuple[Floats, Floats]:
    """What the meters show, and what of it is not ours.

    Args:
        plan: The site, flattened.
        meters: What is remembered of each zone's meter.
        blind: ``(z,)`` nobody measures there now.
        ours_a: ``(n, 3)`` what may be subtracted for each EVSE, on grid phases.
        lowest_v: ``(z,)`` to turn our currents into W.

    Returns:
        ``(z, 3)`` A and ``(z, 4)`` A on each phase and W in total; NaN where nobody measures.
    """
    beneath_a = plan.in_zones(ours_a)
    measured = np.full((len(meters), 3), np.nan)
    other = np.full((len(meters), 4), np.nan)
    for z, meter in enumerate(meters):
        if not blind[z] and meter.current_a is not None:
            measured[z] = meter.current_a
            other[z, SUM] = meter.current_a.total * HIGHEST_V if meter.power_w is None else meter.power_w
    other[:, :SUM] = measured - beneath_a
    other[:, SUM] -= beneath_a.sum(axis=1) * lowest_v
    return measured, other


def windows(plan: ZonePlan, seen: Seen, timings: Timings) -> Floats:
    """``(s,)`` seconds for which a peak holds: longer than the slowest report and meter beneath; of groups the site's."""
    slowest = np.zeros(len(plan.meters))
    np.maximum.at(slowest, plan.zone_of, np.where(seen.fresh, seen.reports.interval_s, 0.0))
    slowest = (plan.beneath * slowest).max(axis=1, initial=0.0)
    window = np.maximum(timings.peak_hold_s, slowest + 2 * plan.poll_s + BUCKET_S)
    return np.concatenate((window, np.repeat(window[:1], len(plan.groups)))) if plan.groups else window
