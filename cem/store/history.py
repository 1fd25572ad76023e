"""The history file: events and one-minute figures. Losing its last minute is allowed; delaying anything is not."""

import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cem.errors import CemError
from cem.ports import Event
from cem.store.files import is_corrupt, is_full, open_database, quarantine, reading, scrub
from cem.store.forget import forget_in_events
from cem.store.rollups import Phases, Rollup
from cem.store.rows import event_from_row, transaction

log = logging.getLogger(__name__)

PRUNE_MINUTES = 360
"""At most this much is forgotten at a time, so that a clock set wrong by years does not empty the history (L8)."""

# Names are stored once and the key begins with the minute: each flush appends a few pages instead of touching one
# page per zone and EVSE, which is what an SD card can bear (FAULTS L7).
_SCHEMA = """
CREATE TABLE IF NOT EXISTS name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS rollup (
    minute INTEGER NOT NULL, subject INTEGER NOT NULL, binding INTEGER,
    mean_l1, mean_l2, mean_l3, max_l1, max_l2, max_l3, granted_l1, granted_l2, granted_l3, limit_l1, limit_l2, limit_l3,
    PRIMARY KEY (minute, subject)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
    at_utc TEXT NOT NULL, at_s REAL NOT NULL, code TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL,
    data TEXT NOT NULL
);
"""
_INSERT_ROLLUP = f"INSERT OR REPLACE INTO rollup VALUES ({', '.join('?' * 15)})"  # noqa: S608 - a row of marks


class History:
    """The file ``history.db`` (synchronous=NORMAL), used by one thread at a time.

    Attributes:
        problem: Why nothing is being written, for people; ``None`` while it is.
        quarantined: Damaged files that were moved aside in this run.
    """

    def __init__(self, path: Path, keep_days: int) -> None:
        self._path = path
        self._keep_minutes = keep_days * 1440
        self._connection: sqlite3.Connection | None = None
        self.problem: str | None = None
        self.quarantined: list[Path] = []
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            self._note_failure(error)

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        try:
            self._connection = open_database(self._path, _SCHEMA, "NORMAL", thorough=False)
            self._connection.execute("SELECT max(minute) FROM rollup").fetchone()
        except sqlite3.Error as error:
            if not is_corrupt(error):
                raise
            self._start_anew(str(error))
        if self._connection is None:  # pragma: no cover - both branches above set it
            raise OSError(self._path)
        return self._connection

    def _start_anew(self, why: str) -> None:
        self.close()
        aside = quarantine(self._path)
        self.quarantined.append(aside)
        log.error("%s is damaged (%s); moved to %s, a new history was started", self._path, why, aside.name)
        self._connection = open_database(self._path, _SCHEMA, "NORMAL", thorough=False)

    def write(self, events: Sequence[Event], rollups: Sequence[Rollup], utc: datetime) -> bool:
        """Append and forget what is too old.

        Returns:
            True once it is written; False where it could not be, which is logged once.
        """
        try:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(
                    "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)",
                    [(e.at_utc.isoformat(), e.at_s, e.code, e.subject, e.text, json.dumps(e.data)) for e in events],
                )
                connection.executemany(_INSERT_ROLLUP, [self._row(connection, rollup) for rollup in rollups])
                self._prune(connection, utc)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            self._note_failure(error)
            if isinstance(error, sqlite3.Error) and is_corrupt(error):
                with contextlib.suppress(sqlite3.Error, OSError):
                    self._start_anew(str(error))
            elif not is_full(error):
                self.close()  # a disk that was read-only needs a new handle once it is not
            return False
        except (ValueError, TypeError) as error:  # one bad record must not stop the history for good
            log.error("history: a record cannot be stored and is left out with its batch: %s", error)  # noqa: TRY400 - no trace for people
            return True
        if self.problem is not None:
            log.warning("%s: the history is written again", self._path)
            self.problem = None
        return True

    def forget(self, pseudonyms: Mapping[str, str]) -> int:
        """Takes tokens out of the texts; how many there were.

        Raises:
            CemError: The file cannot be written.
        """
        try:
            connection = self._open()
            with transaction(connection):
                changed = forget_in_events(connection, pseudonyms)
            if changed:
                scrub(connection)
        except (sqlite3.Error, OSError) as error:
            raise CemError(f"{self._path}: cannot be rewritten: {error}") from error
        return changed

    def _row(self, connection: sqlite3.Connection, rollup: Rollup) -> tuple[object, ...]:
        return (
            int(rollup.minute_utc.timestamp()) // 60,
            _name_id(connection, f"{rollup.kind}:{rollup.subject}"),
            None if rollup.binding is None else _name_id(connection, rollup.binding),
            *_three(rollup.measured_mean_a),
            *_three(rollup.measured_max_a),
            *_three(rollup.granted_a),
            *_three(rollup.limit_a),
        )

    def _prune(self, connection: sqlite3.Connection, utc: datetime) -> None:
        cutoff = int(utc.timestamp()) // 60 - self._keep_minutes
        (oldest,) = connection.execute("SELECT min(minute) FROM rollup").fetchone()
        if oldest is not None and oldest < cutoff - PRUNE_MINUTES // 6:
            connection.execute("DELETE FROM rollup WHERE minute < ?", (min(cutoff, oldest + PRUNE_MINUTES),))
        connection.execute("DELETE FROM event WHERE rowid <= (SELECT max(rowid) FROM event) - ?", (200_000,))

    def recent_events(self, limit: int) -> tuple[Event, ...]:
        """The latest events, oldest first; at start-up, before the writer runs."""
        if self._connection is None:
            return ()
        try:
            rows = self._connection.execute("SELECT * FROM event ORDER BY rowid DESC LIMIT ?", (limit,)).fetchall()
        except sqlite3.Error:
            return ()
        return tuple(event_from_row(row) for row in reversed(rows))

    def _note_failure(self, error: Exception) -> None:
        if self.problem is None:
            self.problem = f"{self._path}: the history is not written ({error}); control and sessions go on"
            log.warning("%s", self.problem)

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _name_id(connection: sqlite3.Connection, text: str) -> int:
    row = connection.execute("SELECT id FROM name WHERE text = ?", (text,)).fetchone()
    if row is None:
        row = connection.execute("INSERT INTO name (text) VALUES (?) RETURNING id", (text,)).fetchone()
    return int(row[0])


