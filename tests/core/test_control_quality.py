"""Control quality, the short form of ``make bench ONLY=loop``: the engine itself never causes an excess."""

import pytest

from tests.benchmarks._loop_controllers import Integrating, OneAtATime, Ours
from tests.benchmarks.loop import all_seeds


@pytest.mark.parametrize("report_s", [1, 10, 60])
def test_without_outside_steps_there_is_no_excess_and_no_pause(report_s):
    for load in ("calm", "constant"):
        outcome = all_seeds(lambda: Ours(report_s), load, seeds=1, length_s=240)
        assert outcome.over_as == 0.0
        assert outcome.pauses == 0
        assert outcome.served_ah > 0.75 * 200.0 * outcome.hours


@pytest.fixture(scope="module")
def steps_of_load():
    """The engine with reports every 10 s, and those of the field, on the same two days."""
    makes = {"ours": lambda: Ours(10), "integrating": Integrating, "one at a time": OneAtATime}
    return {name: all_seeds(make, "steps", seeds=2, length_s=600) for name, make in makes.items()}


@pytest.mark.parametrize("usual", ["integrating", "one at a time"])
def test_load_steps_cost_far_less_excess_than_usual_controllers_allow_and_as_much_is_served(steps_of_load, usual):
    ours, theirs = steps_of_load["ours"], steps_of_load[usual]
    assert theirs.over_as > 3.5 * ours.over_as
    assert theirs.longest_s > 3 * ours.longest_s
    assert ours.served_ah > 0.98 * theirs.served_ah


def test_load_steps_trip_no_fuse_and_are_over_when_the_cars_have_followed(steps_of_load):
    ours = steps_of_load["ours"]
    assert ours.trips == 0
    assert ours.longest_s <= 8 + 3 * 12, "delay and three time constants of the slowest car"
