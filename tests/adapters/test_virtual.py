"""Meters worked out from others: sums per phase, ages, fallbacks, and what is never guessed."""

import pytest

import adapters
from adapters.virtual import cars
from cem.config.formula import terms
from cem.config.models import Device
from cem.core.state import EvseState, Measurement
from cem.core.units import PerPhase


class Clock:
    now_s = 100.0

    def monotonic_s(self):
        return self.now_s


class Rig:
    def __init__(self, *formulas, choose="trust", **more):
        connection = {"kind": "virtual", "formulas": list(formulas), "choose": choose}
        device = Device.model_validate({"id": "house", "role": "household_meter", "connection": connection, **more})
        self.clock, self.read, self.news = Clock(), {}, 0
        self.adapter = adapters.create("virtual", [device], self.clock, self.told, lambda: self.read)

    def told(self):
        self.news += 1

    def put(self, name, power=None, *, total=None, age_s=0.0, current=None, **more):
        power = None if power is None else PerPhase.of(power)
        total = power.total if total is None and power is not None else total
        current = None if current is None else PerPhase.of(current)
        self.read[name] = Measurement(name, self.clock.now_s - age_s, current, power, total, **more)

    @property
    def house(self):
        return self.adapter.measurements().get("house")


def test_the_house_is_what_the_rest_leaves():
    rig = Rig("grid - pv - battery - cars")
    rig.put("grid", (1000, -500, 200), age_s=1.0)
    rig.put("pv", (-1000, -1000, -1000), age_s=3.0)
    rig.put("battery", (300, 300, 300))
    assert rig.house is None
    assert "none of its formulas" in rig.adapter.problems()["house"]
    rig.put("cars", (700, 0, 0))
    assert rig.house.power_w == (1000, 200, 900)
    assert rig.house.total_power_w == 2100
    assert rig.house.taken_s == 97.0  # as old as its oldest term
    assert rig.adapter.problems() == {}


def test_a_total_alone_gives_no_phases():
    rig = Rig("grid - pv")
    rig.put("grid", (1000, 0, 0), current=(5, 0, 0))
    rig.put("pv", total=-2000)
    assert (rig.house.power_w, rig.house.current_a, rig.house.total_power_w) == (None, None, 3000)


def test_a_second_meter_stands_in_and_the_first_takes_over_again(caplog):
    rig = Rig("main", "spare", "a + b")
    for name in ("main", "spare", "a", "b"):
        rig.put(name, (1, 2, 3), energy_wh=10.0)
    rig.put("main", (100, 200, 300), energy_wh=55.0)
    assert (rig.house.power_w, rig.house.energy_wh, rig.news) == ((100, 200, 300), 55.0, 0)
    rig.clock.now_s += 9.0
    rig.put("spare", (1, 2, 3))
    rig.put("a", (10, 10, 10))
    rig.put("b", (5, 5, 5))
    assert rig.house.power_w == (1, 2, 3)
    assert rig.adapter.problems()["house"] == "house: 'main' cannot be worked out; 'spare' stands in"
    del rig.read["spare"]
    assert rig.house.power_w == (15, 15, 15)
    assert rig.house.energy_wh is None  # a sum of counters is no counter
    for _ in range(5):
        assert rig.house is not None
    rig.put("main", (100, 200, 300))
    assert rig.house.power_w == (100, 200, 300)
    assert rig.news == 3
    assert [r.getMessage() for r in caplog.records] == [
        "house: 'main' cannot be worked out; 'spare' stands in",
        "house: 'main' cannot be worked out; 'a + b' stands in",
        "house: worked out by 'main' again",
    ]


def test_three_meters_of_one_point_vote_and_a_wrong_one_is_told():
    rig = Rig("a", "b", "c", choose="vote")
    for name, watts in (("a", 9000.0), ("b", 3050.0), ("c", 3000.0)):
        rig.put(name, (watts / 3,) * 3)
    assert rig.house.total_power_w == pytest.approx(3050)
    assert rig.adapter.problems() == {}  # a load may just have changed
    rig.clock.now_s += 31
    for name, watts in (("a", 9000.0), ("b", 3050.0), ("c", 3000.0)):
        rig.put(name, (watts / 3,) * 3)
    assert rig.house.total_power_w == pytest.approx(3050)
    assert "'a' is 1983 W away from 'b', which counts" in rig.adapter.problems()["house"]
    rig.put("a", (1020.0,) * 3)
    assert rig.house.total_power_w == pytest.approx(3050)
    assert rig.adapter.problems() == {}


def test_of_two_that_differ_the_one_that_draws_more_counts_and_one_alone_goes_on():
    rig = Rig("a", "b", choose="vote")
    rig.put("a", (100.0, 200.0, 300.0))
    rig.put("b", (200.0, 300.0, 500.0))
    assert rig.house.power_w == (200, 300, 500)
    rig.put("b", (0.0, 0.0, 0.0))
    assert rig.house.power_w == (100, 200, 300)
    rig.clock.now_s += 9
    rig.put("b", (0.0, 0.0, 50.0))
    assert rig.house.power_w == (0, 0, 50)
    assert "'a' cannot be worked out and has no vote" in rig.adapter.problems()["house"]


def test_phases_that_sum_to_the_same_are_still_apart():
    rig = Rig("a", "b", choose="vote")
    for _ in range(2):
        rig.put("a", (3000.0, -3000.0, 0.0))
        rig.put("b", (0.0, 0.0, 0.0))
        assert rig.house is not None
        rig.clock.now_s += 31
    assert "W away from" in rig.adapter.problems()["house"]


def test_with_nothing_left_the_last_value_stays_and_grows_old():
    rig = Rig("main")
    rig.put("main", (1, 1, 1))
    taken_s = rig.house.taken_s
    rig.clock.now_s += 60.0
    assert rig.house.taken_s == taken_s
    assert "house" in rig.adapter.problems()


def test_a_slow_term_is_fresh_for_three_periods():
    rig = Rig("main", poll_s=10)
    rig.put("main", (1, 1, 1), age_s=29.0)
    assert rig.house is not None
    assert Rig("main", poll_s=10).house is None


def evse(**more):
    known = {"online": True, "connected": True, "charging": True, "in_force_a": 16.0}
    return EvseState("A/1", **{**known, **more})


def test_cars_are_counted_while_their_reports_are_young():
    drawing = evse(measured_a=PerPhase(10, 10, 10), measured_s=90.0, report_interval_s=10.0)
    idle = evse(charging=False)
    found = cars([drawing, drawing, idle], 100.0, 230.0)
    assert (found.current_a, found.total_power_w, found.taken_s) == ((20, 20, 20), 13_800, 100.0)
    assert cars([drawing], 111.0, 230.0) is None
    assert cars([drawing, evse()], 100.0, 230.0) is None  # draws and is not measured
    assert cars([idle, evse(online=False, charging=False)], 100.0, 230.0) is None
    assert cars([], 100.0, 230.0).total_power_w == 0


def test_formulas_are_read_strictly():
    assert terms(" grid -pv- battery + x ") == ((1, "grid"), (-1, "pv"), (-1, "battery"), (1, "x"))
    assert terms("-export") == ((-1, "export"),)
    for wrong in ("", "   ", "a b", "a * b", "a -", "a + + b", "2 ^ a", "(a)"):
        with pytest.raises(ValueError, match="write names"):
            terms(wrong)
