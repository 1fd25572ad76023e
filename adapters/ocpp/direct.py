"""Websockets that hand whole text frames over in the very step in which they arrive.

A reader that is woken up for each message costs as much as all that a websocket does with it. What is no whole text frame,
and what is not wanted at once, goes the usual way: through the connection's bounded queue to its reader, in order.
"""

from collections.abc import Callable

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event


class _Direct(Connection):
    sink: Callable[[str], bool] | None = None
    """Takes a text, or returns ``False``: then the reader gets it."""

    def process_event(self, event: Event) -> None:
        if (
            self.sink is not None
            and isinstance(event, Frame)
            and event.opcode is Opcode.TEXT
            and event.fin
            and not len(self.recv_messages.frames)  # nothing overtakes what waits for the reader
        ):
            try:
                text = str(event.data, "utf-8")
            except UnicodeDecodeError:
                pass  # the reader closes the connection
            else:
                if self.sink(text):
                    return
        super().process_event(event)


class StationConnection(_Direct, ServerConnection):
    """A station's."""


class CloudConnection(_Direct, ClientConnection):
    """A CSMS's."""
