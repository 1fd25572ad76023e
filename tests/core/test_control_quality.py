"""Control quality, the short form of ``make bench ONLY=loop``: the engine itself never causes an excess."""

import pytest

from tests.benchmarks._loop_controllers import OneAtATime, Ours
from tests.benchmarks.loop import all_seeds


@pytest.mark.parametrize("report_s", [1, 10, 60])
def test_without_outside_steps_there_is_no_excess_and_no_pause(report_s):
    for load in ("calm", "constant"):
        outcome = all_seeds(lambda: Ours(report_s), load, seeds=1, length_s=240)
        assert outcome.over_as == 0.0
        assert outcome.pauses == 0
        assert outcome.served_ah > 0.75 * 200.0 * outcome.hours


def test_load_steps_cost_far_less_excess_than_one_point_at_a_time():
    ours = all_seeds(lambda: Ours(10), "steps", seeds=1, length_s=600)
    usual = all_seeds(OneAtATime, "steps", seeds=1, length_s=600)
    assert usual.over_as > 1.5 * ours.over_as
    assert ours.peak_a < 1.45 * 100.0
    assert ours.longest_s < 40 < usual.longest_s
