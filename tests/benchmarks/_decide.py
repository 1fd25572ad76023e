"""Time of whole decisions: every feature on, cars that come and lag, zones with meters, a load that moves."""

import random
import time
from datetime import UTC, datetime, timedelta

import numpy as np

from cem.core.engine import EngineMemory, Plan, decide
from cem.core.site import Evse, Meter, Protection, Site, Zone
from cem.core.state import EvseState, Measurement, SiteState
from cem.core.timings import Timings
from cem.core.units import PerPhase
from cem.memory import settle

SIZES = ((1_000, 60), (5_000, 250))
WARM, CYCLES = 10, 300


def site_of(n_evses: int, n_zones: int) -> Site:
    """A tree ten wide; every second zone has a meter, every fourth EVSE an unknown rotation, not all minima fit."""
    rows = n_zones - 1
    zones = [Zone("root", None, Protection(n_evses * 6.0), meter_id="m0", uncontrolled_max_a=50.0)]
    zones += [
        Zone(
            f"z{k}",
            "root" if k < max(1, rows // 10) else f"z{(k - 1) // 10}",
            Protection(max(40.0, n_evses / rows * 8)),
            meter_id=f"m{k + 1}" if k % 2 == 0 else None,
            uncontrolled_max_a=2.0,
        )
        for k in range(rows)
    ]
    turns = ((0, 1, 2), (1, 2, 0), (2, 0, 1), None)
    evses = tuple(Evse(f"S{i}/1", f"S{i}", f"z{i % rows}", 1, rotation=turns[i % 4]) for i in range(n_evses))
    meters = tuple(Meter(zone.meter_id) for zone in zones if zone.meter_id is not None)
    return Site("benchmark", 230.0, 3, tuple(zones), evses, meters)


def run() -> dict[str, float]:
    """Processor time in ms: ``decide_p50_ms.N`` and ``decide_p99_ms.N``, the collector settled as ``cem run`` has it."""
    settle()
    figures: dict[str, float] = {}
    for n_evses, n_zones in SIZES:
        times_ms = _measure(site_of(n_evses, n_zones))
        figures[f"decide_p50_ms.{n_evses}"], figures[f"decide_p99_ms.{n_evses}"] = np.percentile(
            times_ms, (50, 99)
        ).tolist()
    return figures


def _measure(site: Site) -> list[float]:
    plan = Plan.of(site, Timings())
    memory = EngineMemory.none(plan)
    rng = random.Random(1)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times_ms = []
    for t in range(WARM + CYCLES):
        setpoint = memory.setpoint_a.tolist()
        evses = tuple(
            EvseState(
                evse.evse_id,
                online=i % 97 != t % 97,
                connected=True,
                charging=i % 5 != 0,
                in_force_a=setpoint[i],
                measured_a=PerPhase(
                    setpoint[i] * 0.97, setpoint[i] * 0.97 * (i % 3 > 0), setpoint[i] * 0.97 * (i % 3 > 0)
                ),
                measured_s=float(t - (i + t) % 10),
                report_interval_s=10.0,
                since_s=float(min(t, i % 60)),
            )
            for i, evse in enumerate(site.evses)
        )
        measured = {
            meter.meter_id: Measurement(
                meter.meter_id,
                float(t),
                current_a=PerPhase.of(rng.uniform(5, 35) for _ in range(3)),
                total_power_w=rng.uniform(1_000, 20_000),
                voltage_v=PerPhase.same(230.0),
            )
            for meter in site.meters
        }
        state = SiteState(float(t), start + timedelta(seconds=t), measured, evses)
        begun = time.process_time()
        _, memory = decide(plan, state, memory)
        times_ms.append((time.process_time() - begun) * 1000)
    return times_ms[WARM:]
