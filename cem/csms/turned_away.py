"""Messages of transactions that a station was refused for want of room: what it says later does not overtake them.

A station that waits for each answer tells a message until it is taken or given up, and only then the next. One that has
several on their way at once (against OCPP-J 4.1.1) goes on to the next before it repeats the first; that next one may
find room, and a CSMS would hear an end before its start. So it is refused as well, until the first is told again. What
belongs to a transaction of which nothing was refused goes on.
"""

from dataclasses import dataclass

from cem.csms.facts import TransactionTold
from cem.csms.frames import Frame

GIVEN_UP_S = 120.0
"""A station that has not told a message again after this time does not repeat what it was refused."""
ROOM = 50


@dataclass(slots=True)
class _Refusal:
    """A message that was refused.

    Attributes:
        turn: Of its last refusal, counted over all messages.
        at_s: Of its last refusal.
        transaction_id: ``None`` where the CSMS gives it.
    """

    turn: int
    at_s: float
    transaction_id: str | None


class TurnedAway:
    """Of one station, the messages that it was refused and is expected to tell again, in the order of their telling."""

    def __init__(self) -> None:
        self._refusals: dict[str, _Refusal] = {}
        self._turn = 0

    def refused(self, frame: Frame, fact: TransactionTold, now_s: float) -> None:
        """There was no room for this message, or it came before its turn."""
        self._turn += 1
        if frame.fingerprint in self._refusals or len(self._refusals) < ROOM:  # a repeat keeps its place
            self._refusals[frame.fingerprint] = _Refusal(self._turn, now_s, fact.transaction_id)

    def taken(self, frame: Frame) -> None:
        """There is room for it now."""
        if self._refusals:
            self._refusals.pop(frame.fingerprint, None)

    def hold_back(self, frame: Frame, fact: TransactionTold, now_s: float) -> bool:
        """Whether the station has still to tell something again that comes before this message.

        What it told before this message, and not again before it repeats this one, it has given up.
        """
        if not self._refusals:
            return False
        mine = self._refusals.get(frame.fingerprint)
        for other, refusal in list(self._refusals.items()):
            if refusal is mine:
                return False
            if now_s - refusal.at_s >= GIVEN_UP_S:
                self._refusals.clear()
                return False
            if fact.kind != "start" and refusal.transaction_id != fact.transaction_id:
                continue
            if mine is None or refusal.turn > mine.turn:
                return True
            del self._refusals[other]
        return False
