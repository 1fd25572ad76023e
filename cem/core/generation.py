"""What the inverters and batteries beneath each zone give or take now, at its worst where nobody measures it."""

from dataclasses import dataclass

import numpy as np

from cem.core.site import Resource, ResourceKind
from cem.core.state import SiteState
from cem.core.topology import Bools, Floats
from cem.core.units import LOWEST_V, PerPhase
from cem.core.zone_plan import ZonePlan

FRESH_S = 15.0
"""A resource's values older than this count as missing."""

ONE_PHASE_W = 4600.0
"""Up to here an inverter may feed a single phase (VDE-AR-N 4105)."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Sources beneath each zone.

    Attributes:
        all_a: ``(z, 3)`` what all of them feed in, a magnitude.
        largest_a: ``(z, 3)`` what the one that gives most on that phase feeds in.
        charging_w: ``(z,)`` what batteries may be charging with.
    """

    all_a: Floats
    largest_a: Floats
    charging_w: Floats


def generation(plan: ZonePlan, state: SiteState) -> Generation:
    """Sources beneath each zone in this cycle."""
    zones = len(plan.parent)
    wired = np.arange(3) < plan.site.phases
    all_a, largest_a, charging_w = np.zeros((zones, 3)), np.zeros((zones, 3)), np.zeros(zones)
    for r, beneath in plan.sources:
        resource = plan.site.resources[r]
        given_a = _given_a(resource, state, plan.site.phases, wired)
        all_a[beneath] += given_a
        largest_a[beneath] = np.maximum(largest_a[beneath], given_a)
        if resource.kind is ResourceKind.BATTERY:
            charging_w[beneath] += _charging_w(resource, state)
    return Generation(all_a, largest_a, charging_w)


def _given_a(resource: Resource, state: SiteState, phases: int, wired: Bools) -> Floats:
    """Current fed in on each phase; its nameplate where nobody measures it."""
    sample = state.measurements.get(resource.resource_id)
    watts = -resource.max_w
    if sample is not None and state.now_s - sample.taken_s <= FRESH_S:
        if sample.current_a is not None:
            return _fed_in(sample.current_a)
        if sample.power_w is not None:
            return _fed_in(sample.power_w) / LOWEST_V
        if sample.total_power_w is not None:
            watts = sample.total_power_w
    shared_by = 1 if resource.max_w <= ONE_PHASE_W else phases
    return wired * max(0.0, -watts) / LOWEST_V / shared_by


def _fed_in(values: PerPhase) -> Floats:
    fed: Floats = np.maximum(0.0, -np.array(values, dtype=np.float64))
    return fed


def _charging_w(resource: Resource, state: SiteState) -> float:
    sample = state.measurements.get(resource.resource_id)
    if sample is None or sample.total_power_w is None or state.now_s - sample.taken_s > FRESH_S:
        return resource.max_w
    return max(0.0, sample.total_power_w)
