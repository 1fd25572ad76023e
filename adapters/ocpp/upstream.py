"""One station's websocket to the operator's cloud, in the station's name, dialed again for as long as it is wanted."""

import asyncio
import base64
import logging
import secrets
import ssl
from collections.abc import Callable
from contextlib import nullcontext
from typing import cast
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.typing import Subprotocol

from adapters.ocpp.direct import CloudConnection
from adapters.ocpp.pulse import Pulse
from adapters.ocpp.wire import MAX_FRAME, put
from cem.config.csms_models import Upstream

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
STEADY_S = 30.0
"""A connection that lived this long starts the pauses anew."""
_LIBRARY_LOG = logging.getLogger("adapters.ocpp.websockets")
_LIBRARY_LOG.setLevel(logging.CRITICAL)  # every loss is told once, by us
_RANDOM = secrets.SystemRandom()


def dial(
    upstream: Upstream,
    station_id: str,
    subprotocol: str,
    tls: ssl.SSLContext | None,
    connection: type[ClientConnection] = ClientConnection,
    *,
    pings: bool = True,
) -> connect:
    """One connection in a station's name, to be awaited or entered; ``pings``: it looks after its own life."""
    deflate = ClientPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True, compress_settings={"memLevel": 5}
    )
    headers: dict[str, str] = {}
    if upstream.password is not None:
        credential = base64.b64encode(f"{station_id}:{upstream.password}".encode()).decode()
        headers["Authorization"] = f"Basic {credential}"
    return connect(
        f"{upstream.url.rstrip('/')}/{quote(station_id, safe='')}",
        ssl=tls,
        subprotocols=[Subprotocol(subprotocol)],
        extensions=[deflate],
        compression=None,
        additional_headers=headers,
        proxy=None,
        open_timeout=10,
        close_timeout=2,
        ping_interval=30 if pings else None,
        ping_timeout=20,
        max_size=MAX_FRAME,
        logger=_LIBRARY_LOG,
        create_connection=connection,
    )


class UpstreamLink:
    """Keeps one uplink.

    Args:
        upstream: Where to.
        station_id: Whose name it carries.
        subprotocol: As spoken with the station.
        tls: For ``wss://``.
        opened: Called when the cloud has accepted it.
        closed: Called when it broke or could not be opened, with the reason and whether it does not speak the version.
        frame: Called with each text frame.
        pulse: Watches over the connection; ``None``: it does so itself.
    """

    def __init__(
        self,
        upstream: Upstream,
        station_id: str,
        subprotocol: str,
        *,
        tls: ssl.SSLContext | None,
        opened: Callable[[], None],
        closed: Callable[[str, bool], None],
        frame: Callable[[str], None],
        pulse: Pulse | None = None,
    ) -> None:
        self.subprotocol = subprotocol
        self._upstream = upstream
        self._station_id = station_id
        self._unspoken = f"it does not speak {subprotocol}"
        self._tls = tls
        self._opened = opened
        self._closed = closed
        self._frame = frame
        self._pulse = pulse
        self._socket: ClientConnection | None = None

    async def run(self) -> None:
        """Dials until cancelled, with pauses that grow from 1 to 30 s."""
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while True:
            began_s = loop.time()
            reason = await self._serve()
            self._closed(reason, reason == self._unspoken)
            if loop.time() - began_s > STEADY_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s * _RANDOM.uniform(0.7, 1.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _serve(self) -> str:
        """One connection from dial to end; returns why it ended."""
        try:
            alone = self._pulse is None
            async with dial(
                self._upstream, self._station_id, self.subprotocol, self._tls, CloudConnection, pings=alone
            ) as opened:
                socket = cast("CloudConnection", opened)
                if socket.subprotocol != self.subprotocol:
                    return self._unspoken
                with nullcontext() if self._pulse is None else self._pulse.watches(socket):
                    await self._read(socket)
        except ConnectionClosed as problem:
            return f"connection lost ({problem})"
        except (OSError, InvalidHandshake, InvalidURI) as problem:
            return str(problem) or type(problem).__name__
        else:
            return "it closed the connection"
        finally:
            self._socket = None

    async def _read(self, socket: CloudConnection) -> None:
        """Until the connection ends."""
        self._socket = socket
        self._opened()
        socket.sink = self._at_once
        try:
            async for message in socket:
                if isinstance(message, str):
                    self._frame(message)
        finally:
            socket.sink = None

    def _at_once(self, text: str) -> bool:
        self._frame(text)
        return True

    def send(self, text: str) -> None:
        """Sends one frame; a broken connection is noticed by ``run``."""
        if self._socket is not None:
            put(self._socket, text)

    def abort(self) -> None:
        """Cuts the connection off; it is dialed again."""
        if self._socket is not None:
            self._socket.transport.abort()
