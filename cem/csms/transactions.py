"""Transactions of one station: which are open, and which id each start was answered with."""

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cem.csms.metering import instant
from cem.csms.moment import ocpp_time
from cem.csms.parsing import words
from cem.csms.records import OpenSession

STARTS_ROOM = 500
ENDED_ROOM = 50
LOST_ROOM = 20
ENDED = "ended_transactions"
LOST = "lost_transactions"
LOST_S = 120.0
"""The end of a transaction may come this long after its station showed the connector free; then our record closes."""


@dataclass(slots=True)
class Transaction:
    """One transaction in progress.

    Attributes:
        local_id: The id the station uses.
        started: The station's time of its start.
        started_s: Monotonic time at which we learned of it.
        here_utc: The same by our clock; ``None`` where that was before a restart.
        remote_start_id: Of the remote start that it came from (2.x), where told.
        allowed_transfer: Energy transfer modes that the CSMS allows it (2.1 NotifyAllowedEnergyTransfer); empty: not told.
        lost: The station shows that it does not go on, though it never told of the end.
        lost_s: Since when, monotonic.
        lost_utc: The same by the station's clock.
        rebooted: The station booted since it last spoke of this transaction.
    """

    session_id: str
    evse: int
    local_id: str
    started: datetime
    started_s: float
    here_utc: datetime | None = None
    token: str | None = None
    state: str | None = None
    meter_wh: float | None = None
    recorded_s: float = 0.0
    remote_start_id: int | None = None
    allowed_transfer: tuple[str, ...] = ()
    lost: bool = False
    lost_s: float = 0.0
    lost_utc: datetime | None = None
    rebooted: bool = False


class Transactions:
    """The open transactions of one station, those that ended last and its recent starts.

    Attributes:
        open: By the station's id.
        closed: Lost ones whose record was closed without their station's word, which may still come; by the same.
        ended: Ids of those whose end was told.
    """

    def __init__(self) -> None:
        self.open: dict[str, Transaction] = {}
        self.closed: dict[str, Transaction] = {}
        self.ended: deque[str] = deque(maxlen=ENDED_ROOM)
        self._starts: OrderedDict[str, str] = OrderedDict()

    def given_again(self, local_id: str) -> None:
        """A CSMS gave this id to another transaction (1.6)."""
        if local_id in self.ended:
            self.ended.remove(local_id)

    def end(self, local_id: str) -> None:
        """A station said that this one is over; what else it may tell of it later does not begin it anew."""
        self.open.pop(local_id, None)
        self.closed.pop(local_id, None)
        if local_id not in self.ended:
            self.ended.append(local_id)

    def close(self, transaction: Transaction) -> None:
        """Its record is closed without its station's word."""
        self.open.pop(transaction.local_id, None)
        self.closed[transaction.local_id] = transaction
        while len(self.closed) > LOST_ROOM:
            del self.closed[next(iter(self.closed))]

    def take_up(self, transaction: Transaction) -> None:
        """A closed one goes on after all."""
        self.closed.pop(transaction.local_id, None)
        self.open[transaction.local_id] = transaction

    def lost(self) -> list[dict[str, Any]]:
        """All that are lost, closed or not, as they are kept over a restart."""
        found = [*self.closed.values(), *(one for one in self.open.values() if one.lost)]
        return [
            {
                "id": one.local_id,
                "session": one.session_id,
                "evse": one.evse,
                "started": ocpp_time(one.started),
                "lost": ocpp_time(one.lost_utc or one.started),
            }
            for one in found
        ]

    def restore_lost(self, kept: Mapping[str, Any], now_s: float) -> None:
        """Goes on with one that was lost when we stopped; the open ones are restored before."""
        local_id, session_id, evse = words(kept.get("id")), words(kept.get("session")), kept.get("evse")
        started, lost = instant(kept.get("started")), instant(kept.get("lost"))
        if local_id is None or session_id is None or not isinstance(evse, int) or started is None:
            return
        one = self.open.get(local_id)
        if one is None:
            one = self.closed[local_id] = Transaction(session_id, evse, local_id, started, now_s)
        one.lost, one.lost_s, one.lost_utc = True, now_s, lost

    def forget(self, token: str, instead: str) -> None:
        """``instead`` stands where this token, hashed, stood."""
        for transaction in (*self.open.values(), *self.closed.values()):
            if transaction.token == token:
                transaction.token = instead

    def restore(self, session: OpenSession, evse: int, now_s: float) -> None:
        """Goes on with a transaction that was open when we stopped."""
        began = session.started_utc or session.updated_utc
        self.open[session.transaction_id] = Transaction(
            session.session_id, evse, session.transaction_id, began, now_s, token=session.token_hash
        )

    def at(self, evse: int) -> Transaction | None:
        """The transaction in progress at an EVSE."""
        for transaction in reversed(self.open.values()):
            if transaction.evse == evse and not transaction.lost:
                return transaction
        return None

    def remember_start(self, key: str, local_id: str) -> None:
        """A start was answered with this id; a repeat must be answered alike."""
        self._starts[key] = local_id
        while len(self._starts) > STARTS_ROOM:
            self._starts.popitem(last=False)

    def answered_start(self, key: str) -> str | None:
        """The id given to the same start before."""
        return self._starts.get(key)
