"""One node written and read back."""

import asyncio
from typing import Any

from adapters.opcua import session
from cem.config.models import Device
from cem.errors import DeviceMisconfigured, DeviceRefused, DeviceUnavailable
from cem.supervise import obey_cancellation

WRITE_TIMEOUT_S = 4.0
CLOSE = 1e-4
"""A float of 32 bits keeps no more of a number."""


async def write_node(client: Any, ua: Any, device: Device, index: int, name: str, value: float) -> float:
    """Write one value of a device in the node's own type, without time stamps, and read it back.

    Args:
        client: Of a session.
        ua: The library's types.
        device: Its section of the site file.
        index: Of the site file's namespace.
        name: A key of ``write_nodes``.
        value: In its unit.

    Returns:
        What the node holds now.

    Raises:
        DeviceMisconfigured: No such name or node, or the value is outside its range.
        DeviceRefused: The server refuses, or the node holds something else now.
        DeviceUnavailable: It did not answer in time.
    """
    write = next((write for known, write in device.write_nodes.items() if known == name), None)
    if write is None:
        offer = ", ".join(sorted(device.write_nodes)) or "nothing: see write_nodes"
        raise DeviceMisconfigured(f"{device.id}: cannot write {name!r}; it has {offer}")
    low, high = write.valid
    if not low <= value <= high:
        raise DeviceMisconfigured(f"{device.id}: {name} of {value:g} is outside {low:g} to {high:g}")
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            node = await session.find_node(client, ua, write.node, index, device.id)
            before = await node.read_data_value(raise_on_bad_status=False)
            variant, step = _variant(ua, before, value / write.scale)
            await node.write_attribute(ua.AttributeIds.Value, ua.DataValue(variant))
        obey_cancellation()
        await asyncio.sleep(write.settle_s)
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            shown = write.node if write.read_node is None else write.read_node
            held = await (await session.find_node(client, ua, shown, index, device.id)).read_value()
        obey_cancellation()
    except (ua.UaStatusCodeError, ua.UaError) as error:
        raise DeviceRefused(
            f"{device.id}: the server refuses {name} of {value:g} ({type(error).__name__}); check the node's access "
            "rights and our user's"
        ) from error
    except (TimeoutError, OSError) as error:
        raise DeviceUnavailable(f"{device.id}: {name} could not be set: the server does not answer") from error
    if isinstance(held, bool) or not isinstance(held, int | float):
        raise DeviceRefused(f"{device.id}: {name} was set to {value:g} and reads back as {str(held)[:40]!r}")
    found = held * write.scale
    if abs(found - value) > abs(write.scale) * step + CLOSE * abs(value):
        raise DeviceRefused(f"{device.id}: {name} was set to {value:g} and reads back as {found:g}")
    return float(found)


def _variant(ua: Any, before: Any, number: float) -> tuple[Any, float]:
    """The number in the node's own type, and how far that type may round it."""
    kind = before.Value.VariantType if before.Value is not None else None
    if kind in {ua.VariantType.Float, ua.VariantType.Double}:
        return ua.Variant(float(number), kind), 0.0
    if kind == ua.VariantType.Boolean:
        return ua.Variant(bool(round(number)), kind), 0.0
    if kind is None or kind == ua.VariantType.Null:
        return ua.Variant(float(number), ua.VariantType.Double), 0.0
    return ua.Variant(round(number), kind), 0.501
