"""Devices: what each needs to be read, and what a meter needs to guard a zone."""

from collections.abc import Collection, Iterator, Mapping

from cem.config.draft import Draft, Finding
from cem.config.modbus_models import ModbusConnection, ModbusRtu, ModbusRtuTcp, ModbusTcp
from cem.config.models import Virtual
from cem.config.mqtt_models import MqttBroker
from cem.config.opcua_models import OpcUaServer
from cem.config.scalars import did_you_mean, plain

SLOWEST_GUARD_S = 15.0
"""FAULTS: a meter that guards a limit and is slower than this is refused."""


def addresses_are_given_once(draft: Draft) -> Iterator[Finding]:
    """One unit may be several devices of ours (a hybrid's meter, PV and battery), each with a model of its own."""
    first: dict[tuple[object, ...], str] = {}
    for i, device in draft.devices:
        at = device.connection
        if isinstance(at, ModbusConnection):
            address = (*at.line, at.unit_id, device.model)
            if address in first:
                where = at.port if isinstance(at, ModbusRtu) else f"{at.host} port {at.port}"
                yield Finding(
                    ("devices", i, "connection"),
                    f"device '{device.id}' has the address and model of '{first[address]}': {where} unit {at.unit_id}",
                )
            first.setdefault(address, device.id)


def lines_agree(draft: Draft) -> Iterator[Finding]:
    """Devices on one line speak at one speed; one gateway port speaks one protocol."""
    serial: dict[str, tuple[str, str]] = {}
    ports: dict[tuple[str, int], tuple[str, str]] = {}
    for i, device in draft.devices:
        at = device.connection
        if isinstance(at, ModbusRtu):
            settings = f"{at.baudrate} {at.parity} {at.stop_bits}"
            other, theirs = serial.setdefault(at.port, (device.id, settings))
            if settings != theirs:
                yield Finding(
                    ("devices", i, "connection"),
                    f"device '{device.id}' has {settings} on {at.port}, '{other}' has {theirs}: "
                    "baudrate, parity and stop_bits are the same on one line",
                )
        elif isinstance(at, ModbusConnection):
            other, kind = ports.setdefault((at.host.lower(), at.port), (device.id, at.kind))
            if at.kind != kind:
                yield Finding(
                    ("devices", i, "connection", "kind"),
                    f"device '{device.id}' speaks {at.kind} to {at.host} port {at.port}, '{other}' speaks {kind}",
                )


def readable(draft: Draft) -> Iterator[Finding]:
    for i, device in draft.devices:
        match device.connection:
            case ModbusTcp() | ModbusRtu() | ModbusRtuTcp() if device.model is None:
                yield Finding(
                    ("devices", i), f"Modbus device '{device.id}' needs 'model': the name of its register map"
                )
            case MqttBroker() if not device.values:
                yield Finding(("devices", i), f"MQTT device '{device.id}' needs 'values': the topic of each value")
            case OpcUaServer() if not device.nodes:
                yield Finding(("devices", i), f"OPC UA device '{device.id}' needs 'nodes': the node of each value")
            case _:
                pass


def topics_are_exact(draft: Draft) -> Iterator[Finding]:
    places: list[tuple[tuple[str | int, ...], str | None]] = []
    for i, device in draft.devices:
        for name, value in device.values.items():
            places += [(("devices", i, "values", name, key), getattr(value, key)) for key in ("topic", "minus_topic")]
        for label, write in device.write_topics.items():
            places += [
                (("devices", i, "write_topics", label, key), getattr(write, key)) for key in ("topic", "read_topic")
            ]
        for key in ("availability", "keepalive"):
            section = getattr(device, key)
            places += [] if section is None else [(("devices", i, key, "topic"), section.topic)]
    for path, topic in places:
        if topic is not None and set(topic) & {"#", "+"}:
            yield Finding(path, f"topic '{topic[:60]}' has a wildcard; one value comes from one topic")


def writes_have_ranges(draft: Draft) -> Iterator[Finding]:
    for i, device in draft.devices:
        for key, writes in (("write_topics", device.write_topics), ("write_nodes", device.write_nodes)):
            for name, (low, high), scale in ((n, w.valid, w.scale) for n, w in writes.items()):
                if low > high or scale == 0:
                    yield Finding(("devices", i, key, name), f"'{name}': valid goes from least to most, scale is not 0")


