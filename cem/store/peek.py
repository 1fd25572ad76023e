"""What a controller keeps by name, read beside it: it may be running."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from cem.errors import CemError


def kept_states(ledger: Path, keys: Sequence[str]) -> dict[str, Any]:
    """The values under these names; what is not there is left out.

    Raises:
        CemError: The file cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)) as connection:
            found = [connection.execute("SELECT key, value FROM kv WHERE key = ?", (key,)).fetchone() for key in keys]
    except sqlite3.Error as error:
        raise CemError(f"{ledger}: what was learned of stations cannot be read: {error}") from error
    return {row[0]: json.loads(row[1]) for row in found if row is not None}
