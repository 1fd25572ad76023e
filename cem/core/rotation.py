"""Taking turns: when not all minima fit, who runs makes way for who has waited, and nobody starves.

A running EV is never paused for a mere gain. It makes way only after its turn (``rotation_s``), only for one of its
class or a higher one that is not clearly less urgent, and only where that one then really fits. A full car that draws
nothing is no longer protected by its turn (fault S19): it makes way first, is asked again when its turn comes, and then
needs to draw soon to keep it.

A start asks for more room than the minimum, so that it does not end with the next kettle. Room for the bare minimum is
enough where it has stood for a while: else a car could be kept out for ever by less than that margin.
"""

import heapq
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cem.core.admission import FITS, take_in_order
from cem.core.swaps import Seats, fits, load_of, swaps
from cem.core.timings import Timings
from cem.core.topology import EPS_A, Bools, Floats, Ints, Uses

FULL_AFTER_S, STILL_FULL_AFTER_S = 600.0, 60.0
"""Drawing nothing for so long makes a car full (S19); where it was found full before, this long is enough."""

RELAXED_S = 7200.0
"""With more time to spare than this nobody is urgent; who has waited for this long is as urgent as any."""

STANDS_S = 30.0
"""Room for a bare minimum that has stood so long is enough for a start."""

CALL_LASTS_S = 120.0

ONE_AFTER_THE_OTHER_S = 1e-7
"""Keeps the order of those whose turn comes in one cycle."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Memory per EVSE, arrays ``(n,)``.

    Attributes:
        on_s: Since when it has drawn in this turn; inf where it is paused or has not drawn yet.
        called_s: Since when its turn has come, whether it runs already or not; inf while it waits.
        begun_s: When its last turn came; those of one cycle differ by next to nothing, in the order of the line.
        fits_s: Since when there has been room for the bare minimum of one that waits; inf where there is none.
        was_full: It made way because it was full, and has drawn nothing since.
    """

    on_s: Floats
    called_s: Floats
    begun_s: Floats
    fits_s: Floats
    was_full: Bools

    @classmethod
    def none(cls, n: int) -> Self:
        """Before the first cycle."""
        never = np.full(n, np.inf)
        return cls(never, never, -never, never, np.zeros(n, dtype=np.bool_))


@dataclass(frozen=True, slots=True)
class Contest:
    """Who competes for minima in this cycle, arrays ``(n,)``.

    Attributes:
        wants: It wants its minimum now.
        resting: It would, but for its minimum off time.
        running: It is offered current.
        min_a: What it needs.
        priority: Classes, higher first.
        spare_s: Time to departure beyond what charging needs; inf where unknown.
        since_s: Since when it has waited; now where it runs.
        still_s: Since when it has drawn nothing although it might; inf where it draws.
        ready_s: When its minimum off time ends.
    """

    wants: Bools
    resting: Bools
    running: Bools
    min_a: Floats
    priority: Ints
    spare_s: Floats
    since_s: Floats
    still_s: Floats
    ready_s: Floats


@dataclass(frozen=True, slots=True)
class Queue:
    """The outcome of a cycle, arrays ``(n,)``.

    Attributes:
        makes_way: It is paused now so that another gets its turn.
        holds: It runs or has been called: it comes before those that would start.
        rank: The order within these two, 0 is first.
        place: 1 is next; 0 where it does not wait for a turn.
        eta_s: Monotonic time at which its turn is expected; NaN where it does not wait for one.
    """

    makes_way: Bools
    holds: Bools
    rank: Ints
    place: Ints
    eta_s: Floats


