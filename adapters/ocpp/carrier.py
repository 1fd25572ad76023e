"""Stations of a site below us: their connections pass through unchanged to our own upstream.

The controller of that site holds them, keeps their messages and answers while nobody is there; here only its frames are
carried. So a connection is taken only once the upstream has taken its counterpart, and both end together: the site below
sees its upstream away exactly while ours is.
"""

import asyncio
import ssl
from collections.abc import Collection, Sequence
from contextlib import suppress
from http import HTTPStatus

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.http11 import Request

from adapters.ocpp.door import Refusal
from adapters.ocpp.upstream import dial
from cem.config.csms_models import Upstream
from cem.config.models import StationSection
from cem.csms.versions import DIALECTS

REACH_S = 5.0
"""For the upstream's handshake; who dials us waits 10 s."""
CLAIM_S = 15.0
"""A counterpart whose station did not complete its own handshake is dropped after this."""
_AWAY: Refusal = (HTTPStatus.SERVICE_UNAVAILABLE, "the upstream is away\n")


def carried_by(stations: Sequence[StationSection]) -> dict[str, str]:
    """Each identity that is carried, with the site it belongs to."""
    return {name: station.id for station in stations for name in station.carries}


class Carrier:
    """Carries connections.

    Args:
        names: Identities that may be carried.
        upstream: Where to; ``None``: nowhere, so all are refused.

    Attributes:
        tls: For ``wss://``.
    """

    def __init__(self, names: Collection[str], upstream: Upstream | None) -> None:
        self._names = frozenset(names)
        self._upstream = upstream
        self.tls: ssl.SSLContext | None = None
        self._reached: dict[ServerConnection, ClientConnection] = {}
        self._open: dict[str, ServerConnection] = {}

    def __contains__(self, who: object) -> bool:
        return who in self._names

    def status(self) -> list[str]:
        """Who is connected through us, for the API."""
        return sorted(self._open)

    async def reach(self, connection: ServerConnection, request: Request, who: str) -> Refusal | None:
        """Dials the upstream in this name and version; why the connection cannot be taken, where it cannot."""
        subprotocol = next((name for name in _offered(request) if name in DIALECTS), None)
        if subprotocol is None:
            return None  # refused as any station is that speaks nothing we know
        if self._upstream is None:
            return _AWAY
        try:
            async with asyncio.timeout(REACH_S):
                above = await dial(self._upstream, who, subprotocol, self.tls)
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI):
            return _AWAY
        if above.subprotocol != subprotocol:
            above.transport.abort()
            return _AWAY
        self._reached[connection] = above
        asyncio.get_running_loop().call_later(CLAIM_S, self._abandon, connection)
        return None

    def _abandon(self, connection: ServerConnection) -> None:
        above = self._reached.pop(connection, None)
        if above is not None:
            above.transport.abort()

    async def serve(self, socket: ServerConnection, who: str) -> None:
        """Carries frames both ways until either side ends."""
        above = self._reached.pop(socket, None)
        if above is None:
            await socket.close(1013, "the upstream is away")
            return
        before = self._open.get(who)
        if before is not None:
            before.transport.abort()  # the controller below is one; what it dialed before is dead to it
        self._open[who] = socket
        try:
            ways = {asyncio.create_task(_carry(socket, above)), asyncio.create_task(_carry(above, socket))}
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                await asyncio.gather(_end(above), _end(socket))
        finally:
            if self._open.get(who) is socket:
                del self._open[who]


async def _carry(source: Connection, sink: Connection) -> None:
    """Every frame as it came; a slow reader slows the sender down, nothing gathers here (I11)."""
    with suppress(ConnectionClosed):
        async for message in source:
            await sink.send(message)


async def _end(connection: Connection) -> None:
    with suppress(ConnectionClosed, OSError):
        await connection.close(1001, "the other side is gone")


def _offered(request: Request) -> list[str]:
    return [part.strip() for line in request.headers.get_all("Sec-WebSocket-Protocol") for part in line.split(",")]
