"""What a station's message says, in words that do not depend on the OCPP version."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cem.csms.faults import Fault
from cem.csms.needs import EvNeeds


@dataclass(frozen=True, slots=True)
class Booted:
    """The station started and asks to be accepted."""

    boot: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StatusTold:
    """A connector's status.

    Attributes:
        connected: A vehicle is plugged in; ``None`` where the status does not say.
        fault: What is wrong there, or that nothing is.
    """

    evse: int
    connector: int
    status: str
    connected: bool | None
    fault: Fault
    at_utc: datetime | None = None


@dataclass(slots=True)  # not frozen: as for frames
class TransactionTold:
    """A transaction began, went on or ended.

    Attributes:
        kind: ``start``, ``update`` or ``stop``.
        evse: ``None`` where the message does not say.
        transaction_id: ``None`` where the CSMS gives it (1.6).
        state: Charging state, where told.
        offline: The station says it happened while it was disconnected.
        closing_values: Meter values of the whole transaction that come with its end (1.6 ``transactionData``).
        remote_start_id: Of the remote start that it came from.
        reservation_id: Of the reservation that it uses up.
    """

    kind: str
    evse: int | None
    transaction_id: str | None
    at_utc: datetime | None
    token: str | None = None
    state: str | None = None
    meter_wh: float | None = None
    reason: str | None = None
    meter_values: Any = None
    offline: bool = False
    closing_values: Any = None
    remote_start_id: int | None = None
    reservation_id: int | None = None


@dataclass(frozen=True, slots=True)
class MeterTold:
    """Meter values outside a transaction, or in one that the message does not name."""

    evse: int
    meter_values: Any


@dataclass(frozen=True, slots=True)
class TokenAsked:
    """Somebody wants to be authorized.

    Attributes:
        contract: Digest of the contract certificate that comes with it (plug and charge).
    """

    token: str
    contract: str | None = None


@dataclass(frozen=True, slots=True)
class ProfilesReported:
    """Some of the profiles that a station holds (2.x).

    Attributes:
        request_id: Of the question.
        more: Another report follows.
    """

    request_id: int
    profile_ids: tuple[int, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class NeedsTold:
    """A car said what it needs."""

    evse: int
    needs: EvNeeds


@dataclass(frozen=True, slots=True)
class ScheduleChosen:
    """A car chose one of the schedules of its TxProfile."""

    evse: int
    schedule_id: int


@dataclass(frozen=True, slots=True)
class FaultsTold:
    """The station reports what is wrong with parts of it, or is so no longer (2.x)."""

    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class ReservationOver:
    """A reservation expired or was removed (2.x)."""

    reservation_id: int


Fact = (
    NeedsTold | ScheduleChosen | ProfilesReported | Booted | StatusTold | TransactionTold | MeterTold | TokenAsked
    | FaultsTold | ReservationOver
)  # fmt: skip


def contract_digest(payload: Mapping[str, Any]) -> str | None:
    """What stands for the contract certificate of an Authorize: the chain itself, or the hashes it is asked about by."""
    shown = {key: payload[key] for key in ("certificate", "iso15118CertificateHashData") if payload.get(key)}
    return hashlib.sha256(repr(sorted(shown.items())).encode()).hexdigest()[:32] if shown else None


def start_key(fact: Fact | None) -> str | None:
    """Digest of what makes two starts without an id of their own (1.6) the same: connector, idTag, time, register."""
    if isinstance(fact, TransactionTold) and fact.kind == "start" and fact.transaction_id is None:
        same = repr((fact.evse, fact.token, fact.at_utc, fact.meter_wh))
        return hashlib.sha256(same.encode()).hexdigest()[:32]
    return None
