"""Taking turns: when not all minima fit, who runs makes way for who has waited, and nobody starves.

A running EV is never paused for a mere gain. It makes way only after its turn (``rotation_s``), only for one of its
class or a higher one that is not clearly less urgent, and only where that one then really fits. A full car that draws
nothing is no longer protected by its turn (fault S19): it makes way first, is asked again when its turn comes, and then
needs to draw soon to keep it.
"""

import heapq
from dataclasses import dataclass
from typing import Self

import numpy as np

from cem.core.admission import FITS, take_in_order
from cem.core.timings import Timings
from cem.core.topology import EPS_A, Bools, Floats, Ints, Uses

FULL_AFTER_S, STILL_FULL_AFTER_S = 600.0, 60.0
"""Drawing nothing for so long makes a car full (S19); where it was found full before, this long is enough."""

RELAXED_S = 7200.0
"""With more time to spare than this nobody is urgent; who has waited for this long is as urgent as any."""

CALLS_A_CYCLE = 8
TOGETHER_S = 60.0
"""Who was paused within a minute waits equally long."""

CALL_LASTS_S = 120.0


@dataclass(frozen=True, slots=True)
class Turns:
    """Memory per EVSE, arrays ``(n,)``.

    Attributes:
        on_s: Since when it has run; inf where it is paused.
        called_s: Since when its turn has come although it does not run yet; inf where it has not.
        was_full: It made way because it was full, and has drawn nothing since.
        ran_s: How long it has run since it came; of those who wait equally long, who ran least is first.
        at_s: When these were noted.
    """

    on_s: Floats
    called_s: Floats
    was_full: Bools
    ran_s: Floats
    at_s: float

    @classmethod
    def none(cls, n: int) -> Self:
        """Before the first cycle."""
        return cls(np.full(n, np.inf), np.full(n, np.inf), np.zeros(n, dtype=np.bool_), np.zeros(n), np.inf)


@dataclass(frozen=True, slots=True)
class Contest:
    """Who competes for minima in this cycle, arrays ``(n,)``.

    Attributes:
        wants: It wants its minimum now.
        resting: It would, but for its minimum off time.
        running: It has current.
        min_a: What it needs.
        priority: Classes, higher first.
        spare_s: Time to departure beyond what charging needs; inf where unknown.
        waiting_s: How long it has waited; 0 where it runs.
        still_s: Since when it has drawn nothing although it might; inf where it draws.
        ready_s: When its minimum off time ends.
    """

    wants: Bools
    resting: Bools
    running: Bools
    min_a: Floats
    priority: Ints
    spare_s: Floats
    waiting_s: Floats
    still_s: Floats
    ready_s: Floats


@dataclass(frozen=True, slots=True)
class Queue:
    """The outcome of a cycle, arrays ``(n,)``.

    Attributes:
        makes_way: It is paused now so that another gets its turn.
        holds: It runs or has been called: it comes before those that would start.
        place: 1 is next; 0 where it does not wait for a turn.
        eta_s: Monotonic time at which its turn is expected; NaN where it does not wait for one.
    """

    makes_way: Bools
    holds: Bools
    place: Ints
    eta_s: Floats


