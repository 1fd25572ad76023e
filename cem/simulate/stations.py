"""Charging stations under a virtual clock: limits that arrive late, expire by themselves, and reports now and then.

They stand for what the local CSMS and the stations do together; the protocols themselves are tested elsewhere.
"""

from dataclasses import dataclass

from cem.core.site import Evse, Mode
from cem.core.state import EvseState
from cem.core.units import PerPhase
from cem.simulate.ports import ChargePoint


@dataclass(frozen=True, slots=True)
class StationHabits:
    """How a station behaves.

    Attributes:
        delay_s: From a setpoint handed over to the pilot.
        report_s: Between two reports; ``None`` where it never reports.
        life_s: A limit lapses this long after it was last refreshed.
        refresh_s: How often the controller refreshes it.
        obeys: ``False``: it acknowledges limits and offers its maximum.
        switch_s: From the command to charge on one phase or three until it does.
    """

    delay_s: float = 0.3
    report_s: float | None = 10.0
    life_s: float = 120.0
    refresh_s: float = 40.0
    obeys: bool = True
    switch_s: float = 5.0


class VirtualStation:
    """One EVSE's station.

    Attributes:
        online: The line to the controller is up.
        charging: A transaction is under way.
        mode: What somebody wished.
        target: Energy in Wh and monotonic time by which it is wanted.
    """

    def __init__(self, evse: Evse, point: ChargePoint, habits: StationHabits, offset_s: float = 0.0) -> None:
        self.evse = evse
        self.habits = habits
        self.online = True
        self.charging = False
        self.mode: Mode | None = None
        self.target: tuple[float, float] | None = None
        self._switch: tuple[float, int] | None = None
        self._begun_wh = 0.0
        self._point = point
        self._since_s: float | None = None
        self._pending: list[tuple[float, float]] = []
        self._limit_a: float | None = None
        self._refreshed_s = -1e9
        self._confirmed_s: float | None = None
        self._report: tuple[PerPhase, float] | None = None
        self._next_report_s = offset_s

    def begin(self, now_s: float) -> None:
        """A transaction starts, on the fallback until the first limit arrives."""
        self.charging, self._since_s = True, now_s
        self._begun_wh = self._point.charged_wh

    def end(self) -> None:
        """It ends, and its limits with it."""
        self.charging, self._since_s = False, None
        self._limit_a = None
        self._pending.clear()

    def apply(self, now_s: float, limit_a: float, phases: int = 0) -> None:
        """The controller's setpoint, and the phases to charge on where it says so."""
        if self.online and phases not in {0, self._point.phases_on}:
            self._switch = self._switch or (now_s + self.habits.switch_s, phases)
        if not self.online or not self.charging:
            return
        last = self._pending[-1][1] if self._pending else self._limit_a
        if last != limit_a or now_s - self._refreshed_s >= self.habits.refresh_s:
            self._refreshed_s = now_s
            self._pending.append((now_s + self.habits.delay_s, limit_a))

    def step(self, now_s: float) -> None:
        """Deliver what has arrived, set the pilot, report when it is time."""
        while self._pending and self._pending[0][0] <= now_s:
            self._limit_a = self._pending.pop(0)[1]
            self._confirmed_s = now_s
        if now_s - self._refreshed_s > self.habits.life_s:
            self._limit_a = None
        limit_a = self.evse.fallback_a if self._limit_a is None else self._limit_a
        offer_a = limit_a if self.habits.obeys else self.evse.max_a
        if self._switch is not None and self._switch[0] <= now_s:
            self._point.phases_on, self._switch = self._switch[1], None
        self._point.pilot_a = offer_a if self.charging else 0.0
        report_s = self.habits.report_s
        if report_s is not None and now_s >= self._next_report_s:
            self._next_report_s = now_s + report_s
            if self.online:
                self._report = (self._point.own_current_a, now_s)

    def state(self, now_s: float) -> EvseState:
        """As the local CSMS would tell it."""
        in_force = [self.evse.fallback_a] if self._limit_a is None or not self.charging else []
        if self.charging and now_s - self._refreshed_s <= self.habits.life_s:
            in_force += [limit for limit in (self._limit_a,) if limit is not None]
            in_force += [limit for _, limit in self._pending]
        if not self.online or now_s - self._refreshed_s > self.habits.life_s - 5:
            in_force.append(self.evse.fallback_a)
        return EvseState(
            self.evse.evse_id,
            online=self.online,
            connected=self.charging,
            charging=self.charging,
            in_force_a=max(in_force),
            confirmed_a=self._limit_a,
            confirmed_s=self._confirmed_s,
            measured_a=None if self._report is None else self._report[0],
            measured_s=None if self._report is None else self._report[1],
            report_interval_s=self.habits.report_s or 10.0,
            since_s=self._since_s,
            mode=self.mode,
            needed_wh=None if self.target is None else max(0.0, self.target[0] - self._taken_wh()),
            departure_s=None if self.target is None else self.target[1],
            phases_in_force=self._point.phases_on if self.evse.phase_switching else None,
        )

    def _taken_wh(self) -> float:
        return self._point.charged_wh - self._begun_wh
