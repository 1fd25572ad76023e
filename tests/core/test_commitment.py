"""What an EVSE may still draw, and what it is seen to use."""

import numpy as np
import pytest

from cem.core import commitment
from cem.core.columns import Columns
from cem.core.commitment import Commitment
from cem.core.observe import Reports, Wiring
from cem.core.site import Evse, Protection, Site, Zone
from cem.core.state import EvseState
from cem.core.timings import Timings
from cem.core.topology import flatten
from cem.core.units import LOWEST_V, PerPhase

T = Timings(reaction_s=10.0, follow_s=15.0)
SITE = Site("s", 230.0, 3, (Zone("z", None, Protection(63.0)),), (Evse("A/1", "A", "z", 1, rotation=(1, 2, 0)),))
WIRING = Wiring.of(SITE)
TOPOLOGY = flatten(SITE)


class Point:
    """One EVSE's history, step by step."""

    def __init__(self):
        self.reports = Reports.none(1)
        self.memory = Commitment.worst(np.array([32.0]))
        self.setpoint = 0.0

    def step(self, now_s, in_force, own=None, taken_s=None, charging=True, interval_s=10.0, **more):
        state = EvseState(
            "A/1",
            online=True,
            connected=True,
            charging=charging,
            in_force_a=in_force,
            measured_a=None if own is None else PerPhase.of(own),
            measured_s=taken_s,
            report_interval_s=interval_s,
            **more,
        )
        self.gives = Columns.of((state,)).gives
        self.reports = self.reports.heard(Columns.of((state,)))
        setpoint = np.array([self.setpoint])
        self.seen = self.reports.at(now_s)
        self.memory = commitment.update(self.memory, Columns.of((state,)), self.seen, setpoint, now_s, T)
        return float(self.memory.committed_a[0])


def test_i10_everything_is_possible_until_told_otherwise():
    assert Point().memory.committed_a.tolist() == [32.0]


def test_a_raise_counts_at_once_and_a_cut_when_a_later_report_shows_it():
    point = Point()
    assert point.step(0.0, 32.0, (31, 31, 31), 0.0) == 32.0
    assert point.step(1.0, 10.0, (31, 31, 31), 0.0) == 32.0
    assert point.step(3.0, 10.0, (20, 20, 20), 3.0) == 32.0
    assert point.step(5.0, 10.0, (10, 10, 10), 5.0) == 10.0


def test_a_cut_counts_after_the_reaction_time_where_nobody_measures():
    point = Point()
    point.step(0.0, 32.0)
    point.step(1.0, 10.0)
    assert point.step(10.9, 10.0) == 32.0
    assert point.step(11.1, 10.0) == 10.0


def test_a_setpoint_handed_over_counts_before_the_station_has_it():
    point = Point()
    point.step(0.0, 6.0, (6, 6, 6), 0.0)
    point.step(20.0, 6.0, (6, 6, 6), 20.0)
    point.setpoint = 16.0
    assert point.step(21.0, 6.0, (6, 6, 6), 20.0) == 16.0


def test_s4_a_draw_above_the_limit_is_what_counts_and_the_station_is_deaf_after_its_time():
    point = Point()
    point.step(0.0, 10.0, (25, 25, 25), 0.0)
    for now_s in range(1, 9):
        assert point.step(float(now_s), 10.0, (25, 25, 25), float(now_s)) >= 25.0
    assert not point.memory.deaf[0]
    for now_s in range(9, 20):
        point.step(float(now_s), 10.0, (25, 25, 25), float(now_s))
    assert point.memory.deaf[0]
    point.step(20.0, 10.0, (10, 10, 10), 20.0)
    assert not point.memory.deaf[0]


def test_a_lazy_car_is_offered_little_more_than_it_draws_until_it_follows():
    point = Point()
    for now_s in range(40):
        point.step(float(now_s), 32.0, (8, 8, 8), float(now_s), interval_s=1.0)
    low, high = np.array([6.0]), np.array([32.0])
    assert commitment.appetite_a(point.memory, point.seen, low, high, point.gives).tolist() == [9.0]
    for now_s in range(40, 60):
        point.step(float(now_s), 9.0, (8.8, 8.8, 8.8), float(now_s), interval_s=1.0)
    assert commitment.appetite_a(point.memory, point.seen, low, high, point.gives).tolist() == [32.0]


@pytest.mark.parametrize("volts", [210.0, 230.0, 250.0])
@pytest.mark.parametrize("amps", [7.0, 16.0, 32.0])
def test_a_limit_in_watts_gives_less_and_is_used_whole_all_the_same(amps, volts):
    point, given = Point(), (amps * LOWEST_V / volts,) * 3
    for now_s in range(40):
        point.step(float(now_s), amps, given, float(now_s), interval_s=1.0, by_power=True)
    low, high = np.array([7.0]), np.array([32.0])
    assert commitment.appetite_a(point.memory, point.seen, low, high, point.gives).tolist() == [32.0]


