"""Reads one station's connection to its end: slows a flood down, and says why a connection was closed."""

import asyncio
from collections.abc import Callable

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from adapters.ocpp.buckets import Bucket
from adapters.ocpp.direct import StationConnection

FRAME_RATE, FRAME_BURST = 50.0, 300.0
"""Frames a second of one connection; each 8 kB count as one more (fault S13)."""


class StationReader:
    """One connection's.

    Args:
        who: The station.
        monotonic_s: Reads the clock.
        frame: Called with each text.
        tell: Told code, station and text of what people should know.
        tell_once: The same, each matter once.
    """

    def __init__(
        self,
        who: str,
        monotonic_s: Callable[[], float],
        frame: Callable[[str], None],
        tell: Callable[[str, str, str], None],
        tell_once: Callable[[str, str, str], None],
    ) -> None:
        self._who = who
        self._monotonic_s = monotonic_s
        self._frame = frame
        self._tell = tell
        self._tell_once = tell_once
        self._bucket = Bucket(FRAME_RATE, FRAME_BURST, monotonic_s())
        self._holding = False

    async def run(self, socket: StationConnection) -> None:
        """Until the connection ends."""
        socket.sink = self._at_once
        try:
            async for message in socket:
                if not await self._in_turn(socket, message):
                    break
        except ConnectionClosed as problem:
            if problem.sent is not None and problem.sent.code in {1002, 1007, 1009}:
                self._bad(problem.sent.reason or "a broken frame")
        finally:
            socket.sink = None

    def _at_once(self, text: str) -> bool:
        """A frame in the step in which it arrived; one that comes too soon waits, and so does what follows it."""
        if self._holding or not self._bucket.try_take(self._monotonic_s(), _cost(text)):
            return False
        self._frame(text)
        return True

    async def _in_turn(self, socket: StationConnection, message: str | bytes) -> bool:
        """A frame that had to wait; whether the connection goes on."""
        wait_s = self._bucket.take(self._monotonic_s(), _cost(message))
        if wait_s > 0:
            text = f"{self._who} sends more than {FRAME_RATE:g} frames a second; it is slowed down to that"
            self._tell_once("station_flood", self._who, text)
            self._holding = True
            await asyncio.sleep(wait_s)
            self._holding = False
            if socket.state is not State.OPEN:
                return False  # what a flood left behind is not worked off; it was not acknowledged
        if not isinstance(message, str):
            self._bad("a binary frame")
            await socket.close(1003, "text frames only")
            return False
        self._frame(message)
        return True

    def _bad(self, what: str) -> None:
        self._tell("bad_frame", self._who, f"{self._who} sent {what}; its connection was closed")


def _cost(message: str | bytes) -> float:
    return 1 + len(message) / 8192
