"""What modes, surplus and phase switching make of a cycle: bounds of single EVSEs, and one more row."""

from dataclasses import dataclass, replace

import numpy as np

from cem.core import commitment, phases, surplus
from cem.core.columns import Columns
from cem.core.commitment import Commitment
from cem.core.cycle import EngineMemory, Plan
from cem.core.headroom import Envelopes
from cem.core.modes import Modes, modes_now, spare
from cem.core.observe import Seen
from cem.core.phases import PhaseMemory, Switching
from cem.core.reasons import Reason
from cem.core.resources import Envelope, ResourceMemory, resource_envelopes
from cem.core.state import SiteState
from cem.core.surplus import Surplus
from cem.core.topology import Bools, Floats, Topology, counting
from cem.core.unbalance import weigh
from cem.core.units import HIGHEST_V


@dataclass(frozen=True, slots=True)
class Supply:
    """The modes' word on one cycle.

    Attributes:
        modes: Who charges from what.
        surplus: What there is of it.
        switching: Phases.
        asking: ``(n,)`` a car is there that would charge.
        bounds: What bounds single EVSEs, ``(n,)`` A each, inf where it does not.
        counted: The topology with the phases counted now and the surplus as its last row, where anybody is on surplus.
        envelopes: With that row.
        volts: To turn A into W on the safe side.
    """

    modes: Modes
    surplus: Surplus
    switching: Switching
    asking: Bools
    bounds: tuple[tuple[Reason, Floats], ...]
    counted: Topology
    envelopes: Envelopes
    volts: float


def supply(
    plan: Plan,
    state: SiteState,
    evses: Columns,
    memory: EngineMemory,
    seen: Seen,
    envelopes: Envelopes,
    in_flight_a: Floats,
) -> tuple[Supply, EngineMemory]:
    """Modes, surplus and phases of this cycle.

    Args:
        plan: The site, flattened.
        state: The site as measured.
        evses: Its EVSEs.
        memory: This cycle's zones, reports and commitments included.
        seen: This cycle's reports.
        envelopes: The zones' rooms.
        in_flight_a: ``(n,)`` how much more than reported each may be drawing because it was just raised.
    """
    now_s = state.now_s
    switching, phase_memory = phases.observe(plan.can_switch, evses, memory.phases, now_s)
    committed = _phases_unlearned(memory, switching, phase_memory)
    used = commitment.phases_used(committed, plan.topology, plan.zones.wiring)
    used = phases.on_one_phase(*used, switching, phase_memory, seen, plan.zones.wiring)
    scope = plan.zones.unbalance_scope
    topology = plan.topology
    if scope is not None:
        topology = weigh(topology, scope, envelopes.uneven | (used[1] < plan.site.phases))
    counted = counting(topology, *used)
    n_phases = counted.n_phases

    appetite_a = commitment.appetite_a(committed, seen, plan.min_a, plan.max_a, evses.gives)
    most_a = np.minimum.reduce((evses.cloud_limit_a, evses.wished_a, evses.takes_a(plan.min_a), appetite_a))
    modes = modes_now(plan.mode, evses, memory.surplus.lifted, spare(evses, most_a, n_phases, now_s))
    free = evses.charging & evses.online & evses.holdable
    asking = free & ~modes.off & (most_a >= plan.min_a)
    bounds = [(Reason.MODE_OFF, np.where(modes.off, 0.0, np.inf))] if np.count_nonzero(modes.off) else []
    if np.count_nonzero(switching.under_way):
        bounds.append((Reason.PHASE_SWITCH, np.where(switching.under_way, 0.0, np.inf)))

    kept = memory.surplus.with_lifted(modes.lifted)
    meter = memory.zones.meters[0]
    volts = HIGHEST_V if meter.voltage_v is None else max(meter.voltage_v[: plan.site.phases])
    found = Surplus(0.0, 0.0, np.zeros(plan.topology.n, dtype=np.bool_), np.full(plan.topology.n, np.inf))
    if np.count_nonzero(modes.on_surplus):
        now_w, rise_w, kept = surplus.look(
            plan.zones,
            state,
            seen,
            in_flight_a,
            meter,
            envelopes.health[0],
            modes,
            n_phases,
            kept,
            plan.timings,
        )
        minimum_a = plan.min_a * n_phases
        drawn_a = seen.last_a.sum(axis=1)
        uses_a = np.where(committed.lazy, np.minimum(minimum_a, np.maximum(drawn_a, 0.0)), minimum_a)
        members, left_w, kept = surplus.admit(
            plan.site.surplus,
            modes,
            asking,
            uses_a * volts,
            minimum_a * volts,
            plan.priority.astype(np.float64),
            now_w,
            kept,
            now_s,
        )
        found = Surplus(now_w, rise_w, members, left_w)
        margin_a = np.where(memory.setpoint_a > 0, 0.0, plan.timings.start_margin_a) * n_phases
        least_a = float((minimum_a + margin_a)[members].sum())
        spared_a = float((minimum_a - uses_a)[members].sum())
        counted, envelopes = surplus.limit(counted, envelopes, found, spared_a, least_a, volts)
        waiting = modes.pure & ~members
        at_minimum = members & (now_w / volts + spared_a < least_a)
        bounds.append((Reason.SURPLUS_WAIT, np.where(waiting, 0.0, np.inf)))
        bounds.append((Reason.SURPLUS, np.where(at_minimum, plan.min_a, np.inf)))
    made = Supply(modes, found, switching, asking, tuple(bounds), counted, envelopes, volts)
    return made, replace(memory, committed=committed, surplus=kept, phases=phase_memory)


