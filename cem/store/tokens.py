"""The ledger's table of tokens: what CSMSs said of them, by hash."""

import sqlite3
from datetime import datetime
from pathlib import Path

from cem.csms.records import TokenGone, TokenKnown
from cem.store.files import reading

SCHEMA = """
CREATE TABLE IF NOT EXISTS token (
    token_hash TEXT PRIMARY KEY, accepted INTEGER NOT NULL, until_utc TEXT, group_token TEXT, group_kind TEXT NOT NULL,
    contract TEXT, seen_utc TEXT NOT NULL
) WITHOUT ROWID;
"""


def apply_token(connection: sqlite3.Connection, record: TokenKnown | TokenGone) -> None:
    """Writes one record; inside a transaction."""
    match record:
        case TokenKnown(token_hash, accepted, until, group, group_kind, contract, seen):
            row = (token_hash, accepted, until and until.isoformat(), group, group_kind, contract, seen.isoformat())
            connection.execute("INSERT OR REPLACE INTO token VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        case TokenGone(token_hash):
            connection.execute("DELETE FROM token WHERE token_hash = ?", (token_hash,))


def read_tokens(path: Path) -> tuple[TokenKnown, ...]:
    """All of them.

    Raises:
        CemError: The file cannot be read.
    """
    with reading(path, "the tokens") as connection:
        rows = connection.execute("SELECT * FROM token").fetchall()
    return tuple(
        TokenKnown(
            key,
            bool(good),
            until and datetime.fromisoformat(until),
            group,
            kind,
            contract,
            datetime.fromisoformat(seen),
        )
        for key, good, until, group, kind, contract, seen in rows
    )
