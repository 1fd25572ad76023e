"""Frames that cannot be read (S14): answered where that is possible, told once, and the end of a connection that is full of them."""

from cem.csms.actions import Action, CloseStation, Emit, SendDown
from cem.csms.dialect import Dialect
from cem.csms.frames import BadFrame, error

GARBAGE_LIMIT = 5
"""Unreadable frames in a row after which the connection is closed."""


class Garbage:
    """One station's unreadable frames.

    Args:
        station_id: Identity.
        out: Where actions go.
    """

    def __init__(self, station_id: str, out: list[Action]) -> None:
        self._station_id = station_id
        self._out = out
        self._in_a_row = 0
        self._told = False

    def connected(self) -> None:
        """A new connection."""
        self._in_a_row, self._told = 0, False

    def readable(self) -> None:
        """A frame that could be read."""
        self._in_a_row = 0

    def frame(self, problem: BadFrame, dialect: Dialect) -> None:
        """One that could not."""
        self._in_a_row += 1
        if not self._told:
            self._told = True
            self._out.append(Emit("bad_frame", f"{self._station_id} sent a frame that cannot be read: {problem}"))
        if self._in_a_row >= GARBAGE_LIMIT:
            self._out.append(CloseStation(1007, "unreadable frames"))
        elif problem.message_id is not None:
            self._out.append(SendDown(error(problem.message_id, dialect.bad_format, str(problem))))
        elif dialect.version != "1.6":
            self._out.append(SendDown(error("-1", "RpcFrameworkError", str(problem))))  # OCPP-J 2.0.1 4.2.3