def held_a(turns: Turns, setpoint_a: Floats, min_a: Floats) -> Floats:
    """``(n,)`` what each has, or is to have because its turn has come."""
    return np.where(np.isfinite(turns.called_s), np.maximum(setpoint_a, min_a), setpoint_a)


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
    draws = contest.running & (contest.still_s == np.inf)
    on_s = np.where(contest.running, np.minimum(turns.on_s, np.where(draws, now_s, np.inf)), np.inf)
    called = contest.wants & ~contest.running & (turns.called_s <= now_s) & (now_s - turns.called_s <= CALL_LASTS_S)
    was_full = turns.was_full & ~(draws & (now_s - on_s > STILL_FULL_AFTER_S))
    holds = contest.running | called
    makes_way = np.zeros(n, dtype=np.bool_)
    place, eta_s, fits_s = np.zeros(n, dtype=np.int64), np.full(n, np.nan), np.full(n, np.inf)
    waited_long = now_s - contest.since_s > RELAXED_S
    spare_s = np.where(waited_long, 0.0, np.clip(contest.spare_s, 0.0, RELAXED_S))
    # last come, last to lose its turn; and who waits equally long goes in the order of the last time
    begun_s = np.where(contest.running, -turns.begun_s, turns.begun_s)
    ranked = np.lexsort((begun_s, contest.since_s, spare_s, ~contest.running, -contest.priority))
    rank = np.empty(n, dtype=np.int64)
    rank[ranked] = np.arange(n)

    need_a = np.where(holds, contest.min_a, contest.min_a + timings.start_margin_a)
    admitted, lacking = take_in_order(
        use, contest.wants, (rank, ~holds), take_a=contest.min_a, need_a=need_a, room_a=room_a
    )
    waiting = contest.wants & (lacking != FITS) & ~contest.running
    if np.count_nonzero(waiting | contest.resting):
        left_a = room_a - use.load(np.where(admitted, contest.min_a, 0.0))
        fits_s = np.where(waiting & fits(use, contest.min_a, left_a), np.minimum(turns.fits_s, now_s), np.inf)
        for w in ranked[(now_s - fits_s >= STANDS_S)[ranked]].tolist():
            if fits(use, contest.min_a, left_a)[w]:
                called[w], waiting[w] = True, False
                left_a -= load_of(use, contest.min_a, [w])
        fits_s = np.where(waiting & fits(use, contest.min_a, left_a), fits_s, np.inf)
        full = now_s - contest.still_s >= np.where(was_full, STILL_FULL_AFTER_S, FULL_AFTER_S)
        seats = Seats(
            can=admitted & contest.running,
            full=full,
            end_s=np.where(full, now_s, on_s + timings.rotation_s),
            begun_s=turns.begun_s,
            spare_s=spare_s,
            priority=contest.priority,
            min_a=contest.min_a,
        )
        for w, leave in swaps(use, seats, ranked, waiting, left_a, now_s):
            makes_way[leave], called[w], waiting[w] = True, True, False
            left_a += load_of(use, contest.min_a, leave) - load_of(use, contest.min_a, [w])
        begins = called | (admitted & ~contest.running)
        ends = replace(
            seats,
            can=(seats.can & ~makes_way) | begins,
            end_s=np.where(
                full, now_s, np.minimum(on_s, now_s + timings.reaction_s * (1 + begins)) + timings.rotation_s
            ),
        )
        line = ranked[(waiting | contest.resting)[ranked]]
        _stand_in_line(use, contest, line, ends, fits_s + STANDS_S, left_a, place, eta_s, now_s, timings)
    holds = (contest.running & ~makes_way) | called
    begins = holds & (turns.called_s == np.inf)
    turns = Turns(
        on_s=on_s,
        called_s=np.where(holds, np.minimum(turns.called_s, now_s), np.inf),
        begun_s=np.where(begins, now_s + ONE_AFTER_THE_OTHER_S * rank, turns.begun_s),
        fits_s=fits_s,
        was_full=was_full | (makes_way & (now_s - contest.still_s >= STILL_FULL_AFTER_S)),
    )
    return Queue(makes_way, holds, rank, place, eta_s), turns


def _stand_in_line(
    use: Uses,
    contest: Contest,
    line: Ints,
    seats: Seats,
    stood_s: Floats,
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
        waits = line[first[line] == row]
        beside = np.zeros(use.n, dtype=np.bool_)
        beside[use.evse[use.row == row]] = True
        ends = np.maximum(seats.ends((seats.can & beside).nonzero()[0]), now_s).tolist()
        if np.isfinite(stood_s[waits[0]]):  # it will be let in by room that has stood, in nobody's stead
            ends.append(max(stood_s[waits[0]], now_s) - timings.reaction_s)
        if not ends:
            continue  # nobody's turn ever ends here: no place can be promised
        starts_s = _starts(
            ends, contest.ready_s[waits], timings.reaction_s, 2 * timings.reaction_s + timings.rotation_s
        )
        place[waits], eta_s[waits] = np.arange(1, waits.size + 1), starts_s


def _starts(ends_s: list[float], ready_s: Floats, gap_s: float, turn_s: float) -> Floats:
    """When those in one line start: each ``gap_s`` after the first turn to end, its own ends ``turn_s`` after that.

    Args:
        ends_s: When the turns of those who run end.
        ready_s: In the order of the line, before which each does not start.
        gap_s: From the end of one turn to the start of the next.
        turn_s: From the end of one turn to the end of the next in its place.
    """
    ends = np.sort(ends_s)
    if (
        np.isfinite(ends[-1]) and ends[-1] - ends[0] <= turn_s
    ):  # nobody's second turn ends before somebody's first: they end round and round
        rounds, seat = np.divmod(np.arange(ready_s.size), ends.size)
        starts_s: Floats = ends[seat] + rounds * turn_s + gap_s
        if not np.count_nonzero(ready_s > starts_s):
            return starts_s
    free_s, starts_s = ends.tolist(), np.empty(ready_s.size)
    for k, ready in enumerate(ready_s.tolist()):
        starts_s[k] = start_s = max(free_s[0] + gap_s, ready)
        heapq.heapreplace(free_s, start_s - gap_s + turn_s)
    return starts_s
