"""One control cycle as the JSON that ``GET /api/v1/site`` gives."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from cem.control import Cycle
from cem.core.engine import Plan
from cem.core.headroom import Envelopes
from cem.core.meter_health import MeterHealth
from cem.core.site import Evse
from cem.core.stack import stack
from cem.core.state import EvseState
from cem.core.surplus import power_w
from cem.web.alone import overloads, without_dead_man

HEALTH_WORDS = {MeterHealth.GOOD: "good", MeterHealth.HOLD: "late", MeterHealth.LOST: "lost"}


def site_view(plan: Plan, cycle: Cycle, csms: Mapping[str, Any], problems: tuple[str, ...] = ()) -> dict[str, Any]:
    """The whole state as JSON-able values; currents in A, rounded to 0.01.

    Args:
        plan: The site, flattened.
        cycle: The last completed cycle.
        csms: What the local CSMS says of itself.
        problems: What is wrong with the box itself, for people.
    """
    alone = without_dead_man(csms)
    troubles = [*problems, *_turned_meters(plan, cycle), *overloads(plan.site, alone)]
    return {
        "name": plan.site.name,
        "time": cycle.at_utc.isoformat(),
        "cycle": {
            "count": cycle.number,
            "p50_ms": round(cycle.p50_ms, 3),
            "p99_ms": round(cycle.p99_ms, 3),
            "last_ms": round(cycle.duration_ms, 3),
        },
        "zones": _zones(plan, cycle),
        "evses": {
            evse.evse_id: {**_evse(plan, cycle, i, state), **_alone(evse, alone)}
            for i, (evse, state) in enumerate(zip(plan.site.evses, cycle.state.evses, strict=True))
        },
        "devices": {
            device_id: {
                "age_s": round(cycle.state.now_s - m.taken_s, 1),
                "total_power_w": m.total_power_w,
                "soc_percent": m.soc_percent,
            }
            for device_id, m in cycle.state.measurements.items()
        },
        "surplus_w": _number(cycle.decision.surplus_w),
        "resources": {
            resource.resource_id: {
                "kind": resource.kind.value,
                "zone": resource.zone_id,
                "power_w": _number(power_w(resource, cycle.state)),
                "lower_w": _number(bound.lower_w),
                "upper_w": _number(bound.upper_w),
                "lower_reason": bound.lower_why.value,
                "upper_reason": bound.upper_why.value,
            }
            for resource, bound in zip(plan.site.resources, cycle.decision.resources, strict=True)
        },
        "external_limits": {
            channel.limit_id: {
                "zone": channel.zone_id,
                "kind": channel.kind.value,
                "unit": channel.unit,
                "state": memory.state.value,
                "value": _number(memory.in_force),
                "written": _number(memory.written),
                "failsafe": channel.failsafe,
                "problem": memory.problem,
            }
            for channel, memory in cycle.channels
        },
        "csms": dict(csms),
        "problems": [*troubles, *cycle.decision.envelopes.notices],
    }


def why_view(plan: Plan, cycle: Cycle, evse_id: str) -> list[dict[str, Any]] | None:
    """The limit stack of one EVSE as JSON-able lines; ``None`` where there is no such EVSE."""
    index = next((i for i, evse in enumerate(plan.site.evses) if evse.evse_id == evse_id), None)
    if index is None:
        return None
    return [
        {
            "code": line.code,
            "text": line.text,
            "state": line.state.value,
            "value_a": _number(line.value_a),
            "zone": line.zone_id,
            "phase": line.family,
            "source": line.source,
            "since_s": None if line.since_s is None else round(cycle.decision.now_s - line.since_s, 1),
        }
        for line in stack(plan, cycle.decision, index)
    ]


def _zones(plan: Plan, cycle: Cycle) -> dict[str, Any]:
    envelopes = cycle.decision.envelopes
    granted, reserved = cycle.decision.granted_a(plan), cycle.decision.reserved_a(plan)
    return {
        zone.zone_id: {
            "parent": zone.parent_id,
            "rating_a": zone.protection.rating_a,
            "limit_a": _numbers(envelopes.limit_a[z]),
            "limit_w": _number(envelopes.limit_w[z]),
            "limit_source": envelopes.limit_source[z],
            "room_a": _numbers(envelopes.room_a[z][:3]),
            "measured_a": None if math.isnan(envelopes.measured_a[z][0]) else _numbers(envelopes.measured_a[z]),
            "granted_a": _numbers(granted[z]),
            "reserved_a": _numbers(reserved[z]),
            "meter": None if zone.meter_id is None else _meter_word(envelopes, z),
            "stale": envelopes.health[z] is not MeterHealth.GOOD,
        }
        for z, zone in enumerate(plan.site.zones)
    }


def _meter_word(envelopes: Envelopes, z: int) -> str:
    return "implausible" if envelopes.implausible[z] else HEALTH_WORDS[envelopes.health[z]]


def _turned_meters(plan: Plan, cycle: Cycle) -> list[str]:
    """Fault M6, for an installer."""
    turned = cycle.decision.envelopes.implausible
    return [
        f"{zone.meter_id}: falls when our stations rise; zone {zone.zone_id} is held at its fallback limit: turn the "
        "current transformers, or the sign by 'invert' or 'phase_order' in the site file, and restart"
        for zone, odd in zip(plan.site.zones, turned.tolist(), strict=True)
        if odd
    ]


def _evse(plan: Plan, cycle: Cycle, i: int, state: EvseState) -> dict[str, Any]:
    evse, decision = plan.site.evses[i], cycle.decision
    bound = decision.binding(plan, i)
    return {
        "zone": evse.zone_id,
        "online": state.online,
        "status": state.status,
        "phases": evse.phases,
        "mode": (state.mode or evse.mode).value,
        "target": _target(cycle, state),
        "wished_a": _number(state.wished_a),
        "car_a": _number(state.car_a),
        "phases_wanted": int(decision.phases_wanted[i]) or None,
        "setpoint_a": _number(decision.setpoint_a[i]),
        "target_a": _number(decision.target_a[i]),
        "committed_a": _number(decision.committed_a[i]),
        "measured_a": None if state.measured_a is None else _numbers(state.measured_a),
        "reason": bound.code,
        "binding": {
            "text": bound.text,
            "zone": bound.zone_id,
            "group": bound.group,
            "phase": bound.family,
            "source": bound.source,
            "room_a": None if bound.room_a is None else _number(bound.room_a),
            "place": bound.place,
            "eta_s": _number(bound.eta_s),
        },
        "fault": state.fault,
    }


def _alone(evse: Evse, alone: Mapping[str, str | None]) -> dict[str, Any]:
    """What it falls to if this controller dies, or its maximum and why; nothing of stations that are not asked for it."""
    if evse.station_id not in alone:
        return {}
    why = alone[evse.station_id]
    return {"without_us_a": evse.fallback_a if why is None else evse.max_a, "without_us": why}


def _target(cycle: Cycle, state: EvseState) -> dict[str, Any] | None:
    """What is still wanted, and by when."""
    if state.needed_wh is None:
        return None
    departure_s = state.departure_s
    left = None if departure_s is None else timedelta(seconds=departure_s - cycle.state.now_s)
    return {
        "needed_wh": round(state.needed_wh),
        "departure": None if left is None else (cycle.at_utc + left).isoformat(timespec="seconds"),
    }


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 2)


def _numbers(values: Any) -> list[float | None]:
    return [_number(float(value)) for value in values]
