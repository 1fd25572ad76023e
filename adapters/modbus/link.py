"""One Modbus connection: one request at a time, and never an answer that belongs to an earlier one."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerType
from pymodbus.pdu import ExceptionResponse

from adapters.modbus.decode import Request
from adapters.modbus.doubt import COILS, HOLDING, INPUT_REGISTERS, INPUTS, Doubts
from adapters.modbus.question import TABLES, WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS, Question
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
        function = INPUT_REGISTERS if request.table == "input" else HOLDING
        answer = await self._ask(unit_id, Question(function, request), timeout_s, device)
        return list(answer.registers)

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
        function = WRITE_REGISTER if single and len(words) == 1 else WRITE_REGISTERS
        what = Request("the write of holding", address, len(words))
        await self._ask(unit_id, Question(function, what, tuple(words)), timeout_s, device)

    async def read_bits(
        self, unit_id: int, table: str, address: int, count: int, timeout_s: float, device: str
    ) -> list[bool]:
        """Read coils or discrete inputs.

        Raises:
            DeviceUnavailable: No answer in time.
            DeviceRefused: The device answered with an exception.
            DeviceMisconfigured: The answer is not to this request; the connection is closed.
        """
        question = Question(COILS if table == "coil" else INPUTS, Request(table, address, count))
        answer = await self._ask(unit_id, question, timeout_s, device)
        return [bool(bit) for bit in answer.bits[:count]]

    async def write_coil(self, unit_id: int, address: int, *, on: bool, timeout_s: float, device: str) -> None:
        """Write one coil.

        Raises:
            DeviceUnavailable: No answer in time; whether it was written is not known.
            DeviceRefused: The device answered with an exception.
        """
        what = Request("the write of coil", address, 1)
        await self._ask(unit_id, Question(WRITE_COIL, what, (int(on),)), timeout_s, device)

    async def _ask(self, unit_id: int, question: Question, timeout_s: float, device: str) -> Any:
        """The answer to this question and to no other; a unit in doubt is asked another one first."""
        if self._doubts is None:
            return await self._answer(question, unit_id, timeout_s, device)
        probe = self._doubts.probe(unit_id, question.look, time.monotonic())
        if probe is not None:
            at = Request(TABLES[probe.function], question.what.address, probe.size)
            try:
                await self._noted(self._doubts, Question(probe.function, at), unit_id, timeout_s, device)
            except DeviceRefused:
                pass  # an answer too
            except DeviceMisconfigured as error:
                raise DeviceUnavailable(f"{device}: not asked for {_words(question.what)} yet: {error}") from error
        return await self._noted(self._doubts, question, unit_id, timeout_s, device)

    async def _noted(self, doubts: Doubts, question: Question, unit_id: int, timeout_s: float, device: str) -> Any:
        """Asks; what was not answered is kept in mind, and an answer to this settles whatever was."""
        try:
            answer = await self._answer(question, unit_id, timeout_s, device)
        except DeviceRefused:
            doubts.settled(unit_id)
            raise
        except BaseException:  # none came, or one to an earlier question: that to this one is still to come
            doubts.timed_out(unit_id, question.look, time.monotonic())
            raise
        doubts.settled(unit_id)
        return answer

    async def _answer(self, question: Question, unit_id: int, timeout_s: float, device: str) -> Any:
        what = _words(question.what)
        asked = question.sent(self._connected(device), unit_id)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await asked
            obey_cancellation()
        except TimeoutError as error:
            self._doubt()
            raise DeviceUnavailable(
                f"{device}: no answer within {timeout_s:g} s from unit {unit_id} to {what}"
            ) from error
        except ModbusException as error:
            self.close()
            raise DeviceUnavailable(f"{device}: connection lost while reading {what} ({error})") from error
        except BaseException:
            self.close()  # cancelled in the middle of a request: its answer may still come
            raise
        if isinstance(answer, ExceptionResponse):
            if self._doubts is not None and self._doubts.may_be_older(
                unit_id, answer.function_code & 0x7F, question.function, time.monotonic()
            ):
                self._doubt()
                raise DeviceUnavailable(f"{device}: no answer to {what}, but a refusal of an earlier request")
            raise _refusal(answer.exception_code, unit_id, what, device)
        if answer.isError():
            self.close()
            raise DeviceMisconfigured(f"{device}: the answer to {what} is not the one asked for ({answer})")
        if not question.fits(answer):
            self._doubt()
            if question.values:
                raise DeviceUnavailable(f"{device}: no answer to {what}, but one to an earlier request")
            raise DeviceMisconfigured(f"{device}: the answer to {what} is not the one asked for ({answer})")
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
