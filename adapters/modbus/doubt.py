"""Answers that may still come late on a line whose answers carry no number (Modbus RTU).

An RTU answer says which unit speaks, the function and how many bytes follow, not which request it belongs to. After a
time-out the answer may come while the same unit is asked for something else and would be taken for that. So before a
doubtful unit is believed again it is asked for a number of registers that no outstanding answer has: whatever comes with
that number is the answer to that question, and a line answers in order, so nothing older can follow.
"""

from dataclasses import dataclass, field

LATEST_S = 15.0
"""An answer later than this does not come any more."""


@dataclass
class _Late:
    until_s: float
    counts: set[int] = field(default_factory=set)


class Doubts:
    """Which units of one line may still have an answer under way, and how many registers it has."""

    def __init__(self) -> None:
        self._late: dict[int, _Late] = {}

    def timed_out(self, unit_id: int, count: int, now_s: float) -> None:
        """No answer came in time to a read of so many registers."""
        late = self._late.setdefault(unit_id, _Late(0.0))
        late.counts.add(count)
        late.until_s = now_s + LATEST_S

    def probe_count(self, unit_id: int, count: int, now_s: float) -> int | None:
        """How many registers to ask for before a read of ``count``; ``None`` where the unit is not in doubt."""
        late = self._late.get(unit_id)
        if late is None:
            return None
        if now_s >= late.until_s:
            del self._late[unit_id]
            return None
        return next(n for n in range(1, len(late.counts) + 3) if n not in late.counts and n != count)

    def settled(self, unit_id: int) -> None:
        """It gave an answer that can belong to no earlier request."""
        self._late.pop(unit_id, None)
