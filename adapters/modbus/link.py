"""One Modbus TCP connection: one request at a time, and never an answer that belongs to an earlier one."""

import asyncio
import logging
from contextlib import suppress

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ExceptionResponse

from adapters.modbus.decode import Request
from cem.errors import DeviceMisconfigured, DeviceRefused, DeviceUnavailable
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

    pymodbus would match a late answer by its transaction id, but gateways exist that answer with id 0, and then the
    answer to the last request is taken as the answer to the next. A new socket cannot carry it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._client: AsyncModbusTcpClient | None = None

    async def open(self) -> None:
        """Connect unless connected.

        Raises:
            DeviceUnavailable: Nobody answers there.
        """
        if self._client is not None and self._client.connected:
            return
        self.close()
        client = AsyncModbusTcpClient(
            self._host, port=self._port, timeout=_LIBRARY_TIMEOUT_S, retries=0, reconnect_delay=0
        )
        self._client = client
        connected = False
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connected = await client.connect()
        obey_cancellation()
        if not connected:
            self.close()
            raise DeviceUnavailable(
                f"modbus {self._host}:{self._port}: no connection; check power, network cable, address and port "
                "(many devices allow one connection only)"
            )

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
        if self._client is None:
            raise DeviceUnavailable(f"{device}: not connected")
        ask = self._client.read_input_registers if request.table == "input" else self._client.read_holding_registers
        where = f"{request.table} registers {request.address} to {request.address + request.count - 1}"
        try:
            async with asyncio.timeout(timeout_s):
                answer = await ask(request.address, count=request.count, device_id=unit_id)
            obey_cancellation()
        except TimeoutError as error:
            self.close()
            raise DeviceUnavailable(
                f"{device}: no answer within {timeout_s:g} s from unit {unit_id} to {where}"
            ) from error
        except ModbusException as error:
            self.close()
            raise DeviceUnavailable(f"{device}: connection lost while reading {where} ({error})") from error
        except BaseException:
            self.close()  # cancelled in the middle of a request: its answer may still come
            raise
        if isinstance(answer, ExceptionResponse):
            text = _EXCEPTIONS.get(answer.exception_code, f"exception {answer.exception_code}")
            if answer.exception_code in _GATEWAY:
                raise DeviceUnavailable(f"{device}: unit {unit_id}: {text}; check its wiring and unit id")
            raise DeviceRefused(
                f"{device}: unit {unit_id} refuses {where}: {text}; check its model and unit id in the site file"
            )
        if answer.isError() or len(answer.registers) != request.count:
            self.close()
            raise DeviceMisconfigured(f"{device}: the answer to {where} is not the one asked for ({answer})")
        return list(answer.registers)

    def close(self) -> None:
        """Drop the connection at once."""
        if self._client is not None:
            self._client.close()
            self._client = None
