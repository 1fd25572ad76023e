"""Water-filling: the weighted max-min fair point under limits whose coefficients are all 0 or more.

Raise one common level ``t``; EVSE ``i`` draws ``clip(weight_i * t, lb_i, ub_i)``. A row saturates at the level where
its members fill it. Where a row's level is the lowest of all rows for each of its members, those members are settled;
with them settled the other rows saturate at the same level or higher, so a few rounds settle everybody.
Coefficients of any size keep this exact (free disposal, Radunovic and Le Boudec); negative ones would not.
"""

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np

from cem.core.topology import Bools, Floats, Ints, Topology, Uses, uses

OWN_MAX = -1
"""Marks an EVSE that its own upper bound holds, not a row."""

_FEW = 100  # with this many coefficients or fewer, plain loops are quicker than arrays
_SAME = 1e-10  # two levels nearer than this are one


def water_fill(
    topology: Topology,
    lb: Floats,
    ub: Floats,
    weight: Floats,
    phases: Bools,
    cap: Floats,
    n_phases: Floats | None = None,
) -> tuple[Floats, Ints]:
    """The weighted lexicographic max-min point, exactly.

    Args:
        topology: The flattened site.
        lb: Least current of each EVSE, A per phase; together they must fit.
        ub: Most current of each EVSE, finite, not below ``lb``.
        weight: Shares, above 0.
        phases: ``(n, 3)`` grid phases each EVSE counts on.
        cap: Limit of each row; infinite where there is none.
        n_phases: Coefficient of the SUM rows; ``None`` counts the phases.

    Returns:
        The current of each EVSE, and the row that binds it (``OWN_MAX`` where its upper bound does).
    """
    return fill(uses(topology, phases, n_phases), lb, ub, weight, cap)


def fill(use: Uses, lb: Floats, ub: Floats, weight: Floats, cap: Floats) -> tuple[Floats, Ints]:
    """``water_fill`` on coefficients made before."""
    current = ub.copy()
    binding = np.full(use.n, OWN_MAX, dtype=np.int64)
    gain = ub - lb
    if not np.count_nonzero(gain):
        return current, binding
    slack = np.maximum(cap - use.load(lb), 0.0)
    most = use.load(gain)
    if math.isnan(np.minimum.reduce(slack) + np.minimum.reduce(most)):
        raise ValueError("a limit, bound or coefficient of the allocation is not a number")
    use = use.where((most > slack)[use.row] & (gain > 0)[use.evse])
    if use.evse.size == 0:
        return current, binding
    if not np.minimum.reduce(weight[use.evse]) > 0:
        raise ValueError("a weight of the allocation is not a number above 0")
    if use.evse.size > _FEW:
        use, slack = in_rounds(use, lb, ub, weight, slack, current, binding)
    row_by_row(use, lb, ub, weight, slack, current, binding)
    return current, binding


def row_by_row(
    use: Uses, lb: Floats, ub: Floats, weight: Floats, slack: Floats, current: Floats, binding: Ints
) -> None:
    """Settle the members of the lowest row, then of the next; the quicker way for a small site.

    ``current`` holds the upper bounds and ``binding`` ``OWN_MAX``; both are updated for those whom a row holds.
    """
    low_a, high_a, weights, rest = lb.tolist(), ub.tolist(), weight.tolist(), slack.tolist()
    members: dict[int, list[int]] = {}
    rows_of: dict[int, list[tuple[int, float]]] = {}
    changes: dict[int, list[tuple[float, float, int]]] = {}
    for i, row, coef in zip(use.evse.tolist(), use.row.tolist(), use.coef.tolist(), strict=True):
        members.setdefault(row, []).append(i)
        rows_of.setdefault(i, []).append((row, coef))
        slope = coef * weights[i]
        at_row = changes.setdefault(row, [])
        at_row += ((low_a[i] / weights[i], slope, i), (high_a[i] / weights[i], -slope, i))
    for at_row in changes.values():
        at_row.sort()
    levels = {row: _full_at(changes[row], rest[row], rows_of) for row in members}
    while levels:
        row = min(levels, key=levels.__getitem__)
        level = levels.pop(row)
        if level == math.inf:
            break
        touched = set()
        for i in members[row]:
            if i not in rows_of:
                continue
            share_a = max(weights[i] * level, low_a[i])
            if share_a < high_a[i]:
                current[i], binding[i] = share_a, row
            for other, coef in rows_of.pop(i):
                rest[other] -= coef * (min(share_a, high_a[i]) - low_a[i])
                touched.add(other)
        for other in touched & levels.keys():
            levels[other] = _full_at(changes[other], rest[other], rows_of)


