"""Writing to a websocket, on either leg, without waiting for the other side."""

from websockets.asyncio.connection import Connection
from websockets.asyncio.server import broadcast

MAX_FRAME = 1 << 20
MOST_UNSENT = 2 * MAX_FRAME
"""Who leaves more than this unread is cut off (I11); who reads nothing at all is found by the pings before."""


def put(socket: Connection, text: str) -> None:
    """Sends one frame; nothing where the connection is closing, which its reader notices."""
    broadcast((socket,), text)
    if socket.transport.get_write_buffer_size() > MOST_UNSENT:
        socket.transport.abort()
