"""Resources that are commanded: what each needs for it, and what it does when we are gone."""

from collections.abc import Collection, Iterator

from cem.config.draft import Draft, Finding
from cem.config.maps import DeviceMap, ModelBook
from cem.config.models import ModbusConnection
from cem.errors import ConfigError

HOLDS = {
    "pv": frozenset({"limit_w", "limit_percent"}),
    "battery": frozenset({"power_w", "charge_limit_w", "discharge_limit_w"}),
}
"""Any of these holds a device of that role inside its envelope."""


def controlled(draft: Draft) -> Iterator[Finding]:
    for i, device in draft.devices:
        if not device.control:
            continue
        path = ("devices", i, "control")
        if device.role not in HOLDS:
            yield Finding(path, f"device '{device.id}' has the role {device.role}; only pv and battery are commanded")
        elif not isinstance(device.connection, ModbusConnection):
            yield Finding(
                path, f"device '{device.id}' is reached by {device.connection.kind}; only Modbus devices are commanded"
            )
        elif not device.max_w:
            yield Finding(
                path, f"device '{device.id}' is commanded, so it must state 'max_w', its nameplate power in W"
            )


def maps_can_command(draft: Draft, known: Collection[str] | None) -> Iterator[Finding]:
    """What is asked of a device must be in its map."""
    if not isinstance(known, ModelBook):
        return
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
                f"'{device.id}' keeps its last command when we are gone: the map '{device.model}' has no reversion "
                "time; set one in the device, if it has any",
                "warning",
            )


def falls_back(found: DeviceMap) -> bool:
    """Whether the device goes back to its own ways by itself."""
    return found.lapses_s is not None or any(name.endswith("revert_s") for name in found.writes)


RULES = (controlled,)
