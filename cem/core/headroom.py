"""The CEM's half: the envelope of each charging zone, from its limits and from what is measured but not ours.

Feed-forward, never an integrator: other load = meter - our EVSEs as measured at the meter's own time. It counts at
once when it rises and lets headroom rise only after it stayed low for longer than the slowest report beneath.

A meter shows an EV's rise before the EV's own report does. While a raise is in flight, a rise of the meter up to what
was granted is therefore not held to be other load (nobody is cut for it), but nothing more is raised on it either.
Other load is never taken to be lower for it than it was known to be before.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cem.core.limits import Limit, LimitKind
from cem.core.meter_health import MeterHealth, MeterMemory, judge
from cem.core.observe import Reports, Wiring
from cem.core.site import Meter, Site
from cem.core.state import SiteState
from cem.core.timings import Timings
from cem.core.topology import SUM, Bools, Floats, Ints
from cem.core.units import HIGHEST_V, LOWEST_V

FUSE, CONTRACT, FALLBACK = "fuse", "contract", "fallback"
BUCKET_S = 2.5
BUCKETS = 56
"""The peak memory: the highest other load of each 2.5 s, 140 s back (two reports of the slowest station, 60 s)."""


@dataclass(frozen=True, slots=True)
class ZonePlan:
    """What headroom needs of the site, flattened once.

    Attributes:
        site: As built.
        wiring: EVSEs on grid phases.
        zone_of: ``(n,)`` index of each EVSE's zone.
        parent: ``(z,)`` index of each zone's parent, -1 for the root.
        beneath: ``(z, z)`` 1.0 where the second zone lies in the first or is it.
        meters: For each zone its meter, or ``None``.
    """

    site: Site
    wiring: Wiring
    zone_of: Ints
    parent: Ints
    beneath: Floats
    meters: tuple[Meter | None, ...]

    @classmethod
    def of(cls, site: Site) -> Self:
        """From the site as built."""
        index = {zone.zone_id: i for i, zone in enumerate(site.zones)}
        parent = [-1 if zone.parent_id is None else index[zone.parent_id] for zone in site.zones]
        beneath = np.eye(len(site.zones))
        for child in range(len(site.zones) - 1, 0, -1):
            beneath[parent[child]] += beneath[child]
        meters = {meter.meter_id: meter for meter in site.meters}
        return cls(
            site,
            Wiring.of(site),
            np.array([index[evse.zone_id] for evse in site.evses], dtype=np.int64),
            np.array(parent, dtype=np.int64),
            beneath,
            tuple(None if zone.meter_id is None else meters[zone.meter_id] for zone in site.zones),
        )

    def in_zones(self, per_evse: Floats) -> Floats:
        """Sums of a per-EVSE value ``(n, k)`` over each zone and all beneath it: ``(z, k)``."""
        per_zone = np.stack(
            [
                np.bincount(self.zone_of, weights=column, minlength=len(self.parent))
                for column in np.ascontiguousarray(per_evse.T)
            ],
            axis=1,
        )
        return self.beneath @ per_zone

    def from_above(self, flags: Bools) -> Bools:
        """``(n,)`` whether any zone on an EVSE's way to the root is flagged."""
        spread = flags.copy()
        for child in range(1, len(spread)):
            spread[child] |= spread[self.parent[child]]
        return spread[self.zone_of]


@dataclass(frozen=True, slots=True)
class ZoneMemory:
    """What headroom remembers: meters, and the recent peaks of the load that is not ours.

    Attributes:
        meters: One a zone.
        peaks: ``(z, BUCKETS, 4)`` A on L1, L2, L3 and W in total; -inf where nothing was seen.
        bucket: Number of the 2.5 s bucket written last.
    """

    meters: tuple[MeterMemory, ...]
    peaks: Floats
    bucket: int

    @classmethod
    def none(cls, plan: ZonePlan) -> Self:
        """Before the first measurement."""
        zones = len(plan.meters)
        return cls((MeterMemory(),) * zones, np.full((zones, BUCKETS, 4), -np.inf), -1)


@dataclass(frozen=True, slots=True)
class Envelopes:
    """The envelope of every charging zone: what our EVSEs together may draw there.

    Attributes:
        room_a: ``(z, 4)`` most current of our EVSEs together on L1, L2, L3 and their sum over the phases; inf where
            nothing limits it; never negative means nothing is promised: 0 is no room.
        source: For each zone and column the limit that set ``room_a``.
        rise_room_a: ``(z, 4)`` the same with every rise of the meter held to be other load: what raises must fit in.
        limit_a: ``(z, 3)`` the zone's tightest limit per phase in force.
        limit_source: What set the tightest of them.
        limit_w: ``(z,)`` the tightest W limit, inf where none.
        measured_a: ``(z, 3)`` the meter's current, NaN where unknown or lost.
        health: For each zone its meter's health; GOOD where it has none.
        no_raise: ``(z,)`` nothing beneath may be raised now.
    """

    room_a: Floats
    source: tuple[tuple[str, str, str, str], ...]
    rise_room_a: Floats
    limit_a: Floats
    limit_source: tuple[str, ...]
    limit_w: Floats
    measured_a: Floats
    health: tuple[MeterHealth, ...]
    no_raise: Bools


