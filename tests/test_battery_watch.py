"""A battery's own logic against surplus charging: recognised, told once, and over."""

from datetime import UTC, datetime
from types import SimpleNamespace

from cem.battery_watch import FEEDS_S, QUIET_S, BatteryWatch
from cem.core.site import Resource, ResourceKind
from cem.core.state import EvseState, Measurement, SiteState
from cem.core.units import PerPhase

BATTERY = Resource("box", ResourceKind.BATTERY, "root", 5000.0)


class Rig:
    def __init__(self):
        self.events, self.now_s, self.surplus_w, self.amps = [], 0.0, 3000.0, 10.0
        self.watch = BatteryWatch([BATTERY, Resource("roof", ResourceKind.PV, "root", 9000.0)], self.events.append)

    def run(self, seconds, power_w):
        for _ in range(int(seconds)):
            self.now_s += 1.0
            found = {} if power_w is None else {"box": Measurement("box", self.now_s, total_power_w=power_w)}
            evse = EvseState(
                "A/1", online=True, connected=True, charging=True, in_force_a=16.0, measured_a=PerPhase.same(self.amps)
            )
            state = SiteState(self.now_s, datetime(2026, 6, 1, tzinfo=UTC), found, (evse,))
            self.watch.take(state, SimpleNamespace(surplus_w=self.surplus_w))

    def told(self):
        return [event.text for event in self.events]


def test_a_battery_that_feeds_cars_on_surplus_is_told_once_and_when_it_is_over():
    rig = Rig()
    rig.run(FEEDS_S, -2000.0)
    assert rig.told() == []
    rig.run(600, -2000.0)
    (text,) = rig.told()
    assert text.startswith("box: gives 2000 W while cars charge from surplus")
    rig.run(QUIET_S + 1, 100.0)
    assert rig.told()[1:] == ["box: no longer works against charging from surplus"]


def test_a_battery_that_swings_with_the_cars_is_told():
    rig = Rig()
    for _ in range(4):
        rig.run(40, 1500.0)
        rig.run(40, -1500.0)
    (text,) = rig.told()
    assert text.startswith("box: swings between charging and discharging")


def test_clouds_other_modes_idle_cars_and_unknown_power_are_no_fight():
    rig = Rig()
    for _ in range(6):
        rig.run(150, 1500.0)
        rig.run(150, -1500.0)
    rig.surplus_w = None  # nobody charges from surplus
    rig.run(600, -4000.0)
    rig.surplus_w, rig.amps = 3000.0, 0.0
    rig.run(600, -4000.0)
    rig.amps = 10.0
    rig.run(600, None)
    assert rig.told() == []
