"""Most energy now: one small linear program instead of fairness, for sites whose owner asks for it.

Everybody who runs keeps his minimum; the program fills the limits with as many amps as they hold, those in a hurry
first. Its corners leave some cars just under their minimum, and steps leave some room: both go to whoever fits, so a
car is started when that helps and never paused for a gain.
"""

from dataclasses import replace

import highspy
import numpy as np

from cem.core.allocation import Request, Shares, share
from cem.core.policy import Urgency, due, with_the_rest
from cem.core.topology import EPS_A, Floats, Topology, uses

HURRY_H = 2.0
"""Each time the laxity grows by this, two thirds of a car's hurry are gone."""


class Throughput:
    """The policy for one site; it keeps the solver between calls."""

    def __init__(self, topology: Topology) -> None:
        """A solver for the site of this topology."""
        self._topology = topology
        self._solver = highspy.Highs()
        self._solver.silent()
        self._solver.setOptionValue("threads", 1)

    def share(self, request: Request, cap: Floats, how_urgent: Urgency) -> Shares:
        """Share for the most energy now.

        Args:
            request: What the EVSEs ask for; the order of admission is as in ``allocation.share``.
            cap: Room for our EVSEs in each row, A.
            how_urgent: As ``policy.urgency`` says.

        Returns:
            As ``allocation.share``: feasible, in steps, nobody who runs paused while the minima of those who run fit.
        """
        topology = self._topology
        now = due(request, how_urgent.needed_a)
        wish = replace(request, wants=now, weight=self._gain(request, how_urgent.laxity_h))
        running = np.zeros(topology.n, dtype=np.bool_) if request.running is None else request.running
        stay = share(topology, replace(wish, wants=now & running, max_a=request.min_a), cap)
        level = self._most(wish, cap, stay.current_a)

        planned = replace(wish, wants=now & (level >= request.min_a - EPS_A), max_a=level, running=stay.admitted)
        corner = share(topology, planned, cap)
        low = np.where(corner.admitted, corner.current_a, request.min_a)
        first = share(topology, replace(wish, min_a=low, running=corner.admitted), cap)
        return with_the_rest(topology, replace(request, weight=wish.weight), cap, first, now)

    def _gain(self, request: Request, laxity_h: Floats) -> Floats:
        """What an ampere is worth: 1 a phase for a car with time, 2 for one without."""
        counts = request.phases.sum(axis=1).astype(float) if request.n_phases is None else request.n_phases
        return np.maximum(counts, 1.0) * (1.0 + np.exp(-np.maximum(laxity_h, 0.0) / HURRY_H))

    def _most(self, wish: Request, cap: Floats, least_a: Floats) -> Floats:
        """The linear program: most gain, from ``least_a`` to the maximum, no row exceeded.

        Who counts in a row that the minima alone overdraw keeps to his minimum.
        """
        use = uses(self._topology, wish.phases, wish.n_phases)
        room_a = cap if wish.fixed_a is None else cap - use.load(wish.fixed_a)
        left_a = room_a - use.load(least_a)
        stuck = np.zeros(use.n, dtype=np.bool_)
        stuck[use.evse[(left_a < -EPS_A)[use.row]]] = True
        most_a = np.where(wish.wants & ~stuck, np.maximum(wish.max_a, least_a), least_a)
        rows = (use.load(most_a - least_a) > np.maximum(left_a, 0.0)).nonzero()[0]
        rises = most_a > least_a
        if rows.size == 0 or wish.weight is None:
            return most_a
        place = np.full(use.rows, -1)
        place[rows] = np.arange(rows.size)
        use = use.where((place[use.row] >= 0) & rises[use.evse])
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = use.n, rows.size
        lp.sense_ = highspy.ObjSense.kMaximize
        lp.col_cost_ = wish.weight
        lp.col_lower_, lp.col_upper_ = np.zeros(use.n), most_a - least_a
        lp.row_lower_ = np.full(rows.size, -highspy.kHighsInf)
        lp.row_upper_ = np.maximum(left_a[rows], 0.0)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_ = np.searchsorted(use.evse, np.arange(use.n + 1)).astype(np.int32)
        lp.a_matrix_.index_ = place[use.row].astype(np.int32)
        lp.a_matrix_.value_ = use.coef
        self._solver.passModel(lp)
        self._solver.run()
        if self._solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return least_a
        more_a: Floats = np.array(self._solver.getSolution().col_value, dtype=np.float64)
        return np.minimum(least_a + np.maximum(more_a, 0.0), most_a)
