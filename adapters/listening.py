"""Tools' view of devices that an adapter hears or reads by itself: the adapter runs, and what it gets is handed on."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, Self

from adapters.reading import Reading
from cem.config.models import Device
from cem.errors import AdapterError, DeviceUnavailable
from cem.ports import Clock

LOOK_S = 0.01
LONGEST_WAIT_S = 10.0
"""For the first reading of a connection, and of a device with a short period; else three periods."""


class Readable(Protocol):
    """An adapter that keeps the last reading of each device."""

    ready: bool
    """Connected, so that something can be written."""

    async def run(self) -> None: ...

    def reading(self, device_id: str) -> Reading | None:
        """The last one."""
        ...

    async def write(self, device_id: str, name: str, value: float) -> float: ...


class ListeningProbe:
    """An adapter that runs for as long as somebody asks it.

    Args:
        adapter: Not yet running.
        devices: Its devices.
        clock: Monotonic time.
    """

    one_at_a_time = False

    def __init__(self, adapter: Readable, devices: Sequence[Device], clock: Clock) -> None:
        self._adapter = adapter
        self._wait_s = {device.id: max(LONGEST_WAIT_S, 3 * device.poll_s) for device in devices}
        self._clock = clock
        self._seen: dict[str, Reading | None] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, AdapterError):
                await self._task

    def _start(self) -> asyncio.Task[None]:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._adapter.run())
        return self._task

    async def read(self, device_id: str) -> Reading:
        """The next reading that was not handed out yet; where none comes in time, or the connection ends, why."""
        began_s = self._clock.monotonic_s()
        task = self._start()
        while (found := self._adapter.reading(device_id)) is None or found is self._seen.get(device_id):
            now_s = self._clock.monotonic_s()
            if task.done() and (error := task.exception()) is not None:
                await asyncio.sleep(LOOK_S)
                return Reading(began_s, None, {}, None, str(error), answered=False)
            if now_s - began_s > self._wait_s[device_id]:
                problem = f"{device_id}: nothing came for {now_s - began_s:.0f} s; check that it publishes, and under which names"
                return Reading(began_s, None, {}, None, problem, answered=False)
            await asyncio.sleep(LOOK_S)
        self._seen[device_id] = found
        return found

    async def write(self, device_id: str, name: str, value: float) -> float:
        """Set one value and read it back.

        Raises:
            AdapterError: It was not set, or that is not known.
        """
        task = self._start()
        began_s = self._clock.monotonic_s()
        while not self._adapter.ready:
            if task.done() and (error := task.exception()) is not None:
                raise error
            if self._clock.monotonic_s() - began_s > LONGEST_WAIT_S:
                raise DeviceUnavailable(f"{device_id}: not connected within {LONGEST_WAIT_S:g} s")
            await asyncio.sleep(LOOK_S)
        return await self._adapter.write(device_id, name, value)

    async def models(self, device_id: str) -> list[Any]:
        """None: SunSpec is Modbus."""
        del device_id
        return []
