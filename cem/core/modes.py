"""What each EVSE charges from now, and when a target for the departure lifts it from surplus to the grid."""

from dataclasses import dataclass

import numpy as np

from cem.core.columns import MODES, Columns
from cem.core.site import Mode
from cem.core.topology import Bools, Floats, Ints
from cem.core.units import LOWEST_V

OFF, MIN_SURPLUS, SURPLUS = (MODES.index(mode) for mode in (Mode.OFF, Mode.MIN_SURPLUS, Mode.SURPLUS))

LIFT_MARGIN_S = 600.0
LIFT_MARGIN = 0.1
"""A car is lifted when what is left of the time to spare is 10 min and a tenth of the charging time."""

LOWER_AGAIN_S = 1800.0
"""It goes back to surplus when it has this much more to spare."""


@dataclass(frozen=True, slots=True)
class Modes:
    """Who charges from what in this cycle, ``(n,)`` each.

    Attributes:
        off: Nothing.
        base: Its minimum from the grid, more from surplus.
        pure: Surplus alone.
        lifted: In a surplus mode, but on grid power to be full in time; in neither of the two above.
        fast: All its limits allow, those lifted included.
    """

    off: Bools
    base: Bools
    pure: Bools
    lifted: Bools
    fast: Bools

    @property
    def on_surplus(self) -> Bools:
        """Those that share the surplus."""
        return self.base | self.pure


def modes_now(built: Ints, evses: Columns, was_lifted: Bools, spare_s: Floats) -> Modes:
    """The modes of this cycle.

    Args:
        built: ``(n,)`` as in the site, numbers in ``columns.MODES``.
        evses: As wished.
        was_lifted: In the last cycle.
        spare_s: How long charging could still be put off, see ``spare``; inf where nothing is to be in time.
    """
    mode = np.where(evses.mode < 0, built, evses.mode)
    off, base, pure = mode == OFF, mode == MIN_SURPLUS, mode == SURPLUS
    lifted = (base | pure) & evses.charging & (spare_s < np.where(was_lifted, LOWER_AGAIN_S, 0.0))
    return Modes(off, base & ~lifted, pure & ~lifted, lifted, ~off & (~base & ~pure | lifted))


def spare(evses: Columns, most_a: Floats, n_phases: Floats, now_s: float) -> Floats:
    """``(n,)`` seconds for which full charging may still wait, margin subtracted; inf without target or departure.

    Args:
        evses: As measured.
        most_a: What each could be given at best.
        n_phases: Phases each charges on.
        now_s: Monotonic.
    """
    aims = (evses.needed_wh > 0) & ~np.isnan(evses.departure_s)
    result = np.full(aims.size, np.inf)
    if np.count_nonzero(aims):
        power_w = np.maximum(most_a[aims] * n_phases[aims] * LOWEST_V, 1.0)
        takes_s = evses.needed_wh[aims] / power_w * 3600
        result[aims] = evses.departure_s[aims] - now_s - takes_s * (1 + LIFT_MARGIN) - LIFT_MARGIN_S
    return result
