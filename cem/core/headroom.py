"""The CEM's half: the envelope of each charging zone, from its limits and from what is measured but not ours."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cem.core import budget, schedules, step_check
from cem.core.budget import BudgetMemory
from cem.core.ceilings import InForce, ceilings, in_force
from cem.core.generation import generation
from cem.core.limits import Limit, LimitKind, Source
from cem.core.meter_health import MeterHealth, MeterMemory, judge
from cem.core.observe import Seen, or_zero
from cem.core.other_load import Peaks, Voltages, read_at, shown_by_meters, windows
from cem.core.paragraph14a import too_low
from cem.core.state import SiteState
from cem.core.step_check import StepMemory
from cem.core.timings import Timings
from cem.core.topology import SUM, Bools, Floats, Ints
from cem.core.unbalance import Balance, uneven_now
from cem.core.units import HIGHEST_V
from cem.core.zone_plan import BY_FALLBACK, BY_IMPLAUSIBLE, CONTRACT, FALLBACK, FUSE, UNBALANCE, ZonePlan

__all__ = ["CONTRACT", "FALLBACK", "FUSE", "UNBALANCE", "Draws", "Envelopes", "ZoneMemory", "ZonePlan", "zone_limits"]


EXCESS_A = 0.25
"""Above its limit by more than meters and cars are off: a real excess."""


@dataclass(frozen=True, slots=True)
class ZoneMemory:
    """What headroom remembers.

    Attributes:
        meters: One a zone.
        peaks: Of the load that is not ours.
        budgets: Energy of the running quarter.
        steps: Whether meters agree with what our stations do.
    """

    meters: tuple[MeterMemory, ...]
    peaks: Peaks
    budgets: BudgetMemory
    steps: StepMemory

    @classmethod
    def none(cls, plan: ZonePlan) -> Self:
        """Before the first measurement."""
        zones = len(plan.meters)
        return cls(
            (MeterMemory(),) * zones,
            Peaks.none(plan.scopes),
            BudgetMemory.none(plan.budgets.zone.size),
            StepMemory.none(zones, len(plan.site.evses)),
        )


@dataclass(frozen=True, slots=True)
class Draws:
    """What headroom asks of the EVSEs, arrays ``(n,)``.

    Attributes:
        seen: What they are seen to draw, this cycle's reports included.
        in_flight_a: How much more than reported each may be drawing because it was just raised.
        followed_a: The most each still draws of what it last reported, because it was cut since; inf where it was not.
        idle: ``(n, 3)`` own phases learned to be idle.
        setpoint_a: What each was last handed.
    """

    seen: Seen
    in_flight_a: Floats
    followed_a: Floats
    idle: Bools
    setpoint_a: Floats


@dataclass(frozen=True, slots=True)
class Envelopes:
    """The envelope of every charging zone: what our EVSEs together may draw there.

    Attributes:
        room_a: ``(s, 4)`` most current of our EVSEs together on L1, L2, L3 and their sum over the phases, zones first,
            then groups; inf where nothing limits it; never negative means nothing is promised: 0 is no room.
        sources: Everything that may limit in this cycle.
        room_by: ``(s, 4)`` index in ``sources`` of the limit that set ``room_a``.
        rise_room_a: ``(s, 4)`` the same with every rise of the meter held to be other load: what raises must fit in.
        limit_a: ``(z, 3)`` the zone's tightest limit per phase in force.
        limit_source: What set the tightest of them.
        limit_w: ``(z,)`` the tightest W limit, inf where none.
        measured_a: ``(z, 3)`` the meter's current, NaN where unknown or lost.
        health: For each zone its meter's health; GOOD where it has none.
        implausible: ``(z,)`` its meter contradicts what our stations do (fault M6), and is lost for that.
        no_raise: ``(z,)`` nothing beneath may be raised now.
        uneven: ``(n,)`` EVSEs that count in the unbalance's rows.
        balance: What the unbalance rests on; ``None`` where none is stated or nobody measures.
        limits: Every limit in force, those by the clock and of budgets included.
        notices: What somebody should know of them.
    """

    room_a: Floats
    sources: tuple[Source, ...]
    room_by: Ints
    rise_room_a: Floats
    limit_a: Floats
    limit_source: tuple[str, ...]
    limit_w: Floats
    measured_a: Floats
    health: tuple[MeterHealth, ...]
    implausible: Bools
    no_raise: Bools
    uneven: Bools
    balance: Balance | None
    limits: tuple[Limit, ...]
    notices: tuple[str, ...]

    def source(self, scope: int, family: int) -> Source:
        """The limit that set the room of one scope in one family."""
        return self.sources[int(self.room_by[scope, family])]


def zone_limits(
    plan: ZonePlan, state: SiteState, draws: Draws, memory: ZoneMemory, timings: Timings
) -> tuple[Envelopes, ZoneMemory]:
    """The envelope of every zone for this cycle.

    Args:
        plan: The site flattened.
        state: The site as measured.
        draws: What its EVSEs draw and may draw.
        memory: From the last cycle.
        timings: Hold-off and peak hold.
    """
    now_s, seen = state.now_s, draws.seen
    # a report that grows old is no movement of ours, by which a meter could be found frozen or turned
    ours_a = plan.in_zones(plan.wiring.on_grid(seen.last_a))
    meters, health = _judge_meters(plan, state, ours_a.sum(axis=1), memory.meters, timings)
    window = windows(plan, seen, timings)
    steps = _watch_steps(plan, draws, memory, meters, ours_a, window, timings, now_s)
    implausible = steps.implausible
    health = tuple(MeterHealth.LOST if odd else h for h, odd in zip(health, implausible.tolist(), strict=True))
    lost = np.array([h is MeterHealth.LOST for h in health])
    unseen = np.array([m is None for m in plan.meters]) | lost

    volts = Voltages.of(meters, plan.site.phases)
    surely_a = np.minimum(seen.subtractable(plan.wiring, read_at(plan, meters, unseen)), draws.followed_a[:, None])
    measured, zones_now = shown_by_meters(plan, meters, unseen, surely_a, volts.lowest)
    uneven = uneven_now(plan.wiring, seen, draws.idle)
    unmeasured = plan.site.unbalance_a is None or np.isnan(measured[0]).any()
    balance = None if unmeasured else Balance.of(measured[0], uneven, surely_a)
    strict = np.full((plan.scopes, 4), np.nan)
    strict[: len(meters)] = zones_now
    if balance is not None:
        strict[-1, :SUM] = balance.above_a

    budgeted: tuple[Limit, ...] = ()
    budgets = memory.budgets
    if plan.budgets.zone.size:
        budgeted, budgets = budget.spend(plan, budgets, _power_w(meters, unseen), state.utc, now_s)
    limits = (*state.limits, *budgeted)
    if plan.site.schedules:
        by_clock = schedules.in_force(plan.site.schedules, plan.site.time_zone, state.utc, now_s)
        limits = (*state.limits, *by_clock, *budgeted)
    held = in_force(plan, limits)

    peaks = memory.peaks.at(now_s)
    known = peaks.within(window)
    likely = strict
    fallen_a = np.maximum(seen.drawn_a - draws.followed_a, 0.0)
    if np.count_nonzero(draws.in_flight_a) or np.count_nonzero(fallen_a):
        flight = _in_flight(plan, draws.in_flight_a, volts.lowest)
        falls = _in_flight(plan, fallen_a, volts.lowest)
        # where more flows than may, nothing is excused as ours: a load that stepped behind a raise or a cut is cut for
        flight[: len(meters), :SUM][measured > plan.fuse_a[:, None] + EXCESS_A] = 0.0
        falls[: len(meters), :SUM][measured > held.amps + EXCESS_A] = 0.0
        flight += falls
        # after a start nothing is known yet, and what stations still hold from before it is in flight
        likely = np.maximum(strict - flight, np.minimum(strict, or_zero(known)))
    peaks.take(likely)
    other = np.fmax(known, likely)
    given = generation(plan, state)

    def rooms(load: Floats) -> tuple[Floats, Ints]:
        blind = unseen | np.isnan(load[: len(meters)]).any(axis=1)
        return ceilings(
            plan, held, load, given, blind=blind, implausible=implausible, lost=lost, highest_v=volts.highest
        )

    room_a, room_by = rooms(other)
    rise_room_a = rooms(np.fmax(other, strict))[0] if np.count_nonzero(strict > other) else room_a
    limit_a, limit_source = _tightest(plan, held, lost, implausible)
    envelopes = Envelopes(
        room_a=room_a,
        sources=held.sources,
        room_by=room_by,
        rise_room_a=rise_room_a,
        limit_a=limit_a,
        limit_source=limit_source,
        limit_w=np.minimum(held.watts, held.load),
        measured_a=measured,
        health=health,
        implausible=implausible,
        no_raise=np.array([h is MeterHealth.HOLD for h in health], dtype=np.bool_),
        uneven=uneven,
        balance=balance,
        limits=limits,
        notices=_notices(plan, limits),
    )
    return envelopes, ZoneMemory(meters, peaks, budgets, steps)


def _judge_meters(
    plan: ZonePlan, state: SiteState, ours_a: Floats, memory: tuple[MeterMemory, ...], timings: Timings
) -> tuple[tuple[MeterMemory, ...], tuple[MeterHealth, ...]]:
    meters, health = [], []
    for z, (meter, zone) in enumerate(zip(plan.meters, plan.site.zones, strict=True)):
        if meter is None:
            meters.append(memory[z])
            health.append(MeterHealth.GOOD)
            continue
        kept, found = judge(
            meter,
            memory[z],
            state.measurements.get(meter.meter_id),
            ours_a=float(ours_a[z]),
            physical_max_a=max(zone.protection.rating_a, zone.busbar_a or 0.0),
            now_s=state.now_s,
            hold_off_s=timings.hold_off_s,
        )
        meters.append(kept)
        health.append(found)
    return tuple(meters), tuple(health)


def _watch_steps(
    plan: ZonePlan,
    draws: Draws,
    memory: ZoneMemory,
    meters: tuple[MeterMemory, ...],
    ours_a: Floats,
    window: Floats,
    timings: Timings,
    now_s: float,
) -> StepMemory:
    """Whether what each meter shows moves with what our stations do; a silent meter says nothing."""
    shown = np.full((len(meters), 3), np.nan)
    for z, (meter, kept) in enumerate(zip(plan.meters, meters, strict=True)):
        if meter is not None and kept.current_a is not None and kept.taken_s is not None:
            shown[z] = kept.current_a if now_s - kept.taken_s <= meter.stale_after_s else np.nan
    return step_check.watch(
        memory.steps,
        setpoint_a=draws.setpoint_a,
        raised=plan.any_beneath(draws.setpoint_a > memory.steps.setpoint_a),
        meter_a=shown,
        ours_a=ours_a,
        settles_s=window[: len(meters)] + timings.reaction_s,
        feeds=plan.feeds,
        now_s=now_s,
    )


def _in_flight(plan: ZonePlan, in_flight_a: Floats, lowest_v: Floats) -> Floats:
    """``(s, 4)`` how much of a rise of each scope's meter may be a raise that nobody has reported yet."""
    zones = plan.in_zones(plan.wiring.alike * in_flight_a[:, None])
    flight = np.zeros((plan.scopes, 4))
    flight[: len(zones), :SUM] = zones
    flight[: len(zones), SUM] = zones.sum(axis=1) * lowest_v
    if plan.site.unbalance_a is not None:  # of a car that has not reported yet nobody knows whether it is even
        flight[-1, :SUM] = zones[0]
    return flight


