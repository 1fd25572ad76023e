"""A real Modbus TCP server (pymodbus), in the test's loop or as a process of its own that can be stopped and killed."""

import asyncio
import sys
from typing import Self

from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.adapters.child import Child


def device(unit_id: int, images: dict[int, list[int]]) -> SimDevice:
    """One device; every image is a run of registers from its address on, in the holding and input tables alike."""
    blocks = [SimData(address, values=list(words), datatype=DataType.REGISTERS) for address, words in images.items()]
    return SimDevice(unit_id, simdata=blocks)


class Server:
    """Serve devices on 127.0.0.1 inside a test."""

    def __init__(self, *devices: SimDevice, port: int = 0, framer: str = "socket") -> None:
        self._devices = list(devices)
        self._framer = framer
        self.port = port

    async def __aenter__(self) -> Self:
        self._server = ModbusTcpServer(self._devices, address=("127.0.0.1", self.port), framer=FramerType(self._framer))
        await self._server.serve_forever(background=True)
        self.port = self._server.transport.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.shutdown()
        await asyncio.sleep(0)

    async def set(self, unit_id: int, address: int, words: list[int]) -> None:
        """Change holding registers."""
        await self._server.async_setValues(unit_id, 16, address, words)

    async def get(self, unit_id: int, address: int, count: int) -> list[int]:
        """What holding registers hold."""
        return list(await self._server.async_getValues(unit_id, 3, address, count))


class ServerProcess(Child):
    """The same in a process of its own: one device, unit 1, one image."""

    def __init__(self, address: int, words: list[int], port: int = 0) -> None:
        super().__init__("tests.adapters.modbus_server", port, address, *words)


async def _main() -> None:
    port, address, *words = map(int, sys.argv[1:])
    async with Server(device(1, {address: words}), port=port) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
