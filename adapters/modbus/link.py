"""One Modbus connection: one request at a time, and never an answer that belongs to an earlier one."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerType
from pymodbus.pdu import ExceptionResponse

from adapters.modbus.decode import Request
from adapters.modbus.doubt import Doubts
from cem.config.modbus_models import ModbusConnection, ModbusRtu, ModbusTcp
from cem.errors import AdapterError, DeviceMisconfigured, DeviceRefused, DeviceUnavailable
from cem.supervise import obey_cancellation

# pymodbus logs every failed attempt; an outage is logged once, by the adapter or the supervisor.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

CONNECT_TIMEOUT_S = 3.0
_LIBRARY_TIMEOUT_S = 10.0  # never reached: ours come first

_GATEWAY = (0x0A, 0x0B)  # gateway path unavailable, target failed to respond (Modbus Application Protocol V1.1b3, 7)
_EXCEPTIONS = {
    0x01: "illegal function",
    0x02: "illegal register address",
    0x03: "illegal value",
    0x04: "device failure",
    0x05: "acknowledged, still busy",
    0x06: "busy",
    0x0A: "gateway path unavailable",
    0x0B: "gateway: the device behind it does not answer",
}


class Link:
    """A connection that is thrown away after any doubt and opened anew.

    On TCP pymodbus would match a late answer by its transaction id, but gateways exist that answer with id 0, and then
    the answer to the last request is taken as the answer to the next. A new socket cannot carry it. A serial line
    can, and so can a gateway that passes RTU frames on: there ``Doubts`` says when to ask a question first whose
    answer cannot be mistaken. A serial port stays open: closed, it would keep late bytes for its next reader.

    Args:
        connection: Where; unit id and time-out are given with every request.
        connect_pause_s: Wait so long after connecting.
    """

    def __init__(self, connection: ModbusConnection, connect_pause_s: float = 0.0) -> None:
        self.where = where_of(connection)
        self._connection = connection
        self._connect_pause_s = connect_pause_s
        self._doubts = None if isinstance(connection, ModbusTcp) else Doubts()
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None

    async def open(self) -> None:
        """Connect unless connected.

        Raises:
            DeviceUnavailable: Nobody answers there, or there is no such port.
        """
        if self._client is not None and self._client.connected:
            return
        self.close()
        self._client = client = _client(self._connection)
        connected = False
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connected = await client.connect()
        obey_cancellation()
        if not connected:
            self.close()
            raise DeviceUnavailable(f"{self.where}: no connection; {_ADVICE[self._connection.kind]}")
        if isinstance(client, AsyncModbusSerialClient):
            _flush(client)
        if self._connect_pause_s:
            await asyncio.sleep(self._connect_pause_s)

    async def read(self, unit_id: int, request: Request, timeout_s: float, device: str) -> list[int]:
        """Read registers.

        Args:
            unit_id: The device behind this connection.
            request: What to read.
            timeout_s: How long to wait for the answer.
            device: For messages.

        Raises:
            DeviceUnavailable: No answer in time; the connection is closed.
            DeviceRefused: The device answered with an exception.
            DeviceMisconfigured: The answer is not to this request; the connection is closed.
        """
        if self._doubts is None:
            return await self._read(unit_id, request, timeout_s, device)
        probe = self._doubts.probe_count(unit_id, request.count, time.monotonic())
        if probe is not None:
            with suppress(DeviceRefused):  # an answer too, to this question or to the late one: both are short
                await self._read(unit_id, Request(request.table, request.address, probe), timeout_s, device)
            self._doubts.settled(unit_id)
        return await self._read(unit_id, request, timeout_s, device)

    async def write(
        self, unit_id: int, address: int, words: list[int], *, single: bool, timeout_s: float, device: str
    ) -> None:
        """Write holding registers.

        Args:
            unit_id: The device behind this connection.
            address: The first register.
            words: What to write.
            single: By function code 6 instead of 16.
            timeout_s: How long to wait for the answer.
            device: For messages.

        Raises:
            DeviceUnavailable: No answer in time; whether it was written is not known.
            DeviceRefused: The device answered with an exception.
        """
        client: Any = self._connected(device)
        if single and len(words) == 1:
            asked = client.write_register(address, words[0], device_id=unit_id)
        else:
            asked = client.write_registers(address, words, device_id=unit_id)
        what = Request("the write of holding", address, len(words))
        answer = await self._answer(asked, unit_id, what, timeout_s, device)
        if answer.function_code not in {6, 16}:  # a late answer to a read
            self.close()
            raise DeviceUnavailable(f"{device}: no answer to {_words(what)}, but one to an earlier request")

    async def read_bits(
        self, unit_id: int, table: str, address: int, count: int, timeout_s: float, device: str
    ) -> list[bool]:
        """Read coils or discrete inputs.

        Raises:
            DeviceUnavailable: No answer in time.
            DeviceRefused: The device answered with an exception.
            DeviceMisconfigured: The answer is not to this request; the connection is closed.
        """
        client: Any = self._connected(device)
        read = client.read_coils if table == "coil" else client.read_discrete_inputs
        what = Request(table, address, count)
        answer = await self._answer(read(address, count=count, device_id=unit_id), unit_id, what, timeout_s, device)
        if answer.function_code != (1 if table == "coil" else 2) or len(answer.bits) < count:
            self._doubt()
            raise DeviceMisconfigured(f"{device}: the answer to {_words(what)} is not the one asked for ({answer})")
        return [bool(bit) for bit in answer.bits[:count]]

    async def write_coil(self, unit_id: int, address: int, *, on: bool, timeout_s: float, device: str) -> None:
        """Write one coil.

        Raises:
            DeviceUnavailable: No answer in time; whether it was written is not known.
            DeviceRefused: The device answered with an exception.
        """
        client: Any = self._connected(device)
        what = Request("the write of coil", address, 1)
        answer = await self._answer(client.write_coil(address, on, device_id=unit_id), unit_id, what, timeout_s, device)
        if answer.function_code != 5:  # a late answer to a read
            self.close()
            raise DeviceUnavailable(f"{device}: no answer to {_words(what)}, but one to an earlier request")

    async def _read(self, unit_id: int, request: Request, timeout_s: float, device: str) -> list[int]:
        client: Any = self._connected(device)
        read = client.read_input_registers if request.table == "input" else client.read_holding_registers
        asked = read(request.address, count=request.count, device_id=unit_id)
        try:
            answer = await self._answer(asked, unit_id, request, timeout_s, device)
        except DeviceUnavailable:
            if self._doubts is not None:
                self._doubts.timed_out(unit_id, request.count, time.monotonic())
            raise
        registers: list[int] = answer.registers
        if answer.function_code != (4 if request.table == "input" else 3) or len(registers) != request.count:
            if self._doubts is not None:  # this was a late one, the answer to this question is still to come
                self._doubts.timed_out(unit_id, request.count, time.monotonic())
            self._doubt()
            raise DeviceMisconfigured(f"{device}: the answer to {_words(request)} is not the one asked for ({answer})")
        return registers

    async def _answer(
        self, asked: Awaitable[Any], unit_id: int, request: Request, timeout_s: float, device: str
    ) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await asked
            obey_cancellation()
        except TimeoutError as error:
            self._doubt()
            raise DeviceUnavailable(
                f"{device}: no answer within {timeout_s:g} s from unit {unit_id} to {_words(request)}"
            ) from error
        except ModbusException as error:
            self.close()
            raise DeviceUnavailable(f"{device}: connection lost while reading {_words(request)} ({error})") from error
        except BaseException:
            self.close()  # cancelled in the middle of a request: its answer may still come
            raise
        if isinstance(answer, ExceptionResponse):
            raise _refusal(answer.exception_code, unit_id, _words(request), device)
        if answer.isError():
            self.close()
            raise DeviceMisconfigured(f"{device}: the answer to {_words(request)} is not the one asked for ({answer})")
        return answer

    def _connected(self, device: str) -> Any:
        if self._client is None or not self._client.connected:
            self.close()
            raise DeviceUnavailable(f"{device}: not connected")
        return self._client

    def _doubt(self) -> None:
        """A socket may carry an answer that is not wanted any more; a serial port is kept open to hear it go by."""
        if not isinstance(self._connection, ModbusRtu):
            self.close()

    def close(self) -> None:
        """Drop the connection at once."""
        if self._client is not None:
            self._client.close()
            self._client = None


_ADVICE = {
    "modbus_tcp": "check power, network cable, address and port (many devices allow one connection only)",
    "modbus_rtu_tcp": "check power, network cable, address and port (many gateways allow one connection only)",
    "modbus_rtu": "check that the adapter is plugged in, that its name is right and that no other program uses it",
}


def where_of(connection: ModbusConnection) -> str:
    """The connection, for messages."""
    if isinstance(connection, ModbusRtu):
        return f"modbus {connection.port}"
    return f"modbus {connection.host}:{connection.port}"


def _words(request: Request) -> str:
    if request.table in {"coil", "discrete_input"}:
        return f"{request.table}s {request.address} to {request.address + request.count - 1}"
    return f"{request.table} registers {request.address} to {request.address + request.count - 1}"


def _refusal(code: int, unit_id: int, where: str, device: str) -> AdapterError:
    text = _EXCEPTIONS.get(code, f"exception {code}")
    if code in _GATEWAY:
        return DeviceUnavailable(f"{device}: unit {unit_id}: {text}; check its wiring and unit id")
    return DeviceRefused(
        f"{device}: unit {unit_id} refuses {where}: {text}; check its model and unit id in the site file"
    )


def _flush(client: AsyncModbusSerialClient) -> None:
    """Forget what the port received before it was ours."""
    transport: Any = client.ctx.transport
    with suppress(OSError, AttributeError):
        transport.sync_serial.reset_input_buffer()


def _client(connection: ModbusConnection) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
    if isinstance(connection, ModbusRtu):
        return AsyncModbusSerialClient(
            connection.port,
            baudrate=connection.baudrate,
            parity=connection.parity,
            stopbits=connection.stop_bits,
            timeout=_LIBRARY_TIMEOUT_S,
            retries=0,
            reconnect_delay=0,
        )
    return AsyncModbusTcpClient(
        connection.host,
        port=connection.port,
        framer=FramerType.SOCKET if isinstance(connection, ModbusTcp) else FramerType.RTU,
        timeout=_LIBRARY_TIMEOUT_S,
        retries=0,
        reconnect_delay=0,
    )