def _power_w(meters: tuple[MeterMemory, ...], unseen: Bools) -> Floats:
    """``(z,)`` power into each zone, NaN where nobody measures."""
    return np.array(
        [
            np.nan
            if dark or m.current_a is None
            else (m.current_a.total * HIGHEST_V if m.power_w is None else m.power_w)
            for m, dark in zip(meters, unseen.tolist(), strict=True)
        ]
    )


def _tightest(plan: ZonePlan, held: InForce, lost: Bools, implausible: Bools) -> tuple[Floats, tuple[str, ...]]:
    """``(z, 3)`` each zone's tightest limit in A, and who set the tightest of the three."""
    limit_a, by = np.minimum(held.amps, held.ours), np.where(held.ours < held.amps, held.ours_by, held.amps_by)
    if np.count_nonzero(lost):
        fallback = np.where(lost, plan.fallback_a, np.inf)[:, None]
        blind_by: Ints = np.where(implausible, BY_IMPLAUSIBLE, BY_FALLBACK)[:, None]
        by = np.where(fallback <= limit_a, blind_by, by)
        limit_a = np.minimum(limit_a, fallback)
    lowest = by[np.arange(len(by)), limit_a.argmin(axis=1)]
    return limit_a, tuple(held.sources[k].name for k in lowest.tolist())


def _notices(plan: ZonePlan, limits: tuple[Limit, ...]) -> tuple[str, ...]:
    """Limits on controllable load below what must be left to it."""
    told = [
        too_low(limit.source, limit.value_w, plan.site.least_load_w)
        for limit in limits
        if limit.kind is LimitKind.LOAD and limit.value_w is not None and limit.zone_id == plan.site.root.zone_id
    ]
    return tuple(text for text in told if text is not None)
