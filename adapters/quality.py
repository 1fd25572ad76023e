"""Is this sample good? One place for every protocol (FAULTS.md M4, M7, M8, M9, M11).

An adapter hands in named raw numbers; out comes a ``Measurement`` in load convention and grid phases, or a reason why
the sample counts as missing. Spikes (M5), frozen values (M3) and turned signs (M6) need to know what our stations do:
they are the core's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cem.config.models import Device
from cem.core.state import Measurement
from cem.core.units import PerPhase

LIVE_V = (100.0, 300.0)  # phase to neutral, every public low-voltage grid
DEAD_V = 20.0  # below: the phase or only the meter's tap is dead (M9)
LIVE_HZ = (45.0, 65.0)
SUM_TOLERANCE = 0.2  # of the phases' magnitudes; meters round and sample phase by phase
SUM_TOLERANCE_W = 300.0
APPARENT_TOLERANCE = 1.1  # active power cannot exceed V x I
APPARENT_TOLERANCE_W = 100.0
DIRECTION_KNOWN = 0.1  # below this power factor the sign of the active power says nothing about the current

_METER_ROLES = ("grid_meter", "zone_meter", "household_meter")


@dataclass(frozen=True, slots=True)
class Sample:
    """Named raw numbers of one device.

    Attributes:
        taken_s: Monotonic time at the start of the read.
        values: By the names of ``config.models.ValueName`` and ``frequency_hz``, on the device's own terminals, in
            the device's own sign unless its map turned it. A value that could not be read is absent or NaN.
        coherent: All values are of one moment, so that they may be compared with each other.
        unsigned_currents: The device gives magnitudes only (M7).
    """

    taken_s: float
    values: Mapping[str, float]
    coherent: bool = True
    unsigned_currents: bool = False


class Refused(Exception):
    """Why a sample counts as missing, for an installer."""


class QualityCheck:
    """Judges the samples of one device; remembers what it normally gives and its energy counter."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._gives: set[str] = set()
        self._energy = EnergyCounter()
        names = range(1, device.phases + 1)
        self._voltages, self._currents, self._powers = (
            tuple(f"{what}_l{n}_{unit}" for n in names)
            for what, unit in (("voltage", "v"), ("current", "a"), ("power", "w"))
        )
        self._straight = device.phases == 3 and device.phase_order == "L1L2L3"

    def judge(self, sample: Sample) -> Measurement | str:
        """The measurement, or the reason (one line, without the device's name) why the sample counts as missing."""
        try:
            return self._measurement(sample)
        except Refused as refused:
            return str(refused)

    def _measurement(self, sample: Sample) -> Measurement:
        device = self._device
        values = {name: value for name, value in sample.values.items() if math.isfinite(value)}  # M4
        voltage = _phases(values, self._voltages)
        current = _phases(values, self._currents)
        power = _phases(values, self._powers)
        total = values.get("total_power_w")
        self._nothing_lost(current, power, total)
        voltage = self._live_voltage(voltage)
        _check_frequency(values)
        if sample.coherent:
            _check_sum(power, total)
            _check_apparent(voltage, current, power)
        if current is not None:
            current = self._signed(sample, voltage, current, power, total)
        turn = -1.0 if device.invert else 1.0
        if power is not None:
            power = [turn * value for value in power]
        if total is not None:
            total *= turn
        elif power is not None:
            total = math.fsum(power)
        soc = values.get("soc_percent")
        if soc is not None and not 0 <= soc <= 100:
            soc = None
        if current is None and power is None and total is None and soc is None:
            raise Refused("none of its values is readable: wrong unit id, wrong model or the device is starting")
        return Measurement(
            device.id,
            sample.taken_s,
            current_a=self._grid(current),
            power_w=self._grid(power),
            total_power_w=total,
            voltage_v=self._grid(voltage) if device.phases == 3 else None,
            energy_wh=self._energy.accept(None if device.invert else values.get("energy_wh")),
            soc_percent=soc,
        )

    def _nothing_lost(self, current: list[float] | None, power: list[float] | None, total: float | None) -> None:
        """What a device once gave and now does not makes the whole sample missing: half a picture misleads.

        An inverter may stop telling its currents when it sleeps; its power is enough.
        """
        now = {
            name
            for name, value in (("current", current), ("power per phase", power), ("total power", total))
            if value is not None
        }
        lost = self._gives - now
        if self._device.role not in _METER_ROLES:
            lost.discard("current")
        if lost:
            raise Refused(f"its {' and '.join(sorted(lost))} reads as not available (NaN or a sentinel)")
        self._gives |= now

    def _live_voltage(self, voltage: list[float] | None) -> list[float] | None:
        for phase, value in enumerate(voltage or (), 1):
            if LIVE_V[0] <= value <= LIVE_V[1]:
                continue
            if abs(value) >= DEAD_V:
                raise Refused(f"voltage on its terminal {phase} reads {value:.1f} V: wrong unit id, register or model")
            if self._device.role in _METER_ROLES:
                raise Refused(f"voltage on its terminal {phase} reads {value:.1f} V: check the meter's voltage tap")
            return None  # an inverter that sleeps; not a meter that guards a fuse
        return voltage

    def _signed(
        self,
        sample: Sample,
        voltage: list[float] | None,
        current: list[float],
        power: list[float] | None,
        total: float | None,
    ) -> list[float]:
        """Current with its direction: the phase's active power knows it, some meters' current does not (M7)."""
        turn = -1.0 if self._device.invert else 1.0
        if power is None and total is not None and self._one_direction():
            power = [total / len(current)] * len(current)
        if power is None:
            return [abs(a) if sample.unsigned_currents else turn * a for a in current]
        volts = voltage or [230.0] * len(current)
        return [
            -abs(a) if turn * w < 0 and abs(w) >= DIRECTION_KNOWN * v * abs(a) else abs(a)
            for v, a, w in zip(volts, current, power, strict=True)
        ]

    def _one_direction(self) -> bool:
        """All phases flow the same way: inverters, batteries and single-phase devices."""
        return self._device.phases == 1 or self._device.role not in _METER_ROLES

    def _grid(self, terminals: list[float] | None) -> PerPhase | None:
        """From terminals to grid phases; a single-phase device draws nothing on the other two."""
        if terminals is None:
            return None
        if self._straight:
            return PerPhase(terminals[0], terminals[1], terminals[2])
        grid = [0.0, 0.0, 0.0]
        order = self._device.phase_order
        for terminal, value in enumerate(terminals):
            grid[int(order[2 * terminal + 1]) - 1] = value
        return PerPhase.of(grid)


