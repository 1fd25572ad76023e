"""One decision: the zones' envelopes, shared among the EVSEs, and what of it may be sent now.

``decide`` is a pure function of what is built, what is measured and an explicit memory, so any recorded step replays.
"""

from dataclasses import replace

import numpy as np

from cem.core import commitment, phases, rotation
from cem.core.allocation import Request, raise_within
from cem.core.asks import who_asks
from cem.core.attack import attacked
from cem.core.columns import Columns
from cem.core.commitment import Commitment
from cem.core.cycle import Decision, EngineMemory, Plan
from cem.core.explain import in_line, reasons, time_to_spare
from cem.core.headroom import Draws, Envelopes, zone_limits
from cem.core.modes import spare
from cem.core.observe import or_zero
from cem.core.policy import share_by
from cem.core.reasons import Reason
from cem.core.recount import explained
from cem.core.site import Policy
from cem.core.state import SiteState
from cem.core.steps import Steps
from cem.core.supply import bound_resources, choose_phases, supply
from cem.core.topology import NO_ROW, UNRESOLVED_A, Bools, Floats, Topology, crowded_row
from cem.core.unbalance import share_balanced
from cem.core.units import LOWEST_V
from cem.core.urgency import Urgency

__all__ = ["NO_ROW", "Decision", "EngineMemory", "Plan", "decide"]


