"""What a report explains is taken out of the other load, but never what was held to be a raise in flight."""

from cem.core.site import Policy
from tests.properties.test_closed_loop import AnySite


def test_a_load_step_hidden_behind_a_raise_is_not_forgotten_with_the_report():
    site = AnySite()
    site.start(report_s=10.0, seed=0, policy=Policy.FAIR)
    site.car_comes(evse="B/1", max_a=16.0, phases=1)
    site.load_steps(amps=10.0, phase=1, zone="left")
    site.time_passes(60.0)
    assert site.plant.zone_current_a("left")[1] <= 25.0
    assert site.loop.setpoint_a("B/1") <= 15.0
