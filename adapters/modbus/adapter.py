"""Modbus TCP: every device behind one address, on one connection."""

import asyncio
from collections.abc import Mapping, Sequence

from adapters.modbus.link import Link
from adapters.modbus.unit import LOST_AFTER, Unit
from adapters.trouble import Trouble
from cem.config.models import Device, ModbusTcp
from cem.core.limits import LimitSignal
from cem.core.state import Measurement
from cem.errors import AdapterError, DeviceMisconfigured, DeviceUnavailable
from cem.ports import Clock, News


class ModbusAdapter:
    """Reads its devices one request at a time, each at its own period, and keeps the latest good sample of each.

    A device that does not answer is asked less and less often and delays the others by one time-out at most; when none
    answers, ``run`` ends with ``DeviceUnavailable`` and the supervisor takes over. The last good sample stays: its
    age tells.

    Args:
        connection: Host and port; unit id and time-out are taken from each device.
        devices: Every device behind that host and port.
        clock: Monotonic time.
        news: Called when a device is lost or back.
    """

    def __init__(self, connection: ModbusTcp, devices: Sequence[Device], clock: Clock, news: News) -> None:
        self.name = f"modbus {connection.host}:{connection.port}"
        self._host = connection.host
        self._port = connection.port
        self._clock = clock
        epoch_s = clock.monotonic_s()
        self._units = [
            Unit(device, _modbus(device), epoch_s, Trouble(device.id, clock, news, after=LOST_AFTER))
            for device in devices
        ]

    def measurements(self) -> Mapping[str, Measurement]:
        """The latest good sample of each device that ever gave one."""
        return {unit.device.id: unit.latest for unit in self._units if unit.latest is not None}

    def signals(self) -> Mapping[str, LimitSignal]:
        """None: no limit comes by this adapter."""
        return {}

    def problems(self) -> Mapping[str, str]:
        """Devices whose last read gave no sample, and why."""
        return {unit.device.id: unit.trouble.problem for unit in self._units if unit.trouble.problem is not None}

    async def run(self) -> None:
        """Read for ever.

        Raises:
            DeviceUnavailable: No connection, or none of the devices answers.
        """
        link = Link(self._host, self._port)
        now_s = self._clock.monotonic_s()
        for unit in self._units:
            unit.due_s = now_s
            unit.failed_this_run = False
        try:
            while True:
                unit = min(self._units, key=lambda unit: unit.due_s)
                await asyncio.sleep(max(0.0, unit.due_s - self._clock.monotonic_s()))
                await self._poll(link, unit)
        finally:
            link.close()

    async def _poll(self, link: Link, unit: Unit) -> None:
        try:
            await link.open()
        except DeviceUnavailable as error:
            for each in self._units:
                each.trouble.problem = str(error)
            raise
        try:
            outcome = await unit.read(link, self._clock)
        except AdapterError as error:
            others = (each for each in self._units if each is not unit)
            nobody = unit.trouble.in_a_row + 1 >= LOST_AFTER and all(
                each.failed_this_run and each.trouble.in_a_row >= LOST_AFTER for each in others
            )
            unit.failed(str(error), self._clock.monotonic_s(), quiet=nobody)
            if nobody:
                raise  # the supervisor tells the outage and paces the attempts
            return
        now_s = self._clock.monotonic_s()
        if isinstance(outcome, str):
            unit.missed(outcome, now_s)
        else:
            unit.succeeded(outcome, now_s)


def _modbus(device: Device) -> ModbusTcp:
    if not isinstance(device.connection, ModbusTcp):
        raise DeviceMisconfigured(f"{device.id}: its connection is not modbus_tcp")
    return device.connection
