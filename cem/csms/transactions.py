"""Transactions of one station: which are open, and which id each start was answered with."""

from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import datetime

from cem.csms.records import OpenSession

STARTS_ROOM = 500
ENDED_ROOM = 50
ENDED = "ended_transactions"


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
        lost: The station shows the connector free though it never told of the end.
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


class Transactions:
    """The open transactions of one station, those that ended last and its recent starts."""

    def __init__(self) -> None:
        self.open: dict[str, Transaction] = {}
        self.ended: deque[str] = deque(maxlen=ENDED_ROOM)
        self._starts: OrderedDict[str, str] = OrderedDict()

    def given_again(self, local_id: str) -> None:
        """A CSMS gave this id to another transaction (1.6)."""
        if local_id in self.ended:
            self.ended.remove(local_id)

    def end(self, local_id: str) -> None:
        """A station said that this one is over; what else it may tell of it later does not begin it anew."""
        self.open.pop(local_id, None)
        if local_id not in self.ended:
            self.ended.append(local_id)

    def forget(self, token: str, instead: str) -> None:
        """``instead`` stands where this token, hashed, stood."""
        for transaction in self.open.values():
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
