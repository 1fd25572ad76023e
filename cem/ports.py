"""What control needs from outside, as small Protocols. Adapters and the store implement them; tests have fakes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from cem.core.limits import LimitSignal
from cem.core.state import EvseState, Measurement

News = Callable[[], None]
"""Called by an adapter when something happened that control should not wait a cycle for. Never blocks."""


class Clock(Protocol):
    """Time. Monotonic for ages and control, aware UTC for schedules and records; never mixed."""

    def monotonic_s(self) -> float: ...
    def utc(self) -> datetime: ...


class Adapter(Protocol):
    """One connection to the outside, kept running by ``cem.supervise``.

    ``run`` connects, serves until cancelled, and raises ``AdapterError`` when the connection is lost; the supervisor
    calls it again after a growing pause. It never blocks the loop.
    """

    name: str

    async def run(self) -> None: ...


class FieldAdapter(Adapter, Protocol):
    """An adapter that measures devices or hears limit signals. Both maps hold the latest value only."""

    def measurements(self) -> Mapping[str, Measurement]: ...
    def signals(self) -> Mapping[str, LimitSignal]: ...


class EvseControl(Protocol):
    """The stations, as control sees them."""

    def evse_states(self, now_s: float) -> Mapping[str, EvseState]: ...

    def apply(self, now_s: float, setpoints_a: Mapping[str, float]) -> None:
        """Hand over the current per phase each EVSE may draw; returns at once, delivery is the stations' business.

        Every call carries all EVSEs. Unchanged setpoints are not sent again unless they are soon to expire. The
        order of the mapping is the order of sending: control puts cuts before raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """What a station said of itself at its last accepted boot, and the grants it may still hold after we restart.

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


class StationStore(Protocol):
    """What the local CSMS keeps on disk (ledger: synchronous=FULL)."""

    async def commit(self, records: Sequence[Record]) -> None:
        """Returns once the records are on disk (fsync); raises ``CemError`` when they cannot be."""
        ...

    def registrations(self) -> Mapping[str, Registration]: ...
    def grants(self) -> Mapping[str, Grant]: ...

    def next_transaction_id(self) -> int:
        """A new transaction id, unique for the site, persisted before it is handed out; never 0 or -1."""
        ...


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth telling people, kept in the history.

    Attributes:
        at_utc: When.
        at_s: Monotonic, to measure between events of one run.
        code: A stable word: ``meter_lost``, ``meter_back``, ``external_limit``, ``station_offline`` ...
        subject: The device, zone, station or limit it is about.
        text: One sentence for people.
        data: Figures.
    """

    at_utc: datetime
    at_s: float
    code: str
    subject: str
    text: str
    data: Mapping[str, float | str | None] = field(default_factory=dict)
