"""Which limit bound each EVSE: the codes and rows that a decision carries."""

import numpy as np

from cem.core.allocation import NOT_ADMITTED, Shares
from cem.core.asks import Asks
from cem.core.headroom import Envelopes
from cem.core.reasons import REASON_OF, Reason
from cem.core.rotation import Queue
from cem.core.topology import NO_ROW, Bools, Floats, Ints, Topology, crowded_row

STANDING = (Reason.NO_ROOM, Reason.ZONE_POWER, Reason.GROUP_LIMIT, Reason.UNBALANCE, Reason.BUSBAR)
"""Limits that are always there: with these it is the turn that one waits for. Any other is worth being named itself,
with the place in the queue beside it."""


def time_to_spare(reason: Ints, row: Ints, idle: Bools) -> tuple[Ints, Ints]:
    """The reasons and rows, with those named that pause because they can wait; ``idle`` ``(n,)`` who they may be."""
    waits = idle & np.isin(reason, (Reason.MINIMUM_OFF_TIME, Reason.ZONE_CURRENT, Reason.EXTERNAL_LIMIT, *STANDING))
    return np.where(waits, Reason.TIME_TO_SPARE, reason).astype(np.int64), np.where(waits, NO_ROW, row)


def in_line(reason: Ints, setpoint: Floats, queue: Queue) -> Ints:
    """The reasons, with those who wait for their turn named as such; the limit that lacks room stays named."""
    if not np.count_nonzero(queue.makes_way) and not np.count_nonzero(queue.place):
        return reason
    waits = np.isin(reason, (Reason.MINIMUM_OFF_TIME, *STANDING)) & (queue.place > 0)
    return np.where((setpoint == 0) & (waits | queue.makes_way), Reason.ROTATION_QUEUE, reason).astype(np.int64)


def reasons(
    asks: Asks,
    shares: Shares,
    attacked_by: Ints,
    target_a: Floats,
    setpoint: Floats,
    allowed: Floats,
    envelopes: Envelopes,
    counted: Topology,
    min_a: Floats,
    left_a: Floats,
) -> tuple[Ints, Ints]:
    """The one limit that bound each EVSE, and its row."""
    of_source = np.array([REASON_OF[source.origin] for source in envelopes.sources], dtype=np.int64)
    of_row = of_source[envelopes.room_by.ravel()]
    refused = shares.binding == NOT_ADMITTED
    row = np.where(refused, shares.lacking, np.where(shares.binding >= 0, shares.binding, NO_ROW))
    row = np.where(attacked_by != NO_ROW, attacked_by, row)
    row = np.where(asks.wants, row, NO_ROW)
    resting = asks.why == Reason.MINIMUM_OFF_TIME
    if np.count_nonzero(resting):  # while there is no room, that is what keeps it paused
        row = np.where(resting, crowded_row(counted, min_a, left_a), row)
        refused = refused | resting
    bound = of_row[np.maximum(row, 0)]
    bound = np.where(refused & (bound == Reason.ZONE_CURRENT), Reason.NO_ROOM, bound)
    reason = np.where(row >= 0, bound, asks.why)
    rising = asks.wants & (setpoint < target_a)
    if np.count_nonzero(rising):
        row = np.where(rising, NO_ROW, row)
        reason = np.where(rising, np.where(setpoint < allowed, Reason.AWAITING_OTHERS, Reason.RISING), reason)
    return reason, row
