"""Ask Modbus devices now, for the tools of an installer; the controller itself polls by ``ModbusAdapter``."""

import asyncio
from collections.abc import Sequence
from typing import Self

from adapters.modbus.link import Link
from adapters.modbus.sunspec_points import Model, read_models
from adapters.modbus.unit import Unit
from adapters.reading import Reading
from adapters.trouble import Trouble
from cem.config.maps import SunSpecMap
from cem.config.modbus_models import ModbusConnection
from cem.config.models import Device
from cem.errors import AdapterError, DeviceMisconfigured
from cem.ports import Clock


class ModbusProbe:
    """The devices of one line, asked one at a time.

    Args:
        connection: Of any of them.
        devices: All of that line.
        clock: Monotonic time.
    """

    one_at_a_time = True

    def __init__(self, connection: ModbusConnection, devices: Sequence[Device], clock: Clock) -> None:
        self._clock = clock
        self._units: dict[str, Unit] = {}
        for device in devices:
            if not isinstance(device.connection, ModbusConnection):
                raise DeviceMisconfigured(f"{device.id}: its connection is not Modbus")
            trouble = Trouble(device.id, clock, lambda: None, after=1 << 30)  # tools tell it themselves
            self._units[device.id] = Unit(device, device.connection, 0.0, trouble)
        self._link = Link(connection, max(unit.map.connect_pause_s for unit in self._units.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._link.close()
        await asyncio.sleep(0)  # the socket closes in the loop's next turn, and a tool's loop may have no other

    async def read(self, device_id: str) -> Reading:
        """Read it once; an error is in the reading."""
        unit = self._units[device_id]
        taken_s = self._clock.monotonic_s()
        try:
            await self._link.open()
            taken_s = self._clock.monotonic_s()
            outcome = await unit.read(self._link, self._clock)
        except AdapterError as error:
            return Reading(taken_s, self._clock.monotonic_s() - taken_s, {}, None, str(error), answered=False)
        latency_s = self._clock.monotonic_s() - taken_s
        if isinstance(outcome, str):
            return Reading(taken_s, latency_s, dict(unit.values), None, f"{device_id}: {outcome}", answered=True)
        return Reading(taken_s, latency_s, dict(unit.values), outcome, None, answered=True)

    async def write(self, device_id: str, name: str, value: float) -> float:
        """Set one value and read it back, see ``Unit.write``.

        Raises:
            AdapterError: It was not set, or that is not known.
        """
        await self._link.open()
        return await self._units[device_id].write(self._link, name, value)

    async def models(self, device_id: str) -> list[Model]:
        """Every SunSpec model with its points; empty for a device with plain registers.

        Raises:
            AdapterError: It cannot be asked.
        """
        unit = self._units[device_id]
        if not isinstance(unit.map, SunSpecMap):
            return []
        await self._link.open()
        return await read_models(lambda request: unit.ask(self._link, request), device_id)
