"""What the store's writer is given to do."""

import concurrent.futures
import sqlite3
from collections.abc import Callable, Mapping, Sequence

from cem.csms.privacy import Forgotten
from cem.errors import CemError
from cem.store.rows import Entry


class Job:
    """Entries that are written together, and who waits for them."""

    __slots__ = ("done", "entries")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self.done: concurrent.futures.Future[None] = concurrent.futures.Future()


class Call:
    """Something the writer's thread does between two writes, and who waits for it."""

    __slots__ = ("done", "what")

    def __init__(self, what: Callable[[], Mapping[str, Forgotten]]) -> None:
        self.what = what
        self.done: concurrent.futures.Future[Mapping[str, Forgotten]] = concurrent.futures.Future()

    def run(self) -> None:
        """Does it."""
        try:
            self.done.set_result(self.what())
        except (CemError, sqlite3.Error, OSError, ValueError) as error:
            told = error if isinstance(error, CemError) else CemError(f"what is on disk cannot be changed: {error}")
            self.done.set_exception(told)
