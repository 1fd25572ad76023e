"""Who fits: strictly in order, everybody who still finds room for what it needs."""

from collections.abc import Sequence

import numpy as np

from cem.core.topology import EPS_A, Bools, Floats, Ints, Uses

FITS = -1
"""Marks an EVSE that lacked no room."""

_FEW = 200  # with this many coefficients or fewer, one after the other is quicker than all at once


def take_in_order(
    use: Uses, asks: Bools, keys: Sequence[Floats | Ints | Bools], *, take_a: Floats, need_a: Floats, room_a: Floats
) -> tuple[Bools, Ints]:
    """Go through the EVSEs in order; each that finds room for ``need_a`` in all its rows takes ``take_a`` of it.

    Args:
        use: Coefficients.
        asks: Who asks at all.
        keys: The order, smallest first, as for ``numpy.lexsort``: the last key counts most; then the index.
        take_a: What each takes, 0 or more.
        need_a: The room each must find, not below ``take_a``; what it exceeds it by never shrinks along the order.
        room_a: Room in each row.

    Returns:
        Who got in, and for those who did not one of their rows that lacked room (else ``FITS``).
    """
    lacking = np.full(use.n, FITS, dtype=np.int64)
    scarce = use.load(np.where(asks, need_a, 0.0)) > room_a + EPS_A
    if not np.count_nonzero(scarce):
        return asks.copy(), lacking
    use = use.where(scarce[use.row] & asks[use.evse])
    short = (use.coef * need_a[use.evse] > room_a[use.row] + EPS_A).nonzero()[0]
    lacking[use.evse[short]] = use.row[short]
    fits_alone = lacking == FITS
    use = use.where(fits_alone[use.evse])
    if use.evse.size:
        contends = np.zeros(use.n, dtype=np.bool_)
        contends[use.evse] = True
        order = contends.nonzero()[0]
        order = order[np.lexsort([key[order] for key in keys])]
        left = room_a.copy()
        if use.evse.size > _FEW:
            use, order = _settle(use, order, take_a, need_a, left, lacking)
        _one_by_one(use, order, take_a, need_a, left, lacking)
    return asks & (lacking == FITS), lacking


def _settle(use: Uses, order: Ints, take_a: Floats, need_a: Floats, left: Floats, lacking: Ints) -> tuple[Uses, Ints]:
    """Settle, round after round, all whose turn cannot change their fate; ``left`` and ``lacking`` are updated.

    Who fits even if all before it get in, gets in. What those take is then truly gone for all after them, and takes
    nothing from anybody before them, because the sum that fitted had those in it. Who does not fit alone in what
    is then left stays out. The first in the order is always one or the other. Returns those still in doubt, when few
    are left or a round no longer pays.
    """
    place = np.empty(use.n, dtype=np.int64)
    place[order] = np.arange(order.size)
    by_row = (use.row * order.size + place[use.evse]).argsort()
    evse, row = use.evse[by_row], use.row[by_row]
    takes, needs = use.coef[by_row] * take_a[evse], use.coef[by_row] * need_a[evse]
    in_doubt = np.zeros(use.n, dtype=np.bool_)
    size = evse.size + 1
    while _FEW < evse.size < size:
        size = evse.size - evse.size // 8
        total = takes.cumsum()
        start = np.concatenate(((0,), (row[1:] != row[:-1]).nonzero()[0] + 1))
        before = np.zeros(left.size)
        before[row[start]] = total[start] - takes[start]
        in_doubt[:] = False
        in_doubt[evse[total - takes - before[row] + needs > left[row] + EPS_A]] = True

        open_ = in_doubt[evse]
        left -= np.bincount(row, weights=np.where(open_, 0.0, takes), minlength=left.size)
        short = (open_ & (needs > left[row] + EPS_A)).nonzero()[0]
        lacking[evse[short]] = row[short]
        in_doubt[evse[short]] = False
        k = in_doubt[evse].nonzero()[0]
        evse, row, takes, needs = evse[k], row[k], takes[k], needs[k]
    return use.where(in_doubt[use.evse]), order[in_doubt[order]]


def _one_by_one(use: Uses, order: Ints, take_a: Floats, need_a: Floats, left: Floats, lacking: Ints) -> None:
    """Go through the rest in order."""
    first = use.evse.searchsorted(order).tolist()
    behind = use.evse.searchsorted(order, side="right").tolist()
    rows, room = use.row.tolist(), left.tolist()
    takes, needs = (use.coef * take_a[use.evse]).tolist(), (use.coef * need_a[use.evse]).tolist()
    for i, a, b in zip(order.tolist(), first, behind, strict=True):
        for k in range(a, b):
            if needs[k] > room[rows[k]] + EPS_A:
                lacking[i] = rows[k]
                break
        else:
            for k in range(a, b):
                room[rows[k]] -= takes[k]
