"""Modbus load of the field benchmark: 100 meters of 24 registers, each behind a TCP port of its own, read once a second.

The devices are a bare asyncio server in a process of its own, so that the figures are the client's alone.
"""

import asyncio
import contextlib
import struct

from pymodbus.client import AsyncModbusTcpClient

import adapters
from cem.clock import SystemClock
from cem.config.models import Device

DEVICES = 100
REGISTERS = 24
FIRST = 0x5002  # WAGO 879: voltages, frequency, currents and powers in one request
NAME = "modbus"


async def peer() -> None:
    """Serve until killed; prints the ports, one line."""
    values = [230.0, 231.0, 229.0, 50.0, 10.0, 10.0, 10.0, 10.0, 6.9, 2.3, 2.3, 2.3]
    registers = struct.pack(">12f", *values)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(12)
                start, count = struct.unpack(">HH", head[8:12])
                data = registers if start == FIRST else struct.pack(">f", 1.0)
                body = bytes((head[6], head[7], 2 * count)) + data[: 2 * count]
                writer.write(head[:4] + struct.pack(">H", len(body)) + body)

    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for _ in range(DEVICES)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()


async def ours(ports: list[int]) -> list:
    """The product's adapters for these devices; their beats are spread over the second, as those of ``bare``."""
    made = []
    for number, port in enumerate(ports):
        connection = {"kind": "modbus_tcp", "host": "127.0.0.1", "port": port}
        device = Device.model_validate(
            {"id": f"m{number}", "role": "zone_meter", "model": "wago_879", "connection": connection}
        )
        await asyncio.sleep(1.0 / len(ports))
        made.append(adapters.create("modbus_tcp", device.connection, [device], SystemClock(), lambda: None))
    return made


async def bare(ports: list[int]) -> None:
    """The same reads by the library alone, made numbers by its own conversion."""

    async def read(port: int) -> None:
        client = AsyncModbusTcpClient("127.0.0.1", port=port, retries=0, reconnect_delay=0)
        await client.connect()
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        try:
            while True:
                due_s += 1.0
                answer = await client.read_holding_registers(FIRST, count=REGISTERS, device_id=1)
                values = client.convert_from_registers(answer.registers, client.DATATYPE.FLOAT32)
                assert len(values) == REGISTERS / 2
                await asyncio.sleep(max(0.0, due_s - loop.time()))
        finally:
            client.close()

    async with asyncio.TaskGroup() as group:
        for port in ports:
            await asyncio.sleep(1.0 / len(ports))
            group.create_task(read(port))
