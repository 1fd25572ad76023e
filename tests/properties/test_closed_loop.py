"""Anything may happen at a site, whatever its policy; the plant's currents are the judge (invariants I1 to I4, I12).

Cars come, go, sleep and wake, stations drop off the line or stop listening, meters die, the sun comes and goes and the
inverter trips, loads and limits step, the site file changes and the controller starts anew. An excess may only ever
follow an outside step (a load, a new limit, a lost inverter) and must end within the stations' and cars' reaction.
"""

from collections import Counter
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from adapters.simulated.ev import EvType
from adapters.simulated.plant import Plant
from cem.core.cycle import RECONNECT_S
from cem.core.engine import EngineMemory, Plan
from cem.core.headroom import EXCESS_A
from cem.core.limits import Limit, LimitKind
from cem.core.reasons import Reason
from cem.core.site import Evse, Meter, Policy, Protection, Resource, ResourceKind, Site, Zone
from cem.core.stack import Hold, stack
from cem.core.timings import Timings
from cem.core.topology import UNRESOLVED_A
from cem.core.units import PerPhase
from cem.simulate.loop import ClosedLoop
from cem.simulate.stations import StationHabits

DEAF_S = 20.0
REACTION_S = 10.0
"""Cycle, delivery and the slowest car: within this an excess of outside cause must be over."""

UNREPORTED_S = 5.0
"""Longer where stations report seldom: a cut counts as followed after 10 s, and what it hid is cut for then."""

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
            "site",
            None,
            Protection(63.0, "gg", None),
            meter_id="grid",
            fallback_limit_a=12.0,
            uncontrolled_max_a=30.0,
            busbar_a=80.0,
        ),
        Zone("left", "site", Protection(25.0), meter_id="left", fallback_limit_a=8.0, uncontrolled_max_a=10.0),
        Zone("right", "site", Protection(32.0), uncontrolled_max_a=0.0),
    ),
    EVSES,
    (Meter("grid", 1.0), Meter("left", 1.0)),
    (Resource("roof", ResourceKind.PV, "site", 12_000.0),),
)
NAMES = [evse.evse_id for evse in EVSES]
WORST_OWN_A = {"site": 20.0, "left": 10.0}
DEAF = ("B/1", "E/1")
"""What these draw at most their zones' devices bear for long; nobody could hold the others without their contactors."""

THEN_S = (0.5, 1.0, 0.5, 7.0)
"""Time between two events: some fall into one cycle. Rules alone pass too little of it, as hypothesis leaves some out."""

STEPS: Counter[str] = Counter()
"""What was lived through."""


class Sun:
    """Light that the machine sets."""

    now = 0.0

    def light(self, _t_s):
        return self.now


