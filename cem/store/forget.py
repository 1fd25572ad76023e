"""Forgetting a token on disk: in the ledger, the history, the snapshot and in damaged files that were moved aside."""

import json
import mmap
import re
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from cem.csms.authorization import token_hash
from cem.csms.privacy import SHORTEST, Forgotten, named, pseudonymised
from cem.ports import Event

CODE = "token_forgotten"


def forget_in_ledger(
    connection: sqlite3.Connection, pseudonyms: Mapping[str, str], *, signed_too: bool
) -> dict[str, Forgotten]:
    """Takes tokens out of every table; inside a transaction. The caller cleans the file's free pages afterwards.

    Args:
        connection: The ledger.
        pseudonyms: What stands in place of each token.
        signed_too: Signed values of ended sessions that name a token go as well.
    """
    return {token: _forget(connection, token, instead, signed_too) for token, instead in pseudonyms.items()}


def _forget(connection: sqlite3.Connection, token: str, instead: str, signed_too: bool) -> Forgotten:
    key = token_hash(token)
    count: Counter[str] = Counter()
    own = connection.execute(
        "SELECT session_id, station_id, transaction_id, open FROM session WHERE token_hash = ?", (key,)
    ).fetchall()
    for station_id, upstream_id, seq, text in connection.execute(
        "SELECT station_id, upstream_id, seq, text FROM journal WHERE text != ''"
    ).fetchall():
        changed = pseudonymised(text, token, instead)
        if changed != text:
            count["messages"] += 1
            place = (changed, station_id, upstream_id, seq)
            connection.execute(
                "UPDATE journal SET text = ? WHERE station_id = ? AND upstream_id = ? AND seq = ?", place
            )
        count["signed_kept"] += named(changed, token)
    for session_id, station_id, local_id, is_open in own:
        count["signed_kept"] += _signed(connection, session_id, token, drop=signed_too and not is_open)
        if not is_open:
            # Digests of whole messages: with all but the token known, a short token could be found from them.
            one = (station_id, local_id)
            connection.execute(
                "UPDATE journal SET fingerprint = hex(randomblob(16)) WHERE station_id = ? AND local_id = ?", one
            )
            connection.execute("UPDATE id_map SET start_key = '' WHERE station_id = ? AND local_id = ?", one)
    connection.execute("UPDATE session SET token_hash = ? WHERE token_hash = ?", (instead, key))
    count["sessions"] = len(own)
    count["tokens"] = connection.execute("DELETE FROM token WHERE token_hash = ?", (key,)).rowcount
    count["tokens"] += connection.execute(
        "UPDATE token SET group_token = NULL WHERE upper(group_token) = upper(?)", (token,)
    ).rowcount
    count["tokens"] += _local_lists(connection, token, key)
    return Forgotten(instead, **count)


def _signed(connection: sqlite3.Connection, session_id: str, token: str, *, drop: bool) -> int:
    rows = connection.execute("SELECT rowid, text FROM signed_value WHERE session_id = ?", (session_id,)).fetchall()
    naming = [row for row, text in rows if named(text, token)]
    if drop:
        connection.executemany("DELETE FROM signed_value WHERE rowid = ?", [(row,) for row in naming])
        return 0
    return len(naming)


def _local_lists(connection: sqlite3.Connection, token: str, key: str) -> int:
    found = 0
    rows = connection.execute("SELECT key, value FROM kv WHERE key LIKE 'csms/%/local_list'").fetchall()
    for name, text in rows:
        kept = json.loads(text)
        tokens = kept.get("tokens", {})
        before = json.dumps(tokens)
        tokens.pop(key, None)
        for entry in tokens.values():
            if isinstance(entry[2], str) and entry[2].upper() == token.upper():
                entry[2:] = [None, None]
        if json.dumps(tokens) != before:
            found += 1
            connection.execute("UPDATE kv SET value = ? WHERE key = ?", (json.dumps(kept), name))
    return found


def without_token(text: str, pseudonyms: Mapping[str, str]) -> str:
    """A text for people in which pseudonyms stand for tokens and their hashes."""
    for token, instead in pseudonyms.items():
        for word in (token, token_hash(token)):
            if len(word) >= SHORTEST:
                text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", instead, text, flags=re.IGNORECASE)
    return text


def forget_in_events(connection: sqlite3.Connection, pseudonyms: Mapping[str, str]) -> int:
    """Takes tokens out of the history's texts, where they should never have been; inside a transaction."""
    changed = 0
    for row, text, data in connection.execute("SELECT rowid, text, data FROM event").fetchall():
        new = without_token(text, pseudonyms), without_token(data, pseudonyms)
        if new != (text, data):
            changed += 1
            connection.execute("UPDATE event SET text = ?, data = ? WHERE rowid = ?", (*new, row))
    return changed


def overwrite_in_file(path: Path, pseudonyms: Mapping[str, str]) -> bool:
    """Overwrites tokens and their hashes in a damaged file; whether there were any."""
    found = False
    if path.stat().st_size == 0:
        return False
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        for token in pseudonyms:
            for word in (token, token_hash(token)):
                if len(word) < SHORTEST:
                    continue
                pattern = re.compile(re.escape(word.encode()), re.IGNORECASE)
                for start, end in [match.span() for match in pattern.finditer(content)]:
                    content[start:end] = b"*" * (end - start)
                    found = True
        content.flush()
    return found


def audit_entry(forgotten: Mapping[str, Forgotten], by: str) -> Event:
    """What the audit says of it: how much, never who."""
    count: Counter[str] = Counter()
    for one in forgotten.values():
        count.update({name: value for name, value in asdict(one).items() if name != "pseudonym"})
    many = f"{len(forgotten)} token{'' if len(forgotten) == 1 else 's'}"
    text = (
        f"{many} forgotten on request of {by}: {count['sessions']} sessions and {count['messages']} waiting messages hold "
        f"a pseudonym now; {count['signed_kept']} signed values that name a token are kept"
    )
    return Event(datetime.now(UTC), 0.0, CODE, "site", text, {name: float(value) for name, value in count.items()})
