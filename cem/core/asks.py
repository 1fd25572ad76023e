"""Who takes part in the sharing, and what bounds each EVSE before any zone does."""

from dataclasses import dataclass

import numpy as np

from cem.core import commitment
from cem.core.columns import Columns
from cem.core.cycle import EngineMemory, Plan
from cem.core.headroom import Envelopes
from cem.core.observe import Seen
from cem.core.reasons import Reason
from cem.core.topology import NO_ROW, Bools, Floats, Ints, Topology, crowded_row


@dataclass(frozen=True, slots=True)
class Asks:
    """What the EVSEs ask for, ``(n,)`` arrays.

    Attributes:
        wants: It takes part in the sharing.
        most_a: Up to this.
        why: ``Reason`` why no further, or why it takes no part.
        fixed_a: What it draws where it takes no part.
        bounds: Every bound of its own that was looked at, inf where it does not bind.
    """

    wants: Bools
    most_a: Floats
    why: Ints
    fixed_a: Floats
    bounds: tuple[tuple[Reason, Floats], ...]


def who_asks(
    plan: Plan,
    evses: Columns,
    memory: EngineMemory,
    seen: Seen,
    envelopes: Envelopes,
    counted: Topology,
    now_s: float,
    by_mode: tuple[tuple[Reason, Floats], ...] = (),
) -> Asks:
    """Everything that bounds one EVSE by itself; the tightest bound names the reason.

    Args:
        plan: The site, flattened.
        evses: As told.
        memory: This cycle's reports and commitments included.
        seen: This cycle's reports.
        envelopes: The zones' envelopes of this cycle.
        counted: The topology with the phases each EVSE counts on now.
        now_s: Monotonic.
        by_mode: Bounds that modes set.
    """
    n = plan.topology.n
    most = plan.max_a.copy()
    why = np.full(n, Reason.EVSE_MAXIMUM, dtype=np.int64)
    bounds: list[tuple[Reason, Floats]] = []

    def bound(by: Floats, reason: Reason) -> None:
        nonlocal most
        bounds.append((reason, by))
        tighter = by < most
        if np.count_nonzero(tighter):
            why[tighter] = reason
            most = np.where(tighter, by, most)

    bound(evses.cloud_limit_a, Reason.CSMS_PROFILE)
    bound(evses.wished_a, Reason.WISHED_LIMIT)
    bound(evses.takes_a(plan.min_a), Reason.VEHICLE_MAXIMUM)
    appetite = commitment.appetite_a(memory.committed, seen, plan.min_a, plan.max_a, evses.gives)
    bound(np.where(appetite < plan.max_a, appetite, np.inf), Reason.VEHICLE_USE)
    frozen = np.full(n, np.inf)
    if np.count_nonzero(envelopes.no_raise):
        frozen = np.where(plan.zones.from_above(envelopes.no_raise), memory.setpoint_a, np.inf)
    bound(frozen, Reason.METER_STALE)
    resting = (memory.setpoint_a == 0) & (now_s - memory.paused_s < plan.timings.min_off_s)
    bound(np.where(resting, 0.0, np.inf), Reason.MINIMUM_OFF_TIME)

    for reason, by in by_mode:
        bound(by, reason)

    beyond = ~evses.online | ~evses.holdable | memory.committed.deaf
    idle = ~beyond & ~evses.charging
    why[beyond] = np.where(evses.online, Reason.UNCONTROLLED, Reason.OFFLINE)[beyond]
    why[idle] = np.where(evses.connected, Reason.AWAITING_TRANSACTION, Reason.NO_VEHICLE)[idle]
    # a share is where things will settle: a cut under way is the transition's concern, and nobody else is cut for it
    fixed = np.where(beyond, memory.committed.committed_a, np.where(idle, memory.committed.in_force_a, 0.0))
    # who is late with its cut keeps its share; what it draws beyond counts until it is down, where all draw too much
    late = memory.committed.beyond_a(seen, plan.timings)
    if np.count_nonzero(late):
        drawn = np.where(seen.fresh, seen.drawn_a, memory.committed.committed_a)
        left = envelopes.room_a.ravel() - counted.wired.load(drawn)
        late = np.where(crowded_row(counted, np.zeros(n), left) == NO_ROW, 0.0, late)
    fixed = np.where(beyond | idle, fixed, late)
    return Asks(~beyond & ~idle & (most >= plan.min_a), most, why, fixed, tuple(bounds))