def hosts_are_hosts(draft: Draft) -> Iterator[Finding]:
    """A port or scheme in ``host`` would only show as a device that never answers."""
    places: list[tuple[tuple[str | int, ...], str]] = [
        (("devices", i, "connection", "host"), device.connection.host)
        for i, device in draft.devices
        if not isinstance(device.connection, ModbusRtu | OpcUaServer | Virtual)
    ]
    places += [(("csms", "listen", "host"), draft.csms.listen.host)] if draft.csms else []
    places += [(("web", "host"), draft.web.host)] if draft.web else []
    for path, host in places:
        if "/" in host or any(letter.isspace() for letter in host) or host.count(":") == 1:
            yield Finding(path, f"'{host[:60]}' is not a host: a name or address alone; the port has a key of its own")


def models_exist(draft: Draft, known: Collection[str] | None) -> Iterator[Finding]:
    """Where ``known`` is a mapping, its values say whether a map was checked against its sources."""
    if known is None:
        return
    for i, device in draft.loose_devices:
        if not isinstance(device.connection, ModbusConnection) or device.model is None:
            continue
        if device.model not in known:
            guess = did_you_mean(device.model, sorted(known)) or f"; there are: {', '.join(sorted(known))}"
            yield Finding(("devices", i, "model"), f"no device model '{device.model}'{guess}")
        elif isinstance(known, Mapping) and not known[device.model]:
            yield Finding(
                ("devices", i, "model"),
                f"the map '{device.model}' could not be checked against the maker's document; compare the readings of "
                f"'{device.id}' with its display (cem device test)",
                "warning",
            )


def nameplate_known(draft: Draft) -> Iterator[Finding]:
    for i, device in draft.devices:
        if device.role in {"pv", "battery"} and device.max_w is None:
            yield Finding(
                ("devices", i), f"{device.role} '{device.id}' should state 'max_w', its nameplate power in W", "warning"
            )


def guarding_meters(draft: Draft) -> Iterator[Finding]:
    """Each meter of a zone: a meter by its role, of one zone only, fast enough, on every phase, with currents."""
    by_id = {device.id: (i, device) for i, device in reversed(draft.loose_devices)}
    guards: dict[str, str] = {}
    for i, zone in draft.zones:
        if zone.meter is None or zone.meter not in by_id:
            continue
        if zone.meter in guards:
            yield Finding(
                ("zones", i, "meter"),
                f"meter '{zone.meter}' measures zone '{guards[zone.meter]}' already; zone '{zone.id}' needs its own",
            )
        guards.setdefault(zone.meter, zone.id)
        at, device = by_id[zone.meter]
        if device.role not in {"grid_meter", "zone_meter"}:
            yield Finding(
                ("zones", i, "meter"),
                f"device '{device.id}' has the role {device.role}; the meter of zone '{zone.id}' must be a grid_meter "
                "or zone_meter, which measures all current into the zone",
            )
        if device.poll_s > SLOWEST_GUARD_S:
            yield Finding(
                ("devices", at, "poll_s"),
                f"meter '{device.id}' guards zone '{zone.id}' and is read every {plain(device.poll_s)} s; at most "
                f"{plain(SLOWEST_GUARD_S)} s",
            )
        if draft.grid and device.phases < draft.grid.phases:
            yield Finding(
                ("devices", at, "phases"),
                f"meter '{device.id}' measures {device.phases} phase, zone '{zone.id}' has {draft.grid.phases}",
            )
        missing = [
            f"L{n}"
            for n in range(1, draft.phases + 1)
            if not {f"current_l{n}_a", f"power_l{n}_w"} & {*device.values, *device.nodes}
        ]
        if (device.values or device.nodes) and missing:
            yield Finding(
                ("devices", at, "values"),
                f"meter '{device.id}' guards zone '{zone.id}' and gives no current or power of {', '.join(missing)}",
            )


def meters_are_used(draft: Draft) -> Iterator[Finding]:
    used = {zone.meter for _, zone in draft.zones}
    if "zones" not in draft.complete or len(draft.zones) < len(draft.ids["zones"]):
        return  # a zone that cannot be read may name it
    for i, device in draft.devices:
        if device.role in {"grid_meter", "zone_meter"} and device.id not in used:
            yield Finding(("devices", i), f"no zone names '{device.id}' as its meter, so it guards nothing", "warning")


RULES = (
    addresses_are_given_once,
    lines_agree,
    readable,
    topics_are_exact,
    writes_have_ranges,
    hosts_are_hosts,
    nameplate_known,
    guarding_meters,
    meters_are_used,
)
