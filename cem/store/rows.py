"""The ledger's tables: how records become rows and rows become records."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from cem.csms.records import IdMap, JournalEntry, JournalMark, Kept, Noted, SignedValue, TokenGone, TokenKnown, kept_key
from cem.errors import CemError
from cem.ports import Event, Grant, Record, Registration, SessionUpdate
from cem.store import audit, details, tokens
from cem.store.files import reading
from cem.store.queue import QUEUE_SCHEMA, apply_queue_record
from cem.store.sessions import Session, fold

SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS registration (
    station_id TEXT PRIMARY KEY, ocpp_version TEXT NOT NULL, boot TEXT NOT NULL, safe_default INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS grant_in_force (
    evse_id TEXT PRIMARY KEY, limit_a REAL NOT NULL, expires_utc TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS session (
    session_id TEXT PRIMARY KEY, station_id TEXT NOT NULL, evse_id TEXT NOT NULL, transaction_id TEXT NOT NULL,
    open INTEGER NOT NULL, updated_utc TEXT NOT NULL, started_utc TEXT, stopped_utc TEXT,
    meter_start_wh REAL, meter_last_wh REAL, energy_wh REAL, token_hash TEXT, reason TEXT,
    doubt_first_wh REAL, doubt_last_wh REAL, doubt_rises INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS session_open ON session (open) WHERE open = 1;
CREATE INDEX IF NOT EXISTS session_updated ON session (updated_utc);
CREATE TABLE IF NOT EXISTS kv (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
    + audit.SCHEMA
    + QUEUE_SCHEMA
    + details.SCHEMA
    + tokens.SCHEMA
)

SESSION_COLUMNS = tuple(f.name for f in fields(Session))
_UPSERT_SESSION = (
    f"INSERT OR REPLACE INTO session ({', '.join(SESSION_COLUMNS)}) "  # noqa: S608 - names come from the dataclass
    f"VALUES ({', '.join('?' * len(SESSION_COLUMNS))})"
)
_SELECT_SESSION = f"SELECT {', '.join(SESSION_COLUMNS)} FROM session "  # noqa: S608 - names come from the dataclass
_TIMES = ("updated_utc", "started_utc", "stopped_utc")


@dataclass(frozen=True, slots=True)
class State:
    """One piece of state kept by name, already as JSON."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class TransactionIds:
    """Transaction ids below ``below`` may be handed out."""

    below: int


Entry = Record | State | TransactionIds | Event
"""Everything the ledger writes; an ``Event`` here is one of consequence."""


@dataclass(slots=True)
class Contents:
    """What the ledger holds, kept in memory so that nobody waits for the disk to read it. Replaced, never changed."""

    registrations: Mapping[str, Registration]
    grants: Mapping[str, Grant]
    states: Mapping[str, str]
    ids_below: int


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def apply_entry(connection: sqlite3.Connection, entry: Entry) -> None:
    match entry:
        case Registration():
            connection.execute(
                "INSERT OR REPLACE INTO registration VALUES (?, ?, ?, ?)",
                (entry.station_id, entry.ocpp_version, json.dumps(entry.boot), entry.safe_default),
            )
        case Grant():
            connection.execute(
                "INSERT OR REPLACE INTO grant_in_force VALUES (?, ?, ?)",
                (entry.evse_id, entry.limit_a, entry.expires_utc.isoformat()),
            )
        case SessionUpdate():
            row = connection.execute(_SELECT_SESSION + "WHERE session_id = ?", (entry.session_id,)).fetchone()
            before = session_from_row(row) if row else None
            folded = fold(before, entry)
            details.count_energy(connection, before, folded, entry.at_utc)
            details.keep_times(connection, entry)
            after = asdict(folded)
            for name in _TIMES:
                after[name] = after[name] and after[name].isoformat()
            connection.execute(_UPSERT_SESSION, tuple(after[name] for name in SESSION_COLUMNS))
        case SignedValue():
            details.keep_signed(connection, entry)
        case Event():
            data = json.dumps(entry.data)
            audit.append(
                connection, (entry.at_utc.isoformat(), entry.at_s, entry.code, entry.subject, entry.text, data)
            )
        case Kept():
            key = kept_key(entry.station_id, entry.name)
            connection.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, entry.text))
        case Noted():
            audit.append(connection, (entry.at_utc.isoformat(), 0.0, entry.code, entry.station_id, entry.text, "{}"))
        case TokenKnown() | TokenGone():
            tokens.apply_token(connection, entry)
        case JournalEntry() | JournalMark() | IdMap():
            apply_queue_record(connection, entry)
        case State():
            connection.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (entry.key, entry.text))
        case TransactionIds():
            connection.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (_COUNTER_KEY, str(entry.below)))


