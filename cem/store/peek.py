"""What a controller keeps by name, read beside it: it may be running."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cem.store.files import reading


def kept_states(ledger: Path, keys: Sequence[str]) -> dict[str, Any]:
    """The values under these names; what is not there is left out.

    Raises:
        CemError: The file cannot be read.
    """
    with reading(ledger, "what was learned of stations") as connection:
        found = [connection.execute("SELECT key, value FROM kv WHERE key = ?", (key,)).fetchone() for key in keys]
    return {row[0]: json.loads(row[1]) for row in found if row is not None}
