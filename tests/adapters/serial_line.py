"""An RS-485 line out of two pty pairs with a bridge between them that misbehaves on purpose.

The adapter under test opens ``port`` as its serial port; a real pymodbus RTU server opens the other end.
"""

import asyncio
import os
import tty
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from pymodbus.server import ModbusSerialServer


class SerialLine:
    """Forwards bytes until told otherwise.

    Attributes:
        port: What the client opens.
        requests: Every chunk from the client.
        delays_s: Each answer is held back this long, once per entry; empty: no delay. Answers stay in order: there is
            one pair of wires, and a device that has a new question has done with the old one.
        swallow: A request for which this is true never reaches the devices.
        noise: Sent before the next answer.
        truncate: Forward this many bytes of the next answer and no more; ``None``: all.
    """

    def __init__(self, *devices) -> None:
        self._devices = list(devices)
        self._fds: list[int] = []
        self._held: list[asyncio.TimerHandle] = []
        self._free_s = 0.0
        self.requests: list[bytes] = []
        self.delays_s: list[float] = []
        self.swallow: Callable[[bytes], bool] | None = None
        self.noise = b""
        self.truncate: int | None = None

    async def __aenter__(self) -> Self:
        near, near_slave = os.openpty()
        far, far_slave = os.openpty()
        self._fds = [near, near_slave, far, far_slave]
        for slave in (near_slave, far_slave):
            tty.setraw(slave)
        for master in (near, far):
            os.set_blocking(master, False)
        self.port = os.ttyname(near_slave)
        loop = asyncio.get_running_loop()
        self._server = ModbusSerialServer(self._devices, port=os.ttyname(far_slave), baudrate=115_200)
        await self._server.serve_forever(background=True)
        loop.add_reader(near, self._to_devices, near, far)
        loop.add_reader(far, self._to_client, far, near)
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for fd in (self._fds[0], self._fds[2]):
            loop.remove_reader(fd)
        for handle in self._held:
            handle.cancel()
        await self._server.shutdown()
        for fd in self._fds:
            os.close(fd)

    async def set(self, unit_id: int, address: int, words: list[int]) -> None:
        """Change holding registers."""
        await self._server.async_setValues(unit_id, 16, address, words)

    def _to_devices(self, source: int, target: int) -> None:
        data = os.read(source, 4096)
        self.requests.append(data)
        if not (self.swallow and self.swallow(data)):
            os.write(target, data)

    def _to_client(self, source: int, target: int) -> None:
        data, self.noise = self.noise + os.read(source, 4096), b""
        data, self.truncate = data[: self.truncate], None
        loop = asyncio.get_running_loop()
        due_s = max(loop.time() + (self.delays_s.pop(0) if self.delays_s else 0.0), self._free_s)
        self._free_s = due_s + 0.001
        self._held.append(loop.call_at(due_s, self._release, target, data))

    def _release(self, target: int, data: bytes) -> None:
        with suppress(OSError):
            os.write(target, data)


class Gateway:
    """A transparent TCP gateway: bytes from the latest connection go to the serial port, bytes from there to it."""

    def __init__(self, serial_port: str) -> None:
        self._serial_port = serial_port
        self._writer: asyncio.StreamWriter | None = None
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._fd = os.open(self._serial_port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(self._fd, self._from_serial)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        if self._writer is not None:
            self._writer.transport.abort()
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        await asyncio.sleep(0)

    def _from_serial(self) -> None:
        data = os.read(self._fd, 4096)
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writer = writer
        with suppress(OSError):
            while data := await reader.read(4096):
                os.write(self._fd, data)
        writer.close()
