"""EVs that feed back: what they give is never room for others, measured or not."""

from datetime import UTC, datetime

import numpy as np

from cem.core.columns import Columns
from cem.core.dc import input_a, output_w
from cem.core.engine import EngineMemory, Plan, decide
from cem.core.observe import Reports, Wiring
from cem.core.site import Evse, Meter, Protection, Site, Zone
from cem.core.state import EvseState, Measurement, SiteState
from cem.core.timings import Timings
from cem.core.units import PerPhase

SITE = Site(
    "s",
    230.0,
    3,
    (Zone("z", None, Protection(32.0), meter_id="m", uncontrolled_max_a=32.0),),
    (
        Evse("V/1", "V", "z", 1, rotation=(1, 2, 0), discharge_a=16.0),
        Evse("A/1", "A", "z", 1, rotation=(0, 1, 2)),
    ),
    (Meter("m"),),
)
UTC0 = datetime(2026, 11, 22, tzinfo=UTC)


def state(now_s, given_a, *, charging=True):
    return EvseState(
        "V/1",
        online=True,
        connected=True,
        charging=charging,
        in_force_a=0.0,
        cloud_limit_a=0.0,
        measured_a=None if given_a is None else PerPhase.same(-given_a),
        measured_s=None if given_a is None else now_s,
    )


def room_of_the_other(house_a, gives_a, told_a):
    """What the second EVSE is given while the first one feeds back, after everything has settled."""
    plan = Plan.of(SITE, Timings())
    memory = EngineMemory.none(plan)
    setpoint = 0.0
    for second in range(120):
        now_s = float(second)
        other = EvseState(
            "A/1",
            online=True,
            connected=True,
            charging=True,
            in_force_a=setpoint,
            measured_a=PerPhase.same(setpoint),
            measured_s=now_s,
            since_s=0.0,
        )
        amps = PerPhase.same(house_a - gives_a + setpoint)
        meter = Measurement("m", now_s, current_a=amps, voltage_v=PerPhase.same(230.0))
        seen = SiteState(now_s, UTC0, {"m": meter}, (state(now_s, told_a), other))
        decision, memory = decide(plan, seen, memory)
        setpoint = float(decision.setpoint_a[1])
    return setpoint


def test_what_an_ev_feeds_back_is_no_room_for_others():
    assert room_of_the_other(house_a=20.0, gives_a=0.0, told_a=0.0) == 12.0
    assert room_of_the_other(house_a=20.0, gives_a=10.0, told_a=10.0) == 12.0


def test_what_it_may_feed_back_unmeasured_is_none_either():
    assert room_of_the_other(house_a=18.0, gives_a=10.0, told_a=None) == 8.0, "it counts as giving 16 A"


def test_subtractable_by_report():
    wiring = Wiring.of(SITE)
    reports = Reports.none(2).heard(Columns.of((state(5.0, 10.0), state(5.0, None))))
    read_s = np.full(2, 5.0)
    assert reports.at(5.0).subtractable(wiring, read_s)[0].tolist() == [-10.0] * 3
    assert reports.at(60.0).subtractable(wiring, read_s)[0].tolist() == [-16.0] * 3, "old: it may be giving all it can"
    idle = reports.heard(Columns.of((state(5.0, 10.0, charging=False), state(5.0, None))))
    assert idle.at(60.0).subtractable(wiring, read_s)[0].tolist() == [0.0] * 3, "nobody is there"


def test_dc_output_and_input():
    amps = input_a(50_000.0, 3, 0.95)
    assert output_w(amps, 3, 0.95, volts=207.0) == 50_000.0
    assert output_w(10.0, 3, 1.0) == 10 * 3 * 253.0
