"""What each EVSE charges from now, and when a target for the departure lifts it from surplus to the grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cem.core.site import Evse, Mode
from cem.core.state import EvseState
from cem.core.topology import Bools, Floats
from cem.core.units import LOWEST_V

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


def modes_now(built: Sequence[Evse], evses: Sequence[EvseState], was_lifted: Bools, spare_s: Floats) -> Modes:
    """The modes of this cycle.

    Args:
        built: As in the site, for the default.
        evses: As wished.
        was_lifted: In the last cycle.
        spare_s: How long charging could still be put off, see ``spare``; inf where nothing is to be in time.
    """
    mode = [e.mode or b.mode for b, e in zip(built, evses, strict=True)]
    off = np.array([m is Mode.OFF for m in mode], dtype=np.bool_)
    base = np.array([m is Mode.MIN_SURPLUS for m in mode], dtype=np.bool_)
    pure = np.array([m is Mode.SURPLUS for m in mode], dtype=np.bool_)
    charging = np.array([e.charging for e in evses], dtype=np.bool_)
    lifted = (base | pure) & charging & (spare_s < np.where(was_lifted, LOWER_AGAIN_S, 0.0))
    return Modes(off, base & ~lifted, pure & ~lifted, lifted, ~off & (~base & ~pure | lifted))


def spare(evses: Sequence[EvseState], most_a: Floats, n_phases: Floats, now_s: float) -> Floats:
    """``(n,)`` seconds for which full charging may still wait, margin subtracted; inf without target or departure.

    Args:
        evses: As measured.
        most_a: What each could be given at best.
        n_phases: Phases each charges on.
        now_s: Monotonic.
    """
    result = np.full(len(evses), np.inf)
    for i, evse in enumerate(evses):
        if evse.needed_wh is None or evse.departure_s is None or evse.needed_wh <= 0:
            continue
        power_w = max(float(most_a[i] * n_phases[i]) * LOWEST_V, 1.0)
        takes_s = evse.needed_wh / power_w * 3600
        result[i] = evse.departure_s - now_s - takes_s * (1 + LIFT_MARGIN) - LIFT_MARGIN_S
    return result
