"""What a series of readings of one device says about it, for the installer who stands before it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from adapters.reading import Reading
from cem.config.models import Device
from cem.core.units import PerPhase

USUAL_V = (207.0, 253.0)  # EN 50160: 230 V +-10 %
USUAL_HZ = (49.5, 50.5)
LOADED_A = 1.0  # below, power factors and signs are noise
LOADED_W = 200.0

GOOD, REMARKS, BAD = "good", "usable, with remarks", "not usable"


@dataclass
class Report:
    """Figures and hints of one device.

    Attributes:
        figures: By name; ``None`` where it cannot be told.
        bad: Why it is not usable.
        remarks: What to look at.
    """

    device_id: str
    figures: dict[str, float | None] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        return BAD if self.bad else REMARKS if self.remarks else GOOD


def judge(device: Device, readings: Sequence[Reading], *, verified: bool, now_s: float) -> Report:
    """The report on a device.

    Args:
        device: As the site file has it.
        readings: In the order they were taken; at least one.
        verified: Its map was checked against its sources.
        now_s: Monotonic time.
    """
    report = Report(device.id)
    _connection(report, device, readings, now_s)
    good = [reading for reading in readings if reading.measurement is not None]
    if not good:
        report.bad.append(readings[-1].problem or "it gave no sample")
        return report
    _electrical(report, good)
    _signs(report, device, good)
    _freeze(report, good)
    if not verified:
        report.remarks.append("its map could not be checked against the maker's document: compare with its display")
    return report


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share is not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _connection(report: Report, device: Device, readings: Sequence[Reading], now_s: float) -> None:
    latencies_ms = [
        1000 * reading.latency_s for reading in readings if reading.answered and reading.latency_s is not None
    ]
    errors = sum(reading.measurement is None for reading in readings)
    good_s = [reading.taken_s for reading in readings if reading.measurement is not None]
    report.figures |= {
        "reads": len(readings),
        "errors_percent": 100 * errors / len(readings),
        "latency_p50_ms": percentile(latencies_ms, 0.5) if latencies_ms else None,
        "latency_p95_ms": percentile(latencies_ms, 0.95) if latencies_ms else None,
        "age_s": now_s - good_s[-1] if good_s else None,
    }
    gaps_s = [later - earlier for earlier, later in pairwise(good_s)]
    if gaps_s and not latencies_ms:  # it speaks by itself
        report.figures |= {"interval_p50_s": percentile(gaps_s, 0.5), "interval_p95_s": percentile(gaps_s, 0.95)}
        if percentile(gaps_s, 0.95) > 2 * device.poll_s:
            report.remarks.append(
                f"its values are {percentile(gaps_s, 0.95):.1f} s apart, poll_s says {device.poll_s:g} s: let it publish more "
                "often, or raise poll_s"
            )
    if errors and good_s:
        problem = next(reading.problem for reading in reversed(readings) if reading.problem)
        text = f"{errors} of {len(readings)} reads gave no sample; the last reason: {problem}"
        (report.bad if errors > len(readings) / 5 else report.remarks).append(text)
    slow_ms = report.figures["latency_p95_ms"]
    if slow_ms is not None and slow_ms > 500 * device.poll_s:
        report.remarks.append(
            f"a read takes {slow_ms:.0f} ms, more than half of poll_s ({device.poll_s:g} s): raise poll_s, or the "
            "speed of the line"
        )


def _electrical(report: Report, good: Sequence[Reading]) -> None:
    last = good[-1]
    assert last.measurement is not None  # noqa: S101 - for the type checker
    volts = _per_phase(last.measurement.voltage_v) or [v for k, v in last.values.items() if k.startswith("voltage_")]
    amps, watts = _per_phase(last.measurement.current_a), _per_phase(last.measurement.power_w)
    hz, total_w = last.values.get("frequency_hz"), last.measurement.total_power_w
    for phase, value in enumerate(volts, 1):
        report.figures[f"voltage_l{phase}_v"] = value
        if not USUAL_V[0] <= value <= USUAL_V[1]:
            report.remarks.append(f"L{phase} has {value:.0f} V; usual is {USUAL_V[0]:.0f} to {USUAL_V[1]:.0f} V")
    report.figures["frequency_hz"] = hz
    if hz is not None and hz != 0 and not USUAL_HZ[0] <= hz <= USUAL_HZ[1]:
        report.remarks.append(f"the frequency is {hz:.2f} Hz")
    report.figures["total_power_w"] = total_w
    if watts:
        report.figures["sum_of_phases_w"] = sum(watts)
        told = last.values.get("total_power_w")
        if told is not None and abs(abs(sum(watts)) - abs(told)) > max(50.0, 0.05 * sum(abs(w) for w in watts)):
            report.remarks.append(f"its phases sum to {sum(watts):.0f} W, its total says {told:.0f} W")
    for phase, (v, a, w) in enumerate(zip(volts, amps, watts, strict=False), 1):
        report.figures[f"current_l{phase}_a"], report.figures[f"power_l{phase}_w"] = a, w
        if abs(a) < LOADED_A:
            continue
        factor = abs(w) / (v * abs(a))
        report.figures[f"power_factor_l{phase}"] = factor
        if factor < 0.3:
            report.remarks.append(
                f"L{phase}: {w:.0f} W at {abs(a):.1f} A is a power factor of {factor:.2f}: its CT may sit on another "
                "phase than its voltage"
            )


def _signs(report: Report, device: Device, good: Sequence[Reading]) -> None:
    last = good[-1].measurement
    assert last is not None  # noqa: S101 - for the type checker
    total_w, watts = last.total_power_w, _per_phase(last.power_w)
    if device.role == "pv" and total_w is not None and total_w > LOADED_W:
        report.bad.append(f"a PV inverter that draws {total_w:.0f} W: its sign is turned (try invert in the site file)")
    if device.role == "household_meter" and total_w is not None and total_w < -LOADED_W:
        report.bad.append(f"load that produces {-total_w:.0f} W: its CTs or its sign are turned")
    if device.role in {"grid_meter", "zone_meter"}:
        if last.current_a is None and last.power_w is None:
            report.bad.append("it gives no current and no power per phase: it cannot guard a fuse")
        exporting = [n for n, w in enumerate(watts, 1) if w < -LOADED_W]
        importing = [n for n, w in enumerate(watts, 1) if w > LOADED_W]
        if exporting and importing:
            names = ", ".join(f"L{n}" for n in exporting)
            report.remarks.append(
                f"{names} exports while others import: right with a one-phase producer there, else the CT is turned"
            )


def _freeze(report: Report, good: Sequence[Reading]) -> None:
    live = [{k: v for k, v in reading.values.items() if not k.startswith(("energy", "soc"))} for reading in good]
    if len(live) >= 5 and any(live[0].values()) and all(each == live[0] for each in live):
        report.remarks.append("no value moved during the test: is it measuring?")


def _per_phase(values: PerPhase | None) -> list[float]:
    return [] if values is None else [values.l1, values.l2, values.l3]
