"""Turns: when not all minima fit, everybody gets the same in the end, and what is told while waiting is true."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cem.core.engine import EngineMemory, Plan, decide
from cem.core.reasons import Reason
from cem.core.site import Evse, Meter, Protection, Site, Zone
from cem.core.state import EvseState, Measurement, SiteState
from cem.core.timings import Timings
from cem.core.units import PerPhase

UTC0 = datetime(2026, 11, 22, tzinfo=UTC)
STEP_S = 15.0


class Yard:
    """Points on one three-phase zone, with cars that follow at once and report every step."""

    def __init__(self, count, room_a, priority=(), max_a=32.0):
        evses = tuple(
            Evse(
                f"S{i}/1", f"S{i}", "yard", 1, rotation=(0, 1, 2), max_a=max_a, priority=priority[i] if priority else 0
            )
            for i in range(count)
        )
        zone = Zone("yard", None, Protection(room_a), meter_id="grid", fallback_limit_a=6.0, uncontrolled_max_a=0.0)
        self.plan = Plan.of(Site("yard", 230.0, 3, (zone,), evses, (Meter("grid"),)), Timings())
        self.memory = EngineMemory.none(self.plan)
        self.now_s = 0.0
        self.appetite_a = np.full(count, 32.0)
        self.pilot_a = np.zeros(count)
        self.targets = [(None, None)] * count
        self.there = np.ones(count, dtype=bool)
        self.since_s = [0.0] * count

    def step(self):
        self.now_s += STEP_S
        drawn = np.minimum(self.pilot_a, self.appetite_a) * self.there
        states = tuple(
            EvseState(
                evse.evse_id,
                online=True,
                connected=bool(self.there[i]),
                charging=bool(self.there[i]),
                in_force_a=float(self.pilot_a[i]),
                measured_a=PerPhase.same(float(drawn[i])),
                measured_s=self.now_s,
                report_interval_s=STEP_S,
                since_s=self.since_s[i] if self.there[i] else None,
                needed_wh=self.targets[i][0],
                departure_s=self.targets[i][1],
            )
            for i, evse in enumerate(self.plan.site.evses)
        )
        amps = PerPhase.same(float(drawn.sum()))
        meter = Measurement("grid", self.now_s, amps, voltage_v=PerPhase.same(230.0))
        seen = SiteState(self.now_s, UTC0 + timedelta(seconds=self.now_s), {"grid": meter}, states)
        self.decision, self.memory = decide(self.plan, seen, self.memory)
        self.pilot_a = self.decision.setpoint_a.copy()
        return drawn

    def reason(self, i):
        return Reason(int(self.decision.reason[i]))


def test_nobody_makes_way_where_all_fit_or_before_its_turn_is_over():
    yard = Yard(4, 30.0)
    for _ in range(400):
        yard.step()
    assert (yard.pilot_a >= 6.0).all()
    assert not (yard.decision.place > 0).any()


def test_a_higher_class_is_not_paused_for_a_lower_one():
    yard = Yard(3, 13.0, priority=(1, 1, 0))
    for _ in range(600):
        yard.step()
        if yard.now_s > 60:
            assert (yard.pilot_a[:2] >= 6.0).all()
            assert yard.pilot_a[2] == 0.0
    assert yard.reason(2) is Reason.NO_ROOM or yard.decision.place[2] >= 1


def test_the_urgent_car_keeps_its_turn_and_the_starved_one_gets_one_in_the_end():
    yard = Yard(2, 7.5)
    yard.targets[0] = (60_000.0, 2 * 3600.0)  # cannot be full in time: no time to spare
    ran = np.zeros(2)
    for _ in range(int(4 * 3600 / STEP_S)):
        yard.step()
        ran += (yard.pilot_a > 0) * STEP_S
    assert ran[0] > 3 * ran[1] > 0


def test_s19_a_full_car_makes_way_after_ten_minutes_and_is_asked_again():
    yard = Yard(3, 13.0)
    for _ in range(8):
        yard.step()
    full = int(np.flatnonzero(yard.pilot_a > 0)[0])
    waiting = int(np.flatnonzero(yard.pilot_a == 0)[0])
    yard.appetite_a[full] = 0.0
    slept_s = yard.now_s
    while yard.pilot_a[waiting] == 0.0:
        yard.step()
        assert yard.now_s - slept_s < 700.0
    assert yard.pilot_a[full] == 0.0
    assert yard.now_s - slept_s >= 600.0
    held_s = 0.0
    for _ in range(int(4 * 3600 / STEP_S)):
        yard.step()
        held_s += STEP_S * (yard.pilot_a[full] > 0)
    assert 60.0 <= held_s < 0.25 * 4 * 3600
    yard.appetite_a[full] = 32.0
    woke_s = yard.now_s
    while yard.step()[full] < 6.0:
        assert yard.now_s - woke_s < 1000.0


def test_a_full_car_keeps_its_offer_while_nobody_waits():
    yard = Yard(2, 13.0)
    yard.appetite_a[0] = 0.0
    for _ in range(400):
        yard.step()
    assert yard.pilot_a[0] == pytest.approx(6.0)
