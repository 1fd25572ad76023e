"""A station that takes no limits is a load: its maximum is reserved, and what is reserved it may have."""

from datetime import UTC, datetime

import pytest

from cem.core.engine import EngineMemory, Plan, decide
from cem.core.reasons import Reason
from cem.core.site import Evse, Meter, Protection, Site, Zone
from cem.core.state import EvseState, Measurement, SiteState
from cem.core.timings import Timings
from cem.core.units import PerPhase


def settle(rating_a, house_a=5.0):
    site = Site(
        "s",
        230.0,
        3,
        (Zone("z", None, Protection(rating_a), meter_id="m", uncontrolled_max_a=20.0),),
        (Evse("A/1", "A", "z", 1, rotation=(0, 1, 2)), Evse("B/1", "B", "z", 1, rotation=(1, 2, 0))),
        (Meter("m"),),
    )
    plan = Plan.of(site, Timings(min_off_s=5.0))
    memory, decision = EngineMemory.none(plan), None
    for now_s in range(60):
        drawn = memory.setpoint_a
        faults = ("takes no charging profile", None)
        evses = tuple(
            EvseState(
                evse.evse_id,
                online=True,
                connected=True,
                charging=True,
                in_force_a=32.0 if fault else float(drawn[i]),
                measured_a=PerPhase.same(float(drawn[i])),
                measured_s=float(now_s),
                report_interval_s=1.0,
                since_s=0.0,
                fault=fault,
            )
            for i, (evse, fault) in enumerate(zip(site.evses, faults, strict=True))
        )
        amps = PerPhase.same(house_a + float(drawn.sum()))
        measured = Measurement("m", float(now_s), current_a=amps, voltage_v=PerPhase.same(230.0))
        state = SiteState(float(now_s), datetime.now(UTC), {"m": measured}, evses)
        decision, memory = decide(plan, state, memory)
    return decision


def test_s3_it_may_have_what_is_reserved_and_others_share_the_rest():
    decision = settle(63.0)
    assert decision.setpoint_a[0] == 32.0
    assert decision.committed_a[0] == 32.0
    assert 6.0 <= decision.setpoint_a[1] <= 63.0 - 5.0 - 32.0
    assert decision.reason[0] == Reason.UNCONTROLLED


@pytest.mark.parametrize("rating_a", [16.0, 30.0])
def test_s3_where_its_maximum_does_not_fit_it_is_asked_to_pause(rating_a):
    decision = settle(rating_a)
    assert decision.setpoint_a.tolist() == [0.0, 0.0]
