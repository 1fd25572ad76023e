"""Whether a station lets go of a limit by itself (dead-man), found out before anybody charges there.

While an EVSE is idle it is given a short limit *below* its fallback, which is left to end; its composite schedule must show
the fallback before, the limit while it lives, and the fallback after. What it may draw is never raised by that: should a car
come in between, it waits until the limit has ended or its transaction has a limit of its own.

An idle station may tell its maximum all the same, for a default may be Relative and count from a start (1.6 above all): then
nothing is learned here, and the proof is left to its first transaction. It is a write to its flash memory, so it is done once.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from functools import partial

from cem.csms.dialect import Dialect, Live
from cem.csms.frames import Frame, Kind
from cem.csms.hold import SLACK_S, Hold
from cem.csms.ladder import Purpose, Rung
from cem.csms.lane import Lane
from cem.csms.moment import Now
from cem.csms.picture import Picture
from cem.csms.study import SAME_A, Study

IDLE_S = 30.0
"""For so long nobody charges and nothing is asked before it begins."""
BACKDATE_S = 60.0
LIFE_S = 30.0
WAY = Rung(Purpose.TX_DEFAULT, 1)
PAUSE_A, LEAST_A = 0.0, 6.0

Steps = Sequence[tuple[float, float]]
"""Of a composite schedule: when each limit begins, in s from now, and that limit."""


class _Stage(Enum):
    """How far it has come."""

    RESTS = "rests"
    ASKED = "asked"
    ENDS = "ends"


class IdleProof:
    """Of one station, at the first of its EVSEs that is idle.

    Args:
        holds: Its EVSEs' limits.
        picture: What goes on there.
        lane: The way down.
        study: What is learned of it.
    """

    def __init__(self, holds: Mapping[int, Hold], picture: Picture, lane: Lane, study: Study) -> None:
        self._holds = holds
        self._picture = picture
        self._lane = lane
        self._study = study
        self._stage = _Stage.RESTS
        self._evse = 0
        self._attempt = 0
        self._since_s: float | None = None
        self._look_s = 0.0

    def interrupted(self) -> None:
        """The connection is gone or a transaction began: what was asked says nothing any more."""
        self._stage, self._since_s = _Stage.RESTS, None
        self._attempt += 1

    def look(self, dialect: Dialect | None, now: Now) -> None:
        """Goes on, where it is time."""
        own = self._study.personality
        if dialect is None or own.dead_man is not None or own.idle is not None:
            return
        if self._stage is _Stage.RESTS:
            idle = next((number for number in self._holds if self._suits(number)), None)
            if idle is None or idle != self._evse:
                self._evse, self._since_s = idle or 0, None
            if idle is None or len(self._lane):
                return
            self._since_s = now.s if self._since_s is None else self._since_s
            if now.s - self._since_s >= IDLE_S:
                self._ask(dialect, self._before)
        elif self._stage is _Stage.ENDS and now.s >= self._look_s:
            self._ask(dialect, self._after)

    def _suits(self, number: int) -> bool:
        """Nobody is there, and a limit below its fallback can be told from it."""
        hold, own = self._holds[number], self._study.personality
        free = self._picture.transactions.at(number) is None and self._picture.evses[number].connected is not True
        way = WAY in hold.ladder and not any(WAY.name.startswith(bad) for bad in own.bad)
        speaks = (not own.units or WAY.unit in own.units) and (
            own.max_level is None or own.max_level >= WAY.stack_level
        )
        return free and way and speaks and hold.default_sure and hold.evse.fallback_a > PAUSE_A

    @property
    def _fallback_a(self) -> float:
        return self._holds[self._evse].evse.fallback_a

    @property
    def _low_a(self) -> float:
        return LEAST_A if self._fallback_a > LEAST_A else PAUSE_A

    def _ask(self, dialect: Dialect, told: Callable[[Dialect, Steps, Now], None]) -> None:
        """For the schedule; ``told`` is called with it, unless something came in between."""
        self._stage = _Stage.ASKED
        attempt = self._attempt

        def answered(answer: Frame | None, now: Now) -> None:
            if attempt != self._attempt:
                return
            steps = [] if answer is None or answer.kind is not Kind.RESULT else dialect.composite_steps(answer.payload)
            if steps:
                told(dialect, steps, now)
            else:
                self._study.seen_idle("it tells no schedule while idle")

        self._study.ask(dialect.ask_composite(self._evse), answered)

    def _before(self, dialect: Dialect, steps: Steps, now: Now) -> None:
        if any(abs(shown_a - self._fallback_a) > SAME_A for _, shown_a in steps):
            self._study.seen_idle(f"while idle it tells {steps[0][1]:g} A, not its fallback")
            return
        start = now.utc + timedelta(seconds=self._picture.clock.ahead_s - BACKDATE_S)
        live = Live(WAY, self._evse, self._low_a, "", start, int(LIFE_S + BACKDATE_S))
        self._study.ask(dialect.live_limit(live), partial(self._taken, dialect, self._attempt))

    def _taken(self, dialect: Dialect, attempt: int, answer: Frame | None, now: Now) -> None:
        if attempt != self._attempt:
            return
        if answer is None or answer.kind is not Kind.RESULT or dialect.limit_status(answer.payload) != "Accepted":
            self._study.seen_idle("it takes no limit while idle")
            return
        self._look_s = now.s + LIFE_S + SLACK_S
        self._ask(dialect, self._meanwhile)

    def _meanwhile(self, _dialect: Dialect, steps: Steps, _now: Now) -> None:
        if abs(steps[0][1] - self._low_a) > SAME_A:
            self._study.seen_idle("its schedule while idle does not show its limits")
        elif max(later_a := [shown_a for _, shown_a in steps[1:]], default=0.0) > self._fallback_a + SAME_A:
            self._lost(max(later_a))  # there is time to put the fallback back before the limit ends
        else:
            self._stage = _Stage.ENDS

    def _after(self, _dialect: Dialect, steps: Steps, _now: Now) -> None:
        self._stage = _Stage.RESTS
        shown_a = steps[0][1]
        if abs(shown_a - self._fallback_a) <= SAME_A:
            self._study.proven("a limit ended by itself while it was idle", safe=True)
        elif shown_a <= self._low_a + SAME_A:
            self._study.proven("a limit did not end by itself while it was idle", safe=False)
        else:
            self._lost(shown_a)

    def _lost(self, shown_a: float) -> None:
        """Its fallback is not what is left: that is installed again at once."""
        self._holds[self._evse].default_sure = False
        self._study.proven(f"its schedule while idle shows {shown_a:g} A after a limit", safe=False)
