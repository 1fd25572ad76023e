"""The running controller on recorded sessions: ``decide`` itself, with cars that follow at once and an exact clock.

As at a site the controller is asked again and again: every 5 s until its setpoints have settled, and whenever a car
comes, is full or leaves. What it takes to settle counts: a cut is seen before another car is raised into its room.
Cars come and leave at full periods, as for everybody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from cem.core.engine import EngineMemory, Plan, decide
from cem.core.reasons import Reason
from cem.core.state import EvseState, SiteState
from cem.core.units import PerPhase
from tests.benchmarks._plant import DONE_A, PERIODS_PER_HOUR, Sessions

PERIOD_S = 3600.0 / PERIODS_PER_HOUR
CYCLE_S = 5.0
SETTLED_AFTER = 6  # cycles without a change: some raises are worth a command only after 20 s
UTC_0 = datetime(2026, 1, 1, tzinfo=UTC)

Check = Callable[[np.ndarray], bool]


@dataclass
class Drive:
    """What became of it, arrays ``(n, periods)``.

    Attributes:
        draws: Mean current of each period.
        pilots: Setpoints at the end of each period.
        turns: Cars paused because another's turn had come, or for others while they had time to spare.
        pauses: Cars paused for any other reason.
        decisions: How often it was asked.
    """

    draws: np.ndarray
    pilots: np.ndarray
    turns: int = 0
    pauses: int = 0
    decisions: int = 0


class Driver:
    """One plan on one set of sessions."""

    def __init__(self, plan: Plan, sessions: Sessions, fits: Check) -> None:
        """``fits`` says whether currents keep every limit; it is asked of each set of setpoints that was in force."""
        self._plan, self._sessions, self._fits = plan, sessions, fits
        n = plan.topology.n
        self._wh = plan.site.nominal_voltage_v * plan.topology.n_phases / PERIODS_PER_HOUR
        self._names = [evse.evse_id for evse in plan.site.evses]
        self._memory = EngineMemory.none(plan, np.zeros(n), 0.0)
        self._left, self._since_s, self._until_s = np.zeros(n), np.zeros(n), np.zeros(n)
        self._charging = np.zeros(n, dtype=bool)
        self._setpoint, self._drawn = np.zeros(n), np.zeros(n)
        self._still = 0
        self._on_s = np.full(n, np.inf)
        self.done = Drive(np.zeros((n, sessions.periods)), np.zeros((n, sessions.periods)))

    def run(self) -> Drive:
        """All periods."""
        order = np.argsort(self._sessions.arrival, kind="stable").tolist()
        for t in range(self._sessions.periods):
            start_s = 1000.0 + t * PERIOD_S
            gone = self._charging & (self._until_s <= start_s + 1e-3)
            self._leave(gone)
            while order and self._sessions.arrival[order[0]] <= t:
                self._come(order.pop(0), start_s)
            if self._charging.any():
                self._period(t, start_s)
            else:
                self._setpoint[:] = self._drawn[:] = 0.0
        return self.done

    def _come(self, s: int, now_s: float) -> None:
        i = self._sessions.evse[s]
        self._charging[i], self._left[i] = self._sessions.want[s] > DONE_A, self._sessions.want[s]
        self._since_s[i] = now_s
        self._until_s[i] = 1000.0 + self._sessions.departure[s] * PERIOD_S
        self._still = 0

    def _leave(self, who: np.ndarray) -> None:
        if who.any():
            self._charging[who], self._left[who] = False, 0.0
            self._still = 0

    def _period(self, t: int, start_s: float) -> None:
        now_s, end_s = start_s, start_s + PERIOD_S
        while now_s < end_s - 1e-6:
            self._decide(now_s)
            drawing = self._charging & (self._setpoint > 0)
            full_s = np.full(self._left.size, np.inf)
            full_s[drawing] = self._left[drawing] / self._setpoint[drawing] * PERIOD_S
            step_s = min(end_s - now_s, full_s.min(), CYCLE_S if self._still < SETTLED_AFTER else np.inf)
            step_s = max(step_s, 1e-3)
            self._drawn = np.where(drawing, self._setpoint, 0.0)
            took = np.minimum(self._drawn * step_s / PERIOD_S, self._left)
            self._left -= took
            self.done.draws[:, t] += took
            now_s += step_s
            self._leave(self._charging & (self._left <= DONE_A))
        self.done.pilots[:, t] = self._setpoint

    def _decide(self, now_s: float) -> None:
        decision, self._memory = decide(self._plan, self._state(now_s), self._memory)
        setpoint = np.where(self._charging, decision.setpoint_a, 0.0)
        if not self._fits(setpoint):
            raise RuntimeError("setpoints exceed a limit")
        paused = self._charging & (self._setpoint > 0) & (setpoint == 0)
        spares = paused & (decision.reason == Reason.TIME_TO_SPARE)
        if (now_s - self._on_s[spares] < self._plan.timings.rotation_s).any():
            raise RuntimeError("a car with time to spare was paused before its turn was over")
        turns = spares | (paused & (decision.reason == Reason.ROTATION_QUEUE))
        self._on_s = np.where(setpoint > 0, np.minimum(self._on_s, now_s), np.inf)
        self.done.turns += int(turns.sum())
        self.done.pauses += int((paused & ~turns).sum())
        self.done.decisions += 1
        self._still = self._still + 1 if np.array_equal(setpoint, self._setpoint) else 0
        if np.array_equal(setpoint, np.where(self._charging, decision.target_a, 0.0)):
            self._still = SETTLED_AFTER
        self._setpoint = setpoint

    def _state(self, now_s: float) -> SiteState:
        evses = tuple(
            EvseState(
                name,
                online=True,
                connected=here,
                charging=here,
                in_force_a=offered,
                measured_a=PerPhase.same(drawn),
                measured_s=now_s,
                report_interval_s=CYCLE_S,
                since_s=since_s if here else None,
                needed_wh=wanted if here else None,
                departure_s=until_s if here else None,
            )
            for name, here, offered, drawn, since_s, wanted, until_s in zip(
                self._names,
                self._charging.tolist(),
                np.where(self._charging, self._setpoint, 0.0).tolist(),
                np.where(self._charging, self._drawn, 0.0).tolist(),
                self._since_s.tolist(),
                (self._left * self._wh).tolist(),
                self._until_s.tolist(),
                strict=True,
            )
        )
        return SiteState(now_s, UTC_0 + timedelta(seconds=now_s), {}, evses)
