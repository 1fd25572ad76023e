"""The offline optimum: most energy in hindsight, every arrival known, any current at any moment. A bound for all."""

import highspy
import numpy as np

from tests.benchmarks._plant import Sessions


def most_energy(
    sessions: Sessions, max_a: np.ndarray, worth: np.ndarray, coef: np.ndarray, cap: np.ndarray
) -> np.ndarray:
    """Charge of each session, ampere-periods per phase, in the best of all schedules.

    Args:
        sessions: All sessions.
        max_a: Most current of each EVSE.
        worth: What an ampere-period at each EVSE is worth.
        coef: ``(limits, n)`` coefficients, mixed signs allowed; EVSEs with the same column are added up first.
        cap: Limit of each row.
    """
    got = np.zeros(sessions.want.size)
    for spell in _spells(sessions):
        got[spell] = _solve(sessions, spell, max_a, worth, coef, cap)
    return got


def _spells(sessions: Sessions) -> list[np.ndarray]:
    """Sessions in groups that share no period with another group."""
    order = np.argsort(sessions.arrival, kind="stable")
    latest = np.maximum.accumulate(sessions.departure[order])
    cuts = (sessions.arrival[order][1:] >= latest[:-1]).nonzero()[0] + 1
    return np.split(order, cuts)


def _solve(
    sessions: Sessions, spell: np.ndarray, max_a: np.ndarray, worth: np.ndarray, coef: np.ndarray, cap: np.ndarray
) -> np.ndarray:
    kinds, kind = np.unique(coef, axis=1, return_inverse=True)
    kind = kind.ravel()
    stay = sessions.departure[spell] - sessions.arrival[spell]
    of = np.repeat(np.arange(spell.size), stay)  # session of each variable
    start = int(sessions.arrival[spell].min())
    ends = np.cumsum(stay)
    when = sessions.arrival[spell][of] - start + np.arange(of.size) - (ends - stay)[of]
    evse = sessions.evse[spell][of]
    upper = np.minimum(max_a[evse], sessions.want[spell][of])
    periods = int(when.max()) + 1

    # y[kind, t] adds up the EVSEs of one kind; limits that even everybody together cannot reach are left out
    slot = kind[evse] * periods + when
    full = np.bincount(slot, weights=upper, minlength=kinds.shape[1] * periods).reshape(kinds.shape[1], periods)
    row_of, at = (np.maximum(kinds, 0) @ full > cap[:, None] + 1e-9).nonzero()
    used = full.ravel() > 0
    sums = used.nonzero()[0]
    place = np.cumsum(used) - 1
    entries_row, entries_kind = (kinds[row_of] != 0).nonzero()
    entry_slot = entries_kind * periods + at[entries_row]
    keep = used[entry_slot]
    entries_row, entries_kind, entry_slot = entries_row[keep], entries_kind[keep], entry_slot[keep]

    n_x, n_s = of.size, spell.size
    rows = np.concatenate((of, n_s + place[slot], n_s + np.arange(sums.size), n_s + sums.size + entries_row))
    columns = np.concatenate((np.arange(n_x), np.arange(n_x), n_x + np.arange(sums.size), n_x + place[entry_slot]))
    values = np.concatenate((np.ones(2 * n_x), np.full(sums.size, -1.0), kinds[row_of[entries_row], entries_kind]))
    order = np.lexsort((rows, columns))
    rows, columns, values = rows[order], columns[order], values[order]

    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = n_x + sums.size, n_s + sums.size + row_of.size
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = np.concatenate((worth[evse], np.zeros(sums.size)))
    lp.col_lower_ = np.zeros(lp.num_col_)
    lp.col_upper_ = np.concatenate((upper, full.ravel()[sums]))
    free = np.full(lp.num_row_, -highspy.kHighsInf)
    free[n_s : n_s + sums.size] = 0.0
    lp.row_lower_ = free
    lp.row_upper_ = np.concatenate((sessions.want[spell], np.zeros(sums.size), cap[row_of]))
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.searchsorted(columns, np.arange(lp.num_col_ + 1)).astype(np.int32)
    lp.a_matrix_.index_ = rows.astype(np.int32)
    lp.a_matrix_.value_ = values
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("parallel", "off")
    solver.passModel(lp)
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise RuntimeError(f"HiGHS did not solve the offline optimum: {solver.getModelStatus()}")
    return np.bincount(of, weights=np.array(solver.getSolution().col_value)[:n_x], minlength=n_s)
