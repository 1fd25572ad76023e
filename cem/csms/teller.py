"""Tells one upstream CSMS what is journaled, one message at a time, and finds out what it will not take.

A message that the CSMS refuses three times is set aside. One that it leaves unanswered three times is passed by once: if
the CSMS answers the message behind it and then keeps silent about the first again, the first is set aside. If it keeps
silent about that one as well, the fault is the whole CSMS's or the line's, and everything waits where it is.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from cem.csms.actions import Action, Emit
from cem.csms.dialect import Dialect
from cem.csms.facts import start_key
from cem.csms.frames import BadFrame, Frame, Kind, parse, with_value
from cem.csms.ids import Ids
from cem.csms.journal import Entry, Journal
from cem.csms.lane import Lane, Priority, Waiting
from cem.csms.moment import Now
from cem.csms.pace import Pace
from cem.csms.records import JournalEntry
from cem.csms.versions import dialect_of

REPLAY_TIMEOUT_S = 120.0
"""A CSMS may take a minute to answer (C9); on a living connection an acknowledgement is lost only after twice that (I6)."""
REFUSED_PAUSE_S = 30.0
HELD_PAUSE_S = 5.0
ATTEMPTS = 3


class Teller:
    """Of one station's leg to one CSMS.

    Args:
        station_id: For messages to people.
        upstream_id: The CSMS.
        lane: The way up.
        journal: What it has to hear.
        ids: Under which it knows transactions (1.6).
        pace: Of all stations together.
        out: Where actions go.
        token_rejected: Called with a transaction whose token the CSMS rejects; ``None``: that is not its to say.
    """

    def __init__(
        self,
        station_id: str,
        upstream_id: str,
        lane: Lane,
        journal: Journal,
        ids: Ids,
        pace: Pace,
        out: list[Action],
        token_rejected: Callable[[str, Now], None] | None,
    ) -> None:
        self._station_id = station_id
        self._upstream_id = upstream_id
        self._lane = lane
        self._journal = journal
        self._ids = ids
        self._pace = pace
        self._out = out
        self._token_rejected = token_rejected
        self._on_way: Waiting | None = None
        self._past: Entry | None = None
        self._not_before_s = 0.0

    # -- what goes out ----------------------------------------------------------------------------------------------

    def next(self, version: str | None, now: Now) -> str | None:
        """The text of the next message, if it is its turn."""
        if now.s < self._not_before_s:
            return None
        entry = self._turn(now)
        dialect = None if entry is None else dialect_of(entry.record.ocpp_version)
        if entry is None or dialect is None or entry.record.ocpp_version != version:
            return None
        if not self._lane.free(now.s) or not self._pace.take(now.s):
            return None
        entry.sent = True
        text = self._retold(entry.record, dialect)
        done = partial(self._done, entry, dialect)
        message_id = entry.record.message_id
        self._on_way = Waiting(message_id, text, Priority.BULK, REPLAY_TIMEOUT_S, done, replay=True)
        return self._lane.send(self._on_way, now.s)

    def _turn(self, now: Now) -> Entry | None:
        """The first in line, or once past it the next where the CSMS keeps silent about the first."""
        first = self._journal.ready(now.s)
        if first is not None and first is self._past:
            return self._journal.behind(first) or first
        return first

    def _retold(self, record: JournalEntry, dialect: Dialect) -> str:
        """As the station wrote it but for a mapped id (1.6) or ``offline`` (2.x)."""
        if record.kind == "event":
            return record.text
        if record.ocpp_version != "1.6":
            # A repeat of what went out live carries the same payload again (C5).
            return record.text if record.live else with_value(record.text, "offline", value=True)
        if record.kind != "start":
            cloud_id = self._ids.cloud_id(record.local_id)
            if cloud_id != record.local_id:
                return with_value(record.text, "transactionId", dialect.wire_id(cloud_id))
        return record.text

    def held_here(self, text: str, now: Now) -> None:
        """This text did not leave: our disk is at fault, not the CSMS."""
        if self._on_way is not None and self._on_way.text is text:
            self._lane.withdraw(self._on_way)
            self._on_way = None
            self._not_before_s = now.s + HELD_PAUSE_S

    # -- what comes back --------------------------------------------------------------------------------------------

    def _done(self, entry: Entry, dialect: Dialect, answer: Frame | None, now: Now) -> None:
        past, self._past, self._on_way = self._past, None, None
        if answer is None:
            self._unanswered(entry)
            return
        if past is not None and past is not entry:
            past.passed = True
        self._answered(entry, answer, dialect, now)

    def _unanswered(self, entry: Entry) -> None:
        """No answer came in time, or none before the connection ended."""
        entry.unanswered += 1
        if entry.passed:
            self._set_aside(entry, f"left unanswered {entry.unanswered} times, though what follows was answered")
        elif entry is self._journal.first and entry.unanswered >= ATTEMPTS:
            self._past = entry

    def late(self, frame: Frame, now: Now) -> None:
        """An answer that nobody waits for any more; to a journaled message it counts all the same."""
        entry = self._journal.find(frame.message_id)
        if entry is None and frame.kind is Kind.RESULT and self._journal.take_back(frame.message_id):
            entry = self._journal.find(frame.message_id)
        dialect = None if entry is None else dialect_of(entry.record.ocpp_version)
        if entry is not None and dialect is not None:
            self._answered(entry, frame, dialect, now)

    def _answered(self, entry: Entry, answer: Frame, dialect: Dialect, now: Now) -> None:
        if entry.gone:
            return
        record = entry.record
        taken = answer.kind is Kind.RESULT
        if taken and record.kind == "start" and record.ocpp_version == "1.6":
            given = dialect.start_answer(answer.payload).transaction_id
            taken = given is not None
            if given is not None:
                self._ids.map(record.local_id, given, _key(record, dialect))
        if not taken:
            self._refused(entry, answer, now)
            return
        judge = self._token_rejected if record.kind in {"start", "update"} else None
        if judge is not None and dialect.token_accepted(answer.payload) is False:
            judge(record.local_id, now)
        self._journal.delivered(entry)

    def _refused(self, entry: Entry, answer: Frame, now: Now) -> None:
        entry.refused += 1
        entry.said = answer.code or "no id"
        entry.not_before_s = now.s + REFUSED_PAUSE_S
        if entry.refused >= ATTEMPTS:
            self._set_aside(entry, f"refused {entry.refused} times ({entry.said})")

    def first(self, *, there: bool) -> dict[str, Any] | None:
        """For the API: the message that is told next, and why it is still here; ``there``: the CSMS is."""
        entry = self._journal.first
        if entry is None:
            return None
        reasons = [f"refused {entry.refused} times ({entry.said})"] if entry.refused else []
        if entry.unanswered:
            reasons.append(f"left unanswered {entry.unanswered} times")
        if not there:
            reasons.append(f"{self._upstream_id} is not connected")
        elif self._on_way is not None and self._on_way.message_id == entry.record.message_id:
            reasons.append("told, not answered yet")
        return {"seq": entry.record.seq, "why": "; ".join(reasons)}

    # -- what is set aside ------------------------------------------------------------------------------------------

    def set_aside(self, seq: int | None) -> JournalEntry | None:
        """By the operator's command: the first message, or this one; gives it, or ``None`` where there is none."""
        entry = next((e for e in self._journal.entries if seq in {None, e.record.seq}), None)
        if entry is None:
            return None
        if self._on_way is not None and self._on_way.message_id == entry.record.message_id:
            self._lane.withdraw(self._on_way)
        self._past = self._on_way = None
        self._set_aside(entry, "by command")
        return entry.record

    def _set_aside(self, entry: Entry, why: str) -> None:
        record = entry.record
        # A CSMS that never gave the transaction an id can be told nothing more of it (1.6).
        whole = record.kind == "start" and record.ocpp_version == "1.6"
        self._journal.park(
            lambda other: other is entry or (whole and other.record.local_id == record.local_id), why, whole=whole
        )
        what = f"{record.action} of transaction {record.local_id}" if record.local_id else record.action
        text = (
            f"{what} of {self._station_id}, which {self._upstream_id} should hear, is set aside: {why}. It is kept: "
            "cem queue list, cem queue retry"
        )
        self._out.append(Emit("message_set_aside", text, {"upstream": self._upstream_id}))


def _key(record: JournalEntry, dialect: Dialect) -> str:
    try:
        return start_key(dialect.read(record.action, parse(record.text).payload)) or ""
    except BadFrame:
        return ""
