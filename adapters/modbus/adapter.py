"""Modbus: every device behind one TCP address, gateway or serial port, on one connection."""

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from adapters.modbus.bits import Inputs, Output, inputs_of
from adapters.modbus.link import Link, where_of
from adapters.modbus.unit import LOST_AFTER, Unit
from adapters.trouble import Trouble
from cem.config.contact_models import ContactorSection, ContactSection
from cem.config.modbus_models import ModbusConnection
from cem.config.models import Device
from cem.core.limits import LimitSignal
from cem.core.state import Measurement
from cem.errors import AdapterError, DeviceMisconfigured, DeviceUnavailable
from cem.ports import Clock, News

WRITE_TIMEOUT_S = 10.0
MOST_WRITES = 32


@dataclass(frozen=True, slots=True)
class _Write:
    unit: Unit
    name: str
    value: float
    done: asyncio.Future[float]


class ModbusAdapter:
    """Reads its devices one request at a time, each at its own period, and keeps the latest good sample of each.

    A device that does not answer is asked less and less often and delays the others by one time-out at most; when none
    answers, ``run`` ends with ``DeviceUnavailable`` and the supervisor takes over. The last good sample stays: its
    age tells. What is to be written goes before the next read.

    Args:
        connection: Where; unit id and time-out are taken from each device.
        devices: Every device behind that connection.
        contacts: Digital inputs behind it.
        contactors: Outputs behind it.
        clock: Monotonic time.
        news: Called when a device is lost or back.
    """

    def __init__(
        self,
        connection: ModbusConnection,
        devices: Sequence[Device],
        clock: Clock,
        news: News,
        contacts: Sequence[ContactSection] = (),
        contactors: Sequence[ContactorSection] = (),
    ) -> None:
        self.name = where_of(connection)
        self._clock = clock
        epoch_s = clock.monotonic_s()
        self._units = [
            Unit(device, _modbus(device), epoch_s, Trouble(device.id, clock, news, after=LOST_AFTER))
            for device in devices
        ]
        # One for all runs: it remembers whose answers may still be under way.
        self._link = Link(connection, max((unit.map.connect_pause_s for unit in self._units), default=0.0))
        self._inputs = inputs_of(contacts, clock, news)
        self._outputs = [
            Output(config, Trouble(f"contactor {config.id}", clock, news, after=2), clock) for config in contactors
        ]
        self._polled: list[Unit | Inputs | Output] = [*self._inputs, *self._outputs, *self._units]
        self._writes: deque[_Write] = deque()
        self._turn: asyncio.Future[None] | None = None  # run waits on it

    def measurements(self) -> Mapping[str, Measurement]:
        """The latest good sample of each device that ever gave one."""
        return {unit.device.id: unit.latest for unit in self._units if unit.latest is not None}

    def signals(self) -> Mapping[str, LimitSignal]:
        """None: no limit comes by this adapter."""
        return {}

    def problems(self) -> Mapping[str, str]:
        """Devices whose last read gave no sample, inputs and outputs that are not right, and why."""
        told = {unit.device.id: unit.trouble for unit in self._units}
        told |= {each.name: each.trouble for each in (*self._inputs, *self._outputs)}
        return {name: trouble.problem for name, trouble in told.items() if trouble.problem is not None}

    def contacts(self) -> Mapping[str, bool | None]:
        """For each contact whether it acts; ``None``: it cannot be read."""
        return {name: acts for group in self._inputs for name, acts in group.active().items()}

    def contactors(self) -> Mapping[str, bool | None]:
        """For each contactor whether it is closed; ``None``: nobody knows."""
        return {output.config.id: output.closed for output in self._outputs}

    def switch(self, contactor: str, closed: bool) -> None:
        """Have a contactor closed or opened, and kept so; returns at once. Others' are left alone."""
        for output in self._outputs:
            if output.config.id == contactor and output.switch(closed=closed):
                _wake(self._turn)

    def serves(self, device_id: str) -> bool:
        """It is one of this adapter's devices."""
        return any(unit.device.id == device_id for unit in self._units)

    def values(self, device_id: str) -> Mapping[str, float]:
        """What a device's last sample held by the names of its map, raw states of a wallbox among them."""
        return next(unit.values for unit in self._units if unit.device.id == device_id)

    def writes(self, device_id: str) -> Collection[str] | None:
        """Names that a device of ours can be written by; ``None`` while it does not answer."""
        return next(unit.writes() for unit in self._units if unit.device.id == device_id)

    async def write(self, device_id: str, name: str, value: float) -> float:
        """Set one value of a device, between two reads, and read it back.

        Args:
            device_id: One of this adapter's devices.
            name: A ``config.names.WriteName`` that its map has.
            value: In that name's unit; powers in load convention.

        Returns:
            What the device holds now.

        Raises:
            DeviceMisconfigured: No such device or name, or the value is outside the map's range.
            DeviceRefused: The device refused it, or holds something else now.
            DeviceUnavailable: It could not be asked in time; what was not sent by then is never sent.
        """
        unit = next((unit for unit in self._units if unit.device.id == device_id), None)
        if unit is None:
            raise DeviceMisconfigured(f"{device_id}: no such device behind {self.name}")
        if len(self._writes) >= MOST_WRITES:
            raise DeviceUnavailable(f"{device_id}: {name} cannot be set: {MOST_WRITES} others wait already")
        write = _Write(unit, name, value, asyncio.get_running_loop().create_future())
        self._writes.append(write)
        _wake(self._turn)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                return await write.done
        except TimeoutError as error:
            raise DeviceUnavailable(f"{device_id}: {name} could not be set within {WRITE_TIMEOUT_S:g} s") from error

    async def run(self) -> None:
        """Read for ever.

        Raises:
            DeviceUnavailable: No connection, or none of the devices answers.
        """
        link = self._link
        now_s = self._clock.monotonic_s()
        for each in self._polled:
            each.due_s = now_s
            each.failed_this_run = False
        try:
            while True:
                if self._writes or await self._interrupted(min(each.due_s for each in self._polled)):
                    await self._write_next(link)
                else:
                    await self._poll(link, min(self._polled, key=lambda each: each.due_s))
        finally:
            link.close()

    async def _interrupted(self, due_s: float) -> bool:
        """Wait for the next read; true where something is to be written before it."""
        loop = asyncio.get_running_loop()
        self._turn = loop.create_future()
        timer = loop.call_later(max(0.0, due_s - self._clock.monotonic_s()), _wake, self._turn)
        try:
            await self._turn
        finally:
            timer.cancel()
        return bool(self._writes)

    async def _write_next(self, link: Link) -> None:
        write = self._writes.popleft()
        if write.done.done():  # given up by who asked: an old command is not obeyed late
            return
        try:
            await self._open(link)
            held = await write.unit.write(link, write.name, write.value)
        except AdapterError as error:
            if not write.done.done():
                write.done.set_exception(error)
        except BaseException:
            write.done.cancel()
            raise
        else:
            if not write.done.done():
                write.done.set_result(held)

    async def _open(self, link: Link) -> None:
        try:
            await link.open()
        except DeviceUnavailable as error:
            for each in self._polled:
                each.trouble.problem = str(error)
                each.forget()
            raise

    async def _poll(self, link: Link, one: Unit | Inputs | Output) -> None:
        await self._open(link)
        try:
            outcome = await one.read(link, self._clock)
        except AdapterError as error:
            others = (each for each in self._polled if each is not one)
            nobody = one.trouble.in_a_row + 1 >= LOST_AFTER and all(
                each.failed_this_run and each.trouble.in_a_row >= LOST_AFTER for each in others
            )
            one.failed(str(error), self._clock.monotonic_s(), quiet=nobody)
            if nobody:
                raise  # the supervisor tells the outage and paces the attempts
            return
        now_s = self._clock.monotonic_s()
        if isinstance(outcome, str):
            one.missed(outcome, now_s)
        elif not isinstance(one, Unit):
            one.succeeded(now_s)
        elif outcome is not None:
            one.succeeded(outcome, now_s)


def _wake(turn: asyncio.Future[None] | None) -> None:
    if turn is not None and not turn.done():
        turn.set_result(None)


def _modbus(device: Device) -> ModbusConnection:
    if not isinstance(device.connection, ModbusConnection):
        raise DeviceMisconfigured(f"{device.id}: its connection is not Modbus")
    return device.connection
