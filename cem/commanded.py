"""What the site file lets us command besides OCPP stations, joined from its devices and their adapters."""

from collections.abc import Callable, Sequence
from functools import partial

from adapters.modbus.maps import load_map
from cem.config.models import SiteFile
from cem.core.site import ResourceKind, Site
from cem.core.state import Measurement
from cem.ports import Clock, Event, FieldAdapter
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
            lapses_s=load_map(devices[resource.resource_id].model or "").lapses_s,
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