WORTH_A, STOOD_S = 2.0, 20.0
"""A raise is worth a command when it gains so much, reaches all the EV can take, or its room stood so long."""


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
    evses = Columns.of(state.evses)
    plan = _least_by_power(plan, evses)
    reports = memory.reports.heard(evses)
    seen = reports.at(now_s)
    committed = commitment.update(memory.committed, evses, seen, memory.setpoint_a, now_s, timings)
    in_flight = commitment.in_flight_a(committed, seen, memory.setpoint_a, memory.raised_s, now_s, timings)
    followed = commitment.followed_a(committed, seen, now_s, timings)
    draws = Draws(seen, in_flight, followed, committed.idle, memory.setpoint_a)
    known = explained(plan.zones, memory.zones, memory.reports, seen, memory.committed.committed_a)
    envelopes, zones = zone_limits(plan.zones, state, draws, known, timings)
    began_s, paused_s = _note_transactions(memory, evses)
    memory = replace(memory, zones=zones, reports=reports, committed=committed, began_s=began_s, paused_s=paused_s)
    supplied, memory = supply(plan, state, evses, memory, seen, envelopes, in_flight)
    counted, envelopes = supplied.counted, supplied.envelopes
    asks = who_asks(plan, evses, memory, seen, envelopes, counted, now_s, supplied.bounds)

    room_a = envelopes.room_a.ravel()
    running = memory.setpoint_a > 0
    held_a = rotation.held_a(memory.turns, memory.setpoint_a, plan.min_a)
    room_a = _resolved(envelopes, counted.wired.load(np.maximum(held_a, memory.share_a)), room_a)
    spare_s = spare(evses, asks.most_a, counted.n_phases, now_s)
    urgency = Urgency.of(evses, plan.min_a, asks.most_a, counted.n_phases, now_s)
    resting = asks.why == Reason.MINIMUM_OFF_TIME
    turn_over = memory.turns.on_s + timings.rotation_s <= now_s
    weight, waits = _pressing(plan, asks.wants | resting, running, turn_over, urgency)
    contest = rotation.Contest(
        wants=asks.wants if waits is None else asks.wants & ~waits,
        resting=resting if waits is None else resting & ~waits,
        running=running,
        min_a=plan.min_a,
        priority=plan.priority,
        spare_s=spare_s,
        since_s=np.where(running, now_s, np.maximum(memory.paused_s, or_zero(memory.began_s))),
        still_s=committed.still_s,
        ready_s=memory.paused_s + timings.min_off_s,
    )
    free_a = room_a - counted.wired.load(asks.fixed_a)
    queue, turns = rotation.take_turns(counted.wired, contest, memory.turns, free_a, now_s, timings)
    if np.count_nonzero(queue.makes_way):
        asks = replace(asks, wants=asks.wants & ~queue.makes_way)
    request = Request(
        wants=asks.wants,
        min_a=plan.min_a,
        max_a=asks.most_a,
        phases=counted.phases,
        n_phases=counted.n_phases,
        weight=weight,
        priority=plan.priority,
        step_a=plan.step_a,
        running=queue.holds,
        waiting_s=-queue.rank.astype(np.float64),
        had_a=memory.setpoint_a,
        waits=waits,
        fixed_a=asks.fixed_a,
    )
    shares = share_balanced(
        lambda cap: share_by(plan.site.policy, counted, request, cap, timings.start_margin_a),
        counted,
        asks.fixed_a,
        room_a,
        plan.zones.unbalance_scope,
        envelopes.balance,
    )
    wish_s = np.where(shares.current_a > memory.setpoint_a, np.fmin(memory.wish_s, now_s), np.inf)
    rise_room_a = _resolved(envelopes, counted.wired.load(held_a), envelopes.rise_room_a.ravel())
    steps = Steps.of(plan.step_a, plan.topology.n)
    target_a, attacked_by = attacked(counted, shares, plan.min_a, weight, steps, envelopes, free_a)
    setpoint, allowed = _may_send(plan, memory, target_a, asks.most_a, counted, rise_room_a, wish_s, steps, now_s)
    # an offline station goes on with what it has; when it is back it is not paused for a broken line
    setpoint = np.where(evses.online, setpoint, np.minimum(memory.setpoint_a, committed.committed_a))
    let_run = _let_run(plan, evses, committed, counted, room_a, setpoint)
    if np.count_nonzero(let_run):
        setpoint = np.where(let_run, np.floor(plan.max_a), setpoint)
    committed_a = np.where(asks.wants, np.maximum(committed.committed_a, setpoint), committed.committed_a)
    occupied = np.maximum(committed_a, np.where(asks.wants, shares.current_a, 0.0))
    left_a = room_a - counted.wired.load(occupied)
    reason, row = reasons(
        asks, shares, attacked_by, target_a, setpoint, allowed, envelopes, counted, plan.min_a, left_a
    )
    reason = in_line(reason, setpoint, queue)
    eta_s = queue.eta_s
    if urgency is not None and waits is not None:
        reason, row = time_to_spare(reason, row, waits & (setpoint == 0))
        eta_s = np.where(reason == Reason.TIME_TO_SPARE, urgency.start_by_s, eta_s)
    bound_s = np.where((reason == memory.reason) & (row == memory.row), memory.bound_s, now_s)
    phase_memory = choose_phases(plan, memory, supplied, occupied, left_a, now_s)
    bounds_of_resources, resources = bound_resources(plan, state, memory, seen, supplied, committed_a)
    decision = Decision(
        now_s,
        setpoint,
        before_a=memory.setpoint_a,
        target_a=shares.current_a,
        committed_a=committed_a,
        counted=counted,
        reason=reason,
        row=row,
        bound_s=bound_s,
        bounds=asks.bounds,
        left_a=left_a,
        envelopes=envelopes,
        phases_wanted=phases.commands(supplied.switching, phase_memory, committed_a, seen.drawn_a),
        resources=bounds_of_resources,
        place=queue.place,
        eta_s=eta_s,
        surplus_w=supplied.surplus.power_w if np.count_nonzero(supplied.modes.on_surplus) else None,
    )
    return decision, replace(
        memory,
        committed=replace(committed, committed_a=committed_a),
        setpoint_a=setpoint,
        share_a=shares.current_a,
        wish_s=wish_s,
        phases=phase_memory,
        reason=reason,
        row=row,
        bound_s=bound_s,
        resources=resources,
        turns=turns,
        raised_s=np.where(setpoint > memory.setpoint_a, now_s, memory.raised_s),
        paused_s=np.where(
            running & (setpoint == 0) & ~np.isnan(memory.began_s) & evses.online & ~supplied.switching.under_way,
            now_s,
            memory.paused_s,
        ),
    )


