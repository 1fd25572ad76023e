"""Any sun, any modes, wishes and loads: no fuse trips, nobody causes an excess, no car on surplus alone buys power."""

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from adapters.simulated.ev import EvType
from adapters.simulated.plant import Plant
from cem.core.engine import Plan
from cem.core.site import (
    BatteryRules,
    Evse,
    Meter,
    Mode,
    Policy,
    Protection,
    Resource,
    ResourceKind,
    Site,
    SurplusRules,
    Zone,
)
from cem.core.timings import Timings
from cem.core.units import PerPhase
from cem.simulate.loop import ClosedLoop
from cem.simulate.stations import StationHabits

STOP_S = 30.0
TRANSIENT_S = STOP_S + 25.0
"""The stop delay, the hold of the surplus (a report, two readings of the meter), delivery and the car's lag."""

SMALL_W = 300.0
NAMES = ("A/1", "B/1", "C/1")
EVSES = (
    Evse("A/1", "A", "house", 1, rotation=(0, 1, 2), phase_switching=True),
    Evse("B/1", "B", "house", 1, rotation=(1, 2, 0)),
    Evse("C/1", "C", "house", 1, rotation=(2,), phases=1),
)
RESOURCES = (
    Resource("pv", ResourceKind.PV, "house", 12_000.0),
    Resource("battery", ResourceKind.BATTERY, "house", 4_000.0),
)
LOAD_A = 10.0

EVENTS = st.one_of(
    st.tuples(st.just("sun"), st.sampled_from([0.0, 0.15, 0.3, 0.5, 0.8, 1.0])),
    st.tuples(st.just("mode"), st.sampled_from(NAMES), st.sampled_from(list(Mode))),
    st.tuples(st.just("load"), st.integers(0, 2), st.sampled_from([0.0, 4.0, LOAD_A])),
    st.tuples(st.just("car"), st.sampled_from(NAMES), st.sampled_from([0.0, 8.0, 16.0, 32.0])),
    st.tuples(st.just("wait"), st.sampled_from([20.0, 60.0, 150.0])),
    st.tuples(st.just("wait"), st.sampled_from([60.0, 150.0])),
)


class AnySun:
    """Light that the example sets."""

    now = 0.0

    def light(self, _t_s):
        return self.now


class Day:
    def __init__(self, first_below, report_s, policy):
        zone = Zone("house", None, Protection(35.0), meter_id="grid", fallback_limit_a=8.0, uncontrolled_max_a=15.0)
        site = Site(
            "any",
            230.0,
            3,
            (zone,),
            EVSES,
            (Meter("grid"),),
            RESOURCES,
            SurplusRules(start_delay_s=20.0, stop_delay_s=STOP_S),
            BatteryRules(first_below_soc_percent=first_below),
            policy=policy,
        )
        self.sun = AnySun()
        self.plant = Plant(site, 1, appliances=False, households=False, sky=self.sun)
        habits = {name: StationHabits(report_s=report_s) for name in NAMES}
        plan = Plan.of(site, Timings(min_off_s=20.0))
        self.loop = ClosedLoop(plan, self.plant, habits, step_s=0.5, calm_step_s=1.0)
        self.loop.watchers.append(self.watch)
        self.load_a = [0.0] * 3
        self.outside_s = -1e9
        self.bought_s = 0.0
        self.pure_s = dict.fromkeys(NAMES, -1e9)
        for name in NAMES:
            self.loop.stations[name].mode = Mode.SURPLUS
            self.plug(name, 32.0)

    def plug(self, name, max_a):
        self.plant.points[name].plug(EvType(max_a=max_a, settle_s=4.0, need_wh=1e9))
        self.loop.stations[name].begin(self.plant.t_s)

    def watch(self, loop, dt_s):
        """Power bought while a car draws that has been on surplus alone for long enough to have heard of it."""
        t_s = self.plant.t_s
        grid_w = self.plant.zone_power_w("house").total
        drawn_w = sum(
            self.plant.points[name].own_current_a.total * 230.0
            for name in NAMES
            if loop.stations[name].mode is Mode.SURPLUS and t_s - self.pure_s[name] > 30.0
        )
        self.bought_s = self.bought_s + dt_s if min(grid_w, drawn_w) > SMALL_W else 0.0
        assert self.bought_s <= TRANSIENT_S, f"{grid_w:.0f} W bought while {drawn_w:.0f} W go into cars on surplus"
        over_a = max(self.plant.zone_current_a("house")) - 35.0
        if over_a > 0.1:
            assert t_s - self.outside_s <= 12.0, f"{over_a:.1f} A above the fuse long after the last outside step"

    def do(self, event):
        match event:
            case ("sun", light):
                if light < self.sun.now:
                    self.outside_s = self.plant.t_s
                self.sun.now = light
            case ("mode", name, mode):
                self.loop.stations[name].mode = mode
                self.pure_s[name] = self.plant.t_s
            case ("load", phase, amps):
                self.load_a[phase] = amps
                self.outside_s = self.plant.t_s
                self.plant.extra["house"].clear()
                self.plant.add_load("house", PerPhase.of(a * 230.0 for a in self.load_a), 1e9)
            case ("car", name, max_a):
                self.plant.points[name].unplug()
                self.loop.stations[name].end()
                if max_a > 0:
                    self.plug(name, max_a)
            case ("wait", seconds):
                self.loop.run(self.plant.t_s + seconds)


@given(
    events=st.lists(EVENTS, min_size=5, max_size=25),
    first_below=st.sampled_from([0.0, 60.0, 100.0]),
    report_s=st.sampled_from([1.0, 5.0]),
    policy=st.sampled_from(Policy),
)
@settings(max_examples=18, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_any_weather(events, first_below, report_s, policy):
    day = Day(first_below, report_s, policy)
    for event in events:
        day.do(event)
    day.loop.run(day.plant.t_s + 100.0)
    assert day.loop.judge.tripped == {}
