"""What one upstream CSMS still has to hear of one station, in order, every message on disk before it is acknowledged.

Starts, stops, signed values and the first and last sample of a transaction are never dropped; samples in between are
thinned where they are denser than needed and where room is short (I11).
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from cem.csms.actions import Action, Emit, Persist
from cem.csms.pace import Room
from cem.csms.privacy import pseudonymised
from cem.csms.records import JournalEntry, JournalMark
from cem.csms.thinning import NEVER, WHERE_DENSE

DENSE_S = 60.0
"""Samples of one transaction that are closer than this are thinned as they come."""
SEEN_ROOM = 500


@dataclass(slots=True, eq=False)
class Entry:
    """One message in the queue.

    Attributes:
        sent: It went out before, or may have before a restart, and no acknowledgement came: a repeat (C5).
        refused: How often the CSMS has refused it.
        said: With which error, the last time.
        unanswered: How often no answer came.
        passed: The CSMS has answered what follows since.
        gone: Delivered, dropped or set aside.
    """

    record: JournalEntry
    sent: bool = False
    refused: int = 0
    said: str = ""
    unanswered: int = 0
    passed: bool = False
    not_before_s: float = 0.0
    gone: bool = False


class Journal:
    """The queue of one station towards one CSMS.

    Args:
        station_id: Identity.
        upstream_id: The CSMS.
        room: Shared by all stations.
        out: Where actions go.
    """

    def __init__(self, station_id: str, upstream_id: str, room: Room, out: list[Action]) -> None:
        self._station_id = station_id
        self._upstream_id = upstream_id
        self._room = room
        self._out = out
        self._seq = 0
        self._seen: dict[str, None] = {}  # half the size of an OrderedDict, for every station
        self._tails: dict[str, deque[Entry]] = {}
        self._parked_ids: set[str] = set()
        self._look_again = 0
        self._told: set[str] = set()
        self.entries: deque[Entry] = deque()
        self.parked: list[Entry] = []
        self.thinned = 0

    def __len__(self) -> int:
        return len(self.entries)

    # -- what comes in ----------------------------------------------------------------------------------------------

    def restore(self, rows: Iterable[JournalEntry]) -> None:
        """Takes over what was on disk; of a delivered message only its fingerprint is left."""
        for record in sorted(rows, key=lambda row: row.seq):
            self._seq = max(self._seq, record.seq)
            self.remember(record.fingerprint)
            if record.state == "delivered":
                continue
            self._room.used += 1
            if record.state == "refused":
                self.parked.append(Entry(record, sent=True))
                self._park_id(record)
            else:
                self._append(Entry(record, sent=record.live or not self.entries))

    def add(self, record: JournalEntry) -> Entry:
        """Takes a message; its ``seq`` and ``state`` are set here."""
        self._seq += 1
        parked = record.local_id in self._parked_ids
        why = "its transaction's start is set aside" if parked else ""
        record = replace(record, seq=self._seq, state="refused" if parked else "waiting", why=why)
        entry = Entry(record)
        self.remember(record.fingerprint)
        marks = [] if parked else [self._drop(old) for old in self._denser(record)]
        self._room.used += 1
        if parked:
            self.parked.append(entry)
            entry.gone = True
        else:
            self._append(entry)
        marks += self._make_room()
        self._out.append(Persist((record, *marks)))
        return entry

    def _append(self, entry: Entry) -> None:
        self.entries.append(entry)
        if entry.record.local_id:
            self._tails.setdefault(entry.record.local_id, deque(maxlen=2)).append(entry)

    def remember(self, fingerprint: str) -> None:
        """A message with this content was taken."""
        self._seen[fingerprint] = None
        while len(self._seen) > SEEN_ROOM and len(self._seen) > len(self.entries) + 1:
            del self._seen[next(iter(self._seen))]

    def remembers(self, fingerprint: str) -> bool:
        """Whether a message with this content was taken before."""
        return fingerprint in self._seen

    def refuses(self, kind: str) -> bool:
        """There is no room for what may never be dropped: it is not acknowledged rather than lost."""
        refused = self._room.refuses(len(self.entries) + len(self.parked), begins=kind in {"start", "event"})
        if refused:
            text = f"{self._station_id}: too much waits for {self._upstream_id} already; new transactions are not taken for it"
            self._tell("queue_refuses", text)
        return refused

    # -- thinning ---------------------------------------------------------------------------------------------------

    def _denser(self, new: JournalEntry) -> list[Entry]:
        """The sample before this one, where the one before that is close; the first and the last always stay."""
        tail = self._tails.get(new.local_id)
        if new.thin == NEVER or tail is None or len(tail) < 2:
            return []
        before, last = tail
        dense = abs((new.at_utc - before.record.at_utc).total_seconds()) < DENSE_S
        if before.record.kind != "update" or last.record.thin != WHERE_DENSE or last.sent or last.gone or not dense:
            return []
        tail.pop()
        return [last]

    def _make_room(self) -> list[JournalMark]:
        """Drops every second sample (OCPP 2.0.1 E04: the 1st, 3rd, 5th ...), as often as it takes and is possible."""
        marks: list[JournalMark] = []
        share = self._room.station_share
        if len(self.entries) + len(self.parked) <= share or len(self.entries) < self._look_again:
            return marks
        for least in (WHERE_DENSE, NEVER + 1):
            while len(self.entries) + len(self.parked) > share and (found := self._every_second(least)):
                marks += self._drop_all(found)
        if len(self.entries) + len(self.parked) > share:
            self._look_again = len(self.entries) + max(16, len(self.entries) // 20)
            text = f"{self._station_id}: more waits for {self._upstream_id} than there is room for, and none of it may be dropped"
            self._tell("queue_full", text)
        return marks

    def _every_second(self, least: int) -> list[Entry]:
        samples: dict[str, list[Entry]] = {}
        for entry in [*self.parked, *self.entries]:
            if entry.record.kind == "update":
                samples.setdefault(entry.record.local_id, []).append(entry)
        inner = [e for of_one in samples.values() for e in of_one[1:-1] if e.record.thin >= least and not e.sent]
        return inner[::2]

    def _drop(self, entry: Entry) -> JournalMark:
        self.thinned += 1
        text = f"{self._station_id}: samples that wait for {self._upstream_id} are thinned out; starts, ends and signed values stay"
        self._tell("queue_thinned", text)
        return self._take_out(entry, "dropped")

    def _drop_all(self, found: list[Entry]) -> list[JournalMark]:
        first = self._drop(found[0])
        rest = {id(entry) for entry in found[1:]}
        self.entries = deque(entry for entry in self.entries if id(entry) not in rest)
        self.parked = [entry for entry in self.parked if id(entry) not in rest]
        for entry in found[1:]:
            entry.gone = True
        self._room.used -= len(rest)
        self.thinned += len(rest)
        return [first, *(JournalMark(self._station_id, self._upstream_id, e.record.seq, "dropped") for e in found[1:])]

    def _take_out(self, entry: Entry, state: str) -> JournalMark:
        if entry in self.parked:
            self.parked.remove(entry)
        elif self.entries and self.entries[0] is entry:
            self.entries.popleft()
        elif entry in self.entries:
            self.entries.remove(entry)
        entry.gone = True
        self._room.used -= 1
        return JournalMark(self._station_id, self._upstream_id, entry.record.seq, state)

    def _tell(self, code: str, text: str) -> None:
        """Once, until the queue was empty."""
        if code not in self._told:
            self._told.add(code)
            self._out.append(Emit(code, text, {"waiting": float(len(self.entries)), "upstream": self._upstream_id}))

    # -- what goes out ----------------------------------------------------------------------------------------------

    def version(self) -> str | None:
        """The OCPP version in which the first message must be told."""
        return self.entries[0].record.ocpp_version if self.entries else None

    @property
    def first(self) -> Entry | None:
        """What is to be told next."""
        return self.entries[0] if self.entries else None

    def behind(self, first: Entry) -> Entry | None:
        """What could be told without the first entry having been; not of a transaction that it begins in 1.6."""
        begins = first.record.local_id if first.record.kind == "start" and first.record.ocpp_version == "1.6" else None
        rest = islice(self.entries, 1, None)
        return next((e for e in rest if begins is None or e.record.local_id != begins), None)

    def ready(self, now_s: float) -> Entry | None:
        """The first entry, if it may be sent now."""
        if self.entries and now_s >= self.entries[0].not_before_s:
            return self.entries[0]
        return None

    def hurry(self, now_s: float) -> None:
        """A new connection does not wait for what the last one may still have answered."""
        for entry in self.entries:
            entry.not_before_s = now_s

    def find(self, message_id: str) -> Entry | None:
        """The entry that an answer belongs to."""
        return next((e for e in self.entries if e.sent and e.record.message_id == message_id), None)

    def delivered(self, entry: Entry) -> None:
        """The CSMS has it."""
        if entry.gone:
            return
        self._out.append(Persist((self._take_out(entry, "delivered"),)))
        self._forget_tail(entry)
        if not self.entries:
            self._told.clear()
            self._tails.clear()
            self.thinned = self._look_again = 0

    def _forget_tail(self, entry: Entry) -> None:
        if entry.record.kind == "stop":
            self._tails.pop(entry.record.local_id, None)

    # -- what the CSMS will not take --------------------------------------------------------------------------------

    def park(self, chosen: Callable[[Entry], bool], why: str, *, whole: bool) -> int:
        """Sets messages aside until somebody asks for another try; they stay on disk.

        Args:
            chosen: Which.
            why: For people.
            whole: What follows of the same transactions is set aside too: the CSMS does not know them (1.6).
        """
        found = [entry for entry in self.entries if chosen(entry)]
        marks = []
        for entry in found:
            marks.append(replace(self._take_out(entry, "refused"), why=why))
            self._room.used += 1
            entry.record = replace(entry.record, state="refused")
            self.parked.append(entry)
            if whole:
                self._parked_ids.add(entry.record.local_id)
        if marks:
            self._out.append(Persist(tuple(marks)))
        return len(found)

    def _park_id(self, record: JournalEntry) -> None:
        if record.kind == "start" and record.ocpp_version == "1.6":
            self._parked_ids.add(record.local_id)

    def parks(self, local_id: str | None) -> bool:
        """Whether the CSMS does not know this transaction because it refused its start."""
        return local_id in self._parked_ids

    def retry(self, chosen: Callable[[Entry], bool] = lambda _entry: True) -> int:
        """Puts what was set aside back in its place."""
        found = [entry for entry in self.parked if chosen(entry)]
        again = [Entry(replace(entry.record, state="waiting", why=""), sent=entry.sent) for entry in found]
        if again:
            marks = [JournalMark(self._station_id, self._upstream_id, e.record.seq, "waiting") for e in again]
            self._out.append(Persist(tuple(marks)))
        self.parked = [entry for entry in self.parked if entry not in found]
        self._parked_ids -= {entry.record.local_id for entry in found}
        self.entries = deque(sorted([*self.entries, *again], key=lambda e: e.record.seq))
        return len(again)

    def take_back(self, message_id: str) -> bool:
        """The CSMS answers after all what was set aside: it is put back, with what was set aside on its account."""
        entry = next((e for e in self.parked if e.sent and e.record.message_id == message_id), None)
        if entry is None:
            return False
        one = entry.record
        whole = one.kind == "start" and one.ocpp_version == "1.6"
        return self.retry(lambda e: e is entry or (whole and e.record.local_id == one.local_id)) > 0

    def forget(self, token: str, instead: str) -> None:
        """Another token stands where this one stood; on disk it is the store that changes it."""
        for entry in (*self.entries, *self.parked):
            entry.record = replace(entry.record, text=pseudonymised(entry.record.text, token, instead))

    def holds(self, local_id: str | None) -> bool:
        """Whether something of this transaction (``None``: of any) is still to be told."""
        return any(local_id in {None, entry.record.local_id} for entry in self.entries)

    def status(self) -> dict[str, Any]:
        """For the API."""
        return {
            "waiting": len(self.entries),
            "refused": len(self.parked),
            "repeats": sum(entry.sent for entry in islice(self.entries, 50)),  # they stand in front
            "thinned": self.thinned,
            "since": self.entries[0].record.at_utc.isoformat() if self.entries else None,
        }
