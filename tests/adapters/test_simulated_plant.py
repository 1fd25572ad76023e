"""Plant physics: lag, wiring, sums of zones, and that the same seed gives the same day."""

import itertools
import random

import pytest

from adapters.simulated.ev import Ev, EvType
from adapters.simulated.household import Cloud, Household, Sky
from adapters.simulated.plant import Plant
from cem.core.site import Evse, Protection, Resource, ResourceKind, Site, Zone
from cem.core.units import PerPhase


def make_site(**changes) -> Site:
    zones = (
        Zone("main", None, Protection(63), uncontrolled_max_a=25.0),
        Zone("garage", "main", Protection(32)),
    )
    evses = (
        Evse("A/1", "A", "garage", 1, rotation=(1, 2, 0)),
        Evse("B/1", "B", "garage", 1, phases=1, rotation=(2,)),
    )
    resources = (
        Resource("pv", ResourceKind.PV, "main", 6000.0),
        Resource("battery", ResourceKind.BATTERY, "main", 3000.0),
    )
    return Site("test", 230.0, 3, zones, evses, resources=changes.get("resources", resources))


@pytest.mark.parametrize("dt_s", [0.05, 0.1, 0.5])
def test_ninety_five_percent_of_a_step_within_five_seconds_and_not_at_once(dt_s):
    rng = random.Random(7)
    for _ in range(50):
        kind = EvType.pick(rng)
        ev = Ev(kind)
        for _ in range(round(30 / dt_s)):
            ev.step(10.0, dt_s, 230.0)
        low_a, t_s = ev.current_a, 0.0
        high_a = ev.wanted_a(32.0)
        reached_s = None
        while t_s < 5.0:
            ev.step(32.0, dt_s, 230.0)
            t_s += dt_s
            if reached_s is None and ev.current_a >= low_a + 0.95 * (high_a - low_a):
                reached_s = t_s
        assert reached_s is not None
        assert abs(reached_s - kind.settle_s) <= 2 * dt_s + 0.2
        assert reached_s >= 0.5


def test_below_six_amps_it_pauses_and_a_full_car_takes_nothing():
    ev = Ev(EvType(need_wh=100.0, settle_s=1.0))
    for _ in range(100):
        ev.step(5.9, 0.1, 230.0)
    assert ev.current_a == 0.0
    for _ in range(3000):
        ev.step(32.0, 0.1, 230.0)
    assert ev.full
    assert ev.current_a == 0.0


def test_it_never_draws_more_than_its_pilot_or_its_charger():
    ev = Ev(EvType(max_a=16.0, need_wh=1e6))
    for pilot_a in (32.0, 8.0, 16.0, 6.0):
        for _ in range(200):
            ev.step(pilot_a, 0.1, 230.0)
        assert 0.9 * min(16.0, pilot_a) <= ev.current_a <= min(16.0, pilot_a)


def test_an_evse_loads_the_grid_phases_it_is_wired_to():
    plant = Plant(make_site(resources=()), appliances=False)
    base = plant.zone_current_a("garage")
    assert base == PerPhase.same(0.0)
    plant.points["A/1"].plug(EvType(phases=2, need_wh=1e6, draw=1.0, max_a=16.0))
    plant.points["A/1"].pilot_a = 16.0
    for _ in range(200):
        plant.step(0.1)
    assert plant.points["A/1"].own_current_a == pytest.approx((16.0, 16.0, 0.0), abs=0.1)
    assert plant.zone_current_a("garage") == pytest.approx((0.0, 16.0, 16.0), abs=0.1)  # own 1, 2 -> grid L2, L3
    plant.points["B/1"].plug(EvType(phases=1, need_wh=1e6, draw=1.0, max_a=10.0))
    plant.points["B/1"].pilot_a = 10.0
    for _ in range(200):
        plant.step(0.1)
    assert plant.zone_current_a("garage") == pytest.approx((0.0, 16.0, 26.0), abs=0.2)
    house = [w / 230.0 for w in plant.household_power_w("main")]
    assert plant.zone_current_a("main") == pytest.approx(
        [a + b for a, b in zip((0, 16, 26), house, strict=True)], abs=0.2
    )


def test_the_wiring_of_an_unknown_rotation_is_drawn_by_the_seed():
    site = Site("x", 230.0, 3, (Zone("main", None, Protection(63)),), (Evse("A/1", "A", "main", 1, rotation=None),))
    wirings = {Plant(site, seed).points["A/1"].rotation for seed in range(30)}
    assert len(wirings) == 6
    assert Plant(site, 3).points["A/1"].rotation == Plant(site, 3).points["A/1"].rotation


def test_the_household_is_unbalanced_steps_and_stays_inside_its_worst_case():
    household = Household(3, 25.0)
    rows = [household.power_w(t) for t in range(3600)]
    assert max(max(row) for row in rows) <= 25.0 * 230.0
    assert min(min(row) for row in rows) > 0
    assert max(abs(b - a) for x, y in itertools.pairwise(rows) for a, b in zip(x, y, strict=True)) > 1200
    assert max(max(row) - min(row) for row in rows) > 1500
    assert rows == [Household(3, 25.0).power_w(t) for t in range(3600)]
    calm = Household(3, 25.0, appliances=False)
    assert max(max(calm.power_w(t)) for t in range(3600)) < 0.3 * 25.0 * 230.0


def test_no_appliance_is_on_in_a_quiet_time():
    household, calm = Household(3, 25.0, quiet=((100.0, 900.0),)), Household(3, 25.0, appliances=False)
    assert all(household.power_w(t) == calm.power_w(t) for t in range(100, 900))
    assert any(household.power_w(t) != calm.power_w(t) for t in range(900, 1800))


def test_a_household_at_its_worst():
    household = Household(3, 25.0)
    household.worst = True
    assert household.power_w(5.0) == PerPhase.same(25.0 * 230.0)


def test_pv_follows_the_sky_and_the_battery_brings_the_meter_towards_zero():
    sky = Sky(1, (Cloud(60.0, 40.0, 0.8),), own=False)
    plant = Plant(make_site(), sky=sky, appliances=False)
    for _ in range(500):
        plant.step(0.1)
    sunny_w = plant.inverters["pv"].power_w
    assert -6000.0 <= sunny_w < -5500.0
    assert plant.inverters["battery"].power_w > 500.0  # charges what is left over
    while plant.t_s < 80.0:
        plant.step(0.1)
    assert plant.inverters["pv"].power_w == pytest.approx(0.2 * sunny_w, rel=0.05)
    assert abs(plant.zone_power_w("main").total) < 300.0
    plant.inverters["pv"].running = False
    plant.step(0.1)
    assert plant.inverters["pv"].power_w == 0.0


def test_a_load_step_ends_by_itself():
    plant = Plant(make_site(resources=()), appliances=False)
    before = plant.zone_current_a("main")
    plant.add_load("main", PerPhase(0.0, 4600.0, 0.0), 2.0)
    plant.step(0.5)
    assert plant.zone_current_a("main").l2 == pytest.approx(before.l2 + 20.0, abs=0.5)
    for _ in range(5):
        plant.step(0.5)
    assert plant.zone_current_a("main").l2 == pytest.approx(before.l2, abs=0.5)
