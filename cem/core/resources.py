"""What batteries and PV inverters may do in this cycle, inside the same limits as the cars.

An inverter is curtailed where feeding in would exceed an export limit, a battery gives nothing that would. A battery
takes no more than the zones above it can carry beside what the cars may draw. What is not measured is taken at its
worst. Room falls at once and rises late, as for the cars.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Self

import numpy as np

from cem.core.headroom import Envelopes, ZonePlan
from cem.core.limits import Limit, LimitKind
from cem.core.meter_health import MeterHealth, MeterMemory
from cem.core.recent import Recent
from cem.core.site import BatteryRules, Resource, ResourceKind, Zone
from cem.core.state import SiteState
from cem.core.surplus import measured, power_w
from cem.core.topology import Floats
from cem.core.units import LOWEST_V


class Why(Enum):
    """What bounds a resource."""

    NAMEPLATE = "nameplate"
    EXPORT_LIMIT = "export_limit"
    ZONE_LIMIT = "zone_limit"
    RESERVE = "reserve"
    HOLD = "discharge_hold"


@dataclass(frozen=True, slots=True)
class Envelope:
    """Power envelope of one resource, charging positive, production and discharge negative.

    Attributes:
        resource_id: The device's name in the site file.
        lower_w: It may go down to this.
        upper_w: And up to this.
        lower_why: What set the lower bound.
        upper_why: What set the upper bound.
    """

    resource_id: str
    lower_w: float
    upper_w: float
    lower_why: Why = Why.NAMEPLATE
    upper_why: Why = Why.NAMEPLATE


@dataclass(frozen=True, slots=True)
class ResourceMemory:
    """What resources remember.

    Attributes:
        used: For each zone what takes room from batteries' charging (W), then what generation may exceed the export
            limit by (W, minus the load).
    """

    used: Recent

    @classmethod
    def none(cls, zones: int) -> Self:
        """Before anything was measured."""
        return cls(Recent.none(2 * zones))


def resource_envelopes(
    plan: ZonePlan,
    state: SiteState,
    envelopes: Envelopes,
    meters: tuple[MeterMemory, ...],
    unused_a: Floats,
    *,
    fast: bool,
    cars_w: float,
    memory: ResourceMemory,
    hold_s: float,
) -> tuple[tuple[Envelope, ...], ResourceMemory]:
    """The envelope of every battery and inverter.

    Args:
        plan: The site, flattened.
        state: The site as measured.
        envelopes: The zones' limits.
        meters: What each zone's meter last said.
        unused_a: ``(z, 3)`` what our EVSEs may draw in each zone beyond what they are seen to draw.
        fast: Some car charges fast.
        cars_w: What all cars are seen to draw.
        memory: From the last cycle.
        hold_s: Room rises only after it stayed for so long.
    """
    site = plan.site
    if not site.resources:
        return (), memory
    beneath = plan.resources
    now_w = {r.resource_id: power_w(r, state) for r in site.resources}
    used = np.full(2 * len(site.zones), np.nan)
    for z in range(len(site.zones)):
        here = [site.resources[k] for k in beneath[z]]
        used[2 * z] = _taken_w(plan, z, envelopes, meters[z], unused_a[z], here, now_w)
        used[2 * z + 1] = -_load_w(plan, z, envelopes.health[z], meters[z], here, now_w)
    memory = ResourceMemory(memory.used.seen(used, state.now_s))
    held = memory.used.highest(hold_s, state.now_s)
    root_w = meters[0].power_w if envelopes.health[0] is not MeterHealth.LOST else None
    others_w = None if root_w is None else root_w - cars_w - sum(w or 0.0 for w in now_w.values())
    made = []
    for k, resource in enumerate(site.resources):
        lower, upper = (-resource.max_w, Why.NAMEPLATE), (0.0, Why.NAMEPLATE)
        battery = resource.kind is ResourceKind.BATTERY
        if battery:
            upper = (resource.max_w, Why.NAMEPLATE)
            lower = max(lower, _discharge(site.battery, resource, state, others_w, fast=fast), key=lambda b: b[0])
        for z in range(len(site.zones)):
            if k not in beneath[z]:
                continue
            here = [site.resources[i] for i in beneath[z]]
            export_w = _export_w(site.zones[z], envelopes.limits, site.phases, -float(held[2 * z + 1]))
            if export_w is not None:
                mine_w = _part_w(export_w, resource, here, now_w)
                lower = max(lower, (-mine_w, Why.EXPORT_LIMIT), key=lambda b: b[0])
            if battery:
                share = resource.max_w / max(sum(r.max_w for r in here if r.kind is resource.kind), 1.0)
                room_w = max(0.0, -float(held[2 * z])) * share
                upper = min(upper, (room_w, Why.ZONE_LIMIT), key=lambda b: b[0])
        lower = (min(0.0, lower[0]), lower[1])
        made.append(Envelope(resource.resource_id, lower[0], upper[0], lower[1], upper[1]))
    return tuple(made), memory


def _taken_w(
    plan: ZonePlan,
    z: int,
    envelopes: Envelopes,
    meter: MeterMemory,
    unused_a: Floats,
    here: list[Resource],
    now_w: dict[str, float | None],
) -> float:
    """Minus the power that batteries in this zone may take together."""
    zone, phases = plan.site.zones[z], plan.site.phases
    batteries = [(r, now_w[r.resource_id]) for r in here if r.kind is ResourceKind.BATTERY]
    # a battery that is not measured may be giving all it can, and would stop giving when it charges
    own_w = sum(-r.max_w if w is None else w for r, w in batteries)
    limit_a = envelopes.limit_a[z][:phases]
    if envelopes.health[z] is MeterHealth.LOST:
        return 0.0
    if plan.meters[z] is None or meter.current_a is None:
        spare_a = limit_a - zone.uncontrolled_max_a - unused_a[:phases]
        return -float(spare_a.min()) * phases * LOWEST_V if plan.meters[z] is None else 0.0
    # generation beneath spares no fuse: it may trip in an instant
    volts = LOWEST_V if meter.voltage_v is None else min(meter.voltage_v[:phases])
    drawn_a = np.maximum(np.array(meter.current_a[:phases]) - own_w / phases / volts, 0.0)
    room_w = float((limit_a - drawn_a - unused_a[:phases]).min()) * phases * volts
    if np.isfinite(envelopes.limit_w[z]) and meter.power_w is not None:
        total_w = float(envelopes.limit_w[z]) - meter.power_w - float(unused_a.sum()) * LOWEST_V + own_w
        room_w = min(room_w, total_w)
    return -room_w


def _load_w(
    plan: ZonePlan,
    z: int,
    health: MeterHealth,
    meter: MeterMemory,
    here: list[Resource],
    now_w: dict[str, float | None],
) -> float:
    """What the zone draws beside its resources' generation: never more than is measured, 0 where nothing is."""
    if plan.meters[z] is None or health is MeterHealth.LOST or meter.power_w is None:
        return 0.0
    gives_w = sum(min(w, 0.0) for w in (now_w[r.resource_id] for r in here) if w is not None)
    return max(0.0, meter.power_w - gives_w)


