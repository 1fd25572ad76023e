"""One direction of one connection: a single CALL on its way at a time, the rest waiting by priority.

OCPP-J 4.1.1 allows one outstanding CALL a direction. Limits come first; a limit may also overtake another CALL that the
station leaves unanswered: some never answer what they do not know. What cannot wait, a cut above all, does so after
``URGENT_S``, and so does any limit where the question is our own; else it waits ``OVERTAKE_S``. What only passes through
goes before questions of ours and may overtake one in the same way: our curiosity costs the cloud no command.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from cem.csms.frames import Frame
from cem.csms.moment import Now

OVERTAKE_S = 5.0
URGENT_S = 1.0
"""Nearly every station answers within this; with the tick and the way to the station a cut is there within 2 s (D1)."""
ROOM = 500


class Priority(IntEnum):
    """Order of sending; the lower goes first."""

    LIMIT = 0
    TRANSACTION = 1
    STATUS = 2
    TELEMETRY = 3
    BULK = 4


Done = Callable[[Frame | None, Now], None]
"""Called once: with the answer, or with ``None`` when none came in time or the connection ended."""


@dataclass(slots=True)
class Waiting:
    """A CALL on its way or waiting for its turn.

    Attributes:
        foreign: It is the other side's own, only passing through us.
        replay: It is from the journal: what happens now may overtake it once it is left unanswered (C4).
        deadline_s: Monotonic time at which it is given up, set when it is sent unless given before.
    """

    message_id: str
    text: str
    priority: Priority
    timeout_s: float
    done: Done
    foreign: bool = False
    replay: bool = False
    deadline_s: float | None = None
    sent_s: float | None = None


@dataclass(slots=True)
class Lane:
    """The queue of one direction."""

    _queue: list[tuple[int, int, Waiting]] = field(default_factory=list)
    _on_way: dict[str, Waiting] = field(default_factory=dict)
    _count: int = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._on_way)

    @property
    def queued(self) -> bool:
        """Whether something waits for its turn."""
        return bool(self._queue)

    def push(self, waiting: Waiting) -> bool:
        """Takes a CALL; ``False`` where there is no room left (bounded, I11)."""
        if len(self._queue) >= ROOM:
            return False
        self._count += 1
        heapq.heappush(self._queue, (waiting.priority, self._count, waiting))
        return True

    def free_for_limit(self, now_s: float, *, urgent: bool) -> bool:
        """Whether a limit may be sent now; it never overtakes another limit."""
        for waiting in self._on_way.values():  # asked several times for each limit of each station: no generator
            patience_s = URGENT_S if urgent or not waiting.foreign else OVERTAKE_S
            if waiting.priority is Priority.LIMIT or waiting.sent_s is None or now_s - waiting.sent_s < patience_s:
                return False
        return True

    def free(self, now_s: float, *, live: bool = False, foreign: bool = False) -> bool:
        """Whether another CALL may be sent now; it waits ``OVERTAKE_S`` at most: live for replayed, foreign for ours."""
        return not self._on_way or all(
            ((live and w.replay) or (foreign and not w.foreign and w.priority > Priority.TRANSACTION))
            and w.sent_s is not None
            and now_s - w.sent_s >= OVERTAKE_S
            for w in self._on_way.values()
        )

    def holds(self, priority: Priority) -> bool:
        """Whether a CALL of this priority is on its way or waiting."""
        return any(w.priority is priority for w in [*self._on_way.values(), *(w for _, _, w in self._queue)])

    def waits_for(self, message_id: str) -> bool:
        """Whether this CALL is on its way or waiting."""
        return message_id in self._on_way or any(w.message_id == message_id for _, _, w in self._queue)

    def send(self, waiting: Waiting, now_s: float) -> str:
        """Marks a CALL as sent and gives its text."""
        waiting.sent_s = now_s
        if waiting.deadline_s is None:
            waiting.deadline_s = now_s + waiting.timeout_s
        self._on_way[waiting.message_id] = waiting
        return waiting.text

    def next(self, now_s: float) -> str | None:
        """The text of the next waiting CALL, if one may go now."""
        if not self._queue:
            return None
        first = self._queue[0][2]
        if not self.free(now_s, live=True, foreign=first.foreign) or first.message_id in self._on_way:
            return None
        return self.send(heapq.heappop(self._queue)[2], now_s)

    def answered(self, message_id: str) -> Waiting | None:
        """Takes the CALL that an answer belongs to; ``None`` for an answer nobody waits for."""
        return self._on_way.pop(message_id, None)

    def withdraw(self, waiting: Waiting) -> None:
        """Nobody waits for the answer to this CALL any more."""
        if self._on_way.get(waiting.message_id) is waiting:
            del self._on_way[waiting.message_id]

    def overdue(self, now_s: float) -> list[Waiting]:
        """Takes every CALL whose time is up, on its way or still waiting."""
        if not self._on_way and not self._queue:
            return []
        late = [w for w in self._on_way.values() if w.deadline_s is not None and now_s >= w.deadline_s]
        for waiting in late:
            del self._on_way[waiting.message_id]
        return late + self._take(lambda w: w.deadline_s is not None and now_s >= w.deadline_s)

    def take(self, priority: Priority) -> list[Waiting]:
        """Takes what waits for its turn with this priority, in order."""
        return self._take(lambda w: w.priority is priority)

    def _take(self, wanted: Callable[[Waiting], bool]) -> list[Waiting]:
        taken = [item for item in sorted(self._queue) if wanted(item[2])]
        if taken:
            kept = {item[1] for item in self._queue} - {item[1] for item in taken}
            self._queue = [item for item in self._queue if item[1] in kept]
            heapq.heapify(self._queue)
        return [item[2] for item in taken]

    def drain(self) -> list[Waiting]:
        """Takes everything, what was on its way first: the connection is gone."""
        everything = [*self._on_way.values(), *(w for _, _, w in sorted(self._queue))]
        self._on_way.clear()
        self._queue.clear()
        return everything
