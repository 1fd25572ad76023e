"""Text frames on the wire, on either leg, without waiting for the other side.

Nearly all that passes is one whole text frame at a time. Those are read and written here (RFC 6455 5.2), at a fraction of
what the library's parser costs that can do all the rest; and all the rest is left to it.
"""

import secrets

from websockets.asyncio.connection import Connection
from websockets.protocol import Side, State

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled wheel for this machine
    from websockets.utils import apply_mask

MAX_FRAME = 1 << 20
MOST_UNSENT = 2 * MAX_FRAME
"""Who leaves more than this unread is cut off (I11); who reads nothing at all is found by the pings before."""
_WHOLE_TEXT, _MASKED, _TWO_BYTES, _EIGHT_BYTES = 0x81, 0x80, 126, 127


def put(socket: Connection, text: str) -> None:
    """Sends one frame; nothing where the connection is closing, which its reader notices.

    ``send`` would wait for a slow reader, and for its turn among fragments, of which we send none.
    """
    protocol, transport = socket.protocol, socket.transport
    if protocol.state is not State.OPEN or transport.is_closing():
        return
    if protocol.extensions:  # it is compressed
        protocol.send_text(text.encode())
        socket.send_data()
    else:
        transport.write(text_frame(text.encode(), masked=protocol.side is Side.CLIENT))
    if transport.get_write_buffer_size() > MOST_UNSENT:
        transport.abort()


def text_frame(data: bytes, *, masked: bool) -> bytes:
    """One whole text frame."""
    size, mask_bit = len(data), _MASKED if masked else 0
    if size < _TWO_BYTES:
        head = bytes((_WHOLE_TEXT, mask_bit | size))
    elif size < 1 << 16:
        head = bytes((_WHOLE_TEXT, mask_bit | _TWO_BYTES, size >> 8, size & 0xFF))
    else:
        head = bytes((_WHOLE_TEXT, mask_bit | _EIGHT_BYTES)) + size.to_bytes(8, "big")
    if not masked:
        return head + data
    mask = secrets.token_bytes(4)
    return head + mask + apply_mask(data, mask)


def whole_text(data: bytes, *, masked: bool) -> str | None:
    """The text, where these bytes are one whole text frame and nothing else; longer than 64 kB they never are.

    Raises:
        UnicodeDecodeError: It is no UTF-8.
    """
    if len(data) < 2 or data[0] != _WHOLE_TEXT or (data[1] & _MASKED != 0) is not masked:
        return None
    size, at = data[1] & ~_MASKED, 2
    if size == _EIGHT_BYTES:
        return None
    if size == _TWO_BYTES:
        size, at = int.from_bytes(data[2:4], "big"), 4
    if len(data) != at + size + (4 if masked else 0):
        return None
    if masked:
        return str(apply_mask(data[at + 4 :], data[at : at + 4]), "utf-8")
    return str(data[at:], "utf-8")
