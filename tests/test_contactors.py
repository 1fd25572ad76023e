"""Contactors at every cycle: what opens them, what closes them again, and what is told (faults D6 and S4)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cem.contactors import DEAF_S, LATCH_S, Contactors, built
from cem.core.engine import EngineMemory, Plan, decide
from cem.core.limits import Limit, LimitKind, Origin
from cem.core.site import Evse, Protection, Site, Zone
from cem.core.state import EvseState, SiteState
from cem.core.timings import Timings
from cem.core.units import PerPhase

SITE = Site(
    "s",
    230.0,
    3,
    (
        Zone("root", None, Protection(63.0)),
        Zone("row", "root", Protection(40.0)),
        Zone("yard", "root", Protection(40.0)),
    ),
    (Evse("A/1", "A", "row", 1, rotation=(0, 1, 2)), Evse("B/1", "B", "yard", 1, rotation=(0, 1, 2))),
    (),
)
PLAN = Plan.of(SITE, Timings())


def shed(zone, value_w=None):
    zero = PerPhase.same(0.0) if value_w is None else None
    return Limit(LimitKind.LOAD, zone, "fire", value_w=value_w, value_a=zero, origin=Origin.LOAD_SHED)


class Rig:
    def __init__(self, opens_after_s=5.0):
        self.now_s, self.memory = 1000.0, EngineMemory.none(PLAN, PLAN.max_a * 0, 1000.0)
        self.closed, self.events, self.limits = {}, [], ()
        self.obeys, self.here = True, True
        self.set_a = 0.0
        self.contactors = Contactors(
            [built(PLAN, "k1", ["A"], opens_after_s)], self.closed.__setitem__, self.events.append
        )

    def run(self, seconds):
        for _ in range(seconds):
            self.now_s += 1.0
            live = self.here and self.closed.get("k1", True)
            drawn = (min(self.set_a, 16.0) if self.obeys else 16.0) if live else 0.0
            a = EvseState(
                "A/1", online=True, connected=self.here, charging=self.here, in_force_a=self.set_a,
                confirmed_a=self.set_a, confirmed_s=self.now_s, measured_a=PerPhase.same(drawn), measured_s=self.now_s,
                report_interval_s=1.0, since_s=0.0 if self.here else None,
            )  # fmt: skip
            b = replace(
                a, evse_id="B/1", charging=False, connected=False, in_force_a=0.0, measured_a=PerPhase.same(0.0)
            )
            utc = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=self.now_s)
            state = SiteState(self.now_s, utc, {}, (a, b), self.limits)
            decision, self.memory = decide(PLAN, state, self.memory)
            self.set_a = float(decision.setpoint_a[0])
            self.contactors.apply(state, decision)

    def told(self):
        return [event.text for event in self.events]


@pytest.mark.parametrize(("zone", "opens"), [("root", True), ("row", True), ("yard", False)])
def test_d6_a_shed_in_its_zone_opens_it_after_limits_had_their_time(zone, opens):
    rig = Rig()
    rig.run(5)
    assert rig.closed == {"k1": True}
    rig.limits = (shed(zone),)
    rig.run(5)
    assert rig.closed == {"k1": True}, "limits come first"
    rig.run(2)
    assert rig.closed == {"k1": not opens}
    rig.limits = ()
    rig.run(1)
    assert rig.closed == {"k1": True}
    assert rig.told() == (["contactor k1 opens: fire sheds load", "contactor k1 closes again"] if opens else [])


def test_ripple_control_that_leaves_power_opens_nothing():
    rig = Rig()
    rig.limits = (shed("root", 4200.0),)
    rig.run(20)
    assert rig.closed == {"k1": True}
    assert rig.events == []


def test_s4_a_station_that_ignores_its_limit_is_taken_off_until_its_car_is_gone():
    rig = Rig()
    rig.run(30)
    assert rig.set_a > 6
    rig.obeys = False
    rig.limits = (Limit(LimitKind.LOAD, "row", "dso", value_a=PerPhase.same(6.0)),)
    rig.run(30)
    assert rig.closed == {"k1": True}
    rig.run(90)
    assert rig.closed == {"k1": False}
    rig.run(60)
    assert rig.closed == {"k1": False}, "it would only begin again"
    rig.here = False
    rig.run(2)
    assert rig.closed == {"k1": True}
    assert rig.told() == ["contactor k1 opens: A/1 draws beyond its limit", "contactor k1 closes again"]
    assert DEAF_S < LATCH_S
