"""Modbus TCP devices of the simulated site; each can be cut like a cable or fall silent like a hung gateway."""

import asyncio
from collections.abc import Callable
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

Image = Callable[[], list[int]]
"""Gives the registers as they are now."""


class ModbusDevice:
    """One device behind one TCP port.

    Args:
        name: The device's name in the site file.
        image: Its registers as they are now, from ``base`` on.
        base: Address of the first register.
        host: Where it listens.
        port: Where it listens; 0 takes any free port.
        unit_id: Unit it answers to.
        period_s: The registers change no more often than this, as in a real device.
    """

    def __init__(
        self, name: str, image: Image, *, base: int, host: str, port: int = 0, unit_id: int = 1, period_s: float = 0.2
    ) -> None:
        self.name = name
        self.port = port
        self._image, self._base, self._host, self._unit_id, self._period_s = image, base, host, unit_id, period_s
        self._server: Any = None
        self._silent = False
        self._taken_s = float("-inf")

    async def start(self) -> None:
        """Begins to listen (again)."""
        self._silent = False
        if self._server is not None:
            return
        first = self._image()
        block = SimData(self._base, values=list(first), datatype=DataType.REGISTERS, readonly=True)
        server: Any = ModbusTcpServer(  # the library's server has no types
            SimDevice(self._unit_id, simdata=[block], action=self._read),
            address=(self._host, self.port),
            trace_packet=self._pass,
        )
        await server.serve_forever(background=True)
        self._server = server
        if self.port == 0:
            self.port = int(server.transport.sockets[0].getsockname()[1])

    async def cut(self, *, silent: bool = False) -> None:
        """The cable is pulled: connections end and new ones are refused; ``silent``: it accepts and never answers."""
        if silent:
            self._silent = True
        elif self._server is not None:
            await self._server.shutdown()
            self._server = None

    stop = cut

    async def _read(
        self, _function: int, _start: int, _address: int, _count: int, now: list[int], new: object
    ) -> ExcCodes | None:
        if new is not None:
            return ExcCodes.ILLEGAL_FUNCTION
        time_s = asyncio.get_running_loop().time()
        if time_s - self._taken_s >= self._period_s:
            self._taken_s = time_s
            image = self._image()
            now[: len(image)] = image
        return None

    def _pass(self, sending: bool, data: bytes) -> bytes:
        return b"" if sending and self._silent else data
