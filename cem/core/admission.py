"""Who fits: strictly in order, everybody who still finds room for what it needs."""

import numpy as np

from cem.core.topology import EPS_A, Bools, Floats, Ints, Uses

FITS = -1
"""Marks an EVSE that lacked no room."""


def take_in_order(
    use: Uses, asks: Bools, order: Ints, *, take_a: Floats, need_a: Floats, room_a: Floats
) -> tuple[Bools, Ints]:
    """Go through the EVSEs in order; each that finds room for ``need_a`` in all its rows takes ``take_a`` of it.

    Args:
        use: Coefficients.
        asks: Who asks at all.
        order: EVSE indices, the first served first.
        take_a: What each takes.
        need_a: The room each must find, not below ``take_a``.
        room_a: Room in each row.

    Returns:
        Who got in, and for those who did not the first of their rows that lacked room (else ``FITS``).
    """
    lacking = np.full(use.n, FITS, dtype=np.int64)
    everybody = use.load(np.where(asks, need_a, 0.0))
    scarce = everybody > room_a + EPS_A
    contested = use.only(scarce[use.row] & asks[use.evse])
    if contested.evse.size == 0:
        return asks.copy(), lacking
    contenders = np.zeros(use.n, dtype=np.bool_)
    contenders[contested.evse] = True
    first = np.searchsorted(contested.evse, np.arange(use.n + 1)).tolist()
    rows, coefs = contested.row.tolist(), contested.coef.tolist()
    left = room_a.tolist()
    taken = asks.copy()
    need, take = need_a.tolist(), take_a.tolist()
    for i in order[contenders[order]].tolist():
        entries = range(first[i], first[i + 1])
        for k in entries:
            if coefs[k] * need[i] > left[rows[k]] + EPS_A:
                lacking[i] = rows[k]
                taken[i] = False
                break
        else:
            for k in entries:
                left[rows[k]] -= coefs[k] * take[i]
    return taken, lacking
