"""What control needs from outside, as small Protocols. Adapters and the store implement them; tests have fakes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from cem.core.limits import LimitSignal
from cem.core.resources import Envelope
from cem.core.state import EvseState, Measurement
from cem.csms.privacy import Forgotten
from cem.csms.records import Grant, IdMap, JournalEntry, OpenSession, Record, Registration, SessionUpdate, TokenKnown

__all__ = [
    "Adapter",
    "Clock",
    "ContactReader",
    "Event",
    "EvseControl",
    "FieldAdapter",
    "Grant",
    "IdMap",
    "JournalEntry",
    "News",
    "OpenSession",
    "Record",
    "Registration",
    "ResourceControl",
    "SessionUpdate",
    "StationStore",
    "TokenKnown",
]

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
    """An adapter that measures devices or hears limit signals. Both maps hold the latest value only.

    ``problems`` tells for each device what is wrong with it now, for people.
    """

    def measurements(self) -> Mapping[str, Measurement]: ...
    def signals(self) -> Mapping[str, LimitSignal]: ...
    def problems(self) -> Mapping[str, str]: ...


@runtime_checkable
class ContactReader(Protocol):
    """An adapter that hears digital inputs: for each whether it acts, ``None`` where it cannot be read."""

    def contacts(self) -> Mapping[str, bool | None]: ...


@runtime_checkable
class ContactorSwitch(Protocol):
    """An adapter with outputs to contactors; those of others are left alone."""

    def switch(self, contactor: str, closed: bool) -> None: ...


class EvseControl(Protocol):
    """The stations, as control sees them."""

    def evse_states(self, now_s: float) -> Mapping[str, EvseState]: ...

    def apply(self, now_s: float, setpoints_a: Mapping[str, float], phases: Mapping[str, int] = ...) -> None:
        """Hand over the current per phase each EVSE may draw; returns at once, delivery is the stations' business.

        Every call carries all EVSEs. Unchanged setpoints are not sent again unless they are soon to expire. The
        order of the mapping is the order of sending: control puts cuts before raises. ``phases`` names the phases to
        charge on, for those EVSEs that tell ``phases_in_force``; it is left out where there are none.
        """
        ...


class ResourceControl(Protocol):
    """Batteries and inverters, as control sees them."""

    def apply(self, now_s: float, envelopes: Sequence[Envelope]) -> None:
        """Hand over the power envelope of every resource; returns at once.

        A resource that gets none any more goes back to its own ways within a minute.
        """
        ...


class StationStore(Protocol):
    """What the local CSMS keeps on disk (ledger: synchronous=FULL)."""

    async def commit(self, records: Sequence[Record]) -> None:
        """Returns once the records are on disk (fsync); raises ``CemError`` when they cannot be."""
        ...

    def registrations(self) -> Mapping[str, Registration]: ...
    def grants(self) -> Mapping[str, Grant]: ...

    def open_sessions(self) -> Sequence[OpenSession]:
        """Every session that has no ``stop`` yet, to go on with after a restart."""
        ...

    def journal(self) -> Mapping[str, Sequence[JournalEntry]]:
        """By station: what its CSMSs have not heard, and (``delivered``, without text) what they heard last."""
        ...

    def id_maps(self) -> Mapping[str, Sequence[IdMap]]:
        """By station: under which ids CSMSs know its transactions, oldest first."""
        ...

    def tokens(self) -> Sequence[TokenKnown]:
        """What CSMSs said of tokens."""
        ...

    async def forget(
        self, pseudonyms: Mapping[str, str], *, by: str, signed_too: bool = False
    ) -> Mapping[str, Forgotten]:
        """Takes tokens out of everything on disk; raises ``CemError`` where that cannot be."""
        ...

    def save_state(self, key: str, value: Any) -> None:
        """Keep a small JSON value by name; returns at once, the latest value reaches the disk within moments."""
        ...

    def load_state(self, key: str) -> Any:
        """What was last saved under this name; ``None`` where nothing was."""
        ...

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
