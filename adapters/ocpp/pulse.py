"""Signs of life of many websockets, asked for by one task: a task for each would cost as much as what it watches over."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Protocol


class Beating(Protocol):
    """A connection that can be asked for a sign of life."""

    def beat(self) -> None:
        """Asks for one; cuts the connection off where there was none since the last time."""
        ...


class Pulse:
    """Has each connection asked once in so many seconds; a dead one is cut off after one to two of these times.

    Args:
        every_s: Whole seconds.
    """

    def __init__(self, every_s: int) -> None:
        self._turns: list[dict[Beating, None]] = [{} for _ in range(every_s)]
        self._count = 0

    @contextmanager
    def watches(self, connection: Beating) -> Iterator[None]:
        """Until the block ends."""
        self._count += 1
        turn = self._turns[self._count % len(self._turns)]
        turn[connection] = None
        try:
            yield
        finally:
            turn.pop(connection, None)

    async def run(self) -> None:
        """Until cancelled."""
        for turn in cycle(self._turns):
            for connection in list(turn):
                connection.beat()
            await asyncio.sleep(1)
