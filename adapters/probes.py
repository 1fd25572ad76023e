"""The probe for the devices behind one connection, whatever the protocol."""

from collections.abc import Sequence

import adapters
from adapters.listening import ListeningProbe
from adapters.modbus.probe import ModbusProbe
from adapters.reading import Probe
from cem.config.modbus_models import ModbusConnection
from cem.config.models import Device, Virtual
from cem.errors import DeviceMisconfigured
from cem.ports import Clock


def probe_for(devices: Sequence[Device], clock: Clock) -> Probe:
    """Not yet open.

    Args:
        devices: All of one connection.
        clock: Monotonic time.

    Raises:
        DeviceMisconfigured: They are worked out from others, so nobody can be asked.
    """
    connection = devices[0].connection
    if isinstance(connection, ModbusConnection):
        return ModbusProbe(connection, devices, clock)
    if isinstance(connection, Virtual):
        raise DeviceMisconfigured(f"{devices[0].id} is worked out from other devices; ask those")
    return ListeningProbe(adapters.create(connection.kind, connection, devices, clock, lambda: None), devices, clock)
