"""What a session's record holds beside its row: energy by quarter hour, our own times, and signed values word for word.

Signed values are a legal record: they are kept exactly as the station told them and never changed, since a change of one
sign would make the signature worthless.
"""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cem.csms.records import SessionUpdate, SignedValue
from cem.store.files import reading
from cem.store.sessions import Session

SCHEMA = """
CREATE TABLE IF NOT EXISTS session_interval (
    session_id TEXT NOT NULL, slot INTEGER NOT NULL, from_utc TEXT NOT NULL, until_utc TEXT NOT NULL,
    energy_wh REAL NOT NULL, PRIMARY KEY (session_id, slot)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS signed_value (
    session_id TEXT NOT NULL, digest TEXT NOT NULL, at TEXT NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (session_id, digest)
);
CREATE TABLE IF NOT EXISTS session_clock (
    session_id TEXT PRIMARY KEY, started_here_utc TEXT, stopped_here_utc TEXT, ahead_s REAL NOT NULL, moved_s REAL NOT NULL
) WITHOUT ROWID;
"""
SLOT = timedelta(minutes=15)
MOST_SIGNED = 2000
"""Signed values of one session; a station that signs every minute reaches it after more than a day."""


@dataclass(slots=True)
class Details:
    """What belongs to one session.

    Attributes:
        intervals: Energy between two readings of the station, about a quarter of an hour apart; none where none flowed.
        signed_values: As the station told them, oldest first.
        started_here_utc: When we heard of its start, by our clock; the station's own time is in the session itself.
        stopped_here_utc: The same of its end; hours later where the station was offline.
        clock: What makes a time in it doubtful, for people; empty where nothing does.
        upstreams: By CSMS: its own id of the transaction, and how many messages it has not heard or has refused.
    """

    intervals: list[dict[str, Any]] = field(default_factory=list)
    signed_values: list[dict[str, Any]] = field(default_factory=list)
    started_here_utc: str | None = None
    stopped_here_utc: str | None = None
    clock: str = ""
    upstreams: dict[str, dict[str, Any]] = field(default_factory=dict)

    def delivery(self) -> str:
        """``waiting`` while a CSMS has something to hear, ``refused`` where one will not, else ``told``."""
        told = self.upstreams.values()
        return (
            "waiting" if any(u["waiting"] for u in told) else "refused" if any(u["refused"] for u in told) else "told"
        )