def zone_limits(
    plan: ZonePlan, state: SiteState, reports: Reports, in_flight_a: Floats, memory: ZoneMemory, timings: Timings
) -> tuple[Envelopes, ZoneMemory]:
    """The envelope of every zone for this cycle.

    Args:
        plan: The site flattened.
        state: The site as measured.
        reports: What the EVSEs are seen to draw, this cycle's reports included.
        in_flight_a: ``(n,)`` how much more than reported each EVSE may be drawing because it was just raised.
        memory: From the last cycle.
        timings: Hold-off and peak hold.
    """
    meters, health = _judge_meters(plan, state, reports, memory, timings)
    memory = replace(memory, meters=meters)
    strict = _other_load_now(plan, state, reports, memory, health)
    flight = plan.in_zones(plan.wiring.on_grid(np.repeat(in_flight_a[:, None], 3, axis=1)))
    bucket = int(state.now_s // BUCKET_S)
    memory = _turn_buckets(memory, bucket)
    window = _windows(plan, reports, timings, state.now_s)
    known = _peaks_within(memory, window)
    watts = np.array([LOWEST_V if m.voltage_v is None else min(m.voltage_v[: plan.site.phases]) for m in meters])
    flight4 = np.column_stack((flight, flight.sum(axis=1) * watts))
    likely = np.where(np.isfinite(known), np.maximum(strict - flight4, np.minimum(strict, known)), strict)
    memory.peaks[:, bucket % BUCKETS] = np.fmax(memory.peaks[:, bucket % BUCKETS], likely)
    other = _peaks_within(memory, window)
    worst = np.fmax(other, strict)
    zones = [_envelope(plan, z, state.limits, other[z], health[z], meters[z]) for z in range(len(plan.meters))]
    rising = [_envelope(plan, z, state.limits, worst[z], health[z], meters[z]) for z in range(len(plan.meters))]
    envelopes = Envelopes(
        room_a=np.array([zone.room_a for zone in zones]),
        source=tuple(zone.source for zone in zones),
        rise_room_a=np.array([zone.room_a for zone in rising]),
        limit_a=np.array([zone.limit_a for zone in zones]),
        limit_source=tuple(zone.limit_source for zone in zones),
        limit_w=np.array([zone.limit_w for zone in zones]),
        measured_a=np.array(
            [
                (np.nan,) * 3 if m.current_a is None or h is MeterHealth.LOST else m.current_a
                for m, h in zip(meters, health, strict=True)
            ]
        ),
        health=health,
        no_raise=np.array([h is MeterHealth.HOLD for h in health], dtype=np.bool_),
    )
    return envelopes, memory


def _judge_meters(
    plan: ZonePlan, state: SiteState, reports: Reports, memory: ZoneMemory, timings: Timings
) -> tuple[tuple[MeterMemory, ...], tuple[MeterHealth, ...]]:
    drawn = np.nan_to_num(plan.wiring.on_grid(np.where(reports.fresh(state.now_s)[:, None], reports.last_a, 0.0)))
    ours_a = plan.in_zones(drawn).sum(axis=1)
    meters, health = [], []
    for z, (meter, zone) in enumerate(zip(plan.meters, plan.site.zones, strict=True)):
        if meter is None:
            meters.append(memory.meters[z])
            health.append(MeterHealth.GOOD)
            continue
        kept, found = judge(
            meter,
            memory.meters[z],
            state.measurements.get(meter.meter_id),
            ours_a=float(ours_a[z]),
            physical_max_a=max(zone.protection.rating_a, zone.busbar_a or 0.0),
            now_s=state.now_s,
            hold_off_s=timings.hold_off_s,
        )
        meters.append(kept)
        health.append(found)
    return tuple(meters), tuple(health)


def _other_load_now(
    plan: ZonePlan, state: SiteState, reports: Reports, memory: ZoneMemory, health: tuple[MeterHealth, ...]
) -> Floats:
    """``(z, 4)`` A on each phase and W in total that the meters show beyond our EVSEs; NaN where nobody measures."""
    read_s = np.full(len(plan.meters), np.inf)
    for z, parent in enumerate(plan.parent.tolist()):
        above_s = read_s[parent] if parent >= 0 else np.inf
        own_s = memory.meters[z].taken_s if health[z] is not MeterHealth.LOST else None
        read_s[z] = above_s if own_s is None else min(above_s, own_s)
    beneath_a = plan.in_zones(reports.subtractable(plan.wiring, read_s[plan.zone_of], state.now_s))
    other = np.full((len(plan.meters), 4), np.nan)
    for z, meter in enumerate(memory.meters):
        if plan.meters[z] is None or health[z] is MeterHealth.LOST or meter.current_a is None:
            continue
        volts = meter.voltage_v
        low_v = LOWEST_V if volts is None else min(volts[: plan.site.phases])
        meter_w = meter.power_w if meter.power_w is not None else meter.current_a.total * HIGHEST_V
        other[z, :SUM] = np.array(meter.current_a) - beneath_a[z]
        other[z, SUM] = meter_w - beneath_a[z].sum() * low_v
    return other


def _turn_buckets(memory: ZoneMemory, bucket: int) -> ZoneMemory:
    """The peak memory with the buckets since the last cycle emptied."""
    peaks = memory.peaks.copy()
    for empty in range(max(memory.bucket + 1, bucket - BUCKETS + 1), bucket + 1):
        peaks[:, empty % BUCKETS] = -np.inf
    return replace(memory, peaks=peaks, bucket=bucket)


def _windows(plan: ZonePlan, reports: Reports, timings: Timings, now_s: float) -> Floats:
    """``(z,)`` seconds for which a peak holds: longer than the slowest report and meter beneath."""
    slowest = np.zeros(len(plan.meters))
    np.maximum.at(slowest, plan.zone_of, np.where(reports.fresh(now_s), reports.interval_s, 0.0))
    slowest = (plan.beneath * slowest).max(axis=1, initial=0.0)
    period = np.array([0.0 if meter is None else meter.poll_s for meter in plan.meters])
    window: Floats = np.maximum(timings.peak_hold_s, slowest + 2 * period + BUCKET_S)
    return window


def _peaks_within(memory: ZoneMemory, window_s: Floats) -> Floats:
    """``(z, 4)`` highest other load within each zone's window; NaN where nothing is known."""
    age = (memory.bucket - np.arange(BUCKETS)) % BUCKETS
    within = age * BUCKET_S <= window_s[:, None]
    peak = np.where(within[:, :, None], memory.peaks, -np.inf).max(axis=1)
    return np.where(np.isfinite(peak), peak, np.nan)


@dataclass(frozen=True, slots=True)
class _Zone:
    room_a: tuple[float, float, float, float]
    source: tuple[str, str, str, str]
    limit_a: tuple[float, float, float]
    limit_source: str
    limit_w: float


def _envelope(
    plan: ZonePlan, z: int, limits: tuple[Limit, ...], other: Floats, health: MeterHealth, meter: MeterMemory
) -> _Zone:
    """One zone: tightest limit per column, minus what is not ours (its worst case where nobody measures it)."""
    zone = plan.site.zones[z]
    here = [limit for limit in limits if limit.zone_id == zone.zone_id]
    fuse_a = zone.protection.rating_a - zone.protection.guard_a
    amps = [(fuse_a, FUSE)] * 3
    for limit in here:
        if limit.value_a is not None and limit.kind in {LimitKind.IMPORT, LimitKind.LOAD}:
            amps = [min(held, (a, limit.source)) for held, a in zip(amps, limit.value_a, strict=True)]
    watts = [(w, CONTRACT, LimitKind.IMPORT) for w in (zone.import_limit_w,) if w is not None]
    watts += [
        (limit.value_w, limit.source, limit.kind)
        for limit in here
        if limit.value_w is not None and limit.kind in {LimitKind.IMPORT, LimitKind.LOAD}
    ]
    blind = plan.meters[z] is None or health is MeterHealth.LOST or bool(np.isnan(other).any())
    worst_a = zone.uncontrolled_max_a
    if blind:
        other_a, other_w = (worst_a,) * 3, worst_a * plan.site.phases * HIGHEST_V
        high_v = HIGHEST_V
    else:
        # generation beneath a zone is not credited to its fuse: an inverter trips in an instant
        other_a = tuple(max(0.0, a) for a in other[:SUM])
        other_w = float(other[SUM])
        high_v = HIGHEST_V if meter.voltage_v is None else max(meter.voltage_v)
    room = [(max(0.0, a - used), source) for (a, source), used in zip(amps, other_a, strict=True)]
    if health is MeterHealth.LOST:
        fallback_a = zone.fallback_limit_a
        room = [min(have, (fallback_a, FALLBACK)) for have in room]
        amps = [min(held, (fallback_a, FALLBACK)) for held in amps]
    total = (np.inf, "")
    for limit_w, source, kind in watts:
        # a LOAD limit binds what we control alone; an IMPORT limit everything, generation credited as measured
        used_w = other_w if kind is LimitKind.IMPORT else 0.0
        total = min(total, (max(0.0, limit_w - used_w) / high_v, source))
    tightest = min(amps)
    return _Zone(
        room_a=(room[0][0], room[1][0], room[2][0], total[0]),
        source=(room[0][1], room[1][1], room[2][1], total[1]),
        limit_a=(amps[0][0], amps[1][0], amps[2][0]),
        limit_source=tightest[1],
        limit_w=min((w for w, _, _ in watts), default=np.inf),
    )
