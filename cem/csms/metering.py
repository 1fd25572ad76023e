"""Sampled values of either OCPP version, read tolerantly: what cannot be a number is missing, never 0 (S9)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cem.core.units import LOWEST_V, PerPhase

_PHASES = {"L1": 0, "L2": 1, "L3": 2, "L1-N": 0, "L2-N": 1, "L3-N": 2}
_LINE_TO_LINE = ("L1-L2", "L2-L3", "L3-L1")
_SCALE = {"kW": 1000.0, "kWh": 1000.0}
_PLAUSIBLE_A = 2000.0
_Key = tuple[str, int | None]


@dataclass(frozen=True, slots=True)
class Reading:
    """What one message told about an EVSE.

    Attributes:
        current_a: Per phase of the EVSE's own wiring; ``None`` where it cannot be known.
        energy_wh: Its import register.
        at_utc: The station's own time of the newest sample.
        periodic: It is a fresh sample, so its time shows the station's clock.
    """

    current_a: PerPhase | None = None
    energy_wh: float | None = None
    at_utc: datetime | None = None
    periodic: bool = False


def number(value: Any) -> float | None:
    """A finite number from JSON or text, a decimal comma allowed; ``None`` for anything else."""
    kind = type(value)  # JSON gives no subclasses; this runs for every sample of every station
    if kind is not str and kind is not float and kind is not int:
        return None
    try:
        parsed = float(value.replace(",", ".") if kind is str else value)
    except (ValueError, OverflowError):
        return None
    return parsed if math.isfinite(parsed) else None


def instant(value: Any) -> datetime | None:
    """A time as stations write it; without a zone it is taken as UTC."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def items(value: Any) -> Iterable[Mapping[str, Any]]:
    """The objects in a list; nothing where it is no list."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def signed_samples(meter_values: Any) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Time and sample of each signed value (1.6 ``SignedData``, 2.x ``signedMeterValue``)."""
    for meter_value in items(meter_values):
        for sample in items(meter_value.get("sampledValue")):
            if sample.get("format") == "SignedData" or "signedMeterValue" in sample:
                yield str(meter_value.get("timestamp", "")), sample


def _scaled(sample: Mapping[str, Any]) -> float | None:
    """The value in the base unit (OCPP 1.6 ``unit``, 2.x ``unitOfMeasure`` with its power of ten)."""
    value = number(sample.get("value"))
    if value is None:
        return None
    unit = sample.get("unitOfMeasure")
    if isinstance(unit, dict):
        exponent = number(unit.get("multiplier")) or 0.0
        if abs(exponent) > 9:
            return None
        value *= 10.0**exponent
        name = unit.get("unit")
    else:
        name = sample.get("unit")
    return value * _SCALE.get(str(name), 1.0)


def _collect(meter_values: Any) -> tuple[dict[_Key, float], datetime | None, bool]:
    """The newest usable value of each measurand and phase; later samples replace earlier ones."""
    values: dict[_Key, float] = {}
    newest: datetime | None = None
    periodic = False
    for meter_value in items(meter_values):
        at = instant(meter_value.get("timestamp"))
        if at is not None and (newest is None or at >= newest):
            newest = at
        for sample in items(meter_value.get("sampledValue")):
            phase = sample.get("phase")
            if sample.get("format") == "SignedData" or phase in _LINE_TO_LINE or phase == "N":
                continue
            if sample.get("location", "Outlet") not in ("Outlet", "Cable", "Body"):
                continue  # the grid side of the station or the battery side of the car
            value = _scaled(sample)
            if value is None or value < 0:
                continue
            name = sample.get("measurand", "Energy.Active.Import.Register")
            values[(str(name), _PHASES.get(str(phase)))] = value
            periodic = periodic or sample.get("context", "Sample.Periodic") == "Sample.Periodic"
    return values, newest, periodic


def read(meter_values: Any, phases: int, nominal_v: float) -> Reading:
    """Reads ``meterValue`` of OCPP 1.6 or 2.x.

    Current per phase is taken as told; else from power per phase and voltage; else from the total over the phases.

    Args:
        meter_values: The list as it came.
        phases: Phases that the EVSE is wired to.
        nominal_v: Used where no voltage is told.
    """
    values, at_utc, periodic = _collect(meter_values)

    def per_phase(measurand: str) -> list[float | None]:
        return [values.get((measurand, phase)) for phase in range(3)]

    currents = per_phase("Current.Import")
    if all(c is None for c in currents):
        volts = [v if v is not None and v > LOWEST_V / 2 else nominal_v for v in per_phase("Voltage")]
        currents = [None if p is None else p / v for p, v in zip(per_phase("Power.Active.Import"), volts, strict=True)]
    current: PerPhase | None = None
    if any(c is not None for c in currents):
        current = PerPhase.of(0.0 if c is None else c for c in currents)
        # A phase that is wired but not told is missing; only phases beyond the wiring are truly 0.
        if any(c is None for c in currents[:phases]) and not _single_phase(currents):
            current = None
    elif (same := values.get(("Current.Import", None))) is not None:
        current = PerPhase.of(same if phase < phases else 0.0 for phase in range(3))
    elif (total_w := values.get(("Power.Active.Import", None))) is not None:
        voltage = values.get(("Voltage", None)) or nominal_v
        share = total_w / max(voltage, LOWEST_V) / phases
        current = PerPhase.of(share if phase < phases else 0.0 for phase in range(3))
    if current is not None and max(current) > _PLAUSIBLE_A:
        current = None
    energy = values.get(("Energy.Active.Import.Register", None))
    if energy is None:
        parts = [e for e in per_phase("Energy.Active.Import.Register") if e is not None]
        energy = sum(parts) if parts else None
    return Reading(current, energy, at_utc, periodic)


def _single_phase(currents: list[float | None]) -> bool:
    """A station that names only the phase in use: a single-phase car at a three-phase EVSE."""
    return sum(c is not None for c in currents) == 1
