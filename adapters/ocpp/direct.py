"""Websockets that hand whole text frames over in the very step in which they arrive.

A reader that is woken up for each message costs as much as all that a websocket does with it. What is no whole text frame,
and what is not wanted at once, goes the usual way: through the connection's bounded queue to its reader, in order.
"""

from collections.abc import Callable
from types import GeneratorType
from typing import cast

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Event, Side, State
from websockets.streams import StreamReader

from adapters.ocpp.wire import whole_text

_AT_EOF = StreamReader.at_eof.__code__


class _Direct(Connection):
    sink: Callable[[str], bool] | None = None
    """Takes a text, or returns ``False``: then the reader gets it."""
    alive = True
    """Something came since the last beat."""

    def beat(self) -> None:
        """Asks for a sign of life; cuts the connection off where there was none since the last time."""
        if self.protocol.state is not State.OPEN:
            return
        if not self.alive:
            self.protocol.fail(CloseCode.INTERNAL_ERROR, "no sign of life")
            self.transport.abort()
            return
        self.alive = False
        self.protocol.send_ping(b"beat")
        self.send_data()

    def data_received(self, data: bytes) -> None:
        self.alive = True
        if self.sink is not None and self._between_frames():
            try:
                text = whole_text(data, masked=self.protocol.side is Side.SERVER)
            except UnicodeDecodeError:
                text = None  # the reader closes the connection
            if text is not None and self.sink(text):
                return
        super().data_received(data)

    def _between_frames(self) -> bool:
        """Whether the library's parser waits for the first byte of a message, and its reader for the message."""
        protocol, inner = self.protocol, cast("GeneratorType[None, None, None]", self.protocol.parser)
        while inner.gi_yieldfrom is not None:
            inner = cast("GeneratorType[None, None, None]", inner.gi_yieldfrom)
        return (
            inner.gi_code is _AT_EOF
            and protocol.current_size is None  # of a message in fragments
            and protocol.state is State.OPEN
            and not len(self.recv_messages.frames)  # nothing overtakes what waits for the reader
        )

    def process_event(self, event: Event) -> None:
        if (
            self.sink is not None
            and isinstance(event, Frame)
            and event.opcode is Opcode.TEXT
            and event.fin
            and not len(self.recv_messages.frames)
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