def _three(values: Phases) -> tuple[float | None, float | None, float | None]:
    """Three columns of tenths of an amp; whole numbers take one byte in SQLite."""
    padded = [*values, None, None, None][:3]
    l1, l2, l3 = (None if v is None else round(v * 10) for v in padded)
    return l1, l2, l3


def read_rollups(path: Path, since: datetime, until: datetime) -> Iterable[Rollup]:
    """One-minute figures from the file, oldest first; any thread may call it."""
    with reading(path, "the history") as connection:
        rows = connection.execute(
            "SELECT r.minute, s.text, b.text, mean_l1, mean_l2, mean_l3, max_l1, max_l2, max_l3, granted_l1, "
            "granted_l2, granted_l3, limit_l1, limit_l2, limit_l3 FROM rollup r JOIN name s ON s.id = r.subject "
            "LEFT JOIN name b ON b.id = r.binding WHERE r.minute >= ? AND r.minute < ? ORDER BY r.minute, s.text",
            (int(since.timestamp()) // 60, int(until.timestamp()) // 60),
        ).fetchall()
    for minute, subject, binding, *tenths in rows:
        kind, _, name = subject.partition(":")
        amps = [None if v is None else v / 10 for v in tenths]
        yield Rollup(
            minute_utc=datetime.fromtimestamp(minute * 60, UTC),
            kind="zone" if kind == "zone" else "evse",
            subject=name,
            measured_mean_a=tuple(amps[0:3]),
            measured_max_a=tuple(amps[3:6]),
            granted_a=tuple(amps[6:9]),
            limit_a=tuple(amps[9:12]),
            binding=binding,
        )
