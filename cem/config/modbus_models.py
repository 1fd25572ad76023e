"""Keys of a site file that are about Modbus connections."""

from typing import Annotated, Literal

from pydantic import Field

from cem.config.basics import Identifier, Port, PositiveS, Section


class ModbusTcp(Section):
    """Modbus TCP."""

    kind: Literal["modbus_tcp"] = Field(description="Which protocol.")
    host: str = Field(min_length=1, description="Address or name of the device or gateway.")
    port: Port = Field(502, description="TCP port.")
    unit_id: int = Field(1, ge=0, le=255, description="Modbus unit (slave) behind that address.")
    timeout_s: PositiveS = Field(1.0, le=5, description="Longest wait for one answer.")

    @property
    def line(self) -> tuple[object, ...]:
        """What devices behind the same connection have in common."""
        return (self.kind, self.host.lower(), self.port)


class ModbusRtu(Section):
    """Modbus RTU on a serial port of this machine (RS-485); every device of the line names the same port."""

    kind: Literal["modbus_rtu"] = Field(description="Which protocol.")
    port: str = Field(pattern=r"^/dev/\S+$", description="Serial port, best by its lasting name in /dev/serial/by-id.")
    baudrate: Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200] = Field(
        9600, description="Bits per second, the same for all devices of the line."
    )
    parity: Literal["N", "E", "O"] = Field("N", description="None, even or odd.")
    stop_bits: Literal[1, 2] = Field(1, description="1 with parity, often 2 without.")
    unit_id: int = Field(1, ge=1, le=247, description="Modbus unit (slave) on that line.")
    timeout_s: PositiveS = Field(1.0, le=5, description="Longest wait for one answer.")

    @property
    def line(self) -> tuple[object, ...]:
        """What devices behind the same connection have in common."""
        return (self.kind, self.port)


class ModbusRtuTcp(Section):
    """Modbus RTU frames over TCP: a transparent RS-485 gateway."""

    kind: Literal["modbus_rtu_tcp"] = Field(description="Which protocol.")
    host: str = Field(min_length=1, description="Address or name of the gateway.")
    port: Port = Field(description="TCP port of the gateway's serial line.")
    unit_id: int = Field(1, ge=1, le=247, description="Modbus unit (slave) on that line.")
    timeout_s: PositiveS = Field(1.0, le=5, description="Longest wait for one answer.")

    @property
    def line(self) -> tuple[object, ...]:
        """What devices behind the same connection have in common."""
        return (self.kind, self.host.lower(), self.port)


ModbusConnection = ModbusTcp | ModbusRtu | ModbusRtuTcp


class Wallbox(Section):
    """A station that is commanded by Modbus instead of OCPP."""

    connection: Annotated[ModbusTcp | ModbusRtu | ModbusRtuTcp, Field(discriminator="kind")] = Field(
        description="How it is reached."
    )
    model: Identifier = Field(description="Name of a map in adapters/modbus_maps.")
    poll_s: PositiveS = Field(1.0, le=15, description="Read period.")
