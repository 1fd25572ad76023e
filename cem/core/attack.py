"""Cutting deeper for a moment: while more flows than may, who can still fall falls below its share.

A cut takes its time: the station's, the car's, and what is late flows on above the limit. So for as long as a meter
shows an excess, the shares there are shrunk by it once more, down to the minimum and never to a pause. What the
faster cars fall beyond their share makes up for the slower ones; when the meter is back at its limit, the shares hold
again. The measured excess is taken as it is and never summed up, so nothing winds up.
"""

import numpy as np

from cem.core.allocation import Shares
from cem.core.filling import fill
from cem.core.headroom import EXCESS_A, Envelopes
from cem.core.steps import Steps
from cem.core.topology import NO_ROW, SUM, Floats, Ints, Topology

GAIN = 1.0
"""Part of the excess by which the shares shrink beyond what makes them fit."""


def attacked(
    counted: Topology, shares: Shares, min_a: Floats, weight: Floats, steps: Steps, envelopes: Envelopes, room_a: Floats
) -> tuple[Floats, Ints]:
    """``(n,)`` what each may have while the excess lasts, and the row that takes it below its share.

    Args:
        counted: The topology with the phases counted now.
        shares: Where things settle.
        min_a: Least current of each.
        weight: Of each.
        steps: Of each.
        envelopes: The zones' limits, and what their meters show.
        room_a: Room in each row.

    Returns:
        The share itself, and ``NO_ROW``, where there is no excess.
    """
    over_a = envelopes.measured_a - envelopes.limit_a
    over_a = np.where(over_a > EXCESS_A, over_a, 0.0)  # NaN, where nobody measures, is no excess
    if not np.count_nonzero(over_a):
        return shares.current_a, np.full(counted.n, NO_ROW, dtype=np.int64)
    shrunk = room_a.reshape(-1, 4).copy()
    shrunk[: len(over_a), :SUM] -= GAIN * over_a
    low = np.minimum(steps.up(min_a), shares.current_a)
    level, held_by = fill(counted.wired, low, shares.current_a, weight, shrunk.ravel())
    target_a = np.minimum(np.maximum(steps.down(level), low), shares.current_a)
    return target_a, np.where(target_a < shares.current_a, held_by, NO_ROW)
