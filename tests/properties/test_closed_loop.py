"""Anything may happen at a site, whatever its policy; the plant's currents are the judge (invariants I1 to I4, I12).

Cars come, go, sleep and wake, stations drop off the line, meters die, loads and limits step. An excess may only ever
follow an outside step (a load, a new limit) and must end within the stations' and cars' reaction.
"""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from adapters.simulated.ev import EvType
from adapters.simulated.plant import Plant
from cem.core.engine import Plan
from cem.core.limits import Limit, LimitKind
from cem.core.reasons import Reason
from cem.core.site import Evse, Meter, Policy, Protection, Site, Zone
from cem.core.timings import Timings
from cem.core.units import PerPhase
from cem.simulate.loop import ClosedLoop
from cem.simulate.stations import StationHabits

REACTION_S = 10.0
"""Cycle, delivery and the slowest car: within this an excess of outside cause must be over."""

EVSES = (
    Evse("A/1", "A", "site", 1, rotation=(0, 1, 2)),
    Evse("B/1", "B", "left", 1, rotation=(1, 2, 0), max_a=16.0),
    Evse("C/1", "C", "left", 1, rotation=(2,), phases=1),
    Evse("D/1", "D", "right", 1, rotation=None),
    Evse("E/1", "E", "right", 1, rotation=(0, 1, 2), fallback_a=6.0, priority=1),
)
SITE = Site(
    "anything",
    230.0,
    3,
    (
        Zone(
            "site", None, Protection(63.0, "gg", None), meter_id="grid", fallback_limit_a=12.0, uncontrolled_max_a=30.0
        ),
        Zone("left", "site", Protection(25.0), meter_id="left", fallback_limit_a=8.0, uncontrolled_max_a=10.0),
        Zone("right", "site", Protection(32.0), uncontrolled_max_a=0.0),
    ),
    EVSES,
    (Meter("grid", 1.0), Meter("left", 1.0)),
)
NAMES = [evse.evse_id for evse in EVSES]
WORST_OWN_A = {"site": 20.0, "left": 10.0}


