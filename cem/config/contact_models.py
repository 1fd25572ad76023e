"""Keys of a site file that are about digital inputs, and outputs to contactors."""

from typing import Annotated, Literal

from pydantic import Field

from cem.config.basics import Identifier, PositiveS, PowerW, Section
from cem.config.modbus_models import ModbusRtu, ModbusRtuTcp, ModbusTcp
from cem.config.mqtt_models import MqttAvailability, MqttBroker


class ContactSection(Section):
    """A digital input that takes power from our EVSEs: load shedding, island or backup mode, ripple control."""

    id: Identifier = Field(description="Name of the contact, shown as the source of what it binds.")
    kind: Literal["load_shed", "island", "ripple_control"] = Field(
        description="load_shed (fire alarm, generator) and island (backup mode): our EVSEs to 0 A. ripple_control: to limit_w."
    )
    zone: Identifier | None = Field(None, description="Where it acts; root where left out.")
    connection: Annotated[MqttBroker | ModbusTcp | ModbusRtu | ModbusRtuTcp, Field(discriminator="kind")] = Field(
        description="How it is reached."
    )
    table: Literal["discrete_input", "coil"] = Field(
        "discrete_input", description="Modbus: where it is read; closed where it reads 1."
    )
    address: int | None = Field(None, ge=0, le=65_535, description="Modbus: its address as sent, counted from 0.")
    topic: str | None = Field(None, min_length=1, description="MQTT: topic of its state, without wildcards.")
    path: str | None = Field(None, description="Dotted path into a JSON payload; left out where it is a plain word.")
    closed: str = Field("true", description="What is said there while it is closed; case does not matter.")
    open: str = Field("false", description="What is said there while it is open.")
    active_when: Literal["closed", "open"] = Field(
        description="When it acts. A circuit that opens to act (open) shows a broken wire by acting."
    )
    missing: Literal["active", "inactive"] = Field(
        "active", description="How it counts while it cannot be read: broker or device away, or silent."
    )
    availability: MqttAvailability | None = Field(
        None, description="Last will of its device; with it the state need not be repeated and may be retained."
    )
    repeated_s: PositiveS = Field(
        30, description="Without availability: it says its state at least this often, or it cannot be read."
    )
    lost_after_s: PositiveS = Field(5, le=300, description="It counts as missing after it could not be read this long.")
    release_delay_s: float = Field(
        60, ge=0, le=3600, description="It goes on acting for so long after it was released, against chatter."
    )
    limits: Literal["load", "import", "generation", "export"] = Field(
        "load", description="ripple_control: what limit_w bounds."
    )
    limit_w: PowerW | None = Field(
        None, description="ripple_control: the power that is left. Several steps are several contacts."
    )


class ContactorSection(Section):
    """A contactor that takes stations off the supply where limits are not enough."""

    id: Identifier = Field(description="Name of the contactor.")
    stations: tuple[Identifier, ...] = Field(min_length=1, description="Stations that it feeds.")
    connection: Annotated[MqttBroker | ModbusTcp | ModbusRtu | ModbusRtuTcp, Field(discriminator="kind")] = Field(
        description="How its output module is reached."
    )
    address: int | None = Field(None, ge=0, le=65_535, description="Modbus: its coil as sent, counted from 0.")
    topic: str | None = Field(None, min_length=1, description="MQTT: where its relay is told.")
    on: str = Field("on", min_length=1, description="MQTT: what switches the relay on.")
    off: str = Field("off", min_length=1, description="MQTT: what switches it off.")
    state_topic: str | None = Field(None, min_length=1, description="MQTT: where the relay says what it does.")
    state_path: str | None = Field(None, description="Dotted path into its JSON; left out where it is a plain word.")
    state_on: str | None = Field(
        None, description="What it says while it is on, if not the word of on; case does not matter."
    )
    state_off: str | None = Field(None, description="What it says while it is off, if not the word of off.")
    closed_when: Literal["on", "off"] = Field(
        "on",
        description="on: the output must be on for it to be closed, so a dead module opens it. off: the other way.",
    )
    feedback: int | None = Field(
        None, ge=0, le=65_535, description="Modbus: discrete input of its auxiliary contact, 1 while it is closed."
    )
    feedback_topic: str | None = Field(
        None,
        min_length=1,
        description="MQTT: topic of its auxiliary contact, which says the word of state_on while it is closed.",
    )
    opens_after_s: float = Field(
        5, ge=0, le=60, description="A load shed that acts in its zone opens it after this; limits come first."
    )
