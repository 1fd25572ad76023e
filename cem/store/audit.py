"""The audit: events of consequence, each chained to the one before by SHA-256, so that a change in the middle shows.

Whoever may write the file can also compute the chain anew from some point on; the head that ``verify`` tells, noted
somewhere else now and then, shows that as well.
"""

import hashlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cem.store.files import reading

SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY, at_utc TEXT NOT NULL, at_s REAL NOT NULL, code TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS audit_chain (number INTEGER PRIMARY KEY, previous TEXT NOT NULL, digest TEXT NOT NULL);
"""

AUDITED = frozenset({
    "station_unauthorized", "station_certificate", "station_unencrypted", "station_unknown", "station_twice",
    "station_flood", "address_flood", "certificate_unusable", "access_changed",
    "credentials_offered", "credentials_refused", "credentials_rotated", "migration_refused", "station_migrated",
    "certificate_issued", "certificate_refused", "message_set_aside",
})  # fmt: skip
"""Events that are put into the audit when they are noted; what the OCPP sessions decide is written by them."""
_INSERT = "INSERT INTO audit (at_utc, at_s, code, subject, text, data) VALUES (?, ?, ?, ?, ?, ?)"
Row = tuple[str, float, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look at the chain found.

    Attributes:
        entries: How many are chained.
        older: Entries from before there was a chain.
        head: Digest of the latest.
        problem: Where the chain is broken, for people; ``None`` where it holds.
    """

    entries: int
    older: int
    head: str
    problem: str | None


def digest(previous: str, number: int, row: Row) -> str:
    """What stands for an entry and everything before it."""
    return hashlib.sha256(json.dumps([previous, number, *row], ensure_ascii=False).encode()).hexdigest()


def append(connection: sqlite3.Connection, row: Row) -> None:
    """Writes one entry and its link; inside a transaction."""
    last = connection.execute("SELECT digest FROM audit_chain ORDER BY number DESC LIMIT 1").fetchone()
    previous = "" if last is None else last[0]
    number = connection.execute(_INSERT, row).lastrowid
    if number is None:
        raise sqlite3.ProgrammingError("an entry without a number")
    connection.execute("INSERT INTO audit_chain VALUES (?, ?, ?)", (number, previous, digest(previous, number, row)))


def drop_oldest(connection: sqlite3.Connection, keep: int) -> None:
    """Forgets the oldest; the chain then begins later."""
    (newest,) = connection.execute("SELECT coalesce(max(rowid), 0) FROM audit").fetchone()
    connection.execute("DELETE FROM audit WHERE rowid <= ?", (newest - keep,))
    connection.execute("DELETE FROM audit_chain WHERE number <= ?", (newest - keep,))


def verify(path: Path) -> Verified:
    """Looks at every entry of a ledger file; also while the controller runs.

    Raises:
        CemError: The file cannot be read.
    """
    rows = _read(path, "SELECT rowid, at_utc, at_s, code, subject, text, data FROM audit ORDER BY rowid")
    links = _read(path, "SELECT number, previous, digest FROM audit_chain ORDER BY number")
    entries: dict[int, Row] = {row[0]: tuple(row[1:]) for row in rows}
    first = links[0][0] if links else None
    older = len(entries) if first is None else sum(number < first for number in entries)
    head, problem = "", None
    for number, previous, told in links:
        row = entries.get(number)
        if row is None:
            problem = f"entry {number} is missing"
        elif number != first and previous != head:
            problem = f"before entry {number} ({row[0]}) something was taken out or put in"
        elif digest(previous, number, row) != told:
            problem = f"entry {number} ({row[0]}) is not as it was written"
        if problem is not None:
            break
        head = told
    numbers = {number for number, *_ in links}
    if problem is None and first is not None:
        extra = [number for number in entries if number > first and number not in numbers]
        problem = f"entry {extra[0]} was put in" if extra else None
    return Verified(len(links), older, head, problem)


def entries(path: Path, limit: int) -> list[dict[str, Any]]:
    """The latest entries, latest first.

    Raises:
        CemError: The file cannot be read.
    """
    query = (
        "SELECT a.rowid, a.at_utc, a.code, a.subject, a.text, a.data, c.digest FROM audit a "
        "LEFT JOIN audit_chain c ON c.number = a.rowid ORDER BY a.rowid DESC LIMIT ?"
    )
    names = ("number", "at_utc", "code", "subject", "text", "data", "digest")
    return [dict(zip(names, row, strict=True)) for row in _read(path, query, limit)]


def _read(path: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with reading(path, "the audit") as connection:
        return connection.execute(query, values).fetchall()
