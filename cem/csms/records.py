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
        kind: ``start``, ``meter`` or ``stop``.
        at_utc: The station's own time of the event.
        transaction_id: The id the station uses.
        meter_wh: The energy register at that moment, if it was told.
        token_hash: Who, hashed; ``None`` where not told.
        reason: Why it ended.
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


Record = Registration | Grant | SessionUpdate


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
