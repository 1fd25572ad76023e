"""What the closed loop needs of a plant."""

from collections.abc import Mapping
from typing import Protocol

from cem.core.site import ResourceKind
from cem.core.units import PerPhase


class ChargePoint(Protocol):
    """One EVSE of the plant. ``pilot_a`` and ``phases_on`` are written by the loop; the rest is read."""

    pilot_a: float
    phases_on: int

    @property
    def own_current_a(self) -> PerPhase: ...

    @property
    def charged_wh(self) -> float: ...


class Plant(Protocol):
    """A site that behaves, in virtual time. Load convention."""

    t_s: float
    voltage_v: float

    @property
    def points(self) -> Mapping[str, ChargePoint]: ...

    def step(self, dt_s: float) -> None: ...
    def zone_current_a(self, zone_id: str) -> PerPhase: ...
    def power_w(self, kind: ResourceKind) -> float: ...
    def resource_state(self, resource_id: str) -> tuple[float, float | None]: ...
    def bound_resource(self, resource_id: str, lower_w: float, upper_w: float) -> None: ...

    def plug_car(
        self, evse_id: str, *, phases: int, max_a: float, settle_s: float, draw: float, need_wh: float
    ) -> None: ...
    def unplug_car(self, evse_id: str) -> None: ...
    def set_car_max(self, evse_id: str, max_a: float) -> None: ...
    def add_load(self, zone_id: str, power_w: PerPhase, length_s: float) -> None: ...
    def trip_inverter(self, resource_id: str) -> None: ...
