"""M6: a sign turned, a current transformer put on backwards."""

import numpy as np

from cem.core.step_check import StepMemory, watch

SETTLES_S = 25.0


class Meter:
    """One zone with one three-phase EVSE: what its meter shows of it, second by second."""

    def __init__(self, signs=(1, 1, 1), feeds=False):
        self.signs, self.feeds = np.array(signs, dtype=float), np.array([feeds])
        self.memory = StepMemory.none(1, 1)
        self.now_s = self.ev_a = 0.0
        self.setpoint = 0.0
        self.other_a = np.full(3, 4.0)

    def live(self, seconds, other=None):
        for k in range(seconds):
            raised = np.array([self.setpoint > self.memory.setpoint_a[0]])
            if k > 4:
                self.ev_a = self.setpoint  # it follows after 4 s, and reports at once
            load = self.other_a if other is None else other(k)
            self.memory = watch(
                self.memory,
                setpoint_a=np.array([self.setpoint]),
                raised=raised,
                meter_a=self.signs[None, :] * (load + self.ev_a)[None, :],
                ours_a=np.full((1, 3), self.ev_a),
                settles_s=np.array([SETTLES_S]),
                feeds=self.feeds,
                now_s=self.now_s,
            )
            self.now_s += 1.0

    def steps(self, count, seconds=40, size=10.0):
        for _ in range(count):
            self.setpoint += size
            self.live(seconds)
            self.setpoint = 0.0
            self.live(seconds)

    @property
    def implausible(self):
        return bool(self.memory.implausible[0])


def test_m6_three_steps_tell_a_turned_meter():
    meter = Meter((-1, -1, -1), feeds=True)
    meter.live(60)
    meter.steps(2)
    assert not meter.implausible
    meter.steps(1)
    assert meter.implausible


def test_m6_one_turned_current_transformer_is_found_by_its_phase():
    meter = Meter((1, -1, 1), feeds=True)
    meter.live(60)
    meter.steps(3)
    assert meter.memory.turned.tolist() == [[False, True, False]]


def test_m6_one_step_and_five_minutes_of_the_impossible():
    meter = Meter((-1, -1, -1))
    meter.live(60)
    meter.setpoint = 16.0
    meter.live(300)
    assert not meter.implausible
    meter.live(60)
    assert meter.implausible


def test_m6_a_roof_that_feeds_in_is_no_turned_meter():
    meter = Meter(feeds=True)
    meter.other_a = np.full(3, -30.0)
    meter.steps(5)
    meter.setpoint = 16.0
    meter.live(600)
    assert not meter.implausible


def test_m6_a_turned_meter_that_was_put_right_is_believed_again_after_three_steps():
    meter = Meter((-1, -1, -1))
    meter.live(60)
    meter.steps(3)
    meter.signs[:] = 1
    meter.live(300)
    meter.steps(2)
    assert meter.implausible
    meter.steps(1)
    assert not meter.implausible


def test_m6_nothing_is_concluded_where_other_load_moves_as_much_by_itself():
    meter = Meter(feeds=True)
    swing = lambda k: np.full(3, 40.0 if (k // 20) % 2 else 10.0)  # noqa: E731
    meter.live(300, swing)
    for _ in range(20):
        meter.setpoint = 10.0
        meter.live(30, lambda k: np.full(3, 40.0 - 20.0 * min(k / 20, 1)))  # falls by twice our step, every time
        meter.setpoint = 0.0
        meter.live(60, swing)
    assert not meter.implausible


def test_m6_a_meter_that_stays_silent_says_nothing():
    meter = Meter((-1, -1, -1))
    meter.signs[:] = np.nan
    meter.steps(5)
    assert not meter.implausible
