"""The site as built, from a site file that passed every check."""

from zoneinfo import ZoneInfo

from cem.config.limit_models import GroupSection, ScheduledLimit
from cem.config.models import Device, EvseSection, SiteFile, StationSection, ZoneSection
from cem.core import schedules
from cem.core.dc import input_a
from cem.core.limits import LimitKind
from cem.core.paragraph14a import minimum_w
from cem.core.site import (
    BatteryRules,
    Evse,
    Meter,
    Mode,
    Policy,
    Protection,
    Resource,
    ResourceKind,
    Site,
    StationGroup,
    SurplusRules,
    Zone,
)

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RST = {"R": 0, "S": 1, "T": 2}
_SINGLE = {"L1": 0, "L2": 1, "L3": 2}


def build_site(file: SiteFile) -> Site:
    """The core's picture of a checked site file."""
    grid = file.site.grid_connection
    zones = parents_first(file.zones)
    guarding = {zone.meter for zone in zones}
    root_id = zones[0].id
    return Site(
        name=file.site.name,
        nominal_voltage_v=grid.nominal_voltage_v,
        phases=grid.phases,
        zones=(
            *(_zone(zone, file) for zone in zones),
            *(_breaker_zone(s) for s in file.stations if _shares_breaker(s)),
        ),
        evses=tuple(_evse(evse, station, grid.phases) for station in file.stations for evse in station.evses),
        meters=tuple(Meter(device.id, device.poll_s) for device in file.devices if device.id in guarding),
        resources=tuple(_resource(device, root_id) for device in file.devices if device.role in {"pv", "battery"}),
        surplus=SurplusRules(**dict(file.control.surplus)),
        battery=BatteryRules(**dict(file.control.battery)),
        groups=tuple(_group(group, file.stations) for group in file.groups),
        schedules=tuple(_schedule(limit, root_id) for limit in file.scheduled_limits),
        time_zone=ZoneInfo(file.site.time_zone),
        unbalance_a=grid.unbalance_a,
        least_load_w=_least_load_w(file),
        policy=Policy(file.control.policy),
    )


def parents_first(zones: tuple[ZoneSection, ...]) -> list[ZoneSection]:
    """Every zone after the one that feeds it, else in the file's order; zones in a circle are left out."""
    placed: list[ZoneSection] = []
    names: set[str | None] = {None}
    waiting = list(zones)
    while ready := [zone for zone in waiting if zone.parent in names]:
        placed += ready
        names |= {zone.id for zone in ready}
        waiting = [zone for zone in waiting if zone not in ready]
    return placed


def rotation_of(evse: EvseSection, site_phases: int) -> tuple[int, ...] | None:
    """Grid phase (0, 1, 2) of each phase of the EVSE; ``None`` where nobody knows."""
    if site_phases == 1:
        return (0,)
    if evse.rotation == "unknown":
        return None
    if evse.rotation in _SINGLE:
        return (_SINGLE[evse.rotation],)
    return tuple(_RST[letter] for letter in evse.rotation[: evse.phases])


def _tightest(*limits_w: float | None) -> float | None:
    return min((limit for limit in limits_w if limit is not None), default=None)


def _zone(zone: ZoneSection, file: SiteFile) -> Zone:
    grid = file.site.grid_connection
    is_root = zone.parent is None
    protection = zone.protection
    return Zone(
        zone_id=zone.id,
        parent_id=zone.parent,
        protection=Protection(
            rating_a=protection.rating_a,
            kind=protection.kind,
            curve=(protection.curve or "B") if protection.kind == "mcb" else None,
            guard_a=protection.guard_a,
        ),
        busbar_a=zone.busbar_a,
        import_limit_w=_tightest(zone.import_limit_w, grid.import_limit_w if is_root else None),
        export_limit_w=_tightest(zone.export_limit_w, grid.export_limit_w if is_root else None),
        meter_id=zone.meter,
        fallback_limit_a=zone.fallback_limit_a or 0.0,
        uncontrolled_max_a=zone.uncontrolled_max_a,
        energy_budget_w=zone.energy_budget_w,
    )


def _group(group: GroupSection, stations: tuple[StationSection, ...]) -> StationGroup:
    evse_ids = tuple(f"{s.id}/{s.number_of(evse)}" for s in stations if s.id in group.stations for evse in s.evses)
    return StationGroup(group.id, evse_ids, group.limit_a, group.limit_w)


def _schedule(limit: ScheduledLimit, root_id: str) -> schedules.ScheduledLimit:
    watts = {"W": limit.value, "kW": 1000 * limit.value}.get(limit.unit)
    return schedules.ScheduledLimit(
        limit.id,
        limit.zone or root_id,
        LimitKind(limit.kind),
        value_w=watts,
        value_a=limit.value if watts is None else None,
        days=frozenset(_DAYS.index(day) for day in limit.days),
        from_min=schedules.minutes_of(limit.from_time) or 0,
        to_min=schedules.minutes_of(limit.to_time) or 0,
    )


def _least_load_w(file: SiteFile) -> float | None:
    """§ 14a EnWG: charging points and batteries are the controllable devices that a site file knows."""
    if not file.site.grid_connection.paragraph_14a:
        return None
    points = sum(len(station.evses) for station in file.stations)
    return minimum_w(points + sum(device.role == "battery" for device in file.devices))


def breaker_zone_id(station_id: str) -> str:
    """Name of the zone that stands for the breaker which several EVSEs of a station share."""
    return f"{station_id}:breaker"


def _shares_breaker(station: StationSection) -> bool:
    return len(station.evses) > 1


def _breaker_zone(station: StationSection) -> Zone:
    return Zone(breaker_zone_id(station.id), station.zone, Protection(station.breaker_a))


def _evse(evse: EvseSection, station: StationSection, site_phases: int) -> Evse:
    max_a = evse.max_a
    if evse.dc and evse.max_w is not None:
        max_a = min(max_a, input_a(evse.max_w, evse.phases, evse.efficiency))
    return Evse(
        evse_id=f"{station.id}/{station.number_of(evse)}",
        station_id=station.id,
        zone_id=breaker_zone_id(station.id) if _shares_breaker(station) else station.zone,
        number=station.number_of(evse),
        min_a=evse.min_a,
        max_a=max_a,
        phases=evse.phases,
        rotation=rotation_of(evse, site_phases),
        priority=station.priority,
        weight=station.weight,
        fallback_a=station.fallback_a,
        mode=Mode(station.mode),
        phase_switching=evse.phase_switching,
        efficiency=evse.efficiency if evse.dc else None,
        discharge_a=evse.discharge_a,
        step_a=evse.step_a,
    )


def _resource(device: Device, root_id: str) -> Resource:
    kind = ResourceKind.PV if device.role == "pv" else ResourceKind.BATTERY
    return Resource(device.id, kind, device.zone or root_id, device.max_w or 0.0)