def _export_w(zone: Zone, limits: tuple[Limit, ...], phases: int, load_w: float) -> float | None:
    """The most that the zone's resources may give together; ``None`` where nothing limits it."""
    found = [] if zone.export_limit_w is None else [zone.export_limit_w + load_w]
    for limit in limits:
        if limit.zone_id != zone.zone_id or limit.kind not in {LimitKind.EXPORT, LimitKind.GENERATION}:
            continue
        credit_w = load_w if limit.kind is LimitKind.EXPORT else 0.0
        if limit.value_w is not None:
            found.append(limit.value_w + credit_w)
        if limit.value_a is not None:
            found.append(min(limit.value_a[:phases]) * phases * LOWEST_V + credit_w)
    return min(found, default=None)


def _part_w(export_w: float, resource: Resource, here: list[Resource], now_w: dict[str, float | None]) -> float:
    """One resource's part of what may be given: inverters share by nameplate, batteries have what inverters leave."""
    inverters = [r for r in here if r.kind is ResourceKind.PV]
    if resource.kind is ResourceKind.PV:
        return export_w * resource.max_w / max(sum(r.max_w for r in inverters), 1.0)
    given_w = sum(r.max_w if (w := now_w[r.resource_id]) is None else max(-w, 0.0) for r in inverters)
    batteries_w = sum(r.max_w for r in here if r.kind is ResourceKind.BATTERY)
    return max(0.0, export_w - given_w) * resource.max_w / max(batteries_w, 1.0)


def _discharge(
    rules: BatteryRules, battery: Resource, state: SiteState, others_w: float | None, *, fast: bool
) -> tuple[float, Why]:
    """How far a battery may discharge by its own rules."""
    found = measured(battery, state)
    soc = None if found is None else found.soc_percent
    if rules.reserve_soc_percent > 0 and (soc is None or soc <= rules.reserve_soc_percent):
        return 0.0, Why.RESERVE
    if rules.hold_while_fast and fast:
        return -max(0.0, others_w or 0.0), Why.HOLD
    return -battery.max_w, Why.NAMEPLATE
