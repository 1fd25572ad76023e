"""Resources that are commanded: what each needs for it, and what it does when we are gone."""

from collections.abc import Collection, Iterator

from cem.config.draft import Draft, Finding
from cem.config.maps import DeviceMap, ModelBook
from cem.config.modbus_models import ModbusConnection
from cem.config.scalars import did_you_mean, plain
from cem.errors import ConfigError

HOLDS = {
    "pv": frozenset({"limit_w", "limit_percent"}),
    "battery": frozenset({"power_w", "charge_limit_w", "discharge_limit_w"}),
}
"""Any of these holds a device of that role inside its envelope."""

KEEPS = "'{}' keeps its last command when we are gone: {}; set one in the device, if it has any"


def controlled(draft: Draft) -> Iterator[Finding]:
    for i, device in draft.devices:
        if not device.control:
            continue
        path = ("devices", i, "control")
        if device.role not in HOLDS:
            yield Finding(path, f"device '{device.id}' has the role {device.role}; only pv and battery are commanded")
            continue
        if not device.max_w:
            yield Finding(
                path, f"device '{device.id}' is commanded, so it must state 'max_w', its nameplate power in W"
            )
        if isinstance(device.connection, ModbusConnection):
            continue
        names = {*device.write_topics, *device.write_nodes}
        if not HOLDS[device.role] & names:
            yield Finding(
                path,
                f"device '{device.id}' has nothing that a {device.role} is commanded by: write_topics or write_nodes need "
                f"one of {', '.join(sorted(HOLDS[device.role]))}",
            )
        elif not any(name.endswith("revert_s") for name in names):
            yield Finding(path, KEEPS.format(device.id, "nothing that it is set by is a reversion time"), "warning")


def maps_can_command(draft: Draft, known: Collection[str] | None) -> Iterator[Finding]:
    """What is asked of a device must be in its map."""
    if not isinstance(known, ModelBook):
        return
    yield from _wallboxes(draft, known)
    for i, device in draft.devices:
        if not device.control or device.model is None or device.model not in known or device.role not in HOLDS:
            continue
        path = ("devices", i, "control")
        try:
            found = known.load(device.model)
        except ConfigError as error:
            yield Finding(path, f"the map '{device.model}' cannot be read: {error}")
            continue
        if not HOLDS[device.role] & set(found.writes):
            yield Finding(
                path,
                f"the map '{device.model}' has nothing that a {device.role} is commanded by; leave 'control' out, or "
                f"add one of {', '.join(sorted(HOLDS[device.role]))} to its writes",
            )
        elif not falls_back(found):
            yield Finding(
                path,
                KEEPS.format(device.id, f"the map '{device.model}' has no reversion time"),
                "warning",
            )


def _wallboxes(draft: Draft, known: ModelBook) -> Iterator[Finding]:
    for i, station in draft.stations:
        if station.modbus is None:
            continue
        path, model = ("stations", i, "modbus", "model"), station.modbus.model
        if model not in known:
            guess = did_you_mean(model, sorted(known)) or f"; there are: {', '.join(sorted(known))}"
            yield Finding(path, f"no device model '{model}'{guess}")
            continue
        try:
            found = known.load(model)
        except ConfigError as error:
            yield Finding(path, f"the map '{model}' cannot be read: {error}")
            continue
        if found.device != "wallbox" or "current_a" not in found.writes:
            yield Finding(path, f"the map '{model}' is of a {found.device} that no current can be set in")
        elif "watchdog_current_a" not in found.writes:
            yield Finding(
                path,
                f"the map '{model}' cannot set what '{station.id}' falls back to when we are gone: set "
                f"{plain(station.fallback_a)} A in the station itself; until we are back its maximum is reckoned with",
                "warning",
            )
        if not known[model]:
            yield Finding(
                path,
                f"the map '{model}' could not be checked against the maker's document; compare what '{station.id}' "
                "shows with its readings",
                "warning",
            )


def wallboxes(draft: Draft) -> Iterator[Finding]:
    names = {name for _, name in draft.ids["devices"]}
    for i, station in draft.stations:
        if station.modbus is None:
            continue
        if len(station.evses) > 1:
            yield Finding(
                ("stations", i, "evses"),
                f"station '{station.id}' is commanded by Modbus: one EVSE each; give every socket a station of its own",
            )
        if station.id in names:
            yield Finding(
                ("stations", i, "id"),
                f"'{station.id}' is a device already; a station read by Modbus needs its own name",
            )


def falls_back(found: DeviceMap) -> bool:
    """Whether the device goes back to its own ways by itself."""
    return found.lapses_s is not None or any(name.endswith("revert_s") for name in found.writes)


RULES = (controlled, wallboxes)
