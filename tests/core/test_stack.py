"""The limit stack: every constraint in order, exactly one that binds."""

from datetime import UTC, datetime

import pytest

from cem.core.engine import EngineMemory, Plan, decide
from cem.core.limits import Limit, LimitKind
from cem.core.site import Evse, Meter, Protection, Site, Zone
from cem.core.stack import Hold, stack
from cem.core.state import EvseState, Measurement, SiteState
from cem.core.timings import Timings
from cem.core.units import PerPhase

SITE = Site(
    "s",
    230.0,
    3,
    (
        Zone("root", None, Protection(63.0), meter_id="m", uncontrolled_max_a=30.0, import_limit_w=40_000.0),
        Zone("row", "root", Protection(20.0)),
    ),
    (Evse("A/1", "A", "row", 1, rotation=(0, 1, 2)), Evse("B/1", "B", "row", 1, rotation=(1,), phases=1)),
    (Meter("m"),),
)
PLAN = Plan.of(SITE, Timings())


def settle(limits=(), charging=(True, True), cloud=None, wished=None, car=None, seconds=60):
    memory, decision = EngineMemory.none(PLAN), None
    for now_s in range(seconds):
        drawn = memory.setpoint_a if decision is not None else [0.0, 0.0]
        evses = tuple(
            EvseState(
                evse.evse_id,
                online=True,
                connected=charging[i],
                charging=charging[i],
                in_force_a=float(drawn[i]),
                measured_a=PerPhase.of(float(drawn[i]) if p < evse.phases else 0.0 for p in range(3)),
                measured_s=float(now_s),
                report_interval_s=1.0,
                since_s=0.0,
                cloud_limit_a=cloud if i == 0 else None,
                wished_a=wished if i == 0 else None,
                car_a=car if i == 0 else None,
            )
            for i, evse in enumerate(SITE.evses)
        )
        amps = PerPhase(5.0 + drawn[0], 5.0 + drawn[0] + drawn[1], 5.0 + drawn[0])
        measured = Measurement(
            "m", float(now_s), current_a=amps, total_power_w=amps.total * 230, voltage_v=PerPhase.same(230.0)
        )
        state = SiteState(float(now_s), datetime.now(UTC), {"m": measured}, evses, limits)
        decision, memory = decide(PLAN, state, memory)
    return decision


CASES = {
    "fuse": ({}, "zone_current", Hold.BINDING),
    "cloud": ({"cloud": 8.0}, "csms_profile", Hold.BINDING),
    "wish": ({"wished": 8.0}, "wished_limit", Hold.BINDING),
    "the car's word": ({"car": 8.0}, "vehicle_maximum", Hold.BINDING),
    "cloud below the wish": ({"cloud": 8.0, "wished": 9.0}, "csms_profile", Hold.BINDING),
    "cloud pause": ({"cloud": 0.0}, "csms_profile", Hold.BLOCKING),
    "outside": (
        {"limits": (Limit(LimitKind.IMPORT, "root", "dso", value_a=PerPhase.same(5.0)),)},
        "external_limit",
        Hold.BLOCKING,
    ),
    "no vehicle": ({"charging": (False, True)}, "no_vehicle", Hold.BLOCKING),
}


@pytest.mark.parametrize("name", CASES)
def test_exactly_one_constraint_binds_and_it_is_the_right_one(name):
    how, code, held = CASES[name]
    lines = stack(PLAN, settle(**how), 0)
    bound = [line for line in lines if line.state in {Hold.BINDING, Hold.BLOCKING}]
    assert [(line.code, line.state) for line in bound] == [(code, held)]
    assert bound[0].since_s is not None
    assert all(line.since_s is None for line in lines if line not in bound)


def test_what_is_wished_at_most_is_not_passed():
    assert settle(wished=8.5).setpoint_a[0] == 8.0
    assert settle(wished=8.5).setpoint_a[1] > 8.0
    assert settle(wished=5.0).setpoint_a[0] == 0.0  # less than a car can charge with: it pauses


def test_a_car_that_says_it_takes_less_than_can_be_offered_gets_the_least_that_can():
    assert settle(car=0.0).setpoint_a[0] == 6.0


def test_the_stack_goes_from_the_evse_to_the_grid_and_names_each_limit():
    lines = stack(PLAN, settle(), 0)
    zones = [line.zone_id for line in lines if line.zone_id is not None]
    assert zones[0] == "row"
    assert zones[-1] == "root"
    power = next(line for line in lines if line.family == "SUM")
    assert (power.zone_id, power.source, power.state) == ("root", "contract", Hold.OK)
    assert power.value_a > lines[0].value_a * 0.3
