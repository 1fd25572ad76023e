"""The ledger file: what must survive a power cut. Used by one thread at a time."""

import contextlib
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cem.errors import CemError
from cem.store.files import is_corrupt, is_full, open_database, quarantine, reading, scrub, sync_directory
from cem.store.queue import salvage
from cem.store.rows import (
    SCHEMA,
    Contents,
    Entry,
    State,
    TransactionIds,
    apply_entry,
    contents_after,
    drop_oldest,
    load,
    transaction,
)

log = logging.getLogger(__name__)
T = TypeVar("T")

REOPEN_AFTER_S = 5.0
SNAPSHOT_AFTER_S = 86_400.0
LOST_IDS = 1_000_000
MAX_SESSIONS = 500_000
MAX_AUDIT = 200_000


def first_transaction_id(utc: datetime) -> int:
    """Where a new ledger starts to count: seconds since 2026, so that a lost ledger never repeats an id.

    A site starts fewer than one transaction a second, so ids handed out never overtake the clock; it fits an OCPP 1.6
    integer (31 bits) until 2094.
    """
    return max(1, int((utc - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()))


def _is_the_disks_fault(error: Exception) -> bool:
    of_the_record = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)
    return isinstance(error, (sqlite3.DatabaseError, OSError)) and not isinstance(error, of_the_record)