_COUNTER_KEY = "ledger.transaction_ids_below"


def contents_after(contents: Contents, entries: Sequence[Entry]) -> Contents:
    ids = [e.below for e in entries if isinstance(e, TransactionIds)]
    states = {e.key: e.text for e in entries if isinstance(e, State)}
    states |= {kept_key(e.station_id, e.name): e.text for e in entries if isinstance(e, Kept)}
    return Contents(
        {**contents.registrations, **{e.station_id: e for e in entries if isinstance(e, Registration)}},
        {**contents.grants, **{e.evse_id: e for e in entries if isinstance(e, Grant)}},
        {**contents.states, **states} if states else contents.states,
        max([contents.ids_below, *ids]),
    )


def drop_oldest(connection: sqlite3.Connection, sessions: int, audited: int) -> None:
    """Keep at most so many closed sessions and events; open sessions are never dropped."""
    connection.execute(
        "DELETE FROM session WHERE open = 0 AND updated_utc < "
        "(SELECT updated_utc FROM session ORDER BY updated_utc DESC LIMIT 1 OFFSET ?)",
        (sessions,),
    )
    details.drop_orphans(connection)
    audit.drop_oldest(connection, audited)


def load(connection: sqlite3.Connection, ids_below: int) -> Contents:
    states = {key: text for key, text in connection.execute("SELECT key, value FROM kv")}  # noqa: C416 - typed pairs
    counter = states.pop(_COUNTER_KEY, None)
    return Contents(
        {
            station_id: Registration(station_id, version, json.loads(boot), bool(safe))
            for station_id, version, boot, safe in connection.execute(
                "SELECT station_id, ocpp_version, boot, safe_default FROM registration"
            )
        },
        {
            evse_id: Grant(evse_id, limit_a, datetime.fromisoformat(expires))
            for evse_id, limit_a, expires in connection.execute(
                "SELECT evse_id, limit_a, expires_utc FROM grant_in_force"
            )
        },
        states,
        ids_below if counter is None else int(counter),
    )


def session_from_row(row: Sequence[Any]) -> Session:
    """A row of ``SESSION_COLUMNS`` as a record."""
    values = dict(zip(SESSION_COLUMNS, row, strict=True))
    for name in _TIMES:
        values[name] = values[name] and datetime.fromisoformat(values[name])
    values["open"] = bool(values["open"])
    return Session(**values)


def read_sessions(path: Path, *, limit: int, only_open: bool, evse_id: str | None) -> tuple[Session, ...]:
    """Sessions from the file, latest first; any thread may call it.

    Raises:
        CemError: The file cannot be read.
    """
    where = [w for w, wanted in (("open = 1", only_open), ("evse_id = ?", evse_id is not None)) if wanted]
    query = _SELECT_SESSION + (f"WHERE {' AND '.join(where)} " if where else "") + "ORDER BY updated_utc DESC LIMIT ?"
    with reading(path, "sessions") as connection:
        rows = connection.execute(query, (*([evse_id] if evse_id is not None else []), limit)).fetchall()
    return tuple(session_from_row(row) for row in rows)


def read_audit(path: Path, limit: int) -> tuple[Event, ...]:
    """The latest events of consequence, oldest first; none where the file cannot be read."""
    try:
        with reading(path, "the audit") as connection:
            rows = connection.execute(
                "SELECT at_utc, at_s, code, subject, text, data FROM audit ORDER BY rowid DESC LIMIT ?", (limit,)
            ).fetchall()
    except CemError:
        return ()
    return tuple(event_from_row(row) for row in reversed(rows))


def event_from_row(row: tuple[str, float, str, str, str, str]) -> Event:
    """A row ``at_utc, at_s, code, subject, text, data``."""
    at_utc, at_s, code, subject, text, data = row
    return Event(datetime.fromisoformat(at_utc), at_s, code, subject, text, json.loads(data))
