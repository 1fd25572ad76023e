"""Keys of a site file that are about MQTT: brokers, values on topics, and what we publish ourselves."""

from typing import Literal

from pydantic import Field

from cem.config.basics import Port, PositiveS, Section


class MqttBroker(Section):
    """An MQTT broker."""

    kind: Literal["mqtt"] = Field(description="Which protocol.")
    host: str = Field(min_length=1, description="Address or name of the broker.")
    port: Port = Field(1883, description="TCP port; 8883 is usual with tls.")
    protocol: Literal["3.1.1", "5"] = Field("3.1.1", description="Version of MQTT.")
    username: str | None = Field(None, description="Left out where the broker asks for none.")
    password: str | None = Field(None, description="Give it by !secret or !env.")
    tls: bool = Field(False, description="Encrypted, with the broker's certificate verified.")
    ca_file: str | None = Field(
        None, description="PEM file of who signed the broker's certificate; left out: this machine's own list."
    )
    certificate_file: str | None = Field(None, description="PEM file with our certificate, where the broker wants one.")
    key_file: str | None = Field(None, description="PEM file with the key to it.")

    @property
    def line(self) -> tuple[object, ...]:
        """What devices behind the same connection have in common: every setting."""
        return (self.kind, self.host, *(v for k, v in sorted(self.model_dump().items()) if k != "host"))


class MqttValue(Section):
    """Where one value is found on the broker."""

    topic: str = Field(min_length=1, description="Topic, without wildcards.")
    path: str | None = Field(
        None,
        description="Dotted path into a JSON payload, a list indexed by number (`em.power.0`); left out where the "
        "payload is a plain number.",
    )
    minus_topic: str | None = Field(
        None, description="Topic of what is taken away from it: P1 readers give import and export apart."
    )
    minus_path: str | None = Field(None, description="Likewise its path; `topic` and `path` where one is left out.")
    scale: float = Field(
        1.0,
        description="Multiplied with the value (kW and kWh: 1000, mA: 0.001); a negative number turns the sign.",
    )


class MqttWrite(Section):
    """Something that may be set by a message to a device."""

    topic: str = Field(min_length=1, description="Where the device hears it, without wildcards.")
    payload: str = Field("{value}", description="What is sent; `{value}` becomes the number.")
    scale: float = Field(1.0, description="The number sent times this is the value; negative turns the sign.")
    valid: tuple[float, float] = Field(description="Least and most that may be set, in our unit and sign.")
    read_topic: str | None = Field(
        None, description="Where the device says what it holds; left out: it is taken at its word."
    )
    read_path: str | None = Field(None, description="Dotted path there, where that is JSON.")
    settle_s: PositiveS = Field(5.0, le=10, description="How long it may take until it says so.")


class MqttAvailability(Section):
    """Where the broker tells whether a device lives: its last will."""

    topic: str = Field(min_length=1, description="Topic, without wildcards; retained messages count here.")
    path: str | None = Field(None, description="Dotted path into a JSON payload.")
    online: str = Field("online", description="What it says while the device lives.")
    offline: str = Field("offline", description="What it says once it is gone.")


class MqttKeepalive(Section):
    """What a device wants to hear now and then, or it falls silent (Victron)."""

    topic: str = Field(min_length=1, description="Topic, without wildcards.")
    payload: str = Field("", description="What is published there.")
    every_s: PositiveS = Field(30, ge=5, description="How often.")


class MqttOut(Section):
    """What we publish on a broker, and the commands we take from it."""

    connection: MqttBroker = Field(description="The broker.")
    base_topic: str = Field(
        "cem",
        pattern=r"^[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*$",
        description="Everything is beneath it; one for each site.",
    )
    allow_control: bool | None = Field(
        None,
        description="Whether modes and targets can be set from there; left out: only where the broker knows us by a "
        "user or a certificate.",
    )
    home_assistant: bool = Field(
        False, description="The site appears in Home Assistant by itself; set back to false it disappears again."
    )
    discovery_prefix: str = Field(
        "homeassistant", pattern=r"^[A-Za-z0-9_.\-]+$", description="Home Assistant's discovery prefix."
    )

    @property
    def takes_commands(self) -> bool:
        """Commands are obeyed."""
        if self.allow_control is not None:
            return self.allow_control
        return self.connection.username is not None or self.connection.certificate_file is not None
