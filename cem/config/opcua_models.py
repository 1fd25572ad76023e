"""Keys of a site file that are about OPC UA servers."""

from typing import Literal

from pydantic import Field

from cem.config.basics import PositiveS, Section


class OpcUaServer(Section):
    """An OPC UA server."""

    kind: Literal["opcua"] = Field(description="Which protocol.")
    endpoint: str = Field(pattern=r"^opc\.tcp://", description="Address, opc.tcp://HOST:PORT/PATH.")
    namespace_uri: str | None = Field(None, description="Namespace of the nodes; resolved at every connect.")
    security: Literal["none", "sign", "sign_and_encrypt"] = Field(
        "none", description="Whether messages are signed and encrypted. Then the server's certificate must be trusted."
    )
    policy: Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"] = Field(
        "Basic256Sha256", description="How, with sign or sign_and_encrypt."
    )
    username: str | None = Field(None, description="Left out for an anonymous session.")
    password: str | None = Field(None, description="Give it by !secret or !env.")
    certificate_file: str | None = Field(
        None, description="Our user's certificate (PEM or DER), where the server knows users by certificate."
    )
    key_file: str | None = Field(None, description="The key to it (PEM).")
    pki_folder: str = Field(
        "var/opcua",
        description="Folder with own/ (this controller's certificate, made at the first use), trusted/ (server "
        "certificates or those of their CA) and rejected/.",
    )
    source_time: bool = Field(
        False,
        description="Devices: the server stamps a value each time it is measured, not only when it changes; then its age "
        "counts from that stamp.",
    )
    subscribe: bool = Field(
        True,
        description="Devices: the server watches their values and reports changes; without, or where it will not, they are read "
        "every poll_s.",
    )
    publishing_interval_s: PositiveS = Field(
        0.5, description="How often the server reports changes (of devices at least twice in poll_s)."
    )

    @property
    def line(self) -> tuple[object, ...]:
        """What devices behind the same connection have in common: every setting."""
        return tuple(self.model_dump().items())


class OpcUaValue(Section):
    """Where one value is found on the server."""

    node: str = Field(
        min_length=1,
        description="NodeId (`i=`, `s=` ..., with `ns=`, `nsu=` or in namespace_uri) or browse path (`Objects/Meter/L1`).",
    )
    scale: float = Field(
        1.0,
        description="Multiplied with the value (kW and kWh: 1000, mA: 0.001); a negative number turns the sign.",
    )


class OpcUaWrite(Section):
    """A node that may be written."""

    node: str = Field(min_length=1, description="As for a value.")
    scale: float = Field(1.0, description="The node's number times this is the value; negative turns the sign.")
    valid: tuple[float, float] = Field(description="Least and most that may be written, in our unit and sign.")
    read_node: str | None = Field(None, description="Where it is read back, if not where it is written.")
    settle_s: float = Field(0.0, ge=0, le=10, description="How long the device takes until it reads back.")
