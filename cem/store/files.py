"""SQLite files on a box that may lose power at any moment: rights, opening, quarantine, one owner."""

import contextlib
import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cem.errors import CemError

Synchronous = Literal["FULL", "NORMAL"]

SCRUB_TRIES, SCRUB_PAUSE_S = 20, 0.2
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_corrupt(error: sqlite3.Error) -> bool:
    """The file's content is damaged, as opposed to the disk being full, read-only or busy."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _CORRUPT_CODES


def is_full(error: Exception) -> bool:
    """The disk has no room now; the open file can be used again as soon as it has."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def prepare_directory(directory: Path) -> None:
    """Make the directory for its owner only (0700); what cannot be made or changed is left to the opening to report."""
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)


def take_lock(directory: Path) -> int | None:
    """Hold the directory for this process alone.

    Returns:
        The descriptor that holds the lock until it is closed; ``None`` where the directory cannot be written at all.

    Raises:
        CemError: Another controller runs on this directory.
    """
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise CemError(
            f"{directory}: another controller is using this storage directory; stop it first, or give this site "
            "its own storage.directory"
        ) from None
    return descriptor


def is_unused(directory: Path) -> bool:
    """Whether no controller has ever run on this directory; where only the ledger is gone, something is wrong."""
    return not any(next(directory.glob(f"{name}*"), None) for name in ("ledger", "history"))


def is_locked(directory: Path) -> bool:
    """Whether a controller runs on this directory."""
    try:
        descriptor = take_lock(directory)
    except CemError:
        return True
    if descriptor is not None:
        os.close(descriptor)
    return False


def open_database(path: Path, schema: str, synchronous: Synchronous, *, thorough: bool) -> sqlite3.Connection:
    """Open or create one file in WAL mode, readable by its owner only.

    Args:
        path: The file.
        schema: Statements that make missing tables.
        synchronous: ``FULL`` syncs at every commit, ``NORMAL`` at checkpoints only.
        thorough: Read through the whole file for damage; for small files.

    Raises:
        sqlite3.Error: It cannot be opened; ``is_corrupt`` tells damage from a disk that cannot be written.
    """
    is_new = not path.exists()
    if is_new:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=2.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA journal_size_limit=4194304")
        if thorough:
            _check_whole(connection)
        connection.executescript(schema)
    except BaseException:
        connection.close()
        raise
    if is_new:
        sync_directory(path.parent)  # SQLite syncs the file, not its name in a new folder
    return connection


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[sqlite3.Connection]:
    """Opens one file beside its writer, also on a read-only disk: a connection of its own, so any thread may use it.

    Args:
        path: The file.
        what: What is looked for in it, for people.

    Raises:
        CemError: It cannot be read.
    """
    try:
        with contextlib.closing(_open_read_only(path)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise CemError(f"{path}: {what} cannot be read: {error}") from error


def _open_read_only(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error:  # a read-only disk: the journal beside it cannot be opened
        connection.close()
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    return connection


def _check_whole(connection: sqlite3.Connection) -> None:
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        error = sqlite3.DatabaseError(finding)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def sync_directory(directory: Path) -> None:
    """Put the names in a folder on disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def scrub(connection: sqlite3.Connection) -> None:
    """Leaves nothing of deleted rows in the file or its journal.

    Raises:
        sqlite3.Error: There is no room for a second copy, or somebody reads the file for too long.
    """
    connection.execute("VACUUM")
    for _ in range(SCRUB_TRIES):
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not busy:
            return
        time.sleep(SCRUB_PAUSE_S)
    raise sqlite3.OperationalError("somebody else reads the file; try again")


def quarantine(path: Path) -> Path:
    """Move a damaged file and its journal aside, for a look later (FAULTS L5).

    Returns:
        Where it is now: ``NAME.corrupt-UTCSTAMP``.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    path.rename(target)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
    _drop_old_quarantines(path)
    sync_directory(path.parent)
    return target


def _drop_old_quarantines(path: Path, keep: int = 3) -> None:
    """A crash loop on a dying card must not fill it with copies (FAULTS I11)."""
    stamps = sorted(
        {p.name.removesuffix("-wal").removesuffix("-shm") for p in path.parent.glob(f"{path.name}.corrupt-*")}
    )
    for name in stamps[:-keep]:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(name + suffix).unlink(missing_ok=True)


def disk_used_percent(directory: Path) -> float | None:
    """How full the disk is; ``None`` where it cannot be told."""
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return None
    return 100.0 * (usage.total - usage.free) / usage.total if usage.total else None
