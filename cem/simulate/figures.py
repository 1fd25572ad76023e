"""What a simulated time is judged by: energy, fairness, currents against limits, and the course of it all."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cem.core.site import ResourceKind
from cem.simulate.loop import ClosedLoop

POINTS = 1440
"""Most points of a curve."""


@dataclass(slots=True)
class Energy:
    """Where energy came from and went, Wh. Sources sum to uses but for what is stored nowhere."""

    grid_wh: float = 0.0
    pv_wh: float = 0.0
    battery_wh: float = 0.0
    cars_wh: float = 0.0
    cars_grid_wh: float = 0.0
    cars_pv_wh: float = 0.0
    cars_battery_wh: float = 0.0
    to_battery_wh: float = 0.0
    to_grid_wh: float = 0.0
    other_load_wh: float = 0.0


@dataclass(slots=True)
class Course:
    """Watches a closed loop step by step; hand it to ``ClosedLoop.watchers``.

    Attributes:
        loop: What is watched.
        bin_s: Width of one point of the curves.
        total: Energy of the whole time.
        bins: Energy of each point.
        peak_a: For each zone the highest current of any phase at each point.
        limit_a: For each zone the lowest limit of any phase at each point.
    """

    loop: ClosedLoop
    bin_s: float
    total: Energy = field(default_factory=Energy)
    bins: list[Energy] = field(default_factory=list)
    peak_a: dict[str, list[float]] = field(default_factory=dict)
    limit_a: dict[str, list[float]] = field(default_factory=dict)
    _zones: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._zones = [(zone.zone_id, zone.protection.rating_a) for zone in self.loop.plan.site.zones]
        for zone_id, _ in self._zones:
            self.peak_a[zone_id], self.limit_a[zone_id] = [], []
        self.loop.watchers.append(self.step)

    def step(self, loop: ClosedLoop, dt_s: float) -> None:
        """One step of the plant."""
        plant = loop.plant
        if int((plant.t_s - dt_s) / self.bin_s) >= len(self.bins):
            self.bins.append(Energy())
            for zone_id, _ in self._zones:
                self.peak_a[zone_id].append(0.0)
                self.limit_a[zone_id].append(float("inf"))
        now = self.bins[-1]
        for zone_id, rating_a in self._zones:
            peak_a, limit_a = self.peak_a[zone_id], self.limit_a[zone_id]
            peak_a[-1] = max(peak_a[-1], *plant.zone_current_a(zone_id))
            limit_a[-1] = min(limit_a[-1], _limit_a(loop, zone_id, rating_a))
        cars_a = sum(plant.points[evse_id].own_current_a.total for evse_id, s in loop.stations.items() if s.charging)
        net_w = plant.zone_current_a(self._zones[0][0]).total * plant.voltage_v
        self._count(now, dt_s / 3600, cars_a * plant.voltage_v, net_w)

    def _count(self, now: Energy, hours: float, cars_w: float, net_w: float) -> None:
        pv_w = -self.loop.plant.power_w(ResourceKind.PV)
        battery_w = self.loop.plant.power_w(ResourceKind.BATTERY)
        grid_w, give_w = max(0.0, net_w), max(0.0, -battery_w)
        supply_w = grid_w + pv_w + give_w
        part = cars_w * hours / supply_w if supply_w > 0 else 0.0
        for energy in (self.total, now):
            energy.grid_wh += grid_w * hours
            energy.pv_wh += pv_w * hours
            energy.battery_wh += give_w * hours
            energy.cars_wh += cars_w * hours
            energy.cars_grid_wh += grid_w * part  # cars draw the mix of the moment
            energy.cars_pv_wh += pv_w * part
            energy.cars_battery_wh += give_w * part
            energy.to_battery_wh += max(0.0, battery_w) * hours
            energy.to_grid_wh += max(0.0, -net_w) * hours
            energy.other_load_wh += (net_w + pv_w - battery_w - cars_w) * hours


def bin_for(length_s: float) -> float:
    """Width of a point so that a curve stays readable: a minute, or more for long times."""
    return max(60.0, length_s / POINTS)


def figures(loop: ClosedLoop, course: Course) -> dict[str, Any]:
    """Everything of note, as JSON. The same run gives the same figures, so no wall time is in here."""
    for evse_id, point in loop.plant.points.items():  # cars that are still there
        for session in loop.tally.sessions:
            if session.evse_id == evse_id and session.end_s is None:
                session.delivered_wh = point.charged_wh
    sessions = loop.tally.sessions
    asked = [session for session in sessions if session.requested_wh is not None]
    requested_wh = sum(session.requested_wh or 0.0 for session in asked)
    delivered_wh = sum(
        min(session.delivered_wh, session.requested_wh or 0.0) for session in asked
    )  # no car's surplus helps another
    ratios = [session.ratio or 0.0 for session in asked]
    waits = sorted(s.first_current_s for s in sessions if s.first_current_s is not None)
    count = max(1, len(sessions))
    return {
        "simulated_s": round(loop.plant.t_s, 3),
        "cycles": {"decided": loop.cycles, "skipped_while_idle": loop.skipped},
        "energy": {
            "requested_kwh": _kilo(requested_wh),
            "delivered_kwh": _kilo(sum(session.delivered_wh for session in sessions)),
            "delivered_of_requested": round(min(1.0, delivered_wh / requested_wh), 4) if requested_wh else None,
        },
        "sessions": {
            "count": len(sessions),
            "fully_served": sum(session.whole for session in asked),
            "jain_fairness": _rounded(jain(ratios)),
            "worst_ratio": _rounded(min(ratios, default=None)),
            "pauses_per_session": round(sum(s.pauses for s in sessions) / count, 3),
            "reversals_per_session": round(sum(s.reversals for s in sessions) / count, 3),
            "median_wait_s": round(waits[len(waits) // 2], 1) if waits else None,
            "never_started": len(sessions) - len(waits),
        },
        "limits": {
            "above_limit_as": round(loop.judge.total_as, 2),
            "worst_excess_as": round(loop.judge.worst_as, 2),
            "longest_excess_s": round(loop.judge.longest_s, 2),
            "would_trip": {zone_id: round(at_s, 1) for zone_id, at_s in loop.judge.tripped.items()},
            "settling_s": [round(change.settled_s, 2) for change in loop.changes],
            "zones": {zone.zone_id: _zone(loop, zone.zone_id) for zone in loop.plan.site.zones},
        },
        "sources": {name.removesuffix("_wh") + "_kwh": _kilo(getattr(course.total, name)) for name in Energy.__slots__},
        "by_session": [
            {
                "evse": s.evse_id,
                "begin_s": s.begin_s,
                "end_s": s.end_s,
                "requested_kwh": None if s.requested_wh is None else _kilo(s.requested_wh),
                "delivered_kwh": _kilo(s.delivered_wh),
                "first_current_s": _rounded(s.first_current_s),
                "pauses": s.pauses,
                "reversals": s.reversals,
            }
            for s in sessions
        ],
    }


def jain(values: Iterable[float]) -> float | None:
    """Jain's index of fairness: 1 where all get the same, 1/n where one gets it all."""
    found = list(values)
    squares = sum(value * value for value in found)
    return sum(found) ** 2 / (len(found) * squares) if squares else None


def _zone(loop: ClosedLoop, zone_id: str) -> dict[str, Any]:
    records = [record for (zone, _), record in loop.judge.excess.items() if zone == zone_id]
    return {
        "peak_a": round(max(record.peak_a for record in records), 2),
        "peak_of_rating": round(max(record.peak_ratio for record in records), 3),
        "above_limit_as": round(sum(record.total_as for record in records), 2),
    }


def _limit_a(loop: ClosedLoop, zone_id: str, rating_a: float) -> float:
    if not loop.limits:
        return rating_a
    found = [rating_a]
    for limit in loop.limits:
        if limit.zone_id == zone_id and limit.value_a is not None:
            found.append(min(limit.value_a))
        if limit.zone_id == zone_id and limit.value_w is not None:
            found.append(limit.value_w / loop.plant.voltage_v / loop.plan.site.phases)
    return min(found)


def _kilo(value_wh: float) -> float:
    return round(value_wh / 1000, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