def _full_at(changes: list[tuple[float, float, int]], rest: float, unsettled: Container[int]) -> float:
    """The level at which one row is full; infinite where its unsettled members cannot fill it."""
    before, steep = -math.inf, 0.0
    for at, slope, i in changes:
        if i in unsettled:
            if steep > 0 and steep * (at - before) >= rest:
                return before + max(rest, 0.0) / steep
            if steep > 0:
                rest -= steep * (at - before)
            before, steep = at, steep + slope
    return math.inf


def in_rounds(
    use: Uses, lb: Floats, ub: Floats, weight: Floats, slack: Floats, current: Floats, binding: Ints, few: int = _FEW
) -> tuple[Uses, Floats]:
    """As ``row_by_row``, many rows at once, until only ``few`` coefficients remain; these and the slack are returned.

    Each round settles the members of every row that is the lowest for all of them.
    """
    low, high = lb / weight, ub / weight
    changes = _changes(use, low, high, weight)
    unsettled = np.ones(use.n, dtype=np.bool_)
    while use.evse.size > few:
        evse, row = use.evse, use.row
        full_at = _saturation(changes, slack)
        levels = full_at[row]
        mine = np.full(use.n, np.inf)
        np.minimum.at(mine, evse, levels)
        here = mine[evse]

        # A row settles its members where none of those that move with it is held lower elsewhere.
        lower = here + _SAME < levels
        binds = full_at < np.inf
        settles = binds.copy()
        settles[row[lower & (low[evse] < levels) & (high[evse] > here)]] = False
        by_row = (settles[row] > lower).nonzero()[0]
        held, full = evse[by_row], evse[high[evse] <= here]
        binding[held] = row[by_row]
        binding[full] = OWN_MAX
        settled = np.concatenate((held, full))
        unsettled[settled] = False
        fair = np.minimum(np.maximum(weight * np.minimum(mine, high), lb), ub)
        current[settled] = fair[settled]

        rises = np.zeros(use.n)
        rises[settled] = (fair - lb)[settled]
        slack = np.maximum(slack - use.load(rises), 0.0)
        use = use.where(unsettled[evse] & binds[row])
        if use.evse.size > few:
            changes = changes.where(unsettled[changes.evse] & binds[changes.row])
    return use, slack


@dataclass(frozen=True, slots=True)
class _Changes:
    """Where the slope of a row's draw over its level changes: a member starts to rise, or stops.

    Attributes:
        row: Ascending.
        evse: Whose change.
        at: Level of the change, ascending within a row.
        slope: By how much the slope changes; the changes of one row add up to 0.
    """

    row: Ints
    evse: Ints
    at: Floats
    slope: Floats

    def where(self, keep: Bools) -> "_Changes":
        k = keep.nonzero()[0]
        return _Changes(self.row[k], self.evse[k], self.at[k], self.slope[k])


def _changes(use: Uses, low: Floats, high: Floats, weight: Floats) -> _Changes:
    """All changes of slope, by row and then by level."""
    at = np.concatenate((low, high))
    rank = np.empty(at.size, dtype=_small(at.size))
    rank[at.argsort()] = np.arange(at.size)
    mine = np.concatenate((use.evse, use.evse + use.n))
    row = np.concatenate((use.row, use.row))
    slope = use.coef * weight[use.evse]
    # Two stable sorts of small integers, the finer key first: numpy sorts these by radix.
    order = rank[mine].argsort(kind="stable")
    order = order[row.astype(_small(use.rows))[order].argsort(kind="stable")]
    evse = np.concatenate((use.evse, use.evse))
    return _Changes(row[order], evse[order], at[mine[order]], np.concatenate((slope, -slope))[order])


def _small(size: int) -> type[np.unsignedinteger[Any]]:
    return np.uint16 if size <= 1 << 16 else np.uint32


def _saturation(changes: _Changes, slack: Floats) -> Floats:
    """The level at which each row is full; infinite where its members cannot fill it."""
    at, of = changes.at, changes.row
    rising = changes.slope.cumsum()
    # The slope at the end of a row is 0, so one sum runs through all rows and never falls.
    drawn = np.zeros(at.size)
    np.cumsum(rising[:-1] * (at[1:] - at[:-1]), out=drawn[1:])
    edges = np.concatenate(((0,), (of[1:] != of[:-1]).nonzero()[0] + 1, (at.size,)))
    start = edges[:-1]
    row = of[start]
    full = drawn[start] + slack[row]
    after = drawn.searchsorted(full)
    before = np.maximum(after - 1, start)
    steep = rising[before]
    level = at[before]
    level += np.divide(full - drawn[before], steep, out=np.zeros(row.size), where=steep > 0)
    level[after >= edges[1:]] = np.inf
    full_at = np.full(slack.size, np.inf)
    full_at[row] = level
    return full_at
