"""One station's leg to the cloud: what waits for it, what it still has to hear, and whether it is there."""

import contextlib
import hashlib
from collections.abc import Callable
from enum import Enum
from typing import Any

import orjson

from cem.csms.actions import Action, Emit, Remember, SendUp
from cem.csms.dialect import Ask, Dialect
from cem.csms.frames import Frame, Kind, call, payload_text, with_value
from cem.csms.lane import Done, Lane, Priority, Waiting
from cem.csms.metering import items
from cem.csms.moment import Now
from cem.csms.transactions import ATTEMPTS, Entry, Journal, Transactions

DIAL_GRACE_S = 5.0
"""A station that has just connected waits this long for its uplink before we answer ourselves."""
AUTHORIZE_S = 8.0
ANSWER_S = 20.0
"""A station is answered within this, before its own time-out (commonly 30 s)."""
REPLAY_TIMEOUT_S = 60.0
REPLAY_PAUSE_S = 30.0


class State(Enum):
    """Where the uplink stands."""

    NONE = "none"
    DIALING = "dialing"
    UP = "up"
    AWAY = "away"


class Uplink:
    """The way up of one station.

    Args:
        station_id: For messages to people.
        transactions: Id mapping.
        out: Where actions go.
        new_id: Makes message ids.
    """

    def __init__(
        self, station_id: str, transactions: Transactions, out: list[Action], new_id: Callable[[], str]
    ) -> None:
        self._station_id = station_id
        self._transactions = transactions
        self._out = out
        self._new_id = new_id
        self.state = State.NONE
        self.lane = Lane()
        self.journal = Journal()
        self._dialing_since_s = 0.0
        self._latest: dict[object, Frame] = {}
        self._untold: set[object] = set()
        self._boot: Frame | None = None

    def dialing(self, now_s: float) -> None:
        """The station is here; its uplink is being opened."""
        if self.state is not State.UP:
            self.state = State.DIALING
            self._dialing_since_s = now_s

    @property
    def usable(self) -> bool:
        """Whether a message of the station should be sent up rather than answered here."""
        return self.state in {State.UP, State.DIALING}

    @property
    def busy(self) -> bool:
        """Whether the cloud still has something to hear."""
        return len(self.journal) > 0 or self.lane.holds(Priority.TRANSACTION)

    def relay(self, frame: Frame, text: str, priority: Priority, now_s: float, done: Done) -> bool:
        """Sends a CALL of the station up; ``done`` is always called. ``False`` where there is no room."""
        timeout_s = AUTHORIZE_S if frame.action == "Authorize" else ANSWER_S
        waiting = Waiting(frame.message_id, text, priority, timeout_s, done, foreign=True, deadline_s=now_s + timeout_s)
        return self.lane.push(waiting)

    def tell(self, ask: Ask) -> None:
        """A message of ours in the station's name; the answer concerns nobody."""
        message_id = self._new_id()
        waiting = Waiting(message_id, call(message_id, *ask), Priority.STATUS, ANSWER_S, lambda _answer, _now: None)
        self.lane.push(waiting)

    def remember_status(self, key: object, frame: Frame, *, told: bool) -> None:
        """The latest status of a connector, and whether the cloud has it."""
        self._latest[key] = frame
        if told:
            self._untold.discard(key)
        else:
            self._untold.add(key)

    def restore(self, kept: Any) -> None:
        """Takes over what the cloud had not heard when we stopped, and under which ids it knows transactions."""
        if not isinstance(kept, dict):
            return
        for item in items(kept.get("entries")):
            with contextlib.suppress(TypeError):
                self.journal.add(Entry(**{str(key): value for key, value in item.items()}))
        for local_id, cloud_id in kept.get("ids", {}).items():
            self._transactions.map(str(local_id), str(cloud_id))

    def _keep(self) -> None:
        """Starts and ends and the ids outlive us; what is in between is not worth rewriting each time."""
        entries = [
            {"message_id": e.message_id, "action": e.action, "text": e.text, "kind": e.kind, "local_id": e.local_id,
             "sent": e.sent, "live": e.live}
            for e in self.journal.entries if e.kind != "update"
        ]  # fmt: skip
        named = {e.local_id for e in self.journal.entries} | self._transactions.open.keys()
        self._out.append(Remember("uplink", {"entries": entries, "ids": self._transactions.mapped(named)}))

    def remember_boot(self, frame: Frame | None) -> None:
        """A boot that only we answered; ``None`` once the cloud has answered one."""
        self._boot = frame

    def hold_back(self, frame: Frame, kind: str, local_id: str, now_s: float, *, sent: bool) -> None:
        """Journals a transaction message that the station has been, or will be, told is taken."""
        self.taken(frame)
        entry = Entry(frame.message_id, frame.action, frame.text, kind, local_id, sent=sent, live=sent)
        if sent:  # a slow cloud may still answer; a new connection does not wait for that
            entry.not_before_s = now_s + REPLAY_PAUSE_S
        self.journal.add(entry)
        if kind != "update":
            self._keep()

    def taken(self, frame: Frame) -> None:
        """The cloud or the journal has this message: a repeat of the station must not reach the cloud again (I6)."""
        self.journal.remember(_fingerprint(frame))

    def repeats(self, frame: Frame) -> bool:
        """Whether a message with this very content was taken before."""
        return self.journal.remembers(_fingerprint(frame))

    def opened(self, now: Now) -> None:
        """The cloud is there: it hears of a boot it never answered and of the latest statuses, then of the rest."""
        self.state = State.UP
        if self._boot is not None:
            boot = self._boot
            self._again(boot, Priority.LIMIT, self._boot_answered)
        for key in sorted(self._untold, key=str):
            self._again(self._latest[key], Priority.STATUS, lambda _answer, _now: None)
        self._untold.clear()
        for entry in self.journal.entries:
            entry.not_before_s = now.s

    def _again(self, frame: Frame, priority: Priority, done: Done) -> None:
        """The station's own words once more, under an id of ours."""
        message_id = self._new_id()
        text = f'[2,"{message_id}","{frame.action}",{payload_text(frame)}]'
        self.lane.push(Waiting(message_id, text, priority, ANSWER_S, done))

    def _boot_answered(self, answer: Frame | None, _now: Now) -> None:
        if answer is None:
            return
        self._boot = None
        status = str(answer.payload.get("status")) if answer.kind is Kind.RESULT else answer.code
        if status != "Accepted":
            text = f"The cloud answers {self._station_id}'s boot with {status}; it goes on charging here"
            self._out.append(Emit("cloud_rejects_station", text))

    def away(self, now: Now) -> None:
        """The cloud is not there: whoever waits for it is answered here."""
        self.state = State.AWAY
        self._untold = set(self._latest)
        for waiting in self.lane.drain():
            waiting.done(None, now)

    def closed_for_good(self, now: Now) -> None:
        """Nobody needs the uplink any more."""
        self.away(now)
        self.state = State.NONE

    def overdue(self, now: Now) -> None:
        """Answers in place of a cloud that takes too long (C9), or does not come up."""
        if self.state is State.DIALING and now.s - self._dialing_since_s >= DIAL_GRACE_S:
            self.away(now)
        for waiting in self.lane.overdue(now.s):
            waiting.done(None, now)

    def send_next(self, dialect: Dialect, now: Now) -> bool:
        """Sends at most one message up; returns whether it did."""
        if self.state is not State.UP or not self.lane.free(now.s):
            return False
        text = self.lane.next(now.s)
        if text is None:
            text = self._replay(dialect, now)
        if text is None:
            return False
        self._out.append(SendUp(text))
        return True

    def _replay(self, dialect: Dialect, now: Now) -> str | None:
        """The first journaled message: as the station wrote it but for a mapped id (1.6) or ``offline`` (2.x)."""
        entry = self.journal.ready(now.s)
        if entry is None:
            return None
        text = entry.text
        if dialect.version != "1.6":
            if not entry.live:  # a repeat of what went out live carries the same payload again (C5)
                text = with_value(text, "offline", value=True)
        elif entry.kind != "start":
            cloud_id = self._transactions.cloud_id(entry.local_id)
            if cloud_id != entry.local_id:
                text = with_value(text, "transactionId", dialect.wire_id(cloud_id))
        entry.sent = True
        entry.not_before_s = now.s + REPLAY_PAUSE_S

        def done(answer: Frame | None, now: Now) -> None:
            if answer is not None:
                self.replayed(entry, answer, dialect, now)

        waiting = Waiting(entry.message_id, text, Priority.BULK, REPLAY_TIMEOUT_S, done)
        return self.lane.send(waiting, now.s)

    def replayed(self, entry: Entry, answer: Frame, dialect: Dialect, now: Now) -> None:
        """The cloud's answer to a journaled message, in time or late."""
        if answer.kind is not Kind.RESULT:
            entry.attempts += 1
            entry.not_before_s = now.s + REPLAY_PAUSE_S
            if entry.attempts < ATTEMPTS:
                return
            text = (
                f"The cloud refuses {entry.action} of {self._station_id}'s transaction {entry.local_id} "
                f"({answer.code}); it is kept in the local sessions only"
            )
            self._out.append(Emit("transaction_refused", text))
        elif entry.kind == "start":
            start = dialect.start_answer(answer.payload)
            if start.transaction_id is not None:
                self._transactions.map(entry.local_id, start.transaction_id)
            if not start.token_ok:
                text = f"The cloud rejects the token of {self._station_id}'s transaction {entry.local_id} that began without it"
                self._out.append(Emit("token_rejected_later", text))
        self.journal.done(entry)
        if entry.kind != "update":
            self._keep()


def _fingerprint(frame: Frame) -> str:
    return hashlib.sha256(frame.action.encode() + orjson.dumps(frame.payload)).hexdigest()
