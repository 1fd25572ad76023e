"""Per-phase values and the few electrical constants.

Load convention everywhere: positive flows from the grid into the thing (import +, EV charging +, battery charging +,
PV production -). A sign is turned once, in the adapter.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

LOWEST_V = 207.0
"""Lowest plausible voltage (EN 50160: 230 V - 10 %): a W command that guards amps assumes it."""

HIGHEST_V = 253.0
"""Highest plausible voltage (EN 50160: 230 V + 10 %): a W limit turned into amps assumes it."""

MIN_CURRENT_A = 6.0
"""Least current an EV can be offered (IEC 61851-1); below it the EV pauses."""


class PerPhase(NamedTuple):
    """One value for each grid phase, in the unit that the name carrying it says."""

    l1: float
    l2: float
    l3: float

    @classmethod
    def same(cls, value: float) -> Self:
        """The same value on all three phases."""
        return cls(value, value, value)

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """From any three numbers."""
        l1, l2, l3 = values
        return cls(float(l1), float(l2), float(l3))

    @property
    def total(self) -> float:
        """Sum over the phases."""
        return self.l1 + self.l2 + self.l3
