"""What each EVSE may still draw, and what it is seen to use.

A raise counts from the moment it is decided, a cut only once it is confirmed: by a measurement, or by the station's
acknowledgement and its reaction time (invariant I1). Learned use (phases, appetite) frees what an EV leaves unused;
both lapse when the transaction ends, and are given back as soon as the EV follows.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cem.core.columns import Columns
from cem.core.observe import Seen, Wiring, or_zero
from cem.core.timings import Timings
from cem.core.topology import Bools, Floats, Topology

SAME_A = 1e-6
METERED_WITHIN_A = 0.2
OBEYS_WITHIN_A = 1.0
"""A draw this little above its limit counts as following it."""

HEARS_WITHIN_S = 15.0
HEEDS_PART = 1 / 3
"""A station whose draw has not come down by a third of the way in this time does not listen (fault S4)."""

METER_LAG_S = 2.0

LEARNS_FROM_A = 3.0
SHORTEST_S, LONGEST_S = 1.0, 60.0
"""Steps of a limit from which a reaction time is learned, and its bounds."""

LEAVES_A, TAKES_A = 1.0, 0.4
SPARE_A = 0.5
"""An EV that stays so far below its limit leaves the rest to others; as near as this it gets all back. What it is
offered meanwhile is at least so much above its draw: more than ``TAKES_A``, or it would get all back at rest."""

STILL_A = 0.5
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
        deaf: It draws more than its limit and does not come down (fault S4): a load, not ours to share.
        over_s: Since when it has drawn more than its limit; inf where it does not.
        heeds_at_a: It must have come down to this by the time that it is judged.
        reaction_s: Learned: from a new limit to a draw that follows it; NaN where none was seen yet.
        asked_s: When the limit stepped that is being learned from; inf where none is.
        still_s: Since when it has drawn nothing at all although it was offered current; inf where it draws.
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
    over_s: Floats
    heeds_at_a: Floats
    reaction_s: Floats
    asked_s: Floats
    still_s: Floats
    one_phase_since_s: Floats
    idle: Bools

    @classmethod
    def worst(cls, max_a: Floats) -> Self:
        """Before anything is known: everybody may draw all they can (invariant I10)."""
        count = len(max_a)
        never = np.full(count, np.inf)
        no = np.zeros(count, dtype=np.bool_)
        return cls(
            committed_a=max_a.copy(),
            fell_s=never,
            in_force_a=max_a.copy(),
            changed_s=-never,
            low_since_s=never,
            lazy=no,
            deaf=no,
            over_s=never,
            heeds_at_a=np.zeros(count),
            reaction_s=np.full(count, np.nan),
            asked_s=never,
            still_s=never,
            one_phase_since_s=never,
            idle=np.zeros((count, 3), dtype=np.bool_),
        )

    def reacts_within_s(self, timings: Timings) -> Floats:
        """``(n,)`` the learned reaction time, but never less than the usual one: what may be assumed to be over."""
        return np.fmax(self.reaction_s, timings.reaction_s)

    def beyond_a(self, seen: Seen, timings: Timings) -> Floats:
        """``(n,)`` what each is seen to draw beyond its limit although it had time to follow."""
        last_s = seen.reports.last_s
        late = ~self.deaf & (last_s >= np.minimum(self.over_s, self.changed_s) + self.reacts_within_s(timings))
        extra = seen.drawn_a - self.in_force_a
        return np.where(late & (extra > METERED_WITHIN_A), extra, 0.0)


def update(
    memory: Commitment,
    evses: Columns,
    seen: Seen,
    setpoint_a: Floats,
    now_s: float,
    timings: Timings,
) -> Commitment:
    """Take this cycle's states and reports in.

    Args:
        memory: From the last cycle.
        evses: As told.
        seen: This cycle's reports included.
        setpoint_a: What was last handed to the stations.
        now_s: Monotonic.
        timings: Reaction and learning times.
    """
    charging = evses.charging & evses.online
    # a setpoint may be sent at any moment
    in_force = np.where(charging, np.maximum(evses.in_force_a, setpoint_a), evses.in_force_a)
    drawn, told = seen.drawn_a, charging & seen.fresh
    one_car = told & ~evses.shared

    committed, fell_s = _fall(memory, seen, in_force, now_s, timings)
    step_a = np.abs(in_force - memory.in_force_a)
    reaction_s, asked_s = _learn_reaction(memory, seen, told, step_a, in_force, now_s)
    reacts_s = np.fmax(reaction_s, timings.reaction_s)
    # what else a site below draws does not heed a limit, and what it draws counts in any case
    over_s, heeds_at_a, deaf = _listen(memory, seen, one_car, in_force, now_s, reacts_s)
    # appetite is judged on a limit that stands, by a report taken after the EV had time to follow it
    changed_s = np.where(step_a > SAME_A, now_s, memory.changed_s)
    judged = one_car & (seen.reports.last_s >= changed_s + reacts_s)
    given = in_force * evses.gives
    low = judged & (drawn < given - LEAVES_A) & (in_force > 0)
    if np.count_nonzero(low):
        climbs = drawn - or_zero(seen.reports.before_a).max(axis=1, initial=0.0) > STILL_A
        low &= ~climbs
    low_since = np.where(low, np.minimum(memory.low_since_s, now_s), np.inf)
    near = seen.fresh & (drawn >= given - TAKES_A)
    lazy = charging & ((memory.lazy & ~near) | (now_s - low_since >= timings.follow_s))
    still = one_car & (drawn < STILL_A) & (in_force > 0)
    idle, one_phase_since = _learn_phases(memory, seen, one_car, now_s, timings)
    return Commitment(
        committed_a=np.maximum(committed, drawn),  # S4: what is measured counts
        fell_s=fell_s,
        in_force_a=in_force,
        changed_s=changed_s,
        low_since_s=low_since,
        lazy=lazy,
        deaf=deaf & charging,
        over_s=over_s,
        heeds_at_a=heeds_at_a,
        reaction_s=reaction_s,
        asked_s=asked_s,
        still_s=np.where(still, np.minimum(memory.still_s, now_s), np.inf),
        one_phase_since_s=one_phase_since,
        idle=idle,
    )


def _fall(memory: Commitment, seen: Seen, in_force: Floats, now_s: float, timings: Timings) -> tuple[Floats, Floats]:
    """What each may still draw by its limit and by the one before, and since when that is above its limit."""
    falling = in_force < memory.committed_a - SAME_A
    if not np.count_nonzero(falling):
        return in_force, np.full(len(in_force), np.inf)
    drawn, last_s = seen.drawn_a, seen.reports.last_s
    reacts_s = memory.reacts_within_s(timings)
    fell_s = np.where(falling, np.minimum(memory.fell_s, now_s), np.inf)
    follows = seen.fresh & (last_s > fell_s) & (drawn <= in_force + OBEYS_WITHIN_A)
    # who reports confirms by a report; who does not, by the time it may take
    reacted = ~seen.fresh & (now_s - fell_s >= reacts_s)
    held = np.where(falling & ~follows & ~reacted, memory.committed_a, in_force)
    # once it had its time to react it can only be on its way down: no more than the last report showed
    late = seen.fresh & (last_s >= fell_s + reacts_s)
    committed = np.where(late, np.minimum(held, np.maximum(drawn, in_force)), held)
    return committed, np.where(committed > in_force + SAME_A, fell_s, np.inf)


def _learn_reaction(
    memory: Commitment, seen: Seen, told: Bools, step_a: Floats, in_force: Floats, now_s: float
) -> tuple[Floats, Floats]:
    """The time from a step of the limit, up or down, to a draw that follows it (fault S6), and when it stepped.

    Only an EV that followed its limit before teaches anything, and only while the limit stands. A report shows the
    following half an interval late on average; a longer time counts at once, a shorter one little by little.
    """
    moved = step_a > SAME_A
    if not np.count_nonzero(moved | (memory.asked_s < np.inf)):
        return memory.reaction_s, memory.asked_s
    drawn, last_s, interval_s = seen.drawn_a, seen.reports.last_s, seen.reports.interval_s
    asks = told & (step_a >= LEARNS_FROM_A) & (np.abs(drawn - memory.in_force_a) <= OBEYS_WITHIN_A)
    asked_s = np.where(moved, np.where(asks, now_s, np.inf), memory.asked_s)
    asked_s = np.where(told & (now_s - asked_s <= LONGEST_S + interval_s), asked_s, np.inf)
    done = told & (last_s > asked_s) & (np.abs(drawn - in_force) <= OBEYS_WITHIN_A)
    took = np.where(done, last_s - np.where(done, asked_s, 0.0) - interval_s / 2, 0.0)
    took = np.clip(took, SHORTEST_S, LONGEST_S)
    old = np.where(np.isnan(memory.reaction_s), took, memory.reaction_s)
    learned = np.maximum(took, old + 0.1 * (took - old))
    return np.where(done, learned, memory.reaction_s), np.where(done, np.inf, asked_s)


def _listen(
    memory: Commitment, seen: Seen, told: Bools, in_force: Floats, now_s: float, reacts_within_s: Floats
) -> tuple[Floats, Floats, Bools]:
    """Who draws more than its limit: since when, what would be heeding it, and whether it is deaf."""
    drawn, last_s = seen.drawn_a, seen.reports.last_s
    over = told & (drawn > in_force + OBEYS_WITHIN_A)
    if not np.count_nonzero(over):
        return np.full(len(over), np.inf), memory.heeds_at_a, memory.deaf & ~told
    heeds = drawn <= memory.heeds_at_a
    # cut again after it heeded the limit before, or before any report could show whether it does
    excused = heeds | (last_s < memory.over_s + np.minimum(reacts_within_s, HEARS_WITHIN_S))
    afresh = (memory.over_s == np.inf) | (excused & (in_force < memory.in_force_a - OBEYS_WITHIN_A))
    over_s = np.where(over, np.where(afresh, now_s, memory.over_s), np.inf)
    for_s = last_s - over_s
    # one that is late may still be rising to the limit it had before; from the top of that it must come down
    rising = over & (for_s <= reacts_within_s) & (drawn > or_zero(seen.reports.before_a).max(axis=1, initial=0.0))
    heeds_at_a = np.where(over & (afresh | rising), drawn - HEEDS_PART * (drawn - in_force), memory.heeds_at_a)
    deaf = over & (memory.deaf | ((for_s >= HEARS_WITHIN_S) & ~heeds) | (for_s >= LONGEST_S))
    return over_s, heeds_at_a, deaf | (memory.deaf & ~told)


def _learn_phases(memory: Commitment, seen: Seen, told: Bools, now_s: float, timings: Timings) -> tuple[Bools, Floats]:
    """Own phases that stay idle while others clearly carry current; forgotten when the EV uses them or leaves."""
    quiet = seen.last_a < PHASE_IDLE_A
    tells = told & (seen.drawn_a >= PHASE_USED_A)
    partial = tells & (quiet[:, 0] | quiet[:, 1] | quiet[:, 2])
    since = np.where(partial, np.minimum(memory.one_phase_since_s, now_s), np.inf)
    learned = now_s - since >= timings.follow_s
    idle = np.where(learned[:, None], quiet, memory.idle & quiet)
    return idle & told[:, None], since


def in_flight_a(
    memory: Commitment, seen: Seen, setpoint_a: Floats, raised_s: Floats, now_s: float, timings: Timings
) -> Floats:
    """``(n,)`` how much more than its last report an EV may be drawing because it was just raised.

    Lasts until it had time to follow and to report; then a draw that shows on no report is other load. A report that
    the meters may not have seen yet counts as the lower of the last two, as that is what is subtracted from them; no
    longer, or a load that steps meanwhile would stay hidden behind it.
    """
    flying = now_s - raised_s <= memory.reacts_within_s(timings) + seen.reports.interval_s
    if not np.count_nonzero(flying):
        return np.zeros(len(flying))
    last = np.where(seen.fresh, seen.drawn_a, np.nan)
    unseen = now_s - seen.reports.last_s <= METER_LAG_S
    reported = or_zero(np.where(unseen, np.minimum(last, seen.reports.before_a.max(axis=1)), last))
    return np.where(flying, np.maximum(setpoint_a - reported, 0.0), 0.0)


def followed_a(memory: Commitment, seen: Seen, now_s: float, timings: Timings) -> Floats:
    """``(n,)`` the most an EV still draws of what its last report told, because it had time to follow a cut since.

    inf where there was no cut, where the report is later, and where the station does not listen. Without this a cut
    between two reports would stay subtracted from the meter as if it still flowed, and hide as much other load.
    """
    follows_s = memory.changed_s + memory.reacts_within_s(timings)
    cut = (memory.fell_s < np.inf) & ~memory.deaf & (seen.reports.last_s < follows_s) & (now_s >= follows_s)
    return np.where(cut, memory.in_force_a, np.inf)


def appetite_a(memory: Commitment, seen: Seen, min_a: Floats, max_a: Floats, gives: Floats) -> Floats:
    """``(n,)`` the most it makes sense to offer: a little above what an EV that stays below its limit draws."""
    if not np.count_nonzero(memory.lazy):
        return max_a
    offer = np.minimum(np.maximum(np.ceil((seen.drawn_a + SPARE_A) / gives), min_a), np.maximum(min_a, max_a))
    return np.where(memory.lazy, np.minimum(offer, max_a), max_a)


def phases_used(memory: Commitment, topology: Topology, wiring: Wiring) -> tuple[Bools, Floats]:
    """Grid phases ``(n, 3)`` and number of phases ``(n,)`` each EVSE counts on: all but those learned to be idle."""
    if not np.count_nonzero(memory.idle):
        return topology.phases, topology.n_phases
    idle = memory.idle.ravel()[wiring.place] & wiring.placed
    wired = np.arange(3) < wiring.phases[:, None]
    return topology.phases & ~(idle & wiring.known[:, None]), topology.n_phases - (memory.idle & wired).sum(axis=1)