class AnySite(RuleBasedStateMachine):
    @initialize(report_s=st.sampled_from([1.0, 10.0, 60.0]), seed=st.integers(0, 1000), policy=st.sampled_from(Policy))
    def start(self, report_s, seed, policy):
        site = replace(SITE, policy=policy)
        self.sun, self.report_s = Sun(), report_s
        self.plant = Plant(site, seed, households=False, sky=self.sun)  # loads step by rule alone
        habits = {name: StationHabits(report_s=report_s) for name in NAMES}
        self.loop = ClosedLoop(Plan.of(site, Timings(min_off_s=20.0)), self.plant, habits, step_s=0.5)
        self.load_a = {"site": [0.0] * 3, "left": [0.0] * 3}
        self.outside_s = -1e9
        self.steps = self.cycles = 0
        self.restarted_s = -1e9
        self.deaf_a = dict.fromkeys(DEAF, 0.0)
        for name in NAMES:  # busy from the start
            self.car_comes(name, 3, 32.0)
        self.loop.run(30.0, self.check)

    def check(self, loop):
        """After every decision: never an order below the minimum, one reason each, cuts first, nobody raised blind."""
        STEPS["cycles"] += 1
        decision = loop.decision
        plan = loop.plan
        on = decision.setpoint_a > 0
        assert (decision.setpoint_a[on] >= plan.min_a[on]).all()
        assert (decision.setpoint_a <= plan.max_a).all()
        self.cycles += 1
        if self.cycles % 5 == 0:
            self.one_true_reason(plan, decision)
        order = decision.sending_order()
        cuts = (decision.setpoint_a < decision.before_a)[order]
        assert not np.any(np.diff(cuts.astype(int)) > 0)
        blind = plan.zones.from_above(decision.envelopes.no_raise)
        assert (decision.setpoint_a[blind] <= decision.before_a[blind]).all()
        self.watch_excess()

    def one_true_reason(self, plan, decision):
        """I12: exactly one constraint binds each, and what is said of it is so."""
        for i, name in enumerate(NAMES):
            lines = stack(plan, decision, i)
            [bound] = [line for line in lines if line.state in {Hold.BINDING, Hold.BLOCKING}]
            reason, had_a = Reason(int(decision.reason[i])), decision.setpoint_a[i]
            charging, online = self.loop.stations[name].charging, self.loop.stations[name].online
            assert (reason is Reason.OFFLINE) is not online, (name, reason)
            if not online or reason is Reason.UNCONTROLLED:
                continue
            assert (reason in {Reason.NO_VEHICLE, Reason.AWAITING_TRANSACTION}) is not charging, (name, reason)
            if not charging:
                continue
            assert (reason is Reason.EVSE_MAXIMUM) is bool(had_a >= plan.max_a[i]), (name, reason, had_a)
            if bound.state is Hold.BINDING and bound.zone_id is not None:
                assert bound.value_a < had_a + 1.0 + UNRESOLVED_A, (name, bound, had_a)  # no room for a step more

    def watch_excess(self):
        unreachable = [name for name, station in self.loop.stations.items() if not station.online]
        if any(max(self.plant.points[name].own_current_a) > 0 for name in unreachable):
            self.outside_s = self.plant.t_s  # nobody can cut a station whose line is down
        for name in DEAF:
            drawn_a = max(self.plant.points[name].own_current_a)
            if not self.obeys(name) and drawn_a > max(self.deaf_a[name], self.loop.setpoint_a(name)) + 0.1:
                self.outside_s = self.plant.t_s  # that it stays up is a load like any other
            self.deaf_a[name] = drawn_a
        if self.plant.t_s - self.restarted_s <= RECONNECT_S + REACTION_S + self.report_s:
            self.outside_s = self.plant.t_s  # what stations held before is not told from other load yet
        over = [
            (zone.zone_id, phase, amps)
            for zone in self.loop.plan.site.zones
            for phase, amps in enumerate(self.plant.zone_current_a(zone.zone_id))
            if amps > self.limit_a(zone, phase) + EXCESS_A and self.anybody_to_cut(zone.zone_id, phase)
        ]
        if over:
            since_s = self.plant.t_s - self.outside_s
            # a cut under way cuts nobody else: only after its time is a station found deaf, by its reports (fault S4)
            unseen = any(self.deaf_a[name] > self.loop.setpoint_a(name) + 1.0 for name in DEAF if not self.obeys(name))
            bound_s = REACTION_S + (DEAF_S + self.report_s if unseen else 0.0)
            bound_s += UNREPORTED_S if self.report_s > 1.0 else 0.0
            assert since_s <= bound_s, f"{over} still above {since_s} s after the last outside step"

    def limit_a(self, zone, phase):
        outside = self.loop._outside_a(zone.zone_id)
        return zone.protection.rating_a if outside is None else min(zone.protection.rating_a, outside[phase])

    def obeys(self, name):
        return self.loop.stations[name].habits.obeys

    def anybody_to_cut(self, zone_id, phase):
        """Somebody draws there who listens; where only the deaf are left, limits can do no more."""
        beneath = {"site": set(NAMES), "left": {"B/1", "C/1"}, "right": {"D/1", "E/1"}}[zone_id]
        return any(self.obeys(name) and self.plant.points[name].grid_current_a[phase] > 0.0 for name in beneath)

    @rule(seconds=st.sampled_from([2.0, 7.0]))
    def a_moment_passes(self, seconds):
        self.loop.run(self.plant.t_s + seconds, self.check)

    @rule(seconds=st.sampled_from([20.0, 45.0, 70.0]))
    def a_while_passes(self, seconds):
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

    @rule(evse=st.sampled_from(NAMES), online=st.booleans())
    def station_line(self, evse, online):
        if online or all(self.obeys(name) for name in DEAF):
            self.loop.stations[evse].online = online

    @rule(zone=st.sampled_from(["site", "left"]), phase=st.integers(0, 2), amps=st.sampled_from([0.0, 5.0, 10.0, 20.0]))
    def load_steps(self, zone, phase, amps):
        amps = min(amps, WORST_OWN_A[zone])
        if amps > self.load_a[zone][phase] and not all(station.online for station in self.loop.stations.values()):
            return  # its expiry alone holds a station whose line is down; whether that is in time is the site file's sum
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

    @rule(light=st.sampled_from([0.0, 0.3, 1.0]), running=st.booleans())
    def sun_or_inverter_changes(self, light, running):
        inverter = self.plant.inverters["roof"]
        if light < self.sun.now or running < inverter.running:
            self.outside_s = self.plant.t_s
        self.sun.now, inverter.running = light, running

    @rule(evse=st.sampled_from(DEAF), obeys=st.booleans())
    def station_stops_listening_or_listens_again(self, evse, obeys):
        station = self.loop.stations[evse]
        if not obeys and not all(station.online for station in self.loop.stations.values()):
            return  # one that cannot be reached beside one that does not listen: only contactors hold both
        if obeys and not station.habits.obeys:
            self.outside_s = self.plant.t_s  # from now on it can be held, as fast as any
        station.habits = replace(station.habits, obeys=obeys)

    @rule(rating_a=st.sampled_from([40.0, 50.0, 63.0]))
    def site_file_changes(self, rating_a):
        """A reload: the same devices under another limit, with all that is remembered of them."""
        site = self.loop.plan.site
        root = replace(site.root, protection=replace(site.root.protection, rating_a=rating_a))
        self.loop.plan = Plan.of(replace(site, zones=(root, *site.zones[1:])), self.loop.plan.timings)
        self.outside_s = self.plant.t_s

    @rule()
    def controller_starts_anew(self):
        """What stations may still hold is known from before, nothing else."""
        self.restarted_s = self.plant.t_s
        self.loop.memory = EngineMemory.none(self.loop.plan, self.loop.memory.setpoint_a, self.plant.t_s)

    @invariant()
    def nothing_tripped(self):
        if hasattr(self, "loop"):
            STEPS["steps"] += 1
            self.steps += 1
            self.loop.run(self.plant.t_s + THEN_S[self.steps % len(THEN_S)], self.check)
            assert self.loop.judge.tripped == {}


SETTINGS = settings(
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.timeout(900)
def test_any_site():
    """Over 5,000 steps of the machine, and many times as many control cycles."""
    STEPS.clear()
    run_state_machine_as_test(AnySite, settings=settings(SETTINGS, max_examples=114, derandomize=True))
    print(dict(STEPS))
    assert STEPS["steps"] >= 5000
    assert STEPS["cycles"] >= 2 * STEPS["steps"]


@pytest.mark.soak
def test_any_site_for_long():
    """The same over hundreds of thousands of control cycles more, along other paths."""
    run_state_machine_as_test(AnySite, settings=settings(SETTINGS, max_examples=800, derandomize=False))
