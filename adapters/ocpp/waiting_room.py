"""Where stations wait that the site file does not name: connected, without rights, few, and slowed down."""

import asyncio
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from adapters.ocpp.buckets import Bucket
from cem.csms.moment import Now
from cem.csms.versions import DIALECTS
from cem.csms.waiting import ROOM, WaitingStation

RATE, BURST = 2.0, 20.0
"""Frames a second of one connection."""


class WaitingRoom:
    """The stations that wait now.

    Args:
        now: Reads both clocks.
        tell: Told code, station and text of what people should know, each matter once.
    """

    def __init__(self, now: Callable[[], Now], tell: Callable[[str, str, str], None]) -> None:
        self._now = now
        self._tell = tell
        self._waiting: dict[str, WaitingStation] = {}
        self._sockets: dict[str, ServerConnection] = {}

    def admits(self, who: str) -> bool:
        """Whether there is room for this one; one that is inside is turned away at its next try."""
        return len(self._waiting) < ROOM or who in self._waiting

    def turn_away(self, rejected: Callable[[str], bool]) -> None:
        """Who was rejected meanwhile does not even wait any more."""
        for who in [who for who in self._sockets if rejected(who)]:
            self._sockets[who].transport.abort()

    def status(self) -> list[dict[str, Any]]:
        """For the API."""
        return [station.status() for station in self._waiting.values()]

    async def serve(self, socket: ServerConnection, who: str, subprotocol: str) -> None:
        """Serves one connection to its end."""
        if who in self._waiting or len(self._waiting) >= ROOM:
            await socket.close(1013, "waiting room is full")
            return
        now = self._now()
        station = self._waiting[who] = WaitingStation(who, DIALECTS[subprotocol](), now)
        self._sockets[who] = socket
        text = f"Unknown station {who!r} waits. If it belongs here, add it to the site file's stations"
        self._tell("station_unknown", who, text)
        bucket = Bucket(RATE, BURST, now.s)
        try:
            async for message in socket:
                await asyncio.sleep(bucket.take(self._now().s))
                answer = station.frame(message, self._now()) if isinstance(message, str) else None
                if answer is not None:
                    await socket.send(answer)
        except ConnectionClosed:
            pass
        finally:
            del self._waiting[who], self._sockets[who]
