"""Transactions of one station: which are open, under which id each side knows them, and what the cloud still has to hear.

In OCPP 1.6 only the CSMS gives transaction ids. While it is away we give a provisional one, which the station keeps
for ever; once the cloud has answered the replayed start, every message is mapped in both directions.
"""

from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from cem.csms.records import OpenSession

MAPPED_ROOM = 500
JOURNAL_ROOM = 20_000
ATTEMPTS = 3


@dataclass(slots=True)
class Transaction:
    """One transaction in progress.

    Attributes:
        local_id: The id the station uses.
        started: The station's time of its start.
        started_s: Monotonic time at which we learned of it.
        lost: The station shows the connector free though it never told of the end.
    """

    session_id: str
    evse: int
    local_id: str
    started: datetime
    started_s: float
    token: str | None = None
    state: str | None = None
    meter_wh: float | None = None
    recorded_s: float = 0.0
    lost: bool = False


class Transactions:
    """The open transactions of one station and the ids of recent ones."""

    def __init__(self) -> None:
        self.open: dict[str, Transaction] = {}
        self._to_cloud: OrderedDict[str, str] = OrderedDict()
        self._starts: OrderedDict[tuple[object, ...], str] = OrderedDict()

    def restore(self, session: OpenSession, evse: int, now_s: float) -> None:
        """Goes on with a transaction that was open when we stopped."""
        began = session.started_utc or session.updated_utc
        self.open[session.transaction_id] = Transaction(
            session.session_id, evse, session.transaction_id, began, now_s, token=session.token_hash
        )

    def at(self, evse: int) -> Transaction | None:
        """The transaction in progress at an EVSE."""
        found = [t for t in self.open.values() if t.evse == evse and not t.lost]
        return found[-1] if found else None

    def map(self, local_id: str, cloud_id: str) -> None:
        """The cloud knows this transaction by an id of its own."""
        self._to_cloud[local_id] = cloud_id
        while len(self._to_cloud) > MAPPED_ROOM:
            self._to_cloud.popitem(last=False)

    def cloud_id(self, local_id: str) -> str:
        """What the cloud calls it; the same where it was never mapped."""
        return self._to_cloud.get(local_id, local_id)

    def local_id(self, cloud_id: str) -> str:
        """What the station calls it; the newest mapping counts."""
        for local, cloud in reversed(self._to_cloud.items()):
            if cloud == cloud_id:
                return local
        return cloud_id

    def mapped(self, local_ids: Collection[str]) -> dict[str, str]:
        """The mappings of these transactions."""
        return {local: cloud for local, cloud in self._to_cloud.items() if local in local_ids}

    def in_use(self, local_id: str) -> bool:
        """Whether the station may still speak of a transaction by this id."""
        return local_id in self.open or local_id in self._to_cloud

    def remember_start(self, key: tuple[object, ...], local_id: str) -> None:
        """A start was answered with this id; a repeat must be answered alike."""
        self._starts[key] = local_id
        while len(self._starts) > MAPPED_ROOM:
            self._starts.popitem(last=False)

    def answered_start(self, key: tuple[object, ...]) -> str | None:
        """The id given to the same start before."""
        return self._starts.get(key)


@dataclass(slots=True)
class Entry:
    """One message of the station that the cloud has not acknowledged.

    Attributes:
        kind: ``start``, ``update`` or ``stop``.
        local_id: The transaction, by the station's id.
        sent: It went out before and its acknowledgement never came: a repeat (C5).
        live: The first time it went out while it happened, without ``offline``.
    """

    message_id: str
    action: str
    text: str
    kind: str
    local_id: str
    sent: bool = False
    live: bool = False
    attempts: int = 0
    not_before_s: float = 0.0


@dataclass(slots=True)
class Journal:
    """What the cloud has to hear once it is back, in order; starts and ends are never dropped (I11)."""

    entries: deque[Entry] = field(default_factory=deque)
    thinned: int = 0
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry: Entry) -> None:
        """Appends; where there is no room the oldest intermediate message goes."""
        if len(self.entries) >= JOURNAL_ROOM:
            for index, old in enumerate(self.entries):
                if old.kind == "update" and not old.sent:
                    del self.entries[index]
                    self.thinned += 1
                    break
        self.entries.append(entry)

    def remember(self, fingerprint: str) -> None:
        """A message with this content was taken."""
        self._seen[fingerprint] = None
        while len(self._seen) > MAPPED_ROOM:
            self._seen.popitem(last=False)

    def remembers(self, fingerprint: str) -> bool:
        """Whether a message with this content was taken before."""
        return fingerprint in self._seen

    def ready(self, now_s: float) -> Entry | None:
        """The first entry, if it may be sent now."""
        if self.entries and now_s >= self.entries[0].not_before_s:
            return self.entries[0]
        return None

    def find(self, message_id: str) -> Entry | None:
        """The entry that an answer belongs to."""
        for entry in self.entries:
            if entry.message_id == message_id and entry.sent:
                return entry
        return None

    def done(self, entry: Entry) -> None:
        """The cloud has it, or will never take it."""
        if entry in self.entries:
            self.entries.remove(entry)