def count_energy(connection: sqlite3.Connection, before: Session | None, after: Session, at_utc: datetime) -> None:
    """Adds what flowed since the reading before to the quarter hour of this one; inside a transaction."""
    if before is None or after.energy_wh is None:
        return
    flowed_wh = after.energy_wh - (before.energy_wh or 0.0)
    if flowed_wh > 0:
        slot = int(at_utc.timestamp() // SLOT.total_seconds())
        since = min(before.updated_utc, at_utc)
        connection.execute(
            "INSERT INTO session_interval VALUES (?, ?, ?, ?, ?) ON CONFLICT (session_id, slot) DO UPDATE SET "
            "until_utc = excluded.until_utc, energy_wh = energy_wh + excluded.energy_wh",
            (after.session_id, slot, since.isoformat(), at_utc.isoformat(), flowed_wh),
        )


def keep_times(connection: sqlite3.Connection, update: SessionUpdate) -> None:
    """Keeps when we heard of a start or an end by our own clock, and by how much a clock was off (S17, L8)."""
    if update.kind == "resume":
        connection.execute(
            "UPDATE session_clock SET stopped_here_utc = NULL WHERE session_id = ?", (update.session_id,)
        )
    if update.kind not in {"start", "stop"} or update.here_utc is None:
        return
    here = update.here_utc.isoformat()
    started, stopped = (here, None) if update.kind == "start" else (None, here)
    connection.execute(
        "INSERT INTO session_clock VALUES (?, ?, ?, ?, ?) ON CONFLICT (session_id) DO UPDATE SET "
        "started_here_utc = coalesce(started_here_utc, excluded.started_here_utc), "
        "stopped_here_utc = coalesce(stopped_here_utc, excluded.stopped_here_utc), "
        "ahead_s = CASE WHEN excluded.ahead_s != 0 THEN excluded.ahead_s ELSE ahead_s END, "
        "moved_s = CASE WHEN excluded.moved_s != 0 THEN excluded.moved_s ELSE moved_s END",
        (update.session_id, started, stopped, update.ahead_s, update.moved_s),
    )


def keep_signed(connection: sqlite3.Connection, value: SignedValue) -> None:
    """Keeps a signed value; one that is told twice is kept once."""
    (count,) = connection.execute(
        "SELECT count(*) FROM signed_value WHERE session_id = ?", (value.session_id,)
    ).fetchone()
    if count < MOST_SIGNED or value.final:
        digest = hashlib.sha256(value.text.encode()).hexdigest()[:32]
        row = (value.session_id, digest, value.at, value.text)
        connection.execute("INSERT OR IGNORE INTO signed_value VALUES (?, ?, ?, ?)", row)


def drop_orphans(connection: sqlite3.Connection) -> None:
    """Forgets what belongs to sessions that are forgotten."""
    for table in ("session_interval", "signed_value", "session_clock"):
        connection.execute(f"DELETE FROM {table} WHERE session_id NOT IN (SELECT session_id FROM session)")  # noqa: S608 - constants


def read_details(path: Path, sessions: Sequence[Session]) -> dict[str, Details]:
    """By session id, from the file; any thread may call it.

    Raises:
        CemError: The file cannot be read.
    """
    found = {session.session_id: Details() for session in sessions}
    by_transaction = {
        (session.station_id, session.transaction_id): session.session_id for session in reversed(sessions)
    }
    with reading(path, "sessions") as connection:
        for session_id, since, until, energy_wh in connection.execute(
            "SELECT session_id, from_utc, until_utc, energy_wh FROM session_interval ORDER BY session_id, slot"
        ):
            if session_id in found:
                interval = {"from_utc": since, "until_utc": until, "energy_wh": energy_wh}
                found[session_id].intervals.append(interval)
        for session_id, at, text in connection.execute("SELECT session_id, at, text FROM signed_value ORDER BY rowid"):
            if session_id in found:
                found[session_id].signed_values.append({"timestamp": at, "sampled_value": json.loads(text)})
        with contextlib.suppress(sqlite3.OperationalError):  # a ledger that no controller of this version has opened
            for session_id, *times in connection.execute("SELECT * FROM session_clock"):
                if session_id in found:
                    _tell_times(found[session_id], *times)
        _deliveries(connection, by_transaction, found)
    return found


def _tell_times(details: Details, started: str | None, stopped: str | None, ahead_s: float, moved_s: float) -> None:
    details.started_here_utc, details.stopped_here_utc = started, stopped
    doubts = []
    if ahead_s:
        doubts.append(f"the station's clock was {abs(ahead_s):.0f} s {'ahead' if ahead_s > 0 else 'behind'}")
    if moved_s:
        doubts.append(f"this controller's clock was set by {moved_s:+.0f} s meanwhile")
    details.clock = "; ".join(doubts)


def _deliveries(
    connection: sqlite3.Connection, by_transaction: dict[tuple[str, str], str], found: dict[str, Details]
) -> None:
    def of(station_id: str, upstream_id: str, local_id: str) -> dict[str, Any]:
        session_id = by_transaction.get((station_id, local_id))
        upstreams = {} if session_id is None else found[session_id].upstreams
        return upstreams.setdefault(upstream_id, {"transaction_id": local_id, "waiting": 0, "refused": 0})

    for station_id, upstream_id, local_id, cloud_id in connection.execute(
        "SELECT station_id, upstream_id, local_id, cloud_id FROM id_map WHERE upstream_id != ''"
    ):
        of(station_id, upstream_id, local_id)["transaction_id"] = cloud_id
    for station_id, upstream_id, local_id, state, count in connection.execute(
        "SELECT station_id, upstream_id, local_id, state, count(*) FROM journal WHERE local_id != '' "
        "GROUP BY station_id, upstream_id, local_id, state"
    ):
        if state in {"waiting", "refused"}:
            of(station_id, upstream_id, local_id)[state] += count
        else:
            of(station_id, upstream_id, local_id)
