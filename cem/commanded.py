"""What the site file lets us command besides OCPP stations, joined from its devices and their adapters."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from adapters.modbus.adapter import ModbusAdapter
from adapters.modbus.maps import load_map
from adapters.modbus.wallbox import ModbusStations, device_of
from cem.config.maps import RegisterMap
from cem.config.models import Device, SiteFile
from cem.contactors import Contactors, built
from cem.core.engine import Plan
from cem.core.site import ResourceKind, Site
from cem.core.state import EvseState, Measurement
from cem.ports import Clock, ContactorSwitch, Event, EvseControl, FieldAdapter, News, StationStore
from cem.resource_control import Controlled, DeviceWriter, ResourceCommander


def resource_commander(
    file: SiteFile, site: Site, fields: Sequence[FieldAdapter], clock: Clock, on_event: Callable[[Event], None]
) -> ResourceCommander | None:
    """Whoever commands batteries and inverters; ``None`` where none may be."""
    devices = {device.id: device for device in file.devices if device.control}
    resources = [resource for resource in site.resources if resource.resource_id in devices]
    if not resources:
        return None
    writers = {
        device.id: adapter
        for adapter in fields
        if isinstance(adapter, DeviceWriter)
        for device in devices.values()
        if adapter.serves(device.id)
    }
    controlled = [
        Controlled(
            resource,
            fallback_w=fallback_w(site, resource.resource_id),
            lapses_s=None if (model := devices[resource.resource_id].model) is None else load_map(model).lapses_s,
        )
        for resource in resources
    ]
    return ResourceCommander(
        controlled,
        [writers[resource.resource_id] for resource in resources],
        partial(_measured, tuple(fields)),
        site.root.meter_id,
        clock,
        on_event,
    )


def wallbox_devices(file: SiteFile) -> list[Device]:
    """The stations that are read by Modbus, as devices."""
    return [device_of(station) for station in file.stations if station.modbus is not None]


def stations_of(
    file: SiteFile,
    site: Site,
    fields: Sequence[FieldAdapter],
    ocpp: EvseControl,
    store: StationStore,
    clock: Clock,
    news: News,
    on_event: Callable[[Event], None],
) -> tuple[EvseControl, ModbusStations | None]:
    """Every EVSE of the site, and whoever commands those by Modbus; ``None`` where none is."""
    boxes = {station.id: station.modbus for station in file.stations if station.modbus is not None}
    if not boxes:
        return ocpp, None
    evses = [evse for evse in site.evses if evse.station_id in boxes]
    adapters = [a for e in evses for a in fields if isinstance(a, ModbusAdapter) and a.serves(e.station_id)]
    maps = [found for evse in evses if isinstance(found := load_map(boxes[evse.station_id].model), RegisterMap)]
    periods_s = [boxes[evse.station_id].poll_s for evse in evses]
    wallboxes = ModbusStations(evses, maps, adapters, periods_s, store, clock, news, on_event)
    return AllStations((ocpp, wallboxes)), wallboxes


class AllStations:
    """Stations of several kinds as one ``EvseControl``; each knows its own EVSEs."""

    def __init__(self, parts: Sequence[EvseControl]) -> None:
        self._parts = tuple(parts)

    def evse_states(self, now_s: float) -> Mapping[str, EvseState]:
        """Every EVSE."""
        return {name: state for part in self._parts for name, state in part.evse_states(now_s).items()}

    def apply(self, now_s: float, setpoints_a: Mapping[str, float], phases: Mapping[str, int] | None = None) -> None:
        """Hands everything to each."""
        for part in self._parts:
            part.apply(now_s, setpoints_a, phases or {})


def contactors_of(
    file: SiteFile, plan: Plan, fields: Sequence[FieldAdapter], on_event: Callable[[Event], None]
) -> Contactors | None:
    """The site's contactors; ``None`` where it has none."""
    if not file.contactors:
        return None
    switching = [field for field in fields if isinstance(field, ContactorSwitch)]

    def switch(name: str, closed: bool) -> None:
        for adapter in switching:
            adapter.switch(name, closed)

    return Contactors([built(plan, c.id, c.stations, c.opens_after_s) for c in file.contactors], switch, on_event)


def fallback_w(site: Site, resource_id: str) -> float | None:
    """What an inverter may give while nobody watches: its part by nameplate of the export that the contract allows."""
    parents = {zone.zone_id: zone.parent_id for zone in site.zones}
    above = {}
    for resource in site.resources:
        name: str | None = resource.zone_id
        above[resource.resource_id] = set[str]()
        while name is not None:
            above[resource.resource_id].add(name)
            name = parents[name]
    own = next(resource for resource in site.resources if resource.resource_id == resource_id)
    found = []
    for zone in site.zones:
        if zone.export_limit_w is None or zone.zone_id not in above[resource_id]:
            continue
        beside_w = sum(
            r.max_w for r in site.resources if r.kind is ResourceKind.PV and zone.zone_id in above[r.resource_id]
        )
        found.append(zone.export_limit_w * own.max_w / max(beside_w, 1.0))
    return min(found, default=None)


def _measured(fields: Sequence[FieldAdapter]) -> dict[str, Measurement]:
    return {name: one for field in fields for name, one in field.measurements().items()}
