"""Energy budgets, unbalance, turned meters and load shed in closed loop; the plant is the judge."""

from datetime import UTC, datetime, timedelta

import pytest

from adapters.simulated.plant import Plant
from cem.core import load_shed
from cem.core.engine import Plan
from cem.core.load_shed import Contact, ContactMemory
from cem.core.site import Evse, Meter, Protection, Site, Zone
from cem.core.timings import Timings
from cem.core.units import PerPhase
from cem.simulate.loop import ClosedLoop
from cem.simulate.sessions import Car
from cem.simulate.stations import StationHabits


def loop_of(evses, *, kind=ClosedLoop, epoch=datetime(2026, 1, 1, tzinfo=UTC), report_s=5.0, rating_a=63.0, **site):
    budget_w = site.pop("energy_budget_w", None)
    zone = Zone(
        "site",
        None,
        Protection(rating_a, "gg", None),
        meter_id="grid",
        fallback_limit_a=12.0,
        uncontrolled_max_a=30.0,
        energy_budget_w=budget_w,
    )
    built = Site("s", 230.0, 3, (zone,), tuple(evses), (Meter("grid"),), **site)
    plant = Plant(built, 1, appliances=False)
    plant.households.clear()
    habits = {evse.evse_id: StationHabits(report_s=report_s) for evse in evses}
    return kind(Plan.of(built, Timings(min_off_s=20.0)), plant, habits, epoch=epoch)


def three_phase(*names, **more):
    return [Evse(f"{name}/1", name, "site", 1, rotation=(0, 1, 2), **more) for name in names]


def one_phase(**phases):
    return [
        Evse(f"{name}/1", name, "site", 1, phases=1, rotation=(phase,), max_a=32.0) for name, phase in phases.items()
    ]


def reason(loop, name):
    ids = [evse.evse_id for evse in loop.plan.site.evses]
    return loop.decision.binding(loop.plan, ids.index(f"{name}/1")).code


class TestBudget:
    """The mean of every clock quarter, from the plant's own register."""

    EPOCH = datetime(2026, 1, 1, 0, 0, tzinfo=UTC)

    def quarters(self, loop, count, each=lambda k: None):
        means = []
        for k in range(count):
            before = loop.plant.import_wh["site"]
            each(k)
            loop.run(loop.plant.t_s + 900.0)
            means.append((loop.plant.import_wh["site"] - before) * 4)
        return means

    def test_every_quarter_stays_below_and_uses_nearly_all(self):
        loop = loop_of(three_phase("A", "B"), energy_budget_w=15_000.0)
        for name in "AB":
            loop.plug(f"{name}/1", Car())
        means = self.quarters(loop, 3)
        assert max(means) <= 15_000.0
        assert means[1] > 0.95 * 15_000.0
        assert means[2] > 0.95 * 15_000.0
        assert loop.tally.pauses == 0
        seen = set()
        loop.run(loop.plant.t_s + 60.0, lambda loop: seen.add(reason(loop, "A")))
        assert "energy_budget" in seen

    def test_a_kettle_late_in_the_quarter_is_made_up_for(self):
        loop = loop_of(three_phase("A", "B"), energy_budget_w=15_000.0)
        for name in "AB":
            loop.plug(f"{name}/1", Car())
        loop.run(900.0)
        before_wh = loop.plant.import_wh["site"]
        loop.run(900.0 + 600.0)
        loop.plant.add_load("site", PerPhase.same(20 * 230.0), 120.0)
        loop.run(1800.0)
        assert loop.plant.import_wh["site"] - before_wh <= 15_000.0 / 4

    def test_a_lost_meter_counts_at_its_worst(self):
        loop = loop_of(three_phase("A", "B"), energy_budget_w=15_000.0)
        for name in "AB":
            loop.plug(f"{name}/1", Car())
        loop.run(1000.0)
        loop.cut_meters.add("grid")
        loop.run(1300.0)
        loop.cut_meters.clear()
        loop.run(1400.0)
        assert loop.setpoint_a("A/1") == 0.0  # five minutes that may have been full load: the quarter is spent
        assert reason(loop, "A") in {"energy_budget", "minimum_off_time"}
        loop.run(1900.0)
        assert loop.setpoint_a("A/1") >= 6.0

    def test_nothing_is_known_of_the_time_before_the_start(self):
        loop = loop_of(three_phase("A"), energy_budget_w=10_000.0, epoch=self.EPOCH + timedelta(minutes=14))
        loop.plug("A/1", Car())
        loop.run(50.0)
        assert loop.setpoint_a("A/1") == 0.0
        loop.run(150.0)
        assert loop.setpoint_a("A/1") > 6.0


class Unbalance:
    """The largest difference between two phases over each stretch, and how long it was above a limit."""

    def __init__(self, loop, limit_a):
        self.limit_a, self.longest_s, self._now_s, self.worst_a = limit_a, 0.0, 0.0, 0.0
        loop.watchers.append(self.watch)

    def watch(self, loop, dt_s):
        amps = loop.plant.zone_current_a("site")
        apart_a = max(amps) - min(amps)
        self.worst_a = max(self.worst_a, apart_a)
        self._now_s = self._now_s + dt_s if apart_a > self.limit_a + 0.05 else 0.0
        self.longest_s = max(self.longest_s, self._now_s)


