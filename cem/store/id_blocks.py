"""Transaction ids, unique for the site: handed out from blocks whose end is on disk, so that none is ever given twice."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

ID_BLOCK = 200


class IdBlocks:
    """Hands out ids, from any thread.

    Args:
        below: Ids from here on were never handed out.
        write: Puts the end of a block on disk at once; whether that worked.
        order: Has the end of a block put on disk soon.
    """

    def __init__(self, below: int, write: Callable[[int], bool], order: Callable[[int], "Future[None]"]) -> None:
        self._order = order
        self._lock = threading.Lock()
        self._next = self._below = below
        self._ordered: tuple[int, Future[None]] | None = None
        if write(below + ID_BLOCK):
            self._below += ID_BLOCK

    def take(self) -> int | None:
        """A new id; ``None`` where the block is used up and a new one cannot be written."""
        with self._lock:
            self._see_to_it()
            if self._next >= self._below and self._ordered is not None:
                self._ordered[1].exception(timeout=1.0)  # a burst of starts: the writer is a moment behind
                self._see_to_it()
            if self._next >= self._below:
                return None
            self._next += 1
            return self._next - 1

    def _see_to_it(self) -> None:
        """A block is on disk or on its way before the last one is used up."""
        if self._below - self._next > ID_BLOCK // 2:
            return
        if self._ordered is not None:
            below, done = self._ordered
            if not done.done():
                return
            if done.exception() is None:
                self._below = below
            self._ordered = None
        if self._below - self._next <= ID_BLOCK // 2:
            below = self._below + ID_BLOCK
            self._ordered = below, self._order(below)
