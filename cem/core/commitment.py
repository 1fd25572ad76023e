"""What each EVSE may still draw, and what it is seen to use.

A raise counts from the moment it is decided, a cut only once it is confirmed: by a measurement, or by the station's
acknowledgement and its reaction time (invariant I1). Learned use (phases, appetite) frees what an EV leaves unused;
both lapse when the transaction ends, and are given back as soon as the EV follows.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cem.core.observe import Reports, Wiring
from cem.core.state import EvseState
from cem.core.timings import Timings
from cem.core.topology import Bools, Floats, Topology

OBEYS_WITHIN_A = 1.0
"""A draw this little above its limit counts as following it."""

LEAVES_A = 1.0
GIVE_BACK_A = 2.0
PHASE_IDLE_A = 0.5
PHASE_USED_A = 4.0


@dataclass(frozen=True, slots=True)
class Commitment:
    """Memory per EVSE, arrays ``(n,)`` unless said.

    Attributes:
        committed_a: The most it may draw now, per phase.
        fell_s: Since when its limit has been below that; inf where it is not.
        in_force_a: Its limit in the last cycle.
        changed_s: Since when that limit stands.
        low_since_s: Since when it has stayed below a standing limit; inf where it follows.
        lazy: It was found to leave part of its limit unused.
        deaf: It draws more than its limit although it had time to follow (fault S4): a load, not ours to share.
        one_phase_since_s: Since when its report has shown idle phases; inf where all are used or nobody knows.
        idle: ``(n, 3)`` its own phases that it was learned not to use.
    """

    committed_a: Floats
    fell_s: Floats
    in_force_a: Floats
    changed_s: Floats
    low_since_s: Floats
    lazy: Bools
    deaf: Bools
    one_phase_since_s: Floats
    idle: Bools

    @classmethod
    def worst(cls, max_a: Floats) -> Self:
        """Before anything is known: everybody may draw all they can (invariant I10)."""
        count = len(max_a)
        never = np.full(count, np.inf)
        no = np.zeros(count, dtype=np.bool_)
        return cls(
            max_a.copy(), never, max_a.copy(), -never, never, no, no, never, np.zeros((count, 3), dtype=np.bool_)
        )


def update(
    memory: Commitment,
    evses: tuple[EvseState, ...],
    reports: Reports,
    setpoint_a: Floats,
    now_s: float,
    timings: Timings,
) -> Commitment:
    """Take this cycle's states and reports in.

    Args:
        memory: From the last cycle.
        evses: In the order of the site.
        reports: This cycle's reports included.
        setpoint_a: What was last handed to the stations.
        now_s: Monotonic.
        timings: Reaction and learning times.
    """
    charging = np.array([e.charging and e.online for e in evses], dtype=np.bool_)
    in_force = np.array([e.in_force_a for e in evses], dtype=np.float64)
    in_force = np.where(charging, np.maximum(in_force, setpoint_a), in_force)  # it may be sent at any moment
    top = reports.highest(now_s)
    seen = ~np.isnan(top)
    drawn = np.where(seen, top, 0.0)

    falling = in_force < memory.committed_a - 1e-6
    fell_s = np.where(falling, np.minimum(memory.fell_s, now_s), np.inf)
    follows = seen & (reports.last_s > fell_s) & (drawn <= in_force + OBEYS_WITHIN_A)
    reacted = now_s - fell_s >= timings.reaction_s
    committed = np.where(falling & ~follows & ~reacted, memory.committed_a, in_force)
    standing = np.where(drawn > committed + OBEYS_WITHIN_A, drawn, committed)  # S4: what is measured counts

    # deafness and appetite are judged on a limit that stands, by a report taken after the EV had time to follow it
    changed_s = np.where(np.abs(in_force - memory.in_force_a) > 1e-6, now_s, memory.changed_s)
    judged = seen & (reports.last_s >= changed_s + timings.reaction_s)
    below = drawn < in_force - LEAVES_A
    low = charging & judged & below & (in_force > 0)
    low_since = np.where(low, np.minimum(memory.low_since_s, now_s), np.inf)
    lazy = charging & ((memory.lazy & ~(seen & ~below)) | (now_s - low_since >= timings.follow_s))
    idle, one_phase_since = _learn_phases(memory, reports, charging & seen, drawn, now_s, timings)
    return replace(
        memory,
        committed_a=standing,
        deaf=charging & np.where(judged, drawn > in_force + OBEYS_WITHIN_A, memory.deaf),
        fell_s=np.where(committed > in_force + 1e-6, fell_s, np.inf),
        in_force_a=in_force,
        changed_s=changed_s,
        low_since_s=low_since,
        lazy=lazy,
        one_phase_since_s=one_phase_since,
        idle=idle,
    )


def _learn_phases(
    memory: Commitment, reports: Reports, drawing: Bools, drawn: Floats, now_s: float, timings: Timings
) -> tuple[Bools, Floats]:
    """Own phases that stay idle while others clearly carry current; forgotten when the EV uses them or leaves."""
    quiet = np.nan_to_num(reports.last_a) < PHASE_IDLE_A
    tells = drawing & (drawn >= PHASE_USED_A)
    partial = tells & quiet.any(axis=1)
    since = np.where(partial, np.minimum(memory.one_phase_since_s, now_s), np.inf)
    learned = now_s - since >= timings.follow_s
    idle = np.where(learned[:, None], quiet, memory.idle & quiet)
    return idle & drawing[:, None], since


def in_flight_a(reports: Reports, setpoint_a: Floats, raised_s: Floats, now_s: float, timings: Timings) -> Floats:
    """``(n,)`` how much more than its last report an EV may be drawing because it was just raised.

    Lasts until it had time to follow and to report; then a draw that shows on no report is other load.
    """
    flying = now_s - raised_s <= timings.reaction_s + reports.interval_s
    return np.where(flying, np.maximum(setpoint_a - np.nan_to_num(reports.highest(now_s)), 0.0), 0.0)


def appetite_a(memory: Commitment, reports: Reports, min_a: Floats, max_a: Floats, now_s: float) -> Floats:
    """``(n,)`` the most it makes sense to offer: a little above what an EV that stays below its limit draws."""
    top = np.nan_to_num(reports.highest(now_s))
    offer = np.clip(np.ceil(top) + GIVE_BACK_A, min_a, np.maximum(min_a, max_a))
    return np.where(memory.lazy, np.minimum(offer, max_a), max_a)


def phases_used(memory: Commitment, topology: Topology, wiring: Wiring) -> tuple[Bools, Floats]:
    """Grid phases ``(n, 3)`` and number of phases ``(n,)`` each EVSE counts on: all but those learned to be idle."""
    if not memory.idle.any():
        return topology.phases, topology.n_phases
    own = np.maximum(wiring.own_of_grid, 0)
    idle = np.take_along_axis(memory.idle, own, axis=1) & (wiring.own_of_grid >= 0)
    wired = np.arange(3) < wiring.phases[:, None]
    return topology.phases & ~(idle & wiring.known[:, None]), topology.n_phases - (memory.idle & wired).sum(axis=1)