class TestUnbalance:
    def test_one_phase_cars_alone_and_together(self):
        loop = loop_of(one_phase(A=0, B=1, C=2), unbalance_a=20.0)
        seen = Unbalance(loop, 20.0)
        loop.plug("A/1", Car(phases=1))
        loop.run(200.0)
        assert 19.0 <= loop.setpoint_a("A/1") <= 20.0
        assert reason(loop, "A") == "unbalance"
        loop.plug("B/1", Car(phases=1))
        loop.plug("C/1", Car(phases=1))
        loop.run(500.0)
        assert [loop.setpoint_a(f"{name}/1") for name in "ABC"] == [32.0, 32.0, 32.0]  # they hold each other up
        assert seen.longest_s == 0.0

    def test_a_car_that_leaves_takes_its_support_along(self):
        loop = loop_of(one_phase(A=0, B=1, C=2), unbalance_a=20.0)
        for name in "ABC":
            loop.plug(f"{name}/1", Car(phases=1))
        loop.run(400.0)
        seen = Unbalance(loop, 20.0)
        loop.unplug("C/1")
        loop.run(500.0)
        assert seen.longest_s <= 10.0
        assert loop.setpoint_a("A/1") <= 20.0

    def test_a_three_phase_car_adds_nothing(self):
        loop = loop_of(three_phase("A"), unbalance_a=20.0)
        loop.plant.add_load("site", PerPhase(18 * 230.0, 0.0, 0.0), 1e9)
        loop.plug("A/1", Car())
        loop.run(200.0)
        assert loop.setpoint_a("A/1") == 32.0

    def test_the_house_counts(self):
        loop = loop_of(one_phase(A=0), unbalance_a=20.0)
        seen = Unbalance(loop, 20.0)
        loop.plant.add_load("site", PerPhase(12 * 230.0, 3 * 230.0, 8 * 230.0), 1e9)
        loop.plug("A/1", Car(phases=1))
        loop.run(200.0)
        assert 10.0 <= loop.setpoint_a("A/1") <= 11.0  # 3 + 20 - 12
        assert seen.longest_s == 0.0

    def test_a_one_phase_car_at_a_three_phase_point_is_found_by_its_report(self):
        loop = loop_of(three_phase("A"), unbalance_a=20.0)
        seen = Unbalance(loop, 20.0)
        loop.plug("A/1", Car(phases=1))
        loop.run(200.0)
        assert 19.0 <= loop.setpoint_a("A/1") <= 20.0
        assert seen.longest_s <= 15.0
        assert loop.tally.pauses == 0


class TurnedMeter(ClosedLoop):
    """Its current transformers are on backwards."""

    turned = True

    def _read_meters(self, now_s):
        known = dict(self._read)
        super()._read_meters(now_s)
        for name, sample in self._read.items():
            if self.turned and sample is not known.get(name):
                amps = PerPhase.of(-a for a in sample.current_a)
                power = PerPhase.of(-w for w in sample.power_w)
                values = {field: getattr(sample, field) for field in sample.__dataclass_fields__}
                values |= {"current_a": amps, "power_w": power, "total_power_w": power.total}
                self._read[name] = type(sample)(**values)


class TestTurnedMeter:
    def test_m6_is_found_and_held_at_the_fallback(self):
        loop = loop_of(three_phase("A", "B", "C"), kind=TurnedMeter)
        loop.plant.add_load("site", PerPhase.same(10 * 230.0), 1e9)
        loop.run(60.0)
        for k, name in enumerate("ABC"):
            loop.plug(f"{name}/1", Car())
            loop.run(60.0 * (k + 2))
        loop.run(400.0)
        assert loop.decision.envelopes.implausible.tolist() == [True]
        assert reason(loop, "A") == "meter_implausible"
        assert sum(loop.setpoint_a(f"{name}/1") for name in "ABC") <= 12.0
        assert loop.judge.tripped == {}

    def test_m6_a_single_car_is_enough_after_five_minutes(self):
        loop = loop_of(three_phase("A"), kind=TurnedMeter)
        loop.plant.add_load("site", PerPhase.same(10 * 230.0), 1e9)
        loop.run(60.0)
        loop.plug("A/1", Car())
        loop.run(60.0 + 60.0 + 310.0)
        assert loop.decision.envelopes.implausible.tolist() == [True]


@pytest.mark.parametrize("amps", [0.0, 20.0])
def test_d6_a_contact_stops_all_cars_within_a_cycle_and_they_wait_for_its_release(amps):
    contact = Contact("fire alarm", "site", release_delay_s=30.0)
    loop = loop_of(three_phase("A", "B"))
    loop.plant.add_load("site", PerPhase.same(amps * 230.0), 1e9)
    closed = {"now": False}
    memory = ContactMemory.start(0.0)

    def cycle(loop):
        nonlocal memory
        memory = load_shed.step(contact, memory, closed["now"], loop.plant.t_s)
        limit = load_shed.limit(contact, memory)
        loop.limits = () if limit is None else (limit,)

    loop.run(2.0, cycle)
    for name in "AB":
        loop.plug(f"{name}/1", Car())
    loop.run(100.0, cycle)
    assert loop.setpoint_a("A/1") >= 16.0
    closed["now"] = True
    loop.run(102.0, cycle)
    assert [loop.setpoint_a(f"{name}/1") for name in "AB"] == [0.0, 0.0]
    assert reason(loop, "A") == "load_shed"
    closed["now"] = False
    loop.run(131.0, cycle)
    assert loop.setpoint_a("A/1") == 0.0
    loop.run(200.0, cycle)
    assert loop.setpoint_a("A/1") >= 16.0
