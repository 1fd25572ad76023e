"""Whether a zone's meter can be believed: age, freeze, spikes and the way back (faults M1 to M5, M10)."""

from dataclasses import dataclass, replace
from enum import IntEnum

from cem.core.site import Meter
from cem.core.state import Measurement
from cem.core.units import LOWEST_V, PerPhase

GOOD_SAMPLES = 3
SPIKE_FACTOR = 1.5
FROZEN_STEP_A = 1000.0 / 230.0
FROZEN_CONFIRM_S = 20.0
"""Our stations must have moved by more than 1 kW for this long before identical words mean a frozen meter."""


class MeterHealth(IntEnum):
    """How far a meter may be used."""

    GOOD = 0
    HOLD = 1
    """Cuts may follow it, raises may not."""
    LOST = 2
    """Not used at all: the zone goes to its fallback limit."""


@dataclass(frozen=True, slots=True)
class MeterMemory:
    """What is remembered of one meter.

    Attributes:
        current_a: Last believed current per grid phase.
        power_w: Last believed total power.
        voltage_v: Last believed voltage per grid phase.
        taken_s: Start of the read that gave it.
        seen_s: Start of the last read looked at, believed or not.
        samples: Believed samples since the start or the last loss.
        lost_before: It was lost at least once, so its return needs the hold-off.
        back_s: When the first sample after the start or a loss came.
        spikes: Impossible samples in a row.
        same_since_s: Since when the values have been identical.
        same_ours_a: What our stations drew in all at that moment.
        frozen_since_s: Since when our stations have moved against identical values.
    """

    current_a: PerPhase | None = None
    power_w: float | None = None
    voltage_v: PerPhase | None = None
    taken_s: float | None = None
    seen_s: float | None = None
    samples: int = 0
    lost_before: bool = False
    back_s: float | None = None
    spikes: int = 0
    same_since_s: float | None = None
    same_ours_a: float = 0.0
    frozen_since_s: float | None = None


def judge(
    meter: Meter,
    memory: MeterMemory,
    measurement: Measurement | None,
    *,
    ours_a: float,
    physical_max_a: float,
    now_s: float,
    hold_off_s: float,
) -> tuple[MeterMemory, MeterHealth]:
    """Take one cycle's measurement in and say how far the meter may be used.

    Args:
        meter: As built; its period gives the bounds.
        memory: From the last cycle.
        measurement: The device's latest, or ``None`` where it never answered.
        ours_a: What our EVSEs beneath draw in all, to notice a frozen meter.
        physical_max_a: More than this per phase cannot flow for long.
        now_s: Monotonic.
        hold_off_s: Trust for raises begins this long after a return.
    """
    if measurement is not None and measurement.taken_s != memory.seen_s:
        current = guarding_current(measurement)
        if current is None:
            memory = replace(memory, seen_s=measurement.taken_s)
        else:
            memory = _take(memory, measurement, current, ours_a=ours_a, physical_max_a=physical_max_a, now_s=now_s)
    taken_s = memory.taken_s
    if taken_s is None:
        return memory, MeterHealth.LOST
    memory = _watch_freeze(memory, ours_a, now_s)
    frozen = memory.frozen_since_s is not None and now_s - memory.frozen_since_s >= FROZEN_CONFIRM_S
    age_s = now_s - taken_s
    if age_s > meter.safe_after_s or frozen:
        return replace(memory, samples=0, lost_before=True, back_s=None), MeterHealth.LOST
    back_s = now_s if memory.back_s is None else memory.back_s
    held_off = memory.lost_before and now_s - back_s < hold_off_s
    if age_s > meter.stale_after_s or memory.samples < GOOD_SAMPLES or held_off:
        # until three samples came after a loss, the zone stays on what it did while blind
        blind = memory.samples == 0 or (memory.lost_before and memory.samples < GOOD_SAMPLES)
        return memory, MeterHealth.LOST if blind else MeterHealth.HOLD
    return memory, MeterHealth.GOOD


def why_lost(memory: MeterMemory, measurement: Measurement | None, now_s: float, *, implausible: bool) -> str:
    """What is wrong with a meter that is not used, for an installer: what was seen, and what to try.

    Args:
        memory: Of this meter.
        measurement: The device's latest, or ``None`` where it never answered.
        now_s: Monotonic.
        implausible: It contradicts what our stations do (fault M6).
    """
    if implausible:
        return (
            "its current does not move with what the stations beneath draw; look for a current transformer that is"
            " turned round or on another phase, and for a wrong sign"
        )
    if memory.frozen_since_s is not None:
        return "the same values again and again while the stations beneath change what they draw; restart the meter"
    if measurement is None:
        return "no answer since the start; look at its address, cable and power"
    if memory.seen_s is None or memory.taken_s is None or memory.taken_s < memory.seen_s:
        return "answers without a believable current on every phase; look at its wiring and at the model chosen for it"
    return f"no believable value for {now_s - measurement.taken_s:.0f} s; look at its cable, network and power"


def guarding_current(measurement: Measurement) -> PerPhase | None:
    """The current per phase, or from power at the lowest plausible voltage where only power is measured."""
    if measurement.current_a is not None:
        return measurement.current_a
    if measurement.power_w is None:
        return None
    volts = measurement.voltage_v or PerPhase.same(LOWEST_V)
    return PerPhase.of(w / max(v, LOWEST_V) for w, v in zip(measurement.power_w, volts, strict=True))


def _take(
    memory: MeterMemory,
    measurement: Measurement,
    current: PerPhase,
    *,
    ours_a: float,
    physical_max_a: float,
    now_s: float,
) -> MeterMemory:
    if max(abs(a) for a in current) > SPIKE_FACTOR * physical_max_a and memory.spikes < 1:
        return replace(
            memory, seen_s=measurement.taken_s, spikes=memory.spikes + 1
        )  # M5: a second one in a row is believed, for cuts
    spikes = memory.spikes if max(abs(a) for a in current) > SPIKE_FACTOR * physical_max_a else 0
    power_w = measurement.total_power_w
    if power_w is None and measurement.power_w is not None:
        power_w = measurement.power_w.total
    same = current == memory.current_a and power_w == memory.power_w
    return MeterMemory(
        current_a=current,
        power_w=power_w,
        voltage_v=measurement.voltage_v,
        taken_s=measurement.taken_s,
        seen_s=measurement.taken_s,
        samples=memory.samples + 1,
        lost_before=memory.lost_before,
        back_s=memory.back_s if memory.back_s is not None else now_s,
        spikes=spikes,
        same_since_s=memory.same_since_s if same else now_s,
        same_ours_a=memory.same_ours_a if same else ours_a,
        frozen_since_s=memory.frozen_since_s if same else None,
    )


def _watch_freeze(memory: MeterMemory, ours_a: float, now_s: float) -> MeterMemory:
    """M3: identical words while our own stations moved by more than 1 kW."""
    moved = abs(ours_a - memory.same_ours_a) > FROZEN_STEP_A
    if not moved:
        return replace(memory, frozen_since_s=None) if memory.frozen_since_s is not None else memory
    return memory if memory.frozen_since_s is not None else replace(memory, frozen_since_s=now_s)
