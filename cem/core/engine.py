"""One decision: the zones' envelopes, shared among the EVSEs, and what of it may be sent now.

``decide`` is a pure function of what is built, what is measured and an explicit memory, so any recorded step replays.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cem.core import commitment
from cem.core.allocation import EPS_A, NOT_ADMITTED, Request, Shares, raise_within, room, share
from cem.core.commitment import Commitment
from cem.core.headroom import CONTRACT, FALLBACK, FUSE, Envelopes, ZoneMemory, ZonePlan, zone_limits
from cem.core.observe import Reports
from cem.core.reasons import Binding, Reason
from cem.core.site import Site
from cem.core.state import SiteState
from cem.core.timings import Timings
from cem.core.topology import FAMILIES, SUM, Bools, Floats, Ints, Topology, flatten, uses

NO_ROW = -1


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about the site that does not change, flattened once for ``decide``."""

    site: Site
    zones: ZonePlan
    topology: Topology
    timings: Timings
    min_a: Floats
    max_a: Floats
    weight: Floats
    priority: Ints

    @classmethod
    def of(cls, site: Site, timings: Timings) -> Self:
        """From the site as built and the control timings."""
        evses = site.evses
        return cls(
            site,
            ZonePlan.of(site),
            flatten(site),
            timings,
            np.array([e.min_a for e in evses], dtype=np.float64),
            np.array([e.max_a for e in evses], dtype=np.float64),
            np.array([e.weight for e in evses], dtype=np.float64),
            np.array([e.priority for e in evses], dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """All that one cycle hands to the next. Arrays are ``(n,)``.

    Attributes:
        zones: Meters and peaks.
        reports: What EVSEs draw.
        committed: What they may draw.
        setpoint_a: Last setpoint of each EVSE.
        raised_s: When it was last raised.
        paused_s: When a running transaction was last paused; -inf where it was not.
        began_s: When the present transaction began, NaN outside one.
    """

    zones: ZoneMemory
    reports: Reports
    committed: Commitment
    setpoint_a: Floats
    raised_s: Floats
    paused_s: Floats
    began_s: Floats

    @classmethod
    def none(cls, plan: Plan, resumed_a: Floats | None = None) -> Self:
        """At start-up: everything is possible (invariant I10).

        Args:
            plan: The site, flattened.
            resumed_a: Setpoints that stations may still hold from before a restart, so that a running EV is not
                paused by it; ``None`` for none.
        """
        n = plan.topology.n
        never = np.full(n, -np.inf)
        return cls(
            ZoneMemory.none(plan.zones),
            Reports.none(n),
            Commitment.worst(plan.max_a),
            np.zeros(n) if resumed_a is None else resumed_a,
            never,
            never,
            np.full(n, np.nan),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What one cycle decided. Arrays are ``(n,)`` in the order of the site's EVSEs unless said.

    Attributes:
        now_s: The cycle's monotonic time.
        setpoint_a: What each EVSE may draw per phase from now on.
        before_a: What it had.
        target_a: Its fair share; the setpoint rises to it as the guards allow.
        committed_a: The most it may draw now, the new setpoint included.
        phases: ``(n, 3)`` grid phases it counts on.
        reason: ``Reason`` that bound it.
        row: Row of the limit that did, ``NO_ROW`` where it is its own.
        envelopes: The zones.
    """

    now_s: float
    setpoint_a: Floats
    before_a: Floats
    target_a: Floats
    committed_a: Floats
    phases: Bools
    reason: Ints
    row: Ints
    envelopes: Envelopes

    def sending_order(self) -> Ints:
        """Indices of all EVSEs, cuts before the rest (invariant I3)."""
        return np.argsort(self.setpoint_a >= self.before_a, kind="stable")

    def granted_a(self, plan: Plan) -> Floats:
        """``(z, 3)`` sum of the setpoints in force in each zone, per phase."""
        load = uses(plan.topology, self.phases).load(self.setpoint_a)
        return load.reshape(-1, 4)[: len(plan.site.zones), :SUM]

    def reserved_a(self, plan: Plan) -> Floats:
        """``(z, 3)`` what may be drawn beyond the setpoints, per phase."""
        load = uses(plan.topology, self.phases).load(np.maximum(self.committed_a - self.setpoint_a, 0.0))
        return load.reshape(-1, 4)[: len(plan.site.zones), :SUM]

    def binding(self, plan: Plan, i: int) -> Binding:
        """The limit that bound EVSE ``i``."""
        reason, row = Reason(int(self.reason[i])), int(self.row[i])
        if row == NO_ROW:
            return Binding(reason)
        z, family = divmod(row, 4)
        return Binding(
            reason,
            zone_id=plan.site.zones[z].zone_id,
            family=FAMILIES[family],
            source=self.envelopes.source[z][family],
            room_a=float(self.envelopes.room_a[z, family]),
        )


@dataclass(frozen=True, slots=True)
class _Asks:
    """Who takes part in the sharing, up to where, why no further, and what those draw who do not."""

    wants: Bools
    most_a: Floats
    why: Ints
    fixed_a: Floats


def decide(plan: Plan, state: SiteState, memory: EngineMemory) -> tuple[Decision, EngineMemory]:
    """Decide one cycle.

    Args:
        plan: The site, flattened.
        state: The site as measured, outside limits included.
        memory: From the last cycle.

    Returns:
        The decision and the memory for the next cycle.
    """
    timings, now_s = plan.timings, state.now_s
    reports = memory.reports.heard(state.evses)
    committed = commitment.update(memory.committed, state.evses, reports, memory.setpoint_a, now_s, timings)
    in_flight = commitment.in_flight_a(reports, memory.setpoint_a, memory.raised_s, now_s, timings)
    envelopes, zones = zone_limits(plan.zones, state, reports, in_flight, memory.zones, timings)
    memory = _note_transactions(replace(memory, zones=zones, reports=reports, committed=committed), state)
    phases = commitment.phases_used(committed, plan.zones.wiring)
    asks = _who_asks(plan, state, memory, envelopes)

    room_a = envelopes.room_a.ravel()
    running = memory.setpoint_a > 0
    shares = share(
        plan.topology,
        Request(
            wants=asks.wants,
            min_a=plan.min_a,
            max_a=asks.most_a,
            phases=phases,
            weight=plan.weight,
            priority=plan.priority,
            running=running,
            waiting_s=np.where(running, 0.0, now_s - np.maximum(memory.paused_s, np.nan_to_num(memory.began_s))),
            fixed_a=asks.fixed_a,
        ),
        room_a,
        start_margin_a=timings.start_margin_a,
    )
    setpoint, allowed = _may_send(plan, memory, shares, committed, phases, envelopes, now_s)
    # an offline station goes on with what it has; when it is back it is not paused for a broken line
    online = np.array([e.online for e in state.evses], dtype=np.bool_)
    setpoint = np.where(online, setpoint, np.minimum(memory.setpoint_a, committed.committed_a))
    committed_a = np.where(asks.wants, np.maximum(committed.committed_a, setpoint), committed.committed_a)
    occupied = np.maximum(committed_a, np.where(asks.wants, shares.current_a, 0.0))
    crowded = _crowded_row(plan, phases, room(plan.topology, occupied, phases, room_a))
    reason, row = _reasons(asks, shares, setpoint, allowed, envelopes, crowded)
    decision = Decision(
        now_s, setpoint, memory.setpoint_a, shares.current_a, committed_a, phases, reason, row, envelopes
    )
    return decision, replace(
        memory,
        committed=replace(committed, committed_a=committed_a),
        setpoint_a=setpoint,
        raised_s=np.where(setpoint > memory.setpoint_a, now_s, memory.raised_s),
        paused_s=np.where(running & (setpoint == 0) & ~np.isnan(memory.began_s) & online, now_s, memory.paused_s),
    )


def _note_transactions(memory: EngineMemory, state: SiteState) -> EngineMemory:
    """A new transaction starts without the past of the one before."""
    began = np.array(
        [np.nan if e.since_s is None or not e.charging else e.since_s for e in state.evses], dtype=np.float64
    )
    same = (began == memory.began_s) | (np.isnan(began) & np.isnan(memory.began_s))
    return replace(memory, began_s=began, paused_s=np.where(same, memory.paused_s, -np.inf))


def _who_asks(plan: Plan, state: SiteState, memory: EngineMemory, envelopes: Envelopes) -> _Asks:
    now_s = state.now_s
    n = plan.topology.n
    most = plan.max_a.copy()
    why = np.full(n, Reason.EVSE_MAXIMUM, dtype=np.int64)

    def bound(by: Floats, reason: Reason) -> None:
        nonlocal most
        tighter = by < most
        why[tighter] = reason
        most = np.where(tighter, by, most)

    cloud = np.array([np.inf if e.cloud_limit_a is None else e.cloud_limit_a for e in state.evses], dtype=np.float64)
    bound(cloud, Reason.CSMS_PROFILE)
    appetite = commitment.appetite_a(memory.committed, memory.reports, plan.min_a, plan.max_a, now_s)
    bound(appetite, Reason.VEHICLE_USE)
    frozen = plan.zones.from_above(envelopes.no_raise)
    bound(np.where(frozen, memory.setpoint_a, np.inf), Reason.METER_STALE)
    resting = (memory.setpoint_a == 0) & (now_s - memory.paused_s < plan.timings.min_off_s)
    bound(np.where(resting, 0.0, np.inf), Reason.MINIMUM_OFF_TIME)

    deaf = memory.committed.deaf
    for i, evse in enumerate(state.evses):
        if not evse.online:
            why[i] = Reason.OFFLINE
        elif evse.fault is not None or deaf[i]:
            why[i] = Reason.UNCONTROLLED
        elif not evse.charging:
            why[i] = Reason.AWAITING_TRANSACTION if evse.connected else Reason.NO_VEHICLE
    beyond = np.isin(why, (Reason.OFFLINE, Reason.UNCONTROLLED))
    idle = np.isin(why, (Reason.AWAITING_TRANSACTION, Reason.NO_VEHICLE))
    # a share is where things will settle: a cut under way is the transition's concern, and nobody else is cut for it
    fixed = np.where(beyond, memory.committed.committed_a, np.where(idle, memory.committed.in_force_a, 0.0))
    return _Asks(~beyond & ~idle & (most >= plan.min_a), most, why, fixed)


def _may_send(
    plan: Plan,
    memory: EngineMemory,
    shares: Shares,
    committed: Commitment,
    phases: Bools,
    envelopes: Envelopes,
    now_s: float,
) -> tuple[Floats, Floats]:
    """Cuts at once; rises no faster than allowed, and only into what nobody may draw any more.

    Returns:
        The setpoints, and how far pace alone would have allowed.
    """
    timings = plan.timings
    had, target = memory.setpoint_a, shares.current_a
    start = np.minimum(had, target)
    step_a = max(timings.raise_rate_a_per_s * timings.raise_interval_s, 1.0)
    may_rise = (target > had) & (now_s - memory.raised_s >= timings.raise_interval_s)
    ceiling = np.maximum(start + step_a, plan.min_a)
    allowed = np.where(may_rise, np.minimum(target, ceiling), start)
    setpoint = raise_within(
        plan.topology,
        start,
        allowed,
        np.maximum(committed.committed_a, start),
        phases,
        envelopes.rise_room_a.ravel(),
        min_a=plan.min_a,
        weight=plan.weight,
        priority=plan.priority,
    )
    return setpoint, allowed


def _crowded_row(plan: Plan, phases: Bools, left_a: Floats) -> Ints:
    """``(n,)`` the first row without room for each EVSE's minimum; ``NO_ROW`` where there is room."""
    use = uses(plan.topology, phases)
    lacks = use.coef * plan.min_a[use.evse] > left_a[use.row] + EPS_A
    first = np.full(use.n, use.rows, dtype=np.int64)
    np.minimum.at(first, use.evse[lacks], use.row[lacks])
    return np.where(first < use.rows, first, NO_ROW)


def _reasons(
    asks: _Asks, shares: Shares, setpoint: Floats, allowed: Floats, envelopes: Envelopes, crowded: Ints
) -> tuple[Ints, Ints]:
    """The one limit that bound each EVSE, and its row."""
    by_source = {FUSE: Reason.ZONE_CURRENT, CONTRACT: Reason.ZONE_POWER, FALLBACK: Reason.METER_LOST}
    of_row = np.array([by_source.get(source, Reason.EXTERNAL_LIMIT) for zone in envelopes.source for source in zone])
    refused = shares.binding == NOT_ADMITTED
    row = np.where(refused, shares.lacking, np.where(shares.binding >= 0, shares.binding, NO_ROW))
    row = np.where(asks.wants, row, NO_ROW)
    resting = asks.why == Reason.MINIMUM_OFF_TIME  # while there is no room, that is what keeps it paused
    row = np.where(resting, crowded, row)
    refused = refused | resting
    bound = of_row[np.maximum(row, 0)]
    bound = np.where(refused & (bound == Reason.ZONE_CURRENT), Reason.NO_ROOM, bound)
    reason = np.where(row >= 0, bound, asks.why)
    rising = asks.wants & (setpoint < shares.current_a)
    row = np.where(rising, NO_ROW, row)
    reason = np.where(rising, np.where(setpoint < allowed, Reason.AWAITING_OTHERS, Reason.RISING), reason)
    return reason.astype(np.int64), row.astype(np.int64)
