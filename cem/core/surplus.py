"""Charging from surplus: how much there is at the grid connection, who may run on it, and the limit that it makes.

Surplus = what would be exported if the cars on surplus drew nothing, without what a battery gives, and with what a
battery takes where cars come first. It falls at once and rises only after it stayed, like all headroom. It is one more
limit (a row of its own that counts all phases together), so it never lets anybody past another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cem.core.headroom import Envelopes, ZonePlan
from cem.core.limits import Origin, Source
from cem.core.meter_health import MeterHealth, MeterMemory
from cem.core.modes import Modes
from cem.core.observe import Seen
from cem.core.recent import BUCKET_S, Recent
from cem.core.site import BatteryRules, Resource, ResourceKind, SurplusRules
from cem.core.state import Measurement, SiteState
from cem.core.timings import Timings
from cem.core.topology import SUM, Bools, Floats, Topology, with_group
from cem.core.units import HIGHEST_V, LOWEST_V

SURPLUS = "surplus"
"""Name of the row's scope and source."""

START_MARGIN_W = 200.0
BATTERY_STALE_S = 15.0
SOC_STEP_PERCENT = 2.0
"""Once cars come first, a battery must be this far below its threshold to come first again."""


@dataclass(frozen=True, slots=True)
class SurplusMemory:
    """What surplus charging remembers.

    Attributes:
        taken: Power at the connection that is not of the cars on surplus, W.
        open: ``(n,)`` a car on surplus alone may run.
        since_s: ``(n,)`` since when the surplus speaks for the other state; inf where it does not.
        lifted: ``(n,)`` on grid power to be full in time.
        cars_first: Cars came before batteries in the last cycle.
    """

    taken: Recent
    open: Bools
    since_s: Floats
    lifted: Bools
    cars_first: bool = False

    def with_lifted(self, lifted: Bools) -> Self:
        """With who is on grid power in this cycle."""
        return type(self)(self.taken, self.open, self.since_s, lifted, self.cars_first)

    @classmethod
    def none(cls, count: int) -> Self:
        """At start-up nobody runs on surplus."""
        no = np.zeros(count, dtype=np.bool_)
        return cls(Recent.none(1), no, np.full(count, np.inf), no)


@dataclass(frozen=True, slots=True)
class Surplus:
    """The surplus of one cycle.

    Attributes:
        power_w: For the cars on surplus together; 0 where it is unknown; may be negative.
        rise_w: The same with every rise of the meter held to be other load: what raises must fit in.
        members: ``(n,)`` who shares it: charging on surplus, and open where on surplus alone.
        left_w: ``(n,)`` what was left for each when its turn came; inf for those not on surplus.
    """

    power_w: float
    rise_w: float
    members: Bools
    left_w: Floats


def look(
    plan: ZonePlan,
    state: SiteState,
    seen: Seen,
    in_flight_a: Floats,
    meter: MeterMemory,
    health: MeterHealth,
    modes: Modes,
    n_phases: Floats,
    memory: SurplusMemory,
    timings: Timings,
) -> tuple[float, float, SurplusMemory]:
    """The power there is for the cars on surplus, now and for raises, W; 0 where nobody measures it."""
    site = plan.site
    batteries = [r for r in site.resources if r.kind is ResourceKind.BATTERY]
    cars_first = cars_before_batteries(site.battery, batteries, state, was=memory.cars_first)
    memory = replace(memory, cars_first=cars_first)
    if plan.meters[0] is None or health is MeterHealth.LOST or meter.current_a is None or meter.taken_s is None:
        return 0.0, 0.0, memory
    low_v = LOWEST_V if meter.voltage_v is None else min(meter.voltage_v[: site.phases])
    total_a = meter.current_a.total
    grid_w = meter.power_w if meter.power_w is not None else total_a * (HIGHEST_V if total_a > 0 else LOWEST_V)
    read_s = np.full(len(n_phases), meter.taken_s)
    drawn_a = seen.subtractable(plan.wiring, read_s).sum(axis=1)
    mine = modes.on_surplus
    taken_w = grid_w - float(drawn_a[mine].sum()) * low_v - _battery_w(batteries, state, cars_first=cars_first)
    flight_w = float((in_flight_a * n_phases)[mine].sum()) * low_v
    interval_s = np.where(seen.fresh & mine, seen.reports.interval_s, 0.0).max(initial=0.0)
    window_s = max(timings.peak_hold_s, float(interval_s) + 2 * plan.meters[0].poll_s + BUCKET_S)
    known_w = float(memory.taken.highest(window_s, state.now_s)[0])
    likely_w = taken_w if np.isnan(known_w) else max(taken_w - flight_w, min(taken_w, known_w))
    taken = memory.taken.seen(np.array([likely_w]), state.now_s)
    held_w = float(taken.highest(window_s, state.now_s)[0])
    return -held_w, -max(held_w, taken_w), replace(memory, taken=taken)