def test_a_one_phase_car_is_learned_on_its_grid_phase_and_forgotten_at_once():
    point = Point()
    for now_s in range(20):
        point.step(float(now_s), 16.0, (16, 0, 0), float(now_s), interval_s=1.0)
    assert commitment.phases_used(point.memory, TOPOLOGY, WIRING)[0].tolist() == [[False, True, False]]
    point.step(20.0, 16.0, (16, 16, 0), 20.0, interval_s=1.0)
    assert commitment.phases_used(point.memory, TOPOLOGY, WIRING)[0].tolist() == [[False, True, True]]
    point.step(21.0, 6.0, None, None, charging=False, interval_s=1.0)
    assert commitment.phases_used(point.memory, TOPOLOGY, WIRING)[0].tolist() == [[True, True, True]]


def test_reports_older_than_two_intervals_subtract_nothing():
    point = Point()
    point.step(0.0, 16.0, (16, 16, 16), 0.0)
    at = np.array([19.0])
    assert point.reports.at(19.0).subtractable(WIRING, at).tolist() == [[16.0] * 3]
    assert point.reports.at(21.0).subtractable(WIRING, at).tolist() == [[0.0] * 3]


def test_a_report_newer_than_the_meter_counts_the_lower_of_the_last_two():
    point = Point()
    point.step(0.0, 16.0, (6, 6, 6), 0.0)
    point.step(10.0, 16.0, (16, 16, 16), 10.0)
    assert point.reports.at(10.5).subtractable(WIRING, np.array([9.0])).tolist() == [[6.0] * 3]
    assert point.reports.at(10.5).subtractable(WIRING, np.array([10.0])).tolist() == [[16.0] * 3]


def test_s6_the_reaction_time_is_learned_from_steps_that_are_followed_and_bounded():
    point = Point()
    for now_s in range(30):
        point.step(float(now_s), 16.0, (16, 16, 16), float(now_s), interval_s=1.0)
    assert np.isnan(point.memory.reaction_s[0])
    for now_s in range(30, 60):  # 14 s from the cut to the draw
        amps = 16.0 if now_s < 44 else 8.0
        point.step(float(now_s), 8.0, (amps,) * 3, float(now_s), interval_s=1.0)
    assert 13.0 <= point.memory.reaction_s[0] <= 14.5
    assert point.memory.reacts_within_s(T)[0] == point.memory.reaction_s[0]
    for now_s in range(60, 200):  # never follows: teaches nothing
        point.step(float(now_s), 32.0, (8, 8, 8), float(now_s), interval_s=1.0)
    assert 13.0 <= point.memory.reaction_s[0] <= 14.5


def test_s6_a_slow_car_on_its_way_down_is_not_deaf():
    point = Point()
    point.step(0.0, 32.0, (32, 32, 32), 0.0, interval_s=1.0)
    for now_s in range(1, 45):
        amps = 32.0 if now_s < 9 else 6.0 + 26.0 * np.exp(-(now_s - 9) / 12.0)
        point.step(float(now_s), 6.0, (amps,) * 3, float(now_s), interval_s=1.0)
        assert not point.memory.deaf[0], now_s
    assert point.memory.committed_a[0] == max(6.0, amps)


def test_who_is_late_counts_with_what_it_draws_beyond_its_limit_and_is_not_deaf_at_once():
    point = Point()
    point.step(0.0, 10.0, (25, 25, 25), 0.0, interval_s=1.0)
    for now_s in range(1, 13):
        point.step(float(now_s), 10.0, (25, 25, 25), float(now_s), interval_s=1.0)
    assert not point.memory.deaf[0]
    assert point.memory.beyond_a(point.seen, T).tolist() == [15.0]


def test_s4_a_cut_that_came_after_the_last_report_is_not_held_against_its_station():
    """Reports once a minute: 30 A told, 28 A set, then 17 A three seconds before the report that shows 28 A."""
    point = Point()
    point.step(0.0, 30.0, (30, 30, 30), 0.0, interval_s=60.0)
    for now_s in range(10, 57):
        point.step(float(now_s), 28.0, (30, 30, 30), 0.0, interval_s=60.0)
    for now_s in range(57, 60):
        point.step(float(now_s), 17.0, (30, 30, 30), 0.0, interval_s=60.0)
    point.step(60.0, 17.0, (28, 28, 28), 60.0, interval_s=60.0)
    assert not point.memory.deaf[0]
    for now_s in range(61, 120):
        point.step(float(now_s), 17.0, (28, 28, 28), 60.0, interval_s=60.0)
    point.step(120.0, 17.0, (28, 28, 28), 120.0, interval_s=60.0)
    assert point.memory.deaf[0], "a minute later it has no excuse"


def test_s4_being_cut_again_and_again_is_no_excuse():
    """32 A drawn and told each second, whatever is set: every 12 s somebody cuts further."""
    point = Point()
    point.step(0.0, 32.0, (32, 32, 32), 0.0, interval_s=1.0)
    for now_s in range(1, 30):
        limit_a = 22.0 if now_s < 12 else 14.0 if now_s < 24 else 8.0
        point.step(float(now_s), limit_a, (32, 32, 32), float(now_s), interval_s=1.0)
    assert point.memory.deaf[0]