class AnySite(RuleBasedStateMachine):
    @initialize(report_s=st.sampled_from([1.0, 10.0, 60.0]), seed=st.integers(0, 1000), policy=st.sampled_from(Policy))
    def start(self, report_s, seed, policy):
        site = replace(SITE, policy=policy)
        self.plant = Plant(site, seed, appliances=False)
        self.plant.households.clear()  # loads step by rule alone
        habits = {name: StationHabits(report_s=report_s) for name in NAMES}
        self.loop = ClosedLoop(Plan.of(site, Timings(min_off_s=20.0)), self.plant, habits, step_s=0.5)
        self.load_a = {"site": [0.0] * 3, "left": [0.0] * 3}
        self.outside_s = -1e9
        self.excess_since_s = None
        self.loop.run(3.0, self.check)

    def check(self, loop):
        """After every decision: never an order below the minimum, one reason each, cuts first, nobody raised blind."""
        decision = loop.decision
        plan = loop.plan
        on = decision.setpoint_a > 0
        assert (decision.setpoint_a[on] >= plan.min_a[on]).all()
        assert (decision.setpoint_a <= plan.max_a).all()
        assert all(int(code) in Reason.__members__.values() for code in decision.reason)
        order = decision.sending_order()
        cuts = (decision.setpoint_a < decision.before_a)[order]
        assert not np.any(np.diff(cuts.astype(int)) > 0)
        blind = plan.zones.from_above(decision.envelopes.no_raise)
        assert (decision.setpoint_a[blind] <= decision.before_a[blind]).all()
        self.watch_excess()

    def watch_excess(self):
        unreachable = [name for name, station in self.loop.stations.items() if not station.online]
        if any(max(self.plant.points[name].own_current_a) > 0 for name in unreachable):
            self.outside_s = self.plant.t_s  # nobody can cut a station whose line is down
        over = [
            (zone.zone_id, phase, amps)
            for zone in SITE.zones
            for phase, amps in enumerate(self.plant.zone_current_a(zone.zone_id))
            if amps > self.limit_a(zone, phase) + 0.05
        ]
        if over:
            since_s = self.plant.t_s - self.outside_s
            assert since_s <= REACTION_S, f"{over} still above {since_s} s after the last outside step"

    def limit_a(self, zone, phase):
        outside = self.loop._outside_a(zone.zone_id)
        return zone.protection.rating_a if outside is None else min(zone.protection.rating_a, outside[phase])

    @rule(seconds=st.sampled_from([2.0, 7.0, 25.0, 70.0]))
    def time_passes(self, seconds):
        self.loop.run(self.plant.t_s + seconds, self.check)

    @rule(evse=st.sampled_from(NAMES), phases=st.sampled_from([1, 3]), max_a=st.sampled_from([0.0, 13.0, 16.0, 32.0]))
    def car_comes(self, evse, phases, max_a):
        if self.plant.points[evse].ev is None:
            self.plant.points[evse].plug(EvType(phases=phases, max_a=max_a, settle_s=4.0, need_wh=1e9))
            self.loop.stations[evse].begin(self.plant.t_s)

    @rule(evse=st.sampled_from(NAMES))
    def car_leaves(self, evse):
        if self.plant.points[evse].ev is not None:
            self.plant.points[evse].unplug()
            self.loop.stations[evse].end()

    @rule(evse=st.sampled_from(NAMES), max_a=st.sampled_from([0.0, 6.0, 10.0, 16.0, 32.0]))
    def car_sleeps_or_wakes(self, evse, max_a):
        ev = self.plant.points[evse].ev
        if ev is not None:
            ev.kind = EvType(phases=ev.kind.phases, max_a=max_a, settle_s=4.0, need_wh=1e9)

    @rule(evse=st.sampled_from(NAMES), wanted_wh=st.sampled_from([0.0, 500.0, 5e3]), hours=st.sampled_from([0.1, 1, 9]))
    def target_set(self, evse, wanted_wh, hours):
        self.loop.stations[evse].target = (wanted_wh, self.plant.t_s + 3600.0 * hours)

    @rule(evse=st.sampled_from(NAMES), online=st.booleans())
    def station_line(self, evse, online):
        self.loop.stations[evse].online = online

    @rule(zone=st.sampled_from(["site", "left"]), phase=st.integers(0, 2), amps=st.sampled_from([0.0, 5.0, 10.0, 20.0]))
    def load_steps(self, zone, phase, amps):
        amps = min(amps, WORST_OWN_A[zone])
        if amps > self.load_a[zone][phase]:
            self.outside_s = self.plant.t_s
        self.load_a[zone][phase] = amps
        watts = PerPhase.of(a * self.plant.voltage_v for a in self.load_a[zone])
        self.plant.extra[zone].clear()
        self.plant.add_load(zone, watts, 1e9)

    @rule(amps=st.sampled_from([None, 0.0, 10.0, 20.0, 40.0]), zone=st.sampled_from(["site", "left"]))
    def outside_limit(self, amps, zone):
        self.loop.limits = ()
        if amps is not None:
            amps = max(amps, 30.0 if zone == "site" else 10.0)  # what is not ours is not ours to cut
            self.loop.limits = (Limit(LimitKind.IMPORT, zone, "dso", value_a=PerPhase.same(amps)),)
        self.outside_s = self.plant.t_s

    @rule(meter=st.sampled_from(["grid", "left"]), dead=st.booleans())
    def meter_dies_or_returns(self, meter, dead):
        if dead:
            self.loop.cut_meters.add(meter)
        else:
            self.loop.cut_meters.discard(meter)

    @invariant()
    def nothing_tripped(self):
        if hasattr(self, "loop"):
            assert self.loop.judge.tripped == {}


TestAnySite = AnySite.TestCase
TestAnySite.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.soak
def test_any_site_for_long():
    """The same over ten thousands of control steps more, along other paths."""
    run_state_machine_as_test(AnySite, settings=settings(TestAnySite.settings, max_examples=400, derandomize=False))
