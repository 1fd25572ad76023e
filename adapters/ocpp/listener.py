"""One listening socket for stations, with the settings that all of them have."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import cast

from websockets.asyncio.server import ServerConnection, serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from adapters.ocpp.direct import StationConnection
from adapters.ocpp.tls import ServerTls
from adapters.ocpp.wire import MAX_FRAME
from cem.csms.versions import DIALECTS
from cem.errors import DeviceMisconfigured

_LIBRARY_LOG = logging.getLogger("adapters.ocpp.websockets")
_LIBRARY_LOG.setLevel(logging.CRITICAL)  # garbage and scans are not worth a trace each


async def listen(
    stack: AsyncExitStack,
    host: str,
    port: int,
    tls: ServerTls | None,
    judge: Callable[[ServerConnection, Request], Awaitable[Response | None]],
    handler: Callable[[StationConnection], Awaitable[None]],
) -> int:
    """Serves until the stack unwinds.

    Returns:
        The port.

    Raises:
        DeviceMisconfigured: The address cannot be listened on.
    """
    deflate = ServerPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True, compress_settings={"memLevel": 5}
    )
    server = serve(
        cast("Callable[[ServerConnection], Awaitable[None]]", handler),  # of those created below
        host,
        port,
        ssl=None if tls is None else tls.context,
        select_subprotocol=_select,
        process_request=judge,
        extensions=[deflate],
        compression=None,
        open_timeout=10,
        close_timeout=2,
        ping_interval=None,  # the pulse asks for signs of life
        max_size=MAX_FRAME,
        logger=_LIBRARY_LOG,
        server_header=None,
        create_connection=StationConnection,
    )
    try:
        listening = await stack.enter_async_context(server)
    except OSError as problem:
        raise DeviceMisconfigured(
            f"Stations cannot be served on {host}:{port}: {problem}. "
            "Is another program using this port? See csms.listen in the site file"
        ) from problem
    bound: int = next(iter(listening.sockets)).getsockname()[1]
    return bound


def _select(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The station's order of preference decides; ``None`` completes the handshake without the header."""
    del connection
    return next((name for name in offered if name in DIALECTS), None)