def _phases_unlearned(memory: EngineMemory, switching: Switching, phase_memory: PhaseMemory) -> Commitment:
    """What reports from before a switch, or from one phase of three, say of the car's phases is forgotten."""
    void = (switching.in_force == 1) | switching.under_way | (memory.reports.last_s <= phase_memory.settled_s)
    if not np.count_nonzero(void):
        return memory.committed
    return replace(
        memory.committed,
        idle=memory.committed.idle & ~void[:, None],
        one_phase_since_s=np.where(void, np.inf, memory.committed.one_phase_since_s),
    )


def choose_phases(
    plan: Plan, memory: EngineMemory, supplied: Supply, occupied_a: Floats, left_a: Floats, now_s: float
) -> PhaseMemory:
    """Who is to switch phases from now on, by the room that this cycle leaves."""
    return phases.choose(
        supplied.switching,
        memory.phases,
        plan.zones.wiring,
        plan.topology,
        supplied.counted,
        occupied_a,
        left_a,
        asking=supplied.asking,
        min_a=plan.min_a,
        surplus_w=supplied.surplus.left_w,
        volts=supplied.volts,
        delay_s=plan.site.surplus.start_delay_s,
        now_s=now_s,
    )


def bound_resources(
    plan: Plan, state: SiteState, memory: EngineMemory, seen: Seen, supplied: Supply, committed_a: Floats
) -> tuple[tuple[Envelope, ...], ResourceMemory]:
    """What batteries and inverters may do beside the cars of this cycle."""
    if not plan.site.resources:
        return (), memory.resources
    drawn_a = np.where(seen.fresh[:, None], seen.last_a, 0.0)
    seen_a = plan.zones.wiring.on_grid(drawn_a)
    may_a = plan.zones.wiring.counts_on * committed_a[:, None]
    return resource_envelopes(
        plan.zones,
        state,
        supplied.envelopes,
        memory.zones.meters,
        plan.zones.in_zones(np.maximum(may_a - np.maximum(seen_a, 0.0), 0.0)),
        fast=bool((supplied.modes.fast & supplied.asking & (drawn_a.max(axis=1, initial=0.0) > phases.IDLE_A)).any()),
        cars_w=float(drawn_a.sum()) * supplied.volts,
        memory=memory.resources,
        hold_s=plan.timings.peak_hold_s,
    )
