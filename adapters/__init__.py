"""Every adapter the product has, by kind; imported when a site uses it (asyncua alone costs 280 ms)."""

from importlib import import_module
from typing import Any

from cem.errors import DeviceMisconfigured

KINDS = {
    "modbus_tcp": "adapters.modbus.adapter:ModbusAdapter",
    "modbus_rtu": "adapters.modbus.adapter:ModbusAdapter",
    "modbus_rtu_tcp": "adapters.modbus.adapter:ModbusAdapter",
    "mqtt": "adapters.mqtt.adapter:MqttAdapter",
    "mqtt_out": "adapters.mqtt.outward:MqttOutward",
    "opcua": "adapters.opcua.device:OpcUaDevices",
    "opcua_limit": "adapters.opcua.limit:OpcUaLimitAdapter",
    "virtual": "adapters.virtual:VirtualMeters",
    "ocpp": "adapters.ocpp.server:OcppServer",
    "ocpp_identity": "adapters.ocpp.identity:OwnIdentityAdapter",
    "simulated": "adapters.simulated.site:SimulatedSite",
}


def create(kind: str, *args: Any, **kwargs: Any) -> Any:
    """Make an adapter.

    Args:
        kind: A key of ``KINDS``.
        *args: Handed to its class, see there.
        **kwargs: Handed to its class.

    Returns:
        The adapter, not yet running.

    Raises:
        DeviceMisconfigured: No adapter of that kind exists.
    """
    where = KINDS.get(kind)
    if where is None:
        raise DeviceMisconfigured(f"no adapter of kind {kind!r}; known kinds: {', '.join(sorted(KINDS))}")
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)(*args, **kwargs)
