"""Energy budgets: the mean of a clock quarter of an hour must stay below a power (contract peaks are measured so).

The budget is what is left of the quarter's energy over what is left of its time. The record is by monotonic time, second
by second, so a clock that jumps changes only which of these seconds count; what nobody measured counts at its worst.
Only import counts: what a site feeds in is measured by another register.
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

import numpy as np

from cem.core.limits import Limit, LimitKind, Origin
from cem.core.topology import Floats
from cem.core.zone_plan import ZonePlan

QUARTER_S = 900
RECORD_S = QUARTER_S + 1
KEPT_FREE = 0.005
"""Part of the budget that EVs may overdraw until they have followed a cut at the end of a quarter."""

SMOOTH_S = 60.0
"""Near the end of a quarter its rest is not thrown in at once: the next quarter would begin with a cut."""

SHORTEST_S = 5.0
"""Nor is what it lacks taken away at once: EVs need so long to follow."""


@dataclass(frozen=True, slots=True)
class BudgetMemory:
    """What each zone with a budget drew in the last quarter of an hour.

    Attributes:
        drawn_w: ``(b, RECORD_S)`` power of each second, at the second's number modulo ``RECORD_S``; NaN: unknown.
        second: The second written last.
    """

    drawn_w: Floats
    second: int

    @classmethod
    def none(cls, count: int) -> Self:
        """Nothing is known of the time before the start."""
        return cls(np.full((count, RECORD_S), np.nan), -1)

    def seen(self, power_w: Floats, now_s: float) -> Self:
        """With this cycle's power ``(b,)``, NaN where nobody measures; a second keeps the highest it saw.

        Seconds that no cycle saw are those of a stalled process: up to three are filled, longer ones are unknown.
        """
        second = int(now_s)
        if second == self.second:
            drawn_w = self.drawn_w.copy()
            drawn_w[:, second % RECORD_S] = np.maximum(drawn_w[:, second % RECORD_S], power_w)
            return replace(self, drawn_w=drawn_w)
        drawn_w = self.drawn_w.copy()
        missed = second - self.second - 1 if self.second >= 0 else 0
        before_w = drawn_w[:, self.second % RECORD_S].copy()
        filler_w = np.maximum(before_w, power_w) if missed <= 3 else np.full(len(power_w), np.nan)
        for gap in range(second - min(missed, RECORD_S - 1), second):
            drawn_w[:, gap % RECORD_S] = filler_w
        drawn_w[:, second % RECORD_S] = power_w
        return replace(self, drawn_w=drawn_w, second=second)

    def used_wh(self, elapsed_s: int, worst_w: Floats) -> Floats:
        """``(b,)`` energy of the last ``elapsed_s`` whole seconds before the present one."""
        drawn_w = self.drawn_w[:, (self.second - 1 - np.arange(elapsed_s)) % RECORD_S]
        used: Floats = np.where(np.isnan(drawn_w), worst_w[:, None], drawn_w).sum(axis=1) / 3600
        return used


def spend(
    plan: ZonePlan, memory: BudgetMemory, power_w: Floats, utc: datetime, now_s: float
) -> tuple[tuple[Limit, ...], BudgetMemory]:
    """The limits that the budgets make now.

    Args:
        plan: The site, flattened.
        memory: From the last cycle.
        power_w: ``(z,)`` power into each zone now, NaN where nobody measures.
        utc: Aware; quarters of every time zone begin at the same moments.
        now_s: The same moment, monotonic.
    """
    budgets = plan.budgets
    memory = memory.seen(np.maximum(0.0, power_w[budgets.zone]), now_s)
    into_s = 60.0 * (utc.minute % 15) + utc.second + utc.microsecond / 1e6
    left_s = QUARTER_S - into_s
    used_wh = memory.used_wh(memory.second - math.floor(now_s - into_s), budgets.worst_w)
    mean_w = budgets.mean_w * (1.0 - KEPT_FREE)
    left_wh = mean_w * QUARTER_S / 3600 - used_wh
    reach_s = [max(left_s, at_least_s) for at_least_s in (SHORTEST_S, SMOOTH_S)]
    # beyond the end of the quarter the mean of the next one is there to be spent
    allowed_w = np.minimum(*((3600 * left_wh + mean_w * (s - left_s)) / s for s in reach_s))
    zones = plan.site.zones
    return (
        tuple(
            Limit(
                LimitKind.IMPORT,
                zones[z].zone_id,
                "budget",
                value_w=max(0.0, watts),
                until_s=now_s + left_s,
                origin=Origin.BUDGET,
            )
            for z, watts in zip(budgets.zone.tolist(), allowed_w.tolist(), strict=True)
        ),
        memory,
    )
