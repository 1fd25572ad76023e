"""Whose turn ends so that one that waits comes in."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from cem.core.topology import UNRESOLVED_A, Bools, Floats, Ints, Uses

PATIENT_S = 900.0
"""One whose class is the same makes way unless it has so much less time to spare."""

TOGETHER_S = 60.0
"""Turns end in the order in which they began, where they would end within a minute of each other anyway: otherwise
cars that are a little slower to start lose a place at each round, and in a few hours a whole turn."""

CALLS_A_CYCLE = 8
CLASS_S = 1e7
"""What a class weighs in seconds to spare: more than anybody has."""


@dataclass(frozen=True, slots=True)
class Seats:
    """Those who run, arrays ``(n,)``.

    Attributes:
        can: It has a minimum that another could have.
        full: It draws nothing and is no longer protected by its turn (fault S19).
        end_s: When its turn ends; inf while it has not drawn yet.
        begun_s: When it began.
        spare_s: Time to departure beyond what charging needs.
        priority: Classes, higher first.
        min_a: What each would leave or need.
    """

    can: Bools
    full: Bools
    end_s: Floats
    begun_s: Floats
    spare_s: Floats
    priority: Ints
    min_a: Floats

    def ends(self, some: Ints) -> Floats:
        """When the turns of those who share a limit end: in the order in which they began."""
        order = some[np.argsort(self.begun_s[some], kind="stable")]
        end_s = self.end_s[order]
        before = np.concatenate(([-np.inf], np.where(np.isfinite(end_s), end_s, -np.inf)[:-1]))
        before = np.maximum.accumulate(before)
        ends = np.empty(self.can.size)
        ends[order] = np.where((before > end_s) & (before <= end_s + TOGETHER_S), before, end_s)
        return ends[some]


def fits(use: Uses, needs_a: Floats, left_a: Floats) -> Bools:
    """``(n,)`` what is left has room for it."""
    room = np.ones(use.n, dtype=np.bool_)
    room[use.evse[use.coef * needs_a[use.evse] > left_a[use.row] + UNRESOLVED_A]] = False
    return room


def load_of(use: Uses, current_a: Floats, some: list[int]) -> Floats:
    """What the currents of some add up to in each row."""
    only = np.zeros(use.n)
    only[some] = current_a[some]
    return use.load(only)


def swaps(
    use: Uses, seats: Seats, ranked: Ints, waiting: Bools, left_a: Floats, now_s: float
) -> Iterator[tuple[int, list[int]]]:
    """Who comes in for whom in this cycle, in the order of the line.

    Where one that needs several turns to end (a three-phase car among single-phase ones) waits for the last of them,
    nobody behind it takes the others: it would see them all free at once by mere luck.

    Args:
        use: Coefficients.
        seats: Those who run.
        ranked: All, in the order of the line.
        waiting: ``(n,)`` who stands in it.
        left_a: Room in each row beyond the minima of all who run or were called.
        now_s: Monotonic.
    """
    ready = seats.can & (seats.end_s <= now_s)
    if not (ready.any() and waiting.any()):
        return
    lacks = use.coef * seats.min_a[use.evse] > left_a[use.row] + UNRESOLVED_A
    # the easiest to move in each row, as one number: a lower class, then a full car, then one with more time to spare
    ease_s = np.where(seats.full, CLASS_S / 2, seats.spare_s) - seats.priority * CLASS_S
    easiest_s = np.full(use.rows, -np.inf)
    np.maximum.at(easiest_s, use.row, np.where(seats.can, ease_s, -np.inf)[use.evse])
    asks_s = seats.spare_s - PATIENT_S - seats.priority * CLASS_S
    hopeful = np.zeros(use.n, dtype=np.bool_)
    hopeful[use.evse[lacks]] = True
    hopeful[use.evse[lacks & (easiest_s[use.row] < asks_s[use.evse])]] = False
    hopeful &= waiting
    left_a = left_a.copy()
    for _ in range(CALLS_A_CYCLE):
        line = ranked[hopeful[ranked]]
        if not line.size:
            return
        w = int(line[0])
        hopeful[w] = False
        if leave := _who_leaves(use, seats, w, left_a, ended_by_s=now_s):
            can = seats.can.copy()
            can[leave] = False
            seats = replace(seats, can=can)
            left_a += load_of(use, seats.min_a, leave) - load_of(use, seats.min_a, [w])
            yield w, leave
        elif _who_leaves(use, seats, w, left_a, ended_by_s=np.inf):
            claimed = np.zeros(use.rows, dtype=np.bool_)
            claimed[use.row[lacks & (use.evse == w)]] = True
            hopeful[use.evse[lacks & claimed[use.row]]] = False


def _who_leaves(use: Uses, seats: Seats, caller: int, left_a: Floats, *, ended_by_s: float) -> list[int]:
    """The fewest that let ``caller`` in, full cars first, then lower classes, less urgent, longer turns."""
    mine = use.evse == caller
    rows, needs = use.row[mine], use.coef[mine] * seats.min_a[caller]
    short = np.zeros(use.rows)
    short[rows] = np.maximum(needs - left_a[rows], 0.0)
    short[short <= UNRESOLVED_A] = 0.0
    spare_s, priority = seats.spare_s, seats.priority
    equal = priority == priority[caller]
    yields = (priority < priority[caller]) | (equal & (seats.full | (spare_s + PATIENT_S >= spare_s[caller])))
    concerns = np.zeros(use.n, dtype=np.bool_)
    concerns[use.evse[short[use.row] > 0]] = True
    able = (seats.can & yields & concerns).nonzero()[0]
    able = able[seats.ends(able) <= ended_by_s]
    able = able[np.lexsort((seats.begun_s[able], -spare_s[able], priority[able], ~seats.full[able]))]
    leave: list[int] = []
    for v in able.tolist():
        entries = use.evse == v
        if not (short[use.row[entries]] > 0).any():
            continue
        short[use.row[entries]] -= use.coef[entries] * seats.min_a[v]
        leave.append(v)
        if (short <= UNRESOLVED_A).all():
            return leave
    return []