def cars_before_batteries(rules: BatteryRules, batteries: Sequence[Resource], state: SiteState, *, was: bool) -> bool:
    """Whether cars take surplus before batteries: every battery's charge is known and above the threshold."""
    first_below = rules.first_below_soc_percent - (SOC_STEP_PERCENT if was else 0.0)
    for battery in batteries:
        found = measured(battery, state)
        soc = None if found is None else found.soc_percent
        if rules.first_below_soc_percent > 0 and (soc is None or soc < first_below or first_below >= 100):
            return False
    return True


def measured(resource: Resource, state: SiteState) -> Measurement | None:
    """What a resource measures of itself, unless it is too old."""
    found = state.measurements.get(resource.resource_id)
    return None if found is None or state.now_s - found.taken_s > BATTERY_STALE_S else found


def power_w(resource: Resource, state: SiteState) -> float | None:
    """Its power, charging positive; ``None`` where unknown."""
    found = measured(resource, state)
    if found is None:
        return None
    if found.total_power_w is not None:
        return found.total_power_w
    return None if found.power_w is None else found.power_w.total


def _battery_w(batteries: Sequence[Resource], state: SiteState, *, cars_first: bool) -> float:
    """What batteries add to the surplus: minus what they give, and what they take where cars come first."""
    total_w = 0.0
    for battery in batteries:
        found_w = power_w(battery, state)
        if found_w is None:
            found_w = -battery.max_w  # unknown: it may be giving all it can
        total_w += found_w if cars_first else min(found_w, 0.0)
    return total_w


def admit(
    rules: SurplusRules,
    modes: Modes,
    asking: Bools,
    least_w: Floats,
    start_w: Floats,
    order: Floats,
    available_w: float,
    memory: SurplusMemory,
    now_s: float,
) -> tuple[Bools, Floats, SurplusMemory]:
    """Who may run on surplus alone, one after the other; those that run come before those that wait.

    Args:
        rules: Thresholds and delays.
        modes: Of this cycle.
        asking: ``(n,)`` a car is charging or would like to.
        least_w: ``(n,)`` what its minimum takes, or what it draws where it uses less.
        start_w: ``(n,)`` what its minimum takes when it starts.
        order: ``(n,)`` priority, higher first.
        available_w: For all on surplus.
        memory: From the last cycle.
        now_s: Monotonic.

    Returns:
        Who shares the surplus, what was left for each, and the memory with gates and delays.
    """
    base, pure = modes.base & asking, modes.pure & asking
    left_w = available_w - float(least_w[base].sum())
    is_open = memory.open & pure
    since = np.where(pure, memory.since_s, np.inf)
    left = np.full(len(pure), np.inf)
    left[base] = available_w
    turn = np.lexsort((-order, ~is_open))
    for i in turn[pure[turn]].tolist():
        left[i] = left_w
        if is_open[i]:
            against = left_w < (least_w[i] if rules.stop_w is None else rules.stop_w)
            delay_s = rules.stop_delay_s
        else:
            against = left_w >= (start_w[i] + START_MARGIN_W if rules.start_w is None else rules.start_w)
            delay_s = rules.start_delay_s
        since[i] = min(since[i], now_s) if against else np.inf
        if is_open[i] or against:  # while its delay runs, nobody after it is promised the same
            left_w -= least_w[i] if is_open[i] else start_w[i]
        if now_s - since[i] >= delay_s:
            is_open[i], since[i] = not is_open[i], np.inf
    return base | is_open, left, replace(memory, open=is_open, since_s=since)


def limit(
    counted: Topology, envelopes: Envelopes, surplus: Surplus, spared_a: float, least_a: float, volts: float
) -> tuple[Topology, Envelopes]:
    """The surplus as one more row over its members.

    Args:
        counted: The topology with the phases counted now.
        envelopes: The zones' rooms.
        surplus: Of this cycle.
        spared_a: What members leave unused of their minima, all phases together.
        least_a: What their minima take together; the row never refuses these, the gates do.
        volts: To turn W into A.
    """
    caps = [max(w / volts + spared_a, least_a) for w in (surplus.power_w, surplus.rise_w)]
    rows = np.full((2, 1, 4), np.inf)
    rows[:, 0, SUM] = caps
    return with_group(counted, SURPLUS, surplus.members), replace(
        envelopes,
        room_a=np.vstack((envelopes.room_a, rows[0])),
        rise_room_a=np.vstack((envelopes.rise_room_a, rows[1])),
        sources=(*envelopes.sources, Source(SURPLUS, Origin.SURPLUS)),
        room_by=np.vstack((envelopes.room_by, np.full((1, 4), len(envelopes.sources)))),
    )
