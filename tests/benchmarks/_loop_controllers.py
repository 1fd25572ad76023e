"""The controllers that are compared: the engine, three kinds that are found in the field, and the best form of two.

Each is asked once a second with what it could know: the meter, and what the stations reported. The field's three know
the site by its worst phase; ``...PerPhase`` are as good as that kind could be made, and no product.
"""

from datetime import UTC, datetime, timedelta

import numpy as np

from cem.core.engine import EngineMemory, Plan, decide
from cem.core.site import Evse, Meter, Protection, Site, Zone
from cem.core.state import EvseState, Measurement, SiteState
from cem.core.timings import Timings
from cem.core.units import PerPhase
from tests.benchmarks._loop_site import COUNT, LIMIT_A, MAX_A, MIN_A, wiring

UTC_0 = datetime(2026, 1, 1, tzinfo=UTC)
WIRED = wiring()


def site() -> Site:
    """The site as the engine knows it."""
    evses = []
    for i in range(COUNT):
        used = tuple(int(p) for p in np.flatnonzero(WIRED[i]))
        evses.append(Evse(f"S{i}/1", f"S{i}", "site", 1, phases=len(used), rotation=used))
    zone = Zone("site", None, Protection(LIMIT_A, "gg", None), meter_id="grid", fallback_limit_a=20.0)
    return Site("loop", 230.0, 3, (zone,), tuple(evses), (Meter("grid", 1.0),))


