"""What the local CSMS keeps on disk, as values; the store writes them, sessions are handed them at start."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Registration:
    """What a station said of itself at its last accepted boot, and whether its grants expire by themselves.

    Attributes:
        station_id: Identity.
        ocpp_version: ``1.6``, ``2.0.1`` or ``2.1``.
        boot: The boot notification's payload.
        safe_default: The station acknowledged its safe stack-0 default profile, so grants expire by themselves.
    """

    station_id: str
    ocpp_version: str
    boot: Mapping[str, Any]
    safe_default: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """The last limit a station was sent for one EVSE: what it may still draw if we restart.

    Attributes:
        evse_id: As in the site.
        limit_a: Per phase.
        expires_utc: When the station drops it by itself.
    """

    evse_id: str
    limit_a: float
    expires_utc: datetime


@dataclass(frozen=True, slots=True)
class SessionUpdate:
    """One step in a session's life; the store folds the steps of one ``session_id`` into one record.

    Attributes:
        session_id: Ours, unique for ever.
        station_id: Where.
        evse_id: Where.
        kind: ``start``, ``meter``, ``stop``, or ``resume`` where it goes on after all after a stop.
        at_utc: The station's own time of the event.
        transaction_id: The id the station uses.
        meter_wh: The energy register at that moment, if it was told.
        token_hash: Who, hashed; ``None`` where not told.
        reason: Why it ended.
        here_utc: Our own time when we heard of it.
        ahead_s: How far the station's clock was ahead of ours then; 0 within what is tolerated.
        moved_s: How far our clock was set since the start, against time that passed.
    """

    session_id: str
    station_id: str
    evse_id: str
    kind: str
    at_utc: datetime
    transaction_id: str
    meter_wh: float | None = None
    token_hash: str | None = None
    reason: str | None = None
    here_utc: datetime | None = None
    ahead_s: float = 0.0
    moved_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SignedValue:
    """A signed meter value of a session, a legal record.

    Attributes:
        session_id: As in ``SessionUpdate``.
        at: The station's time of it, as told.
        text: The sample as JSON; the signed words in it are the station's, unchanged.
        final: It came with the end of the transaction.
    """

    session_id: str
    at: str
    text: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One message of a station that an upstream CSMS has to hear.

    Attributes:
        station_id: Whose.
        upstream_id: Which CSMS, as in the site file.
        seq: Position in this station's queue towards this CSMS; grows for ever.
        message_id: The station's own; a repeat carries it again (I6).
        action: OCPP action.
        text: The frame as the station wrote it.
        kind: ``start``, ``update``, ``stop`` or, outside of transactions, ``event``.
        local_id: The transaction by the station's id; empty where there is none.
        ocpp_version: The version it was spoken in.
        fingerprint: Of action and payload: a repeat of the station is known by it.
        at_utc: When we took it.
        live: It first went out while it happened, so a repeat goes without ``offline``.
        thin: 0 never dropped, 1 only where room is short, 2 where samples are closer than needed.
        state: ``waiting``, or ``refused`` where it is set aside.
        why: It is set aside; empty where it is not, and where the queue is not read for people.
    """

    station_id: str
    upstream_id: str
    seq: int
    message_id: str
    action: str
    text: str
    kind: str
    local_id: str
    ocpp_version: str
    fingerprint: str
    at_utc: datetime
    live: bool = False
    thin: int = 0
    state: str = "waiting"
    why: str = ""


@dataclass(frozen=True, slots=True)
class JournalMark:
    """What became of one journaled message.

    Attributes:
        state: ``delivered`` or ``dropped`` (thinned out): the text goes, the fingerprint stays a while; ``refused`` (set
            aside), or ``waiting`` again.
        why: It is set aside.
    """

    station_id: str
    upstream_id: str
    seq: int
    state: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class IdMap:
    """Under which id a CSMS knows a station's transaction (1.6), and which start it answered with it.

    Attributes:
        local_id: What the station uses.
        cloud_id: What the CSMS uses; ``None`` where the mapping is forgotten.
        start_key: Digest of the start; a station that repeats it is given the same id.
    """

    station_id: str
    upstream_id: str
    local_id: str
    cloud_id: str | None
    start_key: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A session's JSON value under a name; the latest counts."""

    station_id: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class TokenKnown:
    """What the cloud said of a token, kept for when it cannot be asked.

    Attributes:
        token_hash: Which.
        until_utc: When that ends; ``None``: never.
        group: The token of its group, as told.
        group_kind: Its type in 2.x.
        contract: Digest of the contract certificate it was accepted with.
        seen_utc: When the cloud said so.
    """

    token_hash: str
    accepted: bool
    until_utc: datetime | None
    group: str | None
    group_kind: str
    contract: str | None
    seen_utc: datetime


@dataclass(frozen=True, slots=True)
class TokenGone:
    """A token of which nothing is known any more."""

    token_hash: str


@dataclass(frozen=True, slots=True)
class Noted:
    """An event of consequence, for the audit."""

    station_id: str
    at_utc: datetime
    code: str
    text: str


Record = (
    Registration
    | Grant
    | SessionUpdate
    | SignedValue
    | JournalEntry
    | JournalMark
    | IdMap
    | Kept
    | TokenKnown
    | TokenGone
    | Noted
)


def kept_key(station_id: str, name: str) -> str:
    """Under which name the store keeps a ``Kept``."""
    return f"csms/{station_id}/{name}"


class OpenSession(Protocol):
    """A session without a stop, as the store gives it back after a restart; fields as in ``SessionUpdate``."""

    @property
    def session_id(self) -> str: ...
    @property
    def station_id(self) -> str: ...
    @property
    def evse_id(self) -> str: ...
    @property
    def transaction_id(self) -> str: ...
    @property
    def token_hash(self) -> str | None: ...
    @property
    def started_utc(self) -> datetime | None: ...
    @property
    def updated_utc(self) -> datetime: ...
