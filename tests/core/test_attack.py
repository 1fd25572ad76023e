"""Cutting deeper while a meter shows an excess: what it takes, where it stops, and what it is worth in closed loop."""

from dataclasses import dataclass

import numpy as np
import pytest

from cem.core import attack
from cem.core.attack import attacked
from cem.core.site import Evse, Protection, Site, Zone
from cem.core.steps import Steps
from cem.core.topology import NO_ROW, Topology, flatten
from tests.benchmarks._loop_controllers import Ours
from tests.benchmarks.loop import all_seeds

ONE = (0,)


@dataclass
class Shared:
    current_a: np.ndarray


@dataclass
class Shown:
    measured_a: np.ndarray
    limit_a: np.ndarray


def line(count: int) -> Topology:
    evses = tuple(Evse(f"s{i}/1", f"s{i}", "grid", 1, phases=1, rotation=ONE) for i in range(count))
    return flatten(Site("test", 230.0, 3, (Zone("grid", None, Protection(63.0)),), evses))


def asked_of(current_a: list[float], measured_a: float, limit_a: float = 63.0) -> list[float]:
    """Targets of cars on L1 that share all that is left of the limit."""
    current = np.array(current_a)
    counted = line(current.size)
    room_a = np.array([current.sum(), 63.0, 63.0, np.inf])
    shown = Shown(np.array([[measured_a, 10.0, np.nan]]), np.array([[limit_a, limit_a, limit_a]]))
    n = current.size
    target_a, by = attacked(counted, Shared(current), np.full(n, 6.0), np.ones(n), Steps.of(None, n), shown, room_a)
    assert ((by != NO_ROW) == (target_a < current)).all()  # who falls below its share is told where too much flows
    return target_a.tolist()


def test_without_an_excess_the_shares_stand():
    assert asked_of([10.0, 14.0], measured_a=63.0) == [10.0, 14.0]
    assert asked_of([10.0, 14.0], measured_a=np.nan) == [10.0, 14.0]


def test_an_excess_is_taken_off_once_more_from_who_has_most():
    assert asked_of([10.0, 14.0], measured_a=67.0) == [10.0, 10.0]


def test_nobody_is_pushed_below_its_minimum_and_who_has_nothing_gets_nothing():
    assert asked_of([10.0, 14.0, 0.0], measured_a=100.0) == [6.0, 6.0, 0.0]


def test_an_outside_limit_that_fell_is_an_excess_too():
    assert asked_of([8.0, 8.0], measured_a=30.0, limit_a=26.0) == [6.0, 6.0]


@pytest.mark.parametrize("report_s", [1, 60])
def test_it_makes_up_for_the_slow_cars_and_costs_next_to_no_energy(monkeypatch, report_s):
    with_it = all_seeds(lambda: Ours(report_s), "steps", seeds=2, length_s=420)
    monkeypatch.setattr(attack, "GAIN", 0.0)
    without = all_seeds(lambda: Ours(report_s), "steps", seeds=2, length_s=420)
    assert with_it.over_as < 0.85 * without.over_as
    assert with_it.served_ah > 0.98 * without.served_ah
    assert with_it.longest_s <= without.longest_s
