"""The keys of the site file's section ``csms``."""

from typing import Literal

from pydantic import Field

from cem.config.basics import CurrentA, Identifier, Port, Section


class ListenTls(Section):
    """TLS (1.2 or later) towards stations. Paths are relative to the site file."""

    certificate: str = Field(min_length=1, description="Our certificate and its chain, PEM.")
    key: str = Field(min_length=1, description="Its private key, PEM, mode 0600.")
    second_certificate: str | None = Field(
        None, description="One with the other kind of key (RSA, ECDSA), for stations that take only that kind."
    )
    second_key: str | None = Field(None, description="The private key of second_certificate.")
    client_ca: str | None = Field(
        None, description="CAs of station certificates, PEM. Left out: the site's own CA (cem pki), where there is one."
    )
    port: Port | None = Field(
        None, description="Its own TCP port, beside the unencrypted one. Left out: listen.port takes TLS only."
    )


class Listen(Section):
    """Where we listen."""

    host: str = Field("0.0.0.0", description="Address of this machine to listen on; 0.0.0.0 is all.")  # noqa: S104 - stations are other machines
    port: Port = Field(9000, description="TCP port; stations dial ws://HOST:PORT/ocpp/ID, with tls wss://.")
    tls: ListenTls | None = Field(None, description="Encryption for security profiles 2 and 3.")


class OwnIdentity(Section):
    """This site as a station without EVSEs towards an upstream, which may so set a limit for the site as a whole."""

    id: Identifier = Field(description="Identity that the upstream knows the site by.")
    password: str | None = Field(
        None, description="Its credential; left out: the upstream's. Give it by !secret or !env."
    )
    ocpp_version: Literal["1.6", "2.0.1", "2.1"] = Field("2.0.1", description="Spoken with the upstream.")
    kind: Literal["import", "load"] = Field(
        "import", description="What its maximum bounds: all that the site draws, or our charging alone."
    )
    failsafe_a: CurrentA | None = Field(
        None,
        description="Most per phase before the upstream was ever heard, and while it is away. Left out: only what it set, "
        "which holds without contact too until its own end.",
    )
    failsafe_duration_s: float = Field(7200, ge=7200, le=86_400, description="2 to 24 h.")
    after_failsafe: Literal["hold", "release"] = Field(
        "hold", description="When that time is over: keep the failsafe value, or go without it."
    )
    contact_timeout_s: float = Field(
        120, ge=6, le=3600, description="Without a message of the upstream for this long it is away."
    )
    settle_s: float = Field(120, ge=1, le=3600, description="After first contact, how long to wait for a first limit.")
    release_ramp_s: float = Field(300, ge=0, le=3600, description="A released limit rises linearly over this time.")
    meter_interval_s: float = Field(
        10,
        ge=0,
        le=86_400,
        description="How often the current into the site is told, until the upstream sets it; 0: never.",
    )


class Upstream(Section):
    """An operator's cloud CSMS, or another of our controllers, which feeds this site."""

    id: Identifier = Field(description="Name of the upstream, in messages and pages.")
    url: str = Field(pattern=r"^wss?://", description="Without the station's identity, which is appended.")
    password: str | None = Field(None, description="Credential towards this upstream.")
    role: Literal["primary", "observer", "site"] = Field(
        "primary",
        description="One is primary and decides; observers see everything and their commands are refused; site: it hears of "
        "no station, own_identity alone dials it.",
    )
    allow: tuple[str, ...] = Field(
        default=(), max_length=100, description="Observer: OCPP actions that it may command all the same."
    )
    replay_boot: bool = Field(
        False,
        description="Tell it each station's last BootNotification again whenever that station's connection to it is made "
        "anew, for an upstream that serves nobody before. Left out: only a boot that it has not answered is told again.",
    )
    ca: str | None = Field(None, description="CAs that its certificate is checked with, PEM; left out: the system's.")
    certificate: str | None = Field(None, description="Our client certificate towards it (security profile 3), PEM.")
    key: str | None = Field(None, description="The private key of certificate.")
    own_identity: OwnIdentity | None = Field(
        None, description="This site as a station of its own towards this upstream."
    )

    @property
    def limit_names(self) -> dict[str, str]:
        """What the limits that it sets for the site are called, by unit."""
        return {"A": self.id, "W": f"{self.id}:w"}


class Csms(Section):
    """The local CSMS."""

    listen: Listen = Field(Listen(), description="Where stations reach us.")
    upstreams: tuple[Upstream, ...] = Field(default=(), max_length=5, description="Empty: we are the CSMS of record.")
    offline_authorization: Literal["accept", "reject", "known"] = Field(
        "known",
        description="While the upstream is away: known tags only (those it accepted or put on a station's local list), accept "
        "unknown ones too, or reject all. Contract certificates (plug and charge) must be known in either case.",
    )
    authorization_cache_days: int = Field(
        30, ge=1, le=3650, description="A tag of which the upstream has said nothing for so long is unknown again."
    )
    standalone_authorization: Literal["everybody", "tags"] = Field(
        "everybody", description="Who may charge where there is no upstream: everybody, or the tags of cem tag."
    )
    on_rejected: Literal["station", "finish", "stop"] = Field(
        "station",
        description="A transaction that began without the upstream, which then rejects its tag: as the station itself would "
        "(StopTransactionOnInvalidId, in 2.x StopTxOnInvalidId; not known: finish), let it finish, or stop it.",
    )
    stop_ignoring: bool = Field(
        False,
        description="The last resort against a station that follows no limit, asked for in whatever way, nor a pause: end its "
        "transaction. That ends its billing too, so it is off unless you say so.",
    )
    unwanted_samples: Literal["empty", "drop"] = Field(
        "empty",
        description="OCPP 2.x samples that control needs and the upstream did not ask for: send the numbered event without its "
        "values, so that no number is missing, or drop it. OCPP 1.6 has no numbers; there they are never sent.",
    )
    replay_per_s: float = Field(
        100,
        ge=1,
        le=5000,
        description="After an outage: how many messages a second each upstream is told, all stations together.",
    )
    on_csms_loss: Literal["keep", "close"] = Field(
        "keep", description="While the upstream is away: keep stations connected and in service, or close them."
    )
    security_profile: Literal[0, 1, 2, 3] | None = Field(
        None, description="OCPP security profile demanded of every station that has none of its own; see stations."
    )
    waiting_room: bool = Field(True, description="Unknown stations wait without rights instead of being refused.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Hosts that the upstream may send stations to for firmware, diagnostics and logs; empty: none.",
    )
    profile_duration_s: float = Field(
        120, ge=30, le=3600, description="Life of a limit at the station; it falls back by itself after that."
    )
    profile_refresh_s: float = Field(
        40, ge=5, le=1800, description="A limit is sent anew after this; below half of profile_duration_s."
    )
    meter_interval_s: float = Field(10, ge=1, le=300, description="Meter values we ask stations for.")
