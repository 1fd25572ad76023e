"""One request to a Modbus unit: how it is sent, and which answer is one to it."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from adapters.modbus.decode import Request
from adapters.modbus.doubt import COILS, HOLDING, INPUT_REGISTERS, INPUTS, Look

WRITE_COIL, WRITE_REGISTER, WRITE_REGISTERS = 5, 6, 16
"""Function codes of the writes."""

TABLES = {COILS: "coil", INPUTS: "discrete_input", HOLDING: "holding", INPUT_REGISTERS: "input"}
"""What each function reads."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request.

    Attributes:
        function: Its Modbus function code.
        what: Where, and how many.
        values: What to write; empty: it reads.
    """

    function: int
    what: Request
    values: tuple[int, ...] = ()

    @property
    def look(self) -> Look:
        """What its answer looks like."""
        return Look(self.function, self.what.count)

    def sent(self, client: Any, unit_id: int) -> Awaitable[Any]:
        """Sent by a client of the library."""
        at, count = self.what.address, self.what.count
        match self.function:
            case 1:
                asked = client.read_coils(at, count=count, device_id=unit_id)
            case 2:
                asked = client.read_discrete_inputs(at, count=count, device_id=unit_id)
            case 3:
                asked = client.read_holding_registers(at, count=count, device_id=unit_id)
            case 4:
                asked = client.read_input_registers(at, count=count, device_id=unit_id)
            case 5:
                asked = client.write_coil(at, bool(self.values[0]), device_id=unit_id)
            case 6:
                asked = client.write_register(at, self.values[0], device_id=unit_id)
            case _:
                asked = client.write_registers(at, list(self.values), device_id=unit_id)
        sent: Awaitable[Any] = asked
        return sent

    def fits(self, answer: Any) -> bool:
        """An answer to this question, as far as it says."""
        if answer.function_code != self.function:
            return False
        if self.function in {COILS, INPUTS}:
            return len(answer.bits) >= self.what.count
        if self.function in {HOLDING, INPUT_REGISTERS}:
            return len(answer.registers) == self.what.count
        return True