def take_turns(
    use: Uses, contest: Contest, turns: Turns, room_a: Floats, now_s: float, timings: Timings
) -> tuple[Queue, Turns]:
    """Who makes way in this cycle, who holds its place, and where the others stand in the queue.

    Args:
        use: Coefficients.
        contest: Who competes.
        turns: From the last cycle.
        room_a: Room in each row for those who compete.
        now_s: Monotonic.
        timings: Length of a turn and the margin of a start.
    """
    n = use.n
    on_s = np.where(contest.running, np.minimum(turns.on_s, now_s), np.inf)
    fresh = np.isfinite(turns.called_s) & (turns.called_s >= now_s - CALL_LASTS_S)
    called = contest.wants & ~contest.running & fresh
    was_full = turns.was_full & ~(contest.running & (contest.still_s == np.inf) & (now_s - on_s > STILL_FULL_AFTER_S))
    holds = contest.running | called
    makes_way = np.zeros(n, dtype=np.bool_)
    place, eta_s = np.zeros(n, dtype=np.int64), np.full(n, np.nan)
    spare_s = np.where(contest.waiting_s > RELAXED_S, 0.0, np.clip(contest.spare_s, 0.0, RELAXED_S))
    there = contest.wants | contest.resting | contest.running
    ran_s = np.where(there, turns.ran_s + np.where(contest.running, max(now_s - turns.at_s, 0.0), 0.0), 0.0)
    order = (ran_s, -np.floor(contest.waiting_s / TOGETHER_S), spare_s, -contest.priority)

    need_a = np.where(holds, contest.min_a, contest.min_a + timings.start_margin_a)
    admitted, lacking = take_in_order(
        use, contest.wants, (*order, ~holds), take_a=contest.min_a, need_a=need_a, room_a=room_a
    )
    waiting = contest.wants & (lacking != FITS) & ~contest.running
    if waiting.any() or contest.resting.any():
        left_a = room_a - use.load(np.where(admitted, contest.min_a, 0.0))
        full_after = np.where(was_full, STILL_FULL_AFTER_S, FULL_AFTER_S)
        full = now_s - contest.still_s >= full_after
        ready_s = np.where(full, now_s, on_s + timings.rotation_s)
        can = admitted & contest.running
        ranked = np.lexsort(order)
        callers = ranked[waiting[ranked]][:CALLS_A_CYCLE]
        for w in callers.tolist() if (can & (ready_s <= now_s)).any() else ():
            leave = _who_leaves(use, contest, spare_s, w, can & (ready_s <= now_s), full, on_s, left_a)
            if leave:
                makes_way[leave] = True
                can[leave] = False
                called[w], waiting[w] = True, False
                gone = np.zeros(n)
                gone[leave] = contest.min_a[leave]
                gone[w] = -contest.min_a[w]
                left_a = left_a + use.load(gone)
        can |= called
        ready_s = np.where(called, now_s + timings.reaction_s + timings.rotation_s, ready_s)
        waits = waiting | contest.resting
        _stand_in_line(use, contest, ranked[waits[ranked]], can, ready_s, left_a, place, eta_s, now_s, timings)
    holds = (contest.running & ~makes_way) | called
    called_s = np.where(called, np.minimum(turns.called_s, now_s), np.inf)
    called_s = np.where(called & (turns.called_s == np.inf), now_s, called_s)
    was_full |= makes_way & (now_s - contest.still_s >= STILL_FULL_AFTER_S)
    return Queue(makes_way, holds, place, eta_s), Turns(on_s, called_s, was_full, ran_s, now_s)


def _who_leaves(
    use: Uses,
    contest: Contest,
    spare_s: Floats,
    caller: int,
    can: Bools,
    full: Bools,
    on_s: Floats,
    left_a: Floats,
) -> list[int]:
    """The fewest that let ``caller`` in, full cars first, then lower classes, less urgent, longer turns."""
    mine = use.evse == caller
    rows, needs = use.row[mine], use.coef[mine] * contest.min_a[caller]
    short = np.zeros(use.rows)
    short[rows] = np.maximum(needs - left_a[rows], 0.0)
    short[short <= EPS_A] = 0.0
    equal = contest.priority == contest.priority[caller]
    yields = (contest.priority < contest.priority[caller]) | (equal & (full | (spare_s + 900.0 >= spare_s[caller])))
    concerns = np.zeros(use.n, dtype=np.bool_)
    concerns[use.evse[short[use.row] > 0]] = True
    able = (can & yields & concerns).nonzero()[0]
    able = able[np.lexsort((on_s[able], -spare_s[able], contest.priority[able], ~full[able]))]
    leave: list[int] = []
    for v in able.tolist():
        entries = use.evse == v
        gives = use.coef[entries] * contest.min_a[v]
        if not (short[use.row[entries]] > 0).any():
            continue
        short[use.row[entries]] -= gives
        leave.append(v)
        if (short <= EPS_A).all():
            return leave
    return []


def _stand_in_line(
    use: Uses,
    contest: Contest,
    line: Ints,
    can: Bools,
    ready_s: Floats,
    left_a: Floats,
    place: Ints,
    eta_s: Floats,
    now_s: float,
    timings: Timings,
) -> None:
    """Place and expected time of each in the line: one line for each row that lacks room."""
    needs_a = contest.min_a + timings.start_margin_a
    lacks = use.coef * needs_a[use.evse] > left_a[use.row] + EPS_A
    first = np.full(use.n, use.rows, dtype=np.int64)
    np.minimum.at(first, use.evse[lacks], use.row[lacks])
    for row in np.unique(first[line]).tolist():
        if row == use.rows:
            continue
        beside = np.zeros(use.n, dtype=np.bool_)
        beside[use.evse[use.row == row]] = True
        ends = np.maximum(ready_s[can & beside], now_s).tolist()
        if not ends:
            continue  # nobody's turn ever ends here: no place can be promised
        heapq.heapify(ends)
        for k, w in enumerate(line[first[line] == row].tolist()):
            start_s = max(heapq.heappop(ends) + timings.reaction_s, contest.ready_s[w])
            place[w], eta_s[w] = k + 1, start_s
            heapq.heappush(ends, start_s + timings.rotation_s)
