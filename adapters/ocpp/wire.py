"""Writing to a websocket, on either leg, without waiting for the other side."""

from websockets.asyncio.connection import Connection
from websockets.protocol import State

MAX_FRAME = 1 << 20
MOST_UNSENT = 2 * MAX_FRAME
"""Who leaves more than this unread is cut off (I11); who reads nothing at all is found by the pings before."""


def put(socket: Connection, text: str) -> None:
    """Sends one frame; nothing where the connection is closing, which its reader notices.

    ``send`` would wait for a slow reader, and for its turn among fragments, of which we send none.
    """
    if socket.protocol.state is not State.OPEN or socket.transport.is_closing():
        return
    socket.protocol.send_text(text.encode())
    socket.send_data()
    if socket.transport.get_write_buffer_size() > MOST_UNSENT:
        socket.transport.abort()