def _resolved(envelopes: Envelopes, held_a: Floats, room_a: Floats) -> Floats:
    """The room, with what is held not short of it by less than the zone's meter resolves; elsewhere sums are exact.

    What cuts across the zones is reckoned from the site's meter.
    """
    metered_a = np.where(np.isfinite(envelopes.measured_a[:, 0]), UNRESOLVED_A, 0.0)
    lent_a = np.full((len(room_a) // 4, 4), metered_a[0])
    lent_a[: len(metered_a)] = metered_a[:, None]
    resolved_a: Floats = np.maximum(room_a, np.minimum(room_a + lent_a.ravel(), held_a))
    return resolved_a


def _least_by_power(plan: Plan, evses: Columns) -> Plan:
    """The plan with the minima that give an EV its own also where a limit goes out in W, guarded at the lowest voltage."""
    if not np.count_nonzero(evses.by_power):
        return plan
    least_a = Steps.of(plan.step_a, plan.topology.n).up(plan.min_a * (plan.site.nominal_voltage_v / LOWEST_V))
    return replace(plan, min_a=np.where(evses.by_power, np.maximum(plan.min_a, least_a), plan.min_a))


def _pressing(
    plan: Plan, asking: Bools, running: Bools, turn_over: Bools, urgency: Urgency | None
) -> tuple[Floats, Bools | None]:
    """By the session targets: weight of each share, and who can wait until others have all they want."""
    if urgency is None:
        return plan.weight, None
    waits = urgency.can_wait(wants=asking, running=running, turn_over=turn_over, priority=plan.priority)
    return plan.weight * (urgency.weight if plan.site.policy is Policy.FAIR else urgency.worth), waits


def _let_run(
    plan: Plan, evses: Columns, committed: Commitment, counted: Topology, room_a: Floats, setpoint: Floats
) -> Bools:
    """``(n,)`` charging EVSEs that cannot be held: all they can draw is reserved anyway, so they may have it.

    Where even that does not fit, they are asked to pause. One that ignores its limits is told to pause in any case.
    """
    unheld = evses.online & evses.charging & ~evses.holdable & ~committed.deaf
    if not np.count_nonzero(unheld):
        return unheld
    drawn = np.where(unheld, np.maximum(committed.committed_a, plan.max_a), np.maximum(committed.committed_a, setpoint))
    fits: Bools = crowded_row(counted, np.zeros(plan.topology.n), room_a - counted.wired.load(drawn)) == NO_ROW
    return unheld & fits


def _note_transactions(memory: EngineMemory, evses: Columns) -> tuple[Floats, Floats]:
    """When each transaction began and was last paused: a new one starts without the past of the one before."""
    began = evses.since_s
    same = (began == memory.began_s) | (np.isnan(began) & np.isnan(memory.began_s))
    return began, np.where(same, memory.paused_s, -np.inf)


def _may_send(
    plan: Plan,
    memory: EngineMemory,
    target: Floats,
    most_a: Floats,
    counted: Topology,
    rise_room_a: Floats,
    wish_s: Floats,
    steps: Steps,
    now_s: float,
) -> tuple[Floats, Floats]:
    """Cuts at once; rises no faster than allowed, and only into what nobody may draw any more.

    Returns:
        The setpoints, and how far pace alone would have allowed.
    """
    timings = plan.timings
    had = memory.setpoint_a
    start = np.minimum(had, target)
    if not np.count_nonzero(target > had):
        return start, start
    step_a = timings.raise_rate_a_per_s * timings.raise_interval_s
    # one command at a time: none before the EV had its own time to follow the last (fault S6)
    window_s = np.fmax(memory.committed.reaction_s, timings.raise_interval_s)
    settled = now_s - np.maximum(memory.raised_s, memory.committed.changed_s) >= window_s
    worth = (target - had >= WORTH_A) | (target >= most_a) | (had == 0) | (now_s - wish_s >= STOOD_S)
    may_rise = (target > had) & worth & (settled | (had == 0))
    ceiling = np.maximum(steps.down(start + np.maximum(step_a, steps.unit_a)), plan.min_a)
    allowed = np.where(may_rise, np.minimum(target, ceiling), start)
    setpoint = raise_within(
        counted,
        start,
        allowed,
        np.maximum(memory.committed.committed_a, start),
        counted.phases,
        rise_room_a,
        min_a=plan.min_a,
        n_phases=counted.n_phases,
        weight=plan.weight,
        priority=plan.priority,
        step_a=plan.step_a,
    )
    return setpoint, allowed
