"""Sampled values of either OCPP version, read tolerantly: what cannot be a number is missing, never 0 (S9)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from cem.core.units import LOWEST_V, PerPhase

_ALL = 3
_PHASES = {
    "L1": 0, "L2": 1, "L3": 2, "L1-N": 0, "L2-N": 1, "L3-N": 2, "N": None, "L1-L2": None, "L2-L3": None, "L3-L1": None,
}  # fmt: skip
"""Where the value of a phase goes; ``None``: nowhere."""
_AT_THE_OUTLET = (None, "Outlet", "Cable", "Body")
_AT_THE_INLET = (None, "Inlet", "Outlet")
_PLAIN = (None, "W", "Wh", "A", "V")
_KILO = ("kW", "kWh")
_ENERGY = "Energy.Active.Import.Register"
_NONE: list[float | None] = [None, None, None]
_NOTHING: list[float | None] = [*_NONE, None]
_PLAUSIBLE_A = 2000.0
SignedSample = tuple[str, Mapping[str, Any]]
"""Time and sample of a signed value (1.6 ``SignedData``, 2.x ``signedMeterValue``)."""


@dataclass(slots=True)  # not frozen: one is made of every message with samples
class Reading:
    """What one message told about an EVSE.

    Attributes:
        current_a: Per phase of the EVSE's own wiring; ``None`` where it cannot be known.
        energy_wh: Its import register.
        at_utc: The station's own time of the newest sample.
        periodic: It is a fresh sample, so its time shows the station's clock.
        signed: Legal records among it, as they came.
    """

    current_a: PerPhase | None = None
    energy_wh: float | None = None
    at_utc: datetime | None = None
    periodic: bool = False
    signed: tuple[SignedSample, ...] = ()


def number(value: Any) -> float | None:
    """A finite number from JSON or text, a decimal comma allowed; ``None`` for anything else."""
    kind = type(value)  # JSON gives no subclasses; this runs for every sample of every station
    if kind is not str and kind is not float and kind is not int:
        return None
    try:
        parsed = float(value)
    except OverflowError:
        return None
    except ValueError:
        return number(value.replace(",", ".")) if "," in value else None
    return parsed if isfinite(parsed) else None


def instant(value: Any) -> datetime | None:
    """A time as stations write it; without a zone it is taken as UTC."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is UTC:
            return parsed
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def items(value: Any) -> Iterable[Mapping[str, Any]]:
    """The objects in a list; nothing where it is no list."""
    return [v for v in value if type(v) is dict] if type(value) is list else ()  # JSON gives no subclasses


def _scaled(value: float, unit: Any) -> float | None:
    """The value in the base unit: 1.6 ``unit``, or 2.x ``unitOfMeasure`` with its power of ten."""
    if type(unit) is not dict:
        return value * 1000.0 if unit in _KILO else value
    exponent = number(unit.get("multiplier")) or 0.0
    if abs(exponent) > 9:
        return None
    value *= 10.0**exponent
    return value * 1000.0 if unit.get("unit") in _KILO else value


class _Samples:
    """All that one message tells, walked through once: this runs for every sample of every station.

    Attributes:
        values: By measurand, for L1, L2, L3 and all phases together; later samples replace earlier ones.
        newest: The station's time of the last sample.
    """

    __slots__ = ("newest", "periodic", "signed", "values")

    def __init__(self, meter_values: Any, places: tuple[str | None, ...] = _AT_THE_OUTLET) -> None:
        self.values: dict[str, list[float | None]] = {}
        self.newest: datetime | None = None
        self.periodic = False
        self.signed: list[SignedSample] = []
        for meter_value in items(meter_values):
            at = instant(meter_value.get("timestamp"))
            if at is not None and (self.newest is None or at >= self.newest):
                self.newest = at
            for sample in items(meter_value.get("sampledValue")):
                if "signedMeterValue" in sample or sample.get("format") == "SignedData":
                    self.signed.append((str(meter_value.get("timestamp", "")), sample))
                    if sample.get("format") == "SignedData":
                        continue
                if sample.get("location") in places:  # not the grid side of the station or the battery side of the car
                    self._take(sample)

    def _take(self, sample: Mapping[str, Any]) -> None:
        told = sample.get
        phase, place = told("phase"), _ALL
        if type(phase) is str:
            known = _PHASES.get(phase, _ALL)
            if known is None:
                return
            place = known
        value, unit = number(told("value")), told("unit") if "unitOfMeasure" not in sample else sample["unitOfMeasure"]
        if value is not None and unit not in _PLAIN:
            value = _scaled(value, unit)
        name = told("measurand", _ENERGY)
        if value is None or value < 0 or type(name) is not str:
            return
        if name in self.values:
            self.values[name][place] = value
        else:
            of_name = self.values[name] = [None, None, None, None]
            of_name[place] = value
        if not self.periodic:
            self.periodic = told("context", "Sample.Periodic") == "Sample.Periodic"


def signed_samples(meter_values: Any) -> tuple[SignedSample, ...]:
    """The signed values alone."""
    return tuple(_Samples(meter_values).signed)


def read(meter_values: Any, phases: int, nominal_v: float, *, inlet: bool = False) -> Reading:
    """Reads ``meterValue`` of OCPP 1.6 or 2.x.

    Current per phase is taken as told; else from power per phase and voltage; else from the total over the phases.

    Args:
        meter_values: The list as it came.
        phases: Phases that the EVSE is wired to.
        nominal_v: Used where no voltage is told.
        inlet: What flows into a site below is asked for, which it measures at its inlet.
    """
    samples = _Samples(meter_values, _AT_THE_INLET if inlet else _AT_THE_OUTLET)
    values = samples.values
    current = _current_a(values, phases, nominal_v)
    if current is not None and max(current) > _PLAUSIBLE_A:
        current = None
    *parts, energy = values.get(_ENERGY, _NOTHING)
    if energy is None:
        told = [part for part in parts if part is not None]
        energy = sum(told) if told else None
    return Reading(current, energy, samples.newest, samples.periodic, tuple(samples.signed))


def _current_a(values: Mapping[str, list[float | None]], phases: int, nominal_v: float) -> PerPhase | None:
    *currents, same = values.get("Current.Import", _NOTHING)
    total_w = voltage = None
    if currents == _NONE:
        *powers, total_w = values.get("Power.Active.Import", _NOTHING)
        *volts, voltage = values.get("Voltage", _NOTHING)
        lines = [v if v is not None and v > LOWEST_V / 2 else nominal_v for v in volts]
        currents = [None if p is None else p / v for p, v in zip(powers, lines, strict=True)]
    if currents != _NONE:
        # A phase that is wired but not told is missing; only phases beyond the wiring are truly 0.
        if None in currents[:phases] and not _single_phase(currents):
            return None
        l1, l2, l3 = currents
        return PerPhase(l1 or 0.0, l2 or 0.0, l3 or 0.0)
    if same is not None:
        return PerPhase.of(same if phase < phases else 0.0 for phase in range(3))
    if total_w is not None:
        share = total_w / max(voltage or nominal_v, LOWEST_V) / phases
        return PerPhase.of(share if phase < phases else 0.0 for phase in range(3))
    return None


def _single_phase(currents: list[float | None]) -> bool:
    """A station that names only the phase in use: a single-phase car at a three-phase EVSE."""
    return sum(c is not None for c in currents) == 1
