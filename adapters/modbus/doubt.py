"""Answers that may still come late on a line whose answers carry no number (Modbus RTU).

An RTU answer says which unit speaks, the function and how many bytes follow, not which request it belongs to: the answer to
a read of one contact is also one to a read of any other. After a time-out it may come while the same unit is asked for
something else and would be taken for that. So before a doubtful unit is believed again it is asked for something whose
answer looks like no outstanding one: whatever comes with that look is the answer to that question, and a line answers in
order, so nothing older can follow.
"""

from typing import NamedTuple

LATEST_S = 15.0
"""An answer later than this does not come any more."""

COILS, INPUTS, HOLDING, INPUT_REGISTERS = 1, 2, 3, 4
"""Function codes of the reads."""

_REGISTERS = (HOLDING, INPUT_REGISTERS)
_OTHERS = (HOLDING, COILS, INPUTS, INPUT_REGISTERS)  # modules of inputs and outputs know the first three, if any


class Look(NamedTuple):
    """What of an answer tells it from others: the function, and for reads how many registers or bits it has."""

    function: int
    size: int


class Doubts:
    """Which units of one line may still have answers under way, and what those look like."""

    def __init__(self) -> None:
        self._late: dict[int, dict[Look, float]] = {}

    def timed_out(self, unit_id: int, answer: Look, now_s: float) -> None:
        """No answer came in time to a request with such an answer."""
        self._late.setdefault(unit_id, {})[answer] = now_s + LATEST_S

    def probe(self, unit_id: int, answer: Look, now_s: float) -> Look | None:
        """What to read before a request with that answer; ``None`` where its answer can be taken for what it is.

        Reads of registers are told apart by their length. All others need another function: all answers to writes, and to
        reads of up to eight bits, are of one length.
        """
        late = self._outstanding(unit_id, now_s)
        functions = {each.function for each in late}
        if answer.function not in functions:
            return None
        other = next((function for function in _OTHERS if function not in functions), None)
        if answer.function in _REGISTERS or other is None:
            function = answer.function if answer.function in _REGISTERS else HOLDING
            return next(
                look for look in (Look(function, n) for n in range(1, len(late) + 3)) if look not in {*late, answer}
            )
        return Look(other, 1)

    def may_be_older(self, unit_id: int, refused: int, asked: int, now_s: float) -> bool:
        """Whether a refusal may be meant for an earlier request than the one that was asked last.

        Args:
            unit_id: Who refuses.
            refused: The function that it refuses.
            asked: The function that was asked for last.
            now_s: Monotonic.
        """
        late = [each.function for each in self._outstanding(unit_id, now_s)]
        # One request of this function outstanding: it is refused now, or its answer was lost, for a line answers in order.
        return refused != asked or late.count(asked) > 1

    def settled(self, unit_id: int) -> None:
        """It gave an answer that can belong to no earlier request."""
        self._late.pop(unit_id, None)

    def _outstanding(self, unit_id: int, now_s: float) -> dict[Look, float]:
        late = {look: until_s for look, until_s in self._late.get(unit_id, {}).items() if now_s < until_s}
        if late:
            self._late[unit_id] = late
        else:
            self._late.pop(unit_id, None)
        return late