def shared_equally(sum_a: float, there: np.ndarray, came: np.ndarray) -> np.ndarray:
    """The same current for each car; where not everybody gets the minimum, those who stand longest get it."""
    served = min(int(there.sum()), int(sum_a // MIN_A))
    pilot_a = np.zeros(COUNT)
    pilot_a[np.argsort(came, kind="stable")[:served]] = min(np.floor(sum_a / max(served, 1)), MAX_A)
    return pilot_a


class Ours:
    """The engine."""

    def __init__(self, report_s: int) -> None:
        self.plan = Plan.of(site(), Timings())
        self.memory = EngineMemory.none(self.plan)
        self.report_s = report_s
        self.pilot_a = np.zeros(COUNT)
        self._told = np.zeros(COUNT)
        self._report: list[tuple[PerPhase, float] | None] = [None] * COUNT
        self._since: list[float | None] = [None] * COUNT

    def step(self, t: int, meter_a: np.ndarray, drawn_a: np.ndarray, there: np.ndarray) -> np.ndarray:
        states = []
        for i, evse in enumerate(self.plan.site.evses):
            if (t + 7 * i) % self.report_s == 0:
                amps = float(drawn_a[i])
                own = PerPhase(amps, amps, amps) if evse.phases == 3 else PerPhase(amps, 0.0, 0.0)
                self._report[i] = own, float(t)
            if not there[i]:
                self._since[i] = None
            elif self._since[i] is None:
                self._since[i] = float(t)
            report = self._report[i]
            states.append(
                EvseState(
                    evse.evse_id,
                    online=True,
                    connected=bool(there[i]),
                    charging=bool(there[i]),
                    in_force_a=max(float(self._told[i]), float(self.pilot_a[i])) if there[i] else 0.0,
                    measured_a=None if report is None else report[0],
                    measured_s=None if report is None else report[1],
                    report_interval_s=float(self.report_s),
                    since_s=self._since[i],
                )
            )
        amps3 = PerPhase.of(float(a) for a in meter_a)
        watts = PerPhase.of(a * 230.0 for a in amps3)
        grid = Measurement("grid", float(t), amps3, watts, watts.total, PerPhase.same(230.0))
        state = SiteState(float(t), UTC_0 + timedelta(seconds=t), {"grid": grid}, tuple(states))
        decision, self.memory = decide(self.plan, state, self.memory)
        self._told = self.pilot_a
        self.pilot_a = decision.setpoint_a.copy()
        return self.pilot_a


class EverybodyDown(Ours):
    """The engine, but while the meter is over the limit every car is sent to its minimum: no cut could come sooner.

    What flows over all the same is a bound for any controller that keeps no reserve. It is no good controller.
    """

    def step(self, t: int, meter_a: np.ndarray, drawn_a: np.ndarray, there: np.ndarray) -> np.ndarray:
        pilot_a = super().step(t, meter_a, drawn_a, there)
        if meter_a.max() > LIMIT_A:
            self.pilot_a = np.minimum(pilot_a, MIN_A)
        return self.pilot_a


class Integrating:
    """One number for the site: every 10 s it moves by what the worst phase has free or too much, shared equally.

    The way of wallboxes that balance themselves on one current: blind to phases, and to cars that do not use their
    part.
    """

    every_s = 10

    def __init__(self) -> None:
        self.sum_a = 0.0
        self.pilot_a = np.zeros(COUNT)
        self._came = np.full(COUNT, np.inf)

    def move(self, free_a: float) -> float:
        """By how much the number changes."""
        return free_a

    def step(self, t: int, meter_a: np.ndarray, drawn_a: np.ndarray, there: np.ndarray) -> np.ndarray:
        del drawn_a
        self._came = np.where(there, np.minimum(self._came, t), np.inf)
        self.pilot_a = np.where(there, self.pilot_a, 0.0)
        if t % self.every_s == 0 and there.any():
            wanted_a = self.sum_a + self.move(LIMIT_A - float(meter_a.max()))
            self.sum_a = float(np.clip(wanted_a, 0.0, int(there.sum()) * MAX_A))
            self.pilot_a = shared_equally(self.sum_a, there, self._came)
        return self.pilot_a


class SlowUpFastDown(Integrating):
    """The same every 2 s, but it falls by all of what is too much and rises by a quarter of what is free.

    The published way of wallboxes that balance by a mains meter, which they read every 2 s.
    """

    every_s = 2

    def move(self, free_a: float) -> float:
        return free_a / 4 if free_a > 0 else free_a


class IntegratingPerPhase:
    """Every 10 s each charging car's current moves by its part of what its own phases have free or too much."""

    def __init__(self) -> None:
        self.wish_a = np.zeros(COUNT)

    def step(self, t: int, meter_a: np.ndarray, drawn_a: np.ndarray, there: np.ndarray) -> np.ndarray:
        del drawn_a
        self.wish_a = np.where(there, self.wish_a, 0.0)
        if t % 10 == 0:
            users = np.maximum(WIRED[there].sum(axis=0), 1)
            part = (LIMIT_A - meter_a) / users
            move = np.where(WIRED, part, np.inf).min(axis=1)
            self.wish_a = np.where(there, np.clip(self.wish_a + move, 0.0, MAX_A), 0.0)
        return np.where(self.wish_a >= MIN_A, np.floor(self.wish_a), 0.0)


class OneAtATime:
    """Every 10 s the next point in turn takes, or gives back, what the worst phase has free or too much.

    The way of energy managers that visit one charging point an interval and know their circuit by one current.
    """

    def __init__(self) -> None:
        self.pilot_a = np.zeros(COUNT)
        self._turn = -1

    def step(self, t: int, meter_a: np.ndarray, drawn_a: np.ndarray, there: np.ndarray) -> np.ndarray:
        self.pilot_a = np.where(there, self.pilot_a, 0.0)
        if t % 10 == 0 and there.any():
            self._turn = next(i for i in (np.arange(COUNT) + self._turn + 1) % COUNT if there[i])
            has_a = min(self.pilot_a[self._turn], drawn_a[self._turn])
            to_a = np.floor(min(has_a + LIMIT_A - meter_a.max(), MAX_A))
            self.pilot_a[self._turn] = to_a if to_a >= MIN_A else 0.0
        return self.pilot_a


class OneAtATimePerPhase:
    """Every 10 s one point is changed: the highest on the worst phase is cut, or the lowest that has room raised."""

    def __init__(self) -> None:
        self.pilot_a = np.zeros(COUNT)

    def step(self, t: int, meter_a: np.ndarray, drawn_a: np.ndarray, there: np.ndarray) -> np.ndarray:
        del drawn_a
        self.pilot_a = np.where(there, self.pilot_a, 0.0)
        if t % 10 == 0:
            free = LIMIT_A - meter_a
            worst = int(free.argmin())
            if free[worst] < 0:
                on = np.where(WIRED[:, worst], self.pilot_a, -1.0)
                i = int(on.argmax())
                lower = np.floor(on[i] + free[worst])
                at_least = MIN_A if on[i] > MIN_A else 0.0
                self.pilot_a[i] = max(lower, at_least)
            else:
                room = np.where(WIRED, free, np.inf).min(axis=1)
                gain = np.minimum(np.floor(room), MAX_A - self.pilot_a)
                can = there & (gain >= np.where(self.pilot_a > 0, 1.0, MIN_A))
                if can.any():
                    i = int(np.where(can, self.pilot_a, np.inf).argmin())
                    self.pilot_a[i] += gain[i]
        return self.pilot_a
