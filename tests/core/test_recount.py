"""What a report explains is taken out of the other load, but never what was held to be a raise in flight."""

from cem.core.site import Policy
from tests.properties.test_closed_loop import NAMES, AnySite


def test_a_load_step_hidden_behind_a_raise_is_not_forgotten_with_the_report():
    site = AnySite()
    site.start(report_s=10.0, seed=0, policy=Policy.FAIR)
    for name in NAMES:
        site.car_leaves(name)
    site.a_while_passes(70.0)
    site.car_comes("B/1", 1, 16.0)
    site.load_steps("left", 1, 10.0)
    site.a_while_passes(60.0)
    assert site.plant.zone_current_a("left")[1] <= 25.0
    assert site.loop.setpoint_a("B/1") <= 15.0
