"""Meters: faults M1 to M5 and M10 by number."""

from cem.core.meter_health import MeterHealth, MeterMemory, guarding_current, judge, why_lost
from cem.core.site import Meter
from cem.core.state import Measurement
from cem.core.units import PerPhase

METER = Meter("grid", 1.0)


def sample(taken_s, amps=10.0, **more):
    return Measurement("grid", taken_s, current_a=PerPhase.same(amps), **more)


def run(memory, steps, *, ours_a=0.0, hold_off_s=30.0):
    health = None
    for now_s, measurement in steps:
        memory, health = judge(
            METER, memory, measurement, ours_a=ours_a, physical_max_a=35.0, now_s=now_s, hold_off_s=hold_off_s
        )
    return memory, health


def test_never_seen_is_lost_and_three_samples_make_it_good():
    memory, health = run(MeterMemory(), [(0.0, None)])
    assert health is MeterHealth.LOST
    memory, health = run(memory, [(1.0, sample(1.0)), (2.0, sample(2.0))])
    assert health is MeterHealth.HOLD
    _, health = run(memory, [(3.0, sample(3.0))])
    assert health is MeterHealth.GOOD


def test_m1_late_holds_after_3_s_and_is_lost_after_8_s():
    memory, _ = run(MeterMemory(), [(t, sample(t)) for t in (0.0, 1.0, 2.0)])
    healths = {}
    for now_s in (4.9, 5.1, 9.9, 10.1):
        _, healths[now_s] = run(memory, [(now_s, sample(2.0))])
    assert healths == {
        4.9: MeterHealth.GOOD,
        5.1: MeterHealth.HOLD,
        9.9: MeterHealth.HOLD,
        10.1: MeterHealth.LOST,
    }


def test_m1_bounds_follow_the_period_and_never_exceed_a_minute():
    assert (Meter("m", 1.0).stale_after_s, Meter("m", 1.0).safe_after_s) == (3.0, 8.0)
    assert (Meter("m", 10.0).stale_after_s, Meter("m", 10.0).safe_after_s) == (30.0, 50.0)
    assert Meter("m", 15.0).safe_after_s == 60.0


def test_m2_back_again_needs_three_samples_for_use_and_the_hold_off_for_raises():
    memory, _ = run(MeterMemory(), [(t, sample(t)) for t in (0.0, 1.0, 2.0)])
    memory, health = run(memory, [(20.0, sample(2.0))])
    assert health is MeterHealth.LOST
    found = {}
    for t in range(21, 60):
        memory, found[t] = run(memory, [(float(t), sample(float(t), amps=10.0 + t / 100))])
    assert found[22] is MeterHealth.LOST
    assert found[23] is MeterHealth.HOLD
    assert found[50] is MeterHealth.HOLD
    assert found[51] is MeterHealth.GOOD


def test_m3_identical_words_while_our_stations_step_are_a_frozen_meter():
    memory, _ = run(MeterMemory(), [(t, sample(t)) for t in (0.0, 1.0, 2.0)])
    memory, health = run(memory, [(float(t), sample(float(t))) for t in range(3, 30)])
    assert health is MeterHealth.GOOD  # nothing of ours moved: a steady house may read the same
    moved = [(float(t), sample(float(t))) for t in range(30, 89)]
    memory, health = run(memory, moved, ours_a=15.0)
    assert health is MeterHealth.LOST
    assert 88 - 30 < 60


def test_m4_a_sample_without_current_is_missing_not_zero():
    memory, _ = run(MeterMemory(), [(t, sample(t)) for t in (0.0, 1.0, 2.0)])
    memory, health = run(memory, [(11.0, Measurement("grid", 11.0, total_power_w=0.0))])
    assert health is MeterHealth.LOST
    assert memory.current_a == PerPhase.same(10.0)


def test_m5_one_spike_is_ignored_and_two_in_a_row_are_believed():
    memory, _ = run(MeterMemory(), [(t, sample(t)) for t in (0.0, 1.0, 2.0)])
    memory, _ = run(memory, [(3.0, sample(3.0, amps=400.0)), (3.2, sample(3.0, amps=400.0))])
    assert memory.current_a == PerPhase.same(10.0)  # one sample looked at twice is one sample
    memory, _ = run(memory, [(4.0, sample(4.0, amps=400.0))])
    assert memory.current_a == PerPhase.same(400.0)


def test_m10_age_counts_from_the_start_of_the_read():
    _, health = run(MeterMemory(), [(t + 4.0, sample(t)) for t in (0.0, 1.0, 2.0)])
    assert health is MeterHealth.HOLD


def test_power_alone_guards_at_the_lowest_voltage():
    assert guarding_current(Measurement("m", 0.0, power_w=PerPhase.same(2070.0))) == PerPhase.same(10.0)
    by_volts = Measurement("m", 0.0, power_w=PerPhase.same(2300.0), voltage_v=PerPhase.same(230.0))
    assert guarding_current(by_volts) == PerPhase.same(10.0)


def test_each_way_to_be_lost_is_told_as_what_it_is():
    def told(steps, ours_a=0.0, *, implausible=False):
        memory, health = run(MeterMemory(), [(t, sample(t)) for t in (0.0, 1.0, 2.0)])
        memory, health = run(memory, steps, ours_a=ours_a)
        assert implausible or health is MeterHealth.LOST
        return why_lost(memory, steps[-1][1], steps[-1][0], implausible=implausible)

    assert told([(t, sample(2.0)) for t in (5.0, 12.0)]).startswith("no believable value for 10 s")
    assert "the same values" in told([(float(t), sample(float(t))) for t in range(3, 40)], ours_a=20.0)
    empty = [(float(t), Measurement("grid", float(t))) for t in range(3, 15)]
    assert "without a believable current" in told(empty)
    assert "turned round" in told([(3.0, sample(3.0, -10.0))], implausible=True)
    assert why_lost(MeterMemory(), None, 5.0, implausible=False).startswith("no answer since the start")
