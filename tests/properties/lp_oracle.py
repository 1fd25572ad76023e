"""The fair point found another way: a sequence of linear programs (HiGHS), from the site's own words.

Nothing here uses the product's arrays: coefficients come from walking the zones of the site.
"""

from collections.abc import Sequence

import highspy
import numpy as np

from cem.core.site import Site
from cem.core.topology import Group

TOLERANCE = 1e-10


def coefficients(site: Site, groups: Sequence[Group] = ()) -> np.ndarray:
    """Dense ``(rows, n)`` matrix: what one ampere of each EVSE counts in each row, found zone by zone."""
    zones = {zone.zone_id: zone for zone in site.zones}
    matrix = np.zeros((4 * (len(site.zones) + len(groups)), len(site.evses)))
    for i, evse in enumerate(site.evses):
        wired = range(3) if evse.rotation is None else evse.rotation[: evse.phases]
        above = []
        zone_id: str | None = evse.zone_id
        while zone_id is not None:
            above.append(zone_id)
            zone_id = zones[zone_id].parent_id
        for z, zone in enumerate(site.zones):
            if zone.zone_id in above:
                for phase in wired:
                    matrix[4 * z + phase, i] = 1.0
                matrix[4 * z + 3, i] = evse.phases
        for g, group in enumerate(groups):
            if i in group.members:
                factor = 1.0 if group.factors is None else group.factors[group.members.index(i)]
                base = 4 * (len(site.zones) + g)
                for phase in wired:
                    matrix[base + phase, i] = factor
                matrix[base + 3, i] = factor * evse.phases
    return matrix


def max_min_by_lps(
    matrix: np.ndarray, lb: np.ndarray, ub: np.ndarray, weight: np.ndarray, cap: np.ndarray
) -> np.ndarray:
    """Weighted lexicographic max-min: raise the least level, fix whom its dual proves stuck, again.

    Variables r_1..r_n and the level t; rows ``matrix @ r <= cap`` and ``r_i - w_i t >= 0`` for all not yet fixed.
    """
    keep = np.isfinite(cap) & (matrix.sum(axis=1) > 0)
    matrix, cap = matrix[keep], cap[keep]
    n, m = matrix.shape[1], matrix.shape[0]
    full = np.zeros((m + n, n + 1))
    full[:m, :n] = matrix
    full[m:, :n] = np.eye(n)
    full[m:, n] = -weight

    h = highspy.Highs()
    h.silent()
    for option in ("primal_feasibility_tolerance", "dual_feasibility_tolerance"):
        h.setOptionValue(option, TOLERANCE)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = n + 1, m + n
    lp.col_cost_ = np.append(np.zeros(n), 1.0)
    lp.col_lower_ = np.append(lb, 0.0)
    lp.col_upper_ = np.append(ub, np.max(ub / weight) + 1.0)
    lp.row_lower_ = np.append(np.full(m, -highspy.kHighsInf), np.zeros(n))
    lp.row_upper_ = np.append(cap, np.full(n, highspy.kHighsInf))
    lp.sense_ = highspy.ObjSense.kMaximize
    columns, rows = np.nonzero(full.T)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.searchsorted(columns, np.arange(n + 2)).astype(np.int32)
    lp.a_matrix_.index_ = rows.astype(np.int32)
    lp.a_matrix_.value_ = full.T[columns, rows]
    h.passModel(lp)

    fixed = np.zeros(n, dtype=bool)
    result = np.array(lb, dtype=float)
    while not fixed.all():
        h.run()
        assert h.getModelStatus() == highspy.HighsModelStatus.kOptimal, h.getModelStatus()
        solution = h.getSolution()
        level = solution.col_value[n]
        stuck = np.flatnonzero(~fixed & (np.abs(np.array(solution.row_dual)[m:]) > 1e-9))
        assert stuck.size, "an optimum without a stuck EVSE"
        for i in stuck.tolist():
            result[i] = min(max(weight[i] * level, lb[i]), ub[i])
            fixed[i] = True
            h.changeColBounds(i, result[i], result[i])
            h.changeRowBounds(m + i, -highspy.kHighsInf, highspy.kHighsInf)
    return result
