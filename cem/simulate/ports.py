"""What the closed loop needs of a plant."""

from collections.abc import Mapping
from typing import Protocol

from cem.core.units import PerPhase


class ChargePoint(Protocol):
    """One EVSE of the plant. ``pilot_a`` is written by the loop; the rest is read."""

    pilot_a: float

    @property
    def own_current_a(self) -> PerPhase: ...


class Plant(Protocol):
    """A site that behaves, in virtual time."""

    t_s: float
    voltage_v: float

    @property
    def points(self) -> Mapping[str, ChargePoint]: ...

    def step(self, dt_s: float) -> None: ...
    def zone_current_a(self, zone_id: str) -> PerPhase: ...
