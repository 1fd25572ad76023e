"""What a car asks for (OCPP 2.x K15 to K20, ISO 15118): energy, a departure, and what it can take."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cem.core.dc import input_a
from cem.core.site import Evse
from cem.csms.metering import instant, number
from cem.csms.parsing import member, words


@dataclass(frozen=True, slots=True)
class EvNeeds:
    """One car's needs, as its station told them.

    Attributes:
        energy_wh: Wanted from when it was told.
        departure_utc: By the station's clock.
        soc_percent: State of charge.
        max_a: Most current per phase that the car takes (AC).
        max_w: Most power that it takes.
        transfer: The energy transfer mode it asks for.
    """

    energy_wh: float | None = None
    departure_utc: datetime | None = None
    soc_percent: float | None = None
    max_a: float | None = None
    max_w: float | None = None
    transfer: str | None = None

    def most_a(self, evse: Evse, car_phases: int | None) -> float | None:
        """The most current per phase that the car said it takes there; ``None`` where it said nothing that bounds it.

        Args:
            evse: Where it stands.
            car_phases: On which it was seen to charge; a power says nothing of one phase before that is known.
        """
        if self.max_a is not None or self.max_w is None:
            return self.max_a
        if evse.efficiency is not None:
            return input_a(self.max_w, evse.phases, evse.efficiency)
        return None if car_phases is None else input_a(self.max_w, car_phases, 1.0)

    def status(self) -> dict[str, Any]:
        """For the API."""
        departure = None if self.departure_utc is None else self.departure_utc.isoformat()
        return {
            "energy_wh": self.energy_wh, "departure_utc": departure, "soc_percent": self.soc_percent,
            "max_a": self.max_a, "max_w": self.max_w, "transfer": self.transfer,
        }  # fmt: skip


def read_needs(raw: Any) -> EvNeeds | None:
    """``chargingNeeds`` of NotifyEVChargingNeeds; ``None`` where it says nothing that can be read."""
    if not isinstance(raw, Mapping):
        return None
    ac, dc, v2x = (member(raw, f"{kind}ChargingParameters") for kind in ("ac", "dc", "v2x"))
    soc = _positive(dc, "stateOfCharge", most=100)
    asked = (_positive(ac, "energyAmount"), _positive(dc, "energyAmount"), _to_full_wh(dc, soc))
    # an ISO 15118-20 request may be negative: the car has more than it wants
    energy_wh = next((wh for wh in (_positive(v2x, "evTargetEnergyRequest"), *asked) if wh is not None), None)
    needs = EvNeeds(
        energy_wh=energy_wh,
        departure_utc=instant(raw.get("departureTime")),
        soc_percent=soc,
        max_a=_positive(ac, "evMaxCurrent"),
        max_w=next((w for w in (_positive(dc, "evMaxPower"), _positive(v2x, "maxChargePower")) if w is not None), None),
        transfer=words(raw.get("requestedEnergyTransfer")),
    )
    return None if needs == EvNeeds() else needs


def _to_full_wh(dc: Any, soc: float | None) -> float | None:
    """What is missing to full, from the state of charge, where the car does not say how much it wants."""
    capacity_wh, full = _positive(dc, "evEnergyCapacity"), _positive(dc, "fullSoC", most=100)
    if capacity_wh is None or soc is None:
        return None
    return max(0.0, (100.0 if full is None else full) - soc) / 100 * capacity_wh


def _positive(raw: Any, key: str, *, most: float = 1e9) -> float | None:
    value = number(member(raw, key))
    return value if value is not None and 0 <= value <= most else None
