"""From fair shares to currents that can be set: round down, then hand out what that left in whole steps."""

import math
from dataclasses import dataclass

import numpy as np

from cem.core.admission import take_in_order
from cem.core.topology import EPS_A, Bools, Floats, Ints, Uses

_FEW = 300  # with this many coefficients or fewer, plain loops are quicker than arrays


@dataclass(frozen=True, slots=True)
class Steps:
    """What each EVSE can be set to: 0, and multiples of its step.

    Attributes:
        size_a: 0 where any value will do.
        unit_a: The same, but 1 where any value will do, to divide by.
    """

    size_a: Floats
    unit_a: Floats

    @classmethod
    def of(cls, step_a: Floats | None, n: int) -> "Steps":
        """Steps of 1 A where nothing is said."""
        if step_a is None:
            whole = np.ones(n)
            return cls(whole, whole)
        return cls(step_a, np.where(step_a > 0, step_a, 1.0))

    def up(self, current_a: Floats) -> Floats:
        """The next whole step, or the same."""
        if self.size_a is self.unit_a:
            return np.ceil(current_a - EPS_A)
        return np.where(self.size_a > 0, np.ceil(current_a / self.unit_a - EPS_A) * self.unit_a, current_a)

    def down(self, current_a: Floats) -> Floats:
        """The whole step below, or the same."""
        if self.size_a is self.unit_a:
            return np.floor(current_a + EPS_A)
        return np.where(self.size_a > 0, np.floor(current_a / self.unit_a + EPS_A) * self.unit_a, current_a)


def hand_out(
    use: Uses,
    current: Floats,
    most: Floats,
    held: Floats,
    *,
    fair: Floats,
    steps: Steps,
    weight: Floats,
    priority: Ints,
    room_a: Floats,
    few: int = _FEW,
) -> Floats:
    """Give out what rounding down left: one step each, pass after pass, until nobody fits.

    In each pass the higher class is first, then the lowest current for its weight, then who lost most by rounding.

    Args:
        use: Coefficients.
        current: Currents rounded down; who is at 0 stays there.
        most: The most each may get, in whole steps.
        held: What each occupies anyway; a step below that takes no room.
        fair: The shares before rounding.
        steps: Steps.
        weight: Shares, above 0.
        priority: Strict classes.
        room_a: Limit of each row.
        few: With this many coefficients left, go on by plain loops.

    Returns:
        The currents, such that nobody can take another step.
    """
    asks = (current > 0) & (current < most - EPS_A) & (steps.size_a > 0)
    if not np.count_nonzero(asks):
        return current
    left = room_a - use.load(np.maximum(current, held))
    use = use.where(asks[use.evse])
    while use.evse.size > few:
        stepped = np.minimum(steps.down(current) + steps.unit_a, most)
        takes = np.maximum(stepped, held) - np.maximum(current, held)
        keys = (current - fair, current / weight, -priority)
        taken, _ = take_in_order(use, asks, keys, take_a=takes, need_a=takes, room_a=left)
        left = left - use.load(np.where(taken, takes, 0.0))
        current = np.where(taken, stepped, current)
        asks = taken & (current < most - EPS_A)  # room only shrinks: who found none now never will
        use = use.where(asks[use.evse])
    return _one_by_one(use, asks, current, most, held, fair, steps, weight, priority, left)


def _one_by_one(
    use: Uses,
    asks: Bools,
    current: Floats,
    most: Floats,
    held: Floats,
    fair: Floats,
    steps: Steps,
    weight: Floats,
    priority: Ints,
    left: Floats,
) -> Floats:
    """The same passes, one EVSE after the other."""
    who = asks.nonzero()[0]
    first, behind = use.evse.searchsorted(who).tolist(), use.evse.searchsorted(who, side="right").tolist()
    rows, coefs, room = use.row.tolist(), use.coef.tolist(), left.tolist()
    now, top, kept = current[who].tolist(), most[who].tolist(), held[who].tolist()
    unit, share = steps.unit_a[who].tolist(), weight[who].tolist()
    wished, rank = fair[who].tolist(), priority[who].tolist()
    turns = list(range(len(now)))
    while turns:
        turns.sort(key=lambda j: (-rank[j], now[j] / share[j], now[j] - wished[j], j))
        again = []
        for j in turns:
            to = min((math.floor(now[j] / unit[j] + EPS_A) + 1) * unit[j], top[j])
            takes = max(to, kept[j]) - max(now[j], kept[j])
            for k in range(first[j], behind[j]):
                if coefs[k] * takes > room[rows[k]] + EPS_A:
                    break
            else:
                for k in range(first[j], behind[j]):
                    room[rows[k]] -= coefs[k] * takes
                now[j] = to
                if to < top[j] - EPS_A:
                    again.append(j)
        turns = again
    current = current.copy()
    current[who] = now
    return current
