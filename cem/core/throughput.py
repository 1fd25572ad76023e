"""Most energy now: one small linear program instead of fairness, for sites whose owner asks for it.

Everybody who runs keeps his minimum; the program fills the limits with as many amps as they hold, those in a hurry
first, the higher class before the lower. Its corners leave some cars just under their minimum, and steps leave some
room: both go to whoever fits, so a car is started when that helps and never paused for a gain.
"""

from dataclasses import replace

import highspy
import numpy as np

from cem.core.allocation import Request, Shares, share
from cem.core.topology import EPS_A, Floats, Topology, Uses, uses

STAY = 0.05
"""What is drawn already is worth so much more than what would be: nobody is moved for less."""


def share_most(topology: Topology, request: Request, cap: Floats, start_margin_a: float = 0.0) -> Shares:
    """Share for the most energy now.

    Args:
        topology: The flattened site.
        request: What the EVSEs ask for; the order of admission is as in ``allocation.share``.
        cap: Room for our EVSEs in each row, A.
        start_margin_a: Room beyond the minimum that an EVSE must find before it starts.

    Returns:
        As ``allocation.share``: feasible, in steps, nobody who runs paused while the minima of those who run fit.
    """
    n = topology.n
    running = np.zeros(n, dtype=np.bool_) if request.running is None else request.running
    counts = topology.n_phases if request.n_phases is None else request.n_phases
    wish = replace(request, weight=np.maximum(counts, 1.0) * (1.0 if request.weight is None else request.weight))
    stay = share(topology, replace(wish, wants=request.wants & running, max_a=request.min_a), cap)
    level = _most(topology, wish, cap, stay.current_a)

    planned = request.wants & (level >= request.min_a - EPS_A)
    corner = share(topology, replace(wish, wants=planned, max_a=level, running=stay.admitted), cap, start_margin_a)
    low = np.where(corner.admitted, corner.current_a, request.min_a)
    return share(topology, replace(wish, min_a=low, running=corner.admitted), cap, start_margin_a)


def _most(topology: Topology, wish: Request, cap: Floats, least_a: Floats) -> Floats:
    """Most gain, from ``least_a`` to the maximum, no row exceeded: class after class, each in what those above left.

    Who counts in a row that the minima alone overdraw keeps to his minimum.
    """
    use = uses(topology, wish.phases, wish.n_phases)
    room_a = cap if wish.fixed_a is None else cap - use.load(wish.fixed_a)
    left_a = room_a - use.load(least_a)
    stuck = np.zeros(use.n, dtype=np.bool_)
    stuck[use.evse[(left_a < -EPS_A)[use.row]]] = True
    most_a = np.where(wish.wants & ~stuck, np.maximum(wish.max_a, least_a), least_a)
    gain = np.ones(use.n) if wish.weight is None else wish.weight
    classes = np.zeros(use.n, dtype=np.int64) if wish.priority is None else wish.priority
    had_a = np.zeros(use.n) if wish.had_a is None else wish.had_a
    kept_a = np.clip(had_a - least_a, 0.0, most_a - least_a)
    twice = Uses(2 * use.n, use.rows, np.append(use.evse, use.evse + use.n), np.tile(use.row, 2), np.tile(use.coef, 2))
    gain = np.append((1.0 + STAY) * gain, gain)
    level = least_a
    for one in np.unique(classes[most_a > least_a])[::-1].tolist():
        mine = classes == one
        rises_a = np.append(np.where(mine, kept_a, 0.0), np.where(mine, most_a - least_a - kept_a, 0.0))
        risen_a = _solve(twice, gain, rises_a, np.maximum(room_a - use.load(level), 0.0))
        level = level + risen_a[: use.n] + risen_a[use.n :]
    return level


def _solve(use: Uses, gain: Floats, rise_a: Floats, left_a: Floats) -> Floats:
    """The linear program: rises from 0 to ``rise_a`` with the most gain in what is left of each row."""
    rows = (use.load(rise_a) > left_a).nonzero()[0]
    if rows.size == 0:
        return rise_a
    place = np.full(use.rows, -1)
    place[rows] = np.arange(rows.size)
    use = use.where((place[use.row] >= 0) & (rise_a > 0)[use.evse])
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = use.n, rows.size
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = gain
    lp.col_lower_, lp.col_upper_ = np.zeros(use.n), rise_a
    lp.row_lower_ = np.full(rows.size, -highspy.kHighsInf)
    lp.row_upper_ = left_a[rows]
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.searchsorted(use.evse, np.arange(use.n + 1)).astype(np.int32)
    lp.a_matrix_.index_ = place[use.row].astype(np.int32)
    lp.a_matrix_.value_ = use.coef
    solver = highspy.Highs()  # a new one each time: what it learned from another cycle would not replay
    solver.silent()
    solver.setOptionValue("parallel", "off")  # not "threads": with another number of them in this process it would fail
    solver.passModel(lp)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return np.zeros(use.n)
    found: Floats = np.array(solver.getSolution().col_value, dtype=np.float64)
    return np.clip(found, 0.0, rise_a)
