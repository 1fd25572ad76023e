"""Water-filling: the weighted max-min fair point under limits whose coefficients are all 0 or more.

Raise one common level ``t``; EVSE ``i`` draws ``clip(weight_i * t, lb_i, ub_i)``. A row saturates at the level where
its members fill it. Where a row's level is the lowest of all rows for each of its members, those members are settled;
with them settled the other rows saturate at the same level or higher, so a few rounds settle everybody.
Coefficients of any size keep this exact (free disposal, Radunovic and Le Boudec); negative ones would not.
"""

import numpy as np

from cem.core.topology import Bools, Floats, Ints, Topology, Uses, uses

OWN_MAX = -1
"""Marks an EVSE that its own upper bound holds, not a row."""

_SAME = 1e-12  # two levels nearer than this, relatively, are one


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
    level = ub.copy()
    binding = np.full(use.n, OWN_MAX, dtype=np.int64)
    gain = ub - lb
    slack = np.maximum(cap - use.load(lb), 0.0)
    could_bind = use.load(gain) > slack
    use = use.only(could_bind[use.row] & (gain[use.evse] > 0))
    low, high = lb / weight, ub / weight
    while use.evse.size:
        row_level = _saturation(use, low, high, weight, slack)
        first = np.flatnonzero(np.concatenate(([True], use.evse[1:] != use.evse[:-1])))
        levels = row_level[use.row]
        mine = np.full(use.n, np.inf)
        mine[use.evse[first]] = np.minimum.reduceat(levels, first)
        near = mine * (1 + _SAME) + _SAME

        # A row settles its members when none of those that move with it is held lower elsewhere.
        elsewhere = (near[use.evse] < levels) & (low[use.evse] < levels) & (high[use.evse] > mine[use.evse])
        settles = np.isfinite(row_level)
        settles[use.row[elsewhere]] = False
        held = settles[use.row] & (levels <= near[use.evse])
        done = np.zeros(use.n, dtype=np.bool_)
        done[use.evse[held]] = True
        full = (mine >= high) & np.isin(np.arange(use.n), use.evse[first])
        binding[use.evse[held]] = use.row[held]
        binding[full] = OWN_MAX
        done |= full
        level[done] = np.clip(weight[done] * np.minimum(mine[done], high[done]), lb[done], ub[done])

        gone = done[use.evse]
        spent = Uses(use.n, use.rows, use.evse[gone], use.row[gone], use.coef[gone])
        slack = np.maximum(slack - spent.load(np.where(done, level - lb, 0.0)), 0.0)
        use = use.only(~gone & np.isfinite(levels))
    return level, binding


def _saturation(use: Uses, low: Floats, high: Floats, weight: Floats, slack: Floats) -> Floats:
    """The level at which each row is full; infinite where its members cannot fill it."""
    # Each entry starts to draw at its low level and stops to rise at its high one: two changes of the row's slope.
    at = np.concatenate((low[use.evse], high[use.evse]))
    slope = use.coef * weight[use.evse]
    row = np.concatenate((use.row, use.row))
    order = np.lexsort((at, row))
    at, row = at[order], row[order]
    rising = np.cumsum(np.concatenate((slope, -slope))[order])
    start = np.flatnonzero(np.concatenate(([True], row[1:] != row[:-1])))
    size = np.diff(np.append(start, row.size))
    # The slopes of a whole row add up to 0, so one cumulative sum serves all rows; likewise below, less its own start.
    drawn = np.concatenate(([0.0], np.cumsum(rising[:-1] * np.diff(at))))
    drawn -= np.repeat(drawn[start], size)
    below = np.add.reduceat((drawn < np.repeat(slack[row[start]], size)).astype(np.int64), start)
    level = np.full(use.rows, np.inf)
    fills = below < size
    # ``last`` is the last change of slope before the row is full (its first, where there is no room at all).
    last = start[fills] + np.maximum(below[fills] - 1, 0)
    rows = row[start[fills]]
    steep = rising[last]
    rest = slack[rows] - drawn[last]
    level[rows] = at[last] + np.divide(rest, steep, out=np.zeros_like(rest), where=rest > 0)
    return level