class EnergyCounter:
    """A running counter that may jump (M8): a fall is believed after two rising reads from the new level."""

    def __init__(self) -> None:
        self._last_wh: float | None = None
        self._candidate_wh: float | None = None
        self._rises = 0

    def accept(self, read_wh: float | None) -> float | None:
        """The counter to believe now; ``None`` where none can be."""
        if read_wh is None or read_wh < 0:
            return self._last_wh
        if self._last_wh is None or read_wh >= self._last_wh:
            self._last_wh = read_wh
            self._candidate_wh = None
            self._rises = 0
            return read_wh
        if self._candidate_wh is not None and read_wh > self._candidate_wh:
            self._rises += 1
        elif self._candidate_wh is None or read_wh < self._candidate_wh:
            self._rises = 0
        self._candidate_wh = read_wh
        if self._rises >= 2:
            self._last_wh = read_wh
            self._candidate_wh = None
            self._rises = 0
        return self._last_wh


def _phases(values: Mapping[str, float], names: tuple[str, ...]) -> list[float] | None:
    """All phases or nothing: a missing phase is not 0."""
    found = [values[name] for name in names if name in values]
    return found if len(found) == len(names) else None


def _check_frequency(values: Mapping[str, float]) -> None:
    hz = values.get("frequency_hz")
    if hz is not None and hz != 0 and not LIVE_HZ[0] <= hz <= LIVE_HZ[1]:
        raise Refused(f"frequency reads {hz:.2f} Hz: wrong unit id, register or model")


def _check_sum(power: list[float] | None, total: float | None) -> None:
    if power is None or total is None:
        return
    allowed = max(SUM_TOLERANCE_W, SUM_TOLERANCE * math.fsum(abs(w) for w in power))
    if abs(math.fsum(power) - total) > allowed:
        raise Refused(f"its phases sum to {math.fsum(power):.0f} W but its total reads {total:.0f} W: wrong model?")


def _check_apparent(voltage: list[float] | None, current: list[float] | None, power: list[float] | None) -> None:
    if voltage is None or current is None or power is None:
        return
    for phase, (v, a, w) in enumerate(zip(voltage, current, power, strict=True), 1):
        if abs(w) > APPARENT_TOLERANCE * v * abs(a) + APPARENT_TOLERANCE_W:
            raise Refused(f"terminal {phase} reads {w:.0f} W at {v:.0f} V and {a:.1f} A: check CT ratio and model")
