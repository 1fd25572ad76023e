"""The ledger's queue: what CSMSs have not heard yet, and under which ids they know transactions."""

import contextlib
import sqlite3
from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from cem.csms.records import IdMap, JournalEntry, JournalMark
from cem.errors import CemError
from cem.store.files import reading

QUEUE_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (
    station_id TEXT NOT NULL, upstream_id TEXT NOT NULL, seq INTEGER NOT NULL, message_id TEXT NOT NULL,
    action TEXT NOT NULL, text TEXT NOT NULL, kind TEXT NOT NULL, local_id TEXT NOT NULL, ocpp_version TEXT NOT NULL,
    fingerprint TEXT NOT NULL, at_utc TEXT NOT NULL, live INTEGER NOT NULL, thin INTEGER NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (station_id, upstream_id, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS journal_done ON journal (station_id, upstream_id, seq) WHERE state = 'delivered';
CREATE TABLE IF NOT EXISTS journal_why (
    station_id TEXT NOT NULL, upstream_id TEXT NOT NULL, seq INTEGER NOT NULL, why TEXT NOT NULL,
    PRIMARY KEY (station_id, upstream_id, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS id_map (
    station_id TEXT NOT NULL, upstream_id TEXT NOT NULL, local_id TEXT NOT NULL, cloud_id TEXT NOT NULL,
    start_key TEXT NOT NULL, PRIMARY KEY (station_id, upstream_id, local_id)
);
"""
DELIVERED_KEPT = 200
"""Fingerprints of so many messages of each station that are done with stay, so that repeats are known after a restart."""
T = TypeVar("T", JournalEntry, IdMap)
_COLUMNS = tuple(f.name for f in fields(JournalEntry) if f.name != "why")
_INSERT = f"INSERT OR REPLACE INTO journal ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - names come from the dataclass
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM journal "  # noqa: S608 - names come from the dataclass
_ONE = "WHERE station_id = ? AND upstream_id = ? AND seq = ?"


def apply_queue_record(connection: sqlite3.Connection, record: JournalEntry | JournalMark | IdMap) -> None:
    """Writes one record; by the time it is committed it is on disk."""
    match record:
        case JournalEntry():
            values: dict[str, Any] = {name: getattr(record, name) for name in _COLUMNS}
            values["at_utc"] = record.at_utc.isoformat()
            connection.execute(_INSERT, tuple(values[name] for name in _COLUMNS))
            _explain(connection, record)
        case JournalMark(station_id, upstream_id, seq, "delivered" | "dropped"):
            _explain(connection, record)
            # A sample that was thinned out is known again too: taken anew it would pass for the latest one.
            connection.execute(
                f"UPDATE journal SET state = 'delivered', text = '' {_ONE}",  # noqa: S608 - a constant
                (station_id, upstream_id, seq),
            )
            connection.execute(
                "DELETE FROM journal INDEXED BY journal_done "
                "WHERE station_id = ? AND upstream_id = ? AND seq <= ? AND state = 'delivered'",
                (station_id, upstream_id, seq - DELIVERED_KEPT),
            )
        case JournalMark(station_id, upstream_id, seq, state):
            _explain(connection, record)
            connection.execute(f"UPDATE journal SET state = ? {_ONE}", (state, station_id, upstream_id, seq))  # noqa: S608 - a constant
        case IdMap(station_id, upstream_id, local_id, None):
            connection.execute(
                "DELETE FROM id_map WHERE station_id = ? AND upstream_id = ? AND local_id = ?",
                (station_id, upstream_id, local_id),
            )
        case IdMap(station_id, upstream_id, local_id, cloud_id, start_key):
            # A new row each time, for the order of rows is the order of mapping.
            connection.execute(
                "INSERT OR REPLACE INTO id_map VALUES (?, ?, ?, ?, ?)",
                (station_id, upstream_id, local_id, cloud_id, start_key),
            )


def _explain(connection: sqlite3.Connection, record: JournalEntry | JournalMark) -> None:
    """Keeps why a message is set aside; forgets it once it is not."""
    place = record.station_id, record.upstream_id, record.seq
    if record.why:
        connection.execute("INSERT OR REPLACE INTO journal_why VALUES (?, ?, ?, ?)", (*place, record.why))
    else:
        connection.execute(f"DELETE FROM journal_why {_ONE}", place)  # noqa: S608 - a constant


def read_queue(path: Path, *, station_id: str | None, limit: int) -> tuple[JournalEntry, ...]:
    """What CSMSs have not heard, with why some of it is set aside; as ``read_journal``."""
    entries = read_journal(path, waiting_only=True, station_id=station_id, limit=limit)
    if all(entry.state == "waiting" for entry in entries):
        return entries
    whys = {tuple(place): why for *place, why in _rows(path, "SELECT * FROM journal_why", ())}
    return tuple(replace(e, why=whys.get((e.station_id, e.upstream_id, e.seq), "")) for e in entries)


def read_journal(
    path: Path, *, waiting_only: bool = False, station_id: str | None = None, limit: int = -1
) -> tuple[JournalEntry, ...]:
    """Messages in the order of each queue, from the file; any thread may call it.

    Args:
        path: The ledger.
        waiting_only: Leave out what is delivered.
        station_id: Only this station's.
        limit: At most so many; all where negative.

    Raises:
        CemError: The file cannot be read.
    """
    wanted = [w for w, on in (("state != 'delivered'", waiting_only), ("station_id = ?", station_id is not None)) if on]
    where = f"WHERE {' AND '.join(wanted)} " if wanted else ""
    query = f"{_SELECT}{where}ORDER BY station_id, upstream_id, seq LIMIT ?"
    return tuple(map(_entry, _rows(path, query, (*([station_id] if station_id is not None else []), limit))))


def read_id_maps(path: Path) -> tuple[IdMap, ...]:
    """Mappings, oldest first; as ``read_journal``."""
    query = "SELECT station_id, upstream_id, local_id, cloud_id, start_key FROM id_map ORDER BY rowid"
    return tuple(IdMap(*row) for row in _rows(path, query, ()))


def _rows(path: Path, query: str, values: tuple[Any, ...]) -> list[Any]:
    with reading(path, "the queue") as connection:
        return connection.execute(query, values).fetchall()


def _entry(row: tuple[Any, ...]) -> JournalEntry:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["at_utc"] = datetime.fromisoformat(values["at_utc"])
    values["live"] = bool(values["live"])
    return JournalEntry(**values)


def salvage(damaged: Path) -> list[JournalEntry | IdMap]:
    """What a damaged ledger still tells of the queue; what cannot be read is left out."""
    found: list[JournalEntry | IdMap] = []
    with contextlib.suppress(CemError, ValueError, TypeError):
        found += read_journal(damaged)
    with contextlib.suppress(CemError, ValueError, TypeError):
        found += read_id_maps(damaged)
    return found


def by_station(records: Iterable[T]) -> dict[str, list[T]]:
    """Grouped, the order kept."""
    grouped: dict[str, list[T]] = {}
    for record in records:
        grouped.setdefault(record.station_id, []).append(record)
    return grouped