class Ledger:
    """The file ``ledger.db`` (synchronous=FULL: a commit that returned is on disk).

    Attributes:
        contents: What it holds now.
        problem: Why it cannot be written, for people; ``None`` while it can.
        quarantined: Damaged files that were moved aside in this run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._snapshot = path.with_name("ledger-snapshot.db")
        self._connection: sqlite3.Connection | None = None
        self._opened_s = 0.0
        self._loaded = False
        self.contents = Contents({}, {}, {}, first_transaction_id(datetime.now(UTC)))
        self.problem: str | None = None
        self.quarantined: list[Path] = []
        self._open()

    def _open(self) -> None:
        """Open the file; damage is moved aside and a new file takes over what memory still knows."""
        self._opened_s = time.monotonic()
        try:
            try:
                self._connection = open_database(self._path, SCHEMA, "FULL", thorough=True)
                self.contents = load(self._connection, self.contents.ids_below)
            except sqlite3.Error as error:
                if not is_corrupt(error):
                    raise
                self._start_anew(str(error))
            except (ValueError, TypeError) as error:  # sound pages, nonsense in them
                self._start_anew(str(error))
        except (sqlite3.Error, OSError) as error:
            self._note_failure(error)
            self._close_quietly()
            with contextlib.suppress(CemError), reading(self._path, "the ledger") as connection:
                self.contents = load(connection, self.contents.ids_below)
        else:
            self._loaded = True

    def _start_anew(self, why: str) -> None:
        self._close_quietly()
        aside = quarantine(self._path)
        self.quarantined.append(aside)
        connection, origin = self._from_snapshot()
        self._connection = connection
        kept = self.contents
        known: list[Entry] = [*kept.registrations.values(), *kept.grants.values()]
        known.extend(State(key, text) for key, text in kept.states.items())
        # Blocks taken by many restarts may have run ahead of the clock; what was lost may have been among them.
        ids_below = kept.ids_below if self._loaded else kept.ids_below + LOST_IDS
        known.append(TransactionIds(ids_below))
        queue = salvage(aside)
        known.extend(queue)
        with transaction(connection):
            if queue:  # the snapshot's is a day old: what it holds has mostly been told since
                connection.execute("DELETE FROM journal")
                connection.execute("DELETE FROM id_map")
            for entry in known:
                apply_entry(connection, entry)
        self.contents = load(connection, ids_below)
        log.error(
            "%s is damaged (%s); it was moved to %s and %s. Restore a backup if sessions are missing, and check the "
            "disk or SD card.",
            self._path,
            why,
            aside.name,
            origin,
        )

    def _from_snapshot(self) -> tuple[sqlite3.Connection, str]:
        """A new file, with what the last snapshot can give: registrations, sessions, events of consequence.

        Limits given and the state of limit channels are of the moment: an old copy of them could say that more is
        allowed than is, so they start unknown, which control takes for the worst (FAULTS I10, D3).
        """
        if self._snapshot.exists():
            with contextlib.suppress(sqlite3.Error, OSError):
                shutil.copyfile(self._snapshot, self._path)
                self._path.chmod(0o600)
                connection = open_database(self._path, SCHEMA, "FULL", thorough=True)
                connection.execute("DELETE FROM kv")
                connection.execute("DELETE FROM grant_in_force")
                taken = datetime.fromtimestamp(self._snapshot.stat().st_mtime, UTC)
                return connection, f"the snapshot of {taken:%Y-%m-%d %H:%M} UTC took its place"
            self._path.unlink(missing_ok=True)
        return open_database(self._path, SCHEMA, "FULL", thorough=False), "a new ledger was started"

    def keep_snapshot(self) -> None:
        """Once a day, put a sound copy beside the file and forget the very oldest records (FAULTS L5, I11)."""
        if self._connection is None:
            return
        with contextlib.suppress(OSError):
            if abs(datetime.now(UTC).timestamp() - self._snapshot.stat().st_mtime) < SNAPSHOT_AFTER_S:
                return
        part = self._snapshot.with_suffix(".part")
        try:
            with transaction(self._connection):
                drop_oldest(self._connection, MAX_SESSIONS, MAX_AUDIT)
            part.unlink(missing_ok=True)
            os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            with contextlib.closing(sqlite3.connect(part)) as copy:
                self._connection.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
            part.rename(self._snapshot)
            sync_directory(self._path.parent)
        except (sqlite3.Error, OSError) as error:
            log.warning("%s: no snapshot was made (%s); the ledger itself goes on", self._path, error)

    def rewrite(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Changes what is on record, and leaves nothing of what was there: not in free pages, the journal or the snapshot.

        Raises:
            CemError: The file cannot be written.
        """
        if self._connection is None:
            raise CemError(self.problem or f"{self._path}: the ledger is not open")
        try:
            with transaction(self._connection):
                result = change(self._connection)
            scrub(self._connection)
            self.contents = load(self._connection, self.contents.ids_below)
            self._snapshot.with_suffix(".part").unlink(missing_ok=True)
            self._snapshot.unlink(missing_ok=True)
        except (sqlite3.Error, OSError) as error:
            raise CemError(f"{self._path}: cannot be rewritten: {error}") from error
        self.keep_snapshot()
        return result

    def write(self, jobs: Sequence[Sequence[Entry]]) -> list[CemError | None]:
        """Write several jobs with one sync.

        Returns:
            For each job ``None`` once it is on disk, or why it is not. A job is written whole or not at all; one that
            cannot be stored does not take the others with it.
        """
        for _ in range(2):
            try:
                results = self._write_once(jobs)
            except (sqlite3.Error, OSError) as error:
                if isinstance(error, sqlite3.Error) and is_corrupt(error):
                    try:
                        self._start_anew(str(error))
                        continue
                    except (sqlite3.Error, OSError) as second:
                        error = second
                self._note_failure(error)
                if not is_full(error):
                    self._close_quietly()  # a disk that was read-only needs a new handle once it is not
                break
            if self.problem is not None:
                log.warning("%s: records are written again", self._path)
                self.problem = None
            return results
        return [CemError(self.problem or f"{self._path}: cannot be written")] * len(jobs)

    def _write_once(self, jobs: Sequence[Sequence[Entry]]) -> list[CemError | None]:
        if self._connection is None:
            if time.monotonic() - self._opened_s < REOPEN_AFTER_S:
                raise OSError(self.problem or "the ledger is not open")
            self._open()
            if self._connection is None:
                raise OSError(self.problem or "the ledger is not open")
        connection = self._connection
        results: list[CemError | None] = []
        stored: list[Entry] = []
        with transaction(connection):
            for job in jobs:
                connection.execute("SAVEPOINT job")
                try:
                    for entry in job:
                        apply_entry(connection, entry)
                except Exception as error:
                    if _is_the_disks_fault(error):
                        raise
                    connection.execute("ROLLBACK TO job")
                    results.append(CemError(f"a record cannot be stored: {error}"))
                else:
                    results.append(None)
                    stored.extend(job)
                connection.execute("RELEASE job")
        self.contents = contents_after(self.contents, stored)
        return results

    def _note_failure(self, error: Exception) -> None:
        if self.problem is None:
            self.problem = (
                f"{self._path}: records cannot be written ({error}); transactions are not acknowledged until they can. "
                "Check free space, that the disk is not read-only, and the owner of the directory."
            )
            log.error("%s", self.problem)

    def _close_quietly(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Fold the journal into the file and close it."""
        self._close_quietly()
