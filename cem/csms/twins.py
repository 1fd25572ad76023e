"""Fault S12: two stations that dial with one identity. Neither can be held by limits while that lasts."""

from collections import deque
from collections.abc import Hashable

SIGNS = 3
WINDOW_S = 300.0


class Twins:
    """Counts the signs of a second station with this identity.

    A sign is a second connection while the first is alive, or a connection from another address than the last: one
    station that moves gives one of those, two that push each other out give them again and again.
    """

    def __init__(self) -> None:
        self._signs: deque[float] = deque(maxlen=SIGNS)
        self._address: Hashable = None

    def refused(self, now_s: float) -> None:
        """A second connection was refused because the first one is alive."""
        self._signs.append(now_s)

    def connected(self, address: Hashable, now_s: float) -> None:
        """A connection was taken."""
        if self._address is not None and self._address != address:
            self._signs.append(now_s)
        self._address = address

    def suspected(self, now_s: float) -> bool:
        """So many signs within five minutes, the last of them in the last five."""
        signs = self._signs
        return len(signs) == SIGNS and signs[-1] - signs[0] <= WINDOW_S and now_s - signs[-1] <= WINDOW_S
