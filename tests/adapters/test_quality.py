"""Plausibility of samples, whatever protocol brought them (FAULTS.md M4, M7, M8, M9, M11)."""

import math

import pytest

from adapters.quality import EnergyCounter, QualityCheck, Sample
from cem.config.models import Device
from cem.core.state import Measurement


def check(*, role="grid_meter", **more) -> QualityCheck:
    connection = {"kind": "modbus_tcp", "host": "127.0.0.1"}
    return QualityCheck(Device.model_validate({"id": "m", "role": role, "connection": connection, **more}))


def sample(*, coherent=True, unsigned=False, **changes) -> Sample:
    values = {
        "voltage_l1_v": 230.0, "voltage_l2_v": 230.0, "voltage_l3_v": 230.0,
        "current_l1_a": 10.0, "current_l2_a": 5.0, "current_l3_a": 1.0,
        "power_l1_w": 2300.0, "power_l2_w": 1150.0, "power_l3_w": 230.0, "total_power_w": 3680.0,
        "frequency_hz": 50.0,
    }  # fmt: skip
    values.update(changes)
    return Sample(7.0, {k: v for k, v in values.items() if v is not None}, coherent, unsigned)


def good(outcome) -> Measurement:
    assert isinstance(outcome, Measurement), outcome
    return outcome


def test_a_good_sample():
    found = good(check().judge(sample()))
    assert found.current_a == (10, 5, 1)
    assert found.taken_s == 7.0
    assert found.total_power_w == 3680


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_m4_a_phase_that_is_lost_makes_the_sample_missing(value):
    judge = check().judge
    good(judge(sample()))
    assert "current reads as not available" in judge(sample(current_l2_a=value))
    good(judge(sample()))


def test_m4_what_a_device_never_gave_is_not_asked_for():
    judge = check().judge
    for _ in range(2):
        found = good(judge(sample(current_l2_a=math.nan)))
        assert found.current_a is None  # not 0
        assert found.power_w == (2300, 1150, 230)


def test_m7_magnitudes_take_their_sign_from_the_phases_power():
    found = good(check().judge(sample(unsigned=True, power_l2_w=-1150.0, total_power_w=1380.0)))
    assert found.current_a == (10, -5, 1)


def test_m7_without_power_magnitudes_are_import_even_when_inverted():
    no_power = {"power_l1_w": None, "power_l2_w": None, "power_l3_w": None, "total_power_w": None}
    assert good(check(invert=True).judge(sample(unsigned=True, **no_power))).current_a == (10, 5, 1)
    assert good(check(invert=True).judge(sample(**no_power))).current_a == (-10, -5, -1)


def test_m7_reactive_current_is_no_export():
    """10 A at -50 W is reactive: it loads the fuse, nobody may count on it."""
    found = good(check().judge(sample(power_l1_w=-50.0, total_power_w=1330.0)))
    assert found.current_a.l1 == 10


@pytest.mark.parametrize("volts", [0.0, 3.0])
def test_m9_a_dead_phase_is_a_lost_meter(volts):
    assert "check the meter's voltage tap" in check().judge(sample(voltage_l3_v=volts))


def test_m9_a_sleeping_inverter_is_not_a_lost_meter():
    night = {f"voltage_l{n}_v": 0.0 for n in (1, 2, 3)} | {f"current_l{n}_a": 0.0 for n in (1, 2, 3)}
    night |= {f"power_l{n}_w": 0.0 for n in (1, 2, 3)} | {"total_power_w": 0.0, "frequency_hz": 0.0}
    found = good(check(role="pv").judge(sample(**night)))
    assert found.total_power_w == 0
    assert found.voltage_v is None


def test_m4_an_inverter_that_stops_telling_its_currents_at_night_stays():
    judge = check(role="pv").judge
    good(judge(sample()))
    found = good(judge(sample(current_l1_a=math.nan, current_l2_a=math.nan, current_l3_a=math.nan)))
    assert found.current_a is None
    assert "total power reads as not available" in judge(sample(total_power_w=math.nan))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"voltage_l1_v": 2300.0}, "voltage on its terminal 1 reads 2300.0 V"),
        ({"voltage_l1_v": 60.0}, "voltage on its terminal 1"),
        ({"frequency_hz": 16.7}, "frequency reads 16.70 Hz"),
        ({"total_power_w": 36_800.0}, "its phases sum to 3680 W"),
        ({"power_l1_w": 23_000.0, "total_power_w": 24_380.0}, "terminal 1 reads 23000 W at 230 V and 10.0 A"),
    ],
)
def test_m11_values_that_cannot_be(changes, reason):
    assert reason in check().judge(sample(**changes))


def test_m11_values_of_different_moments_are_not_compared():
    good(check().judge(sample(coherent=False, total_power_w=9999.0, power_l1_w=9000.0)))


def test_sign_phases_and_single_phase():
    found = good(check(invert=True, phase_order="L3L1L2").judge(sample()))
    assert found.current_a == (-5, -1, -10)  # terminal 1 on L3, 2 on L1, 3 on L2
    assert found.power_w == (-1150, -230, -2300)
    assert found.voltage_v == (230, 230, 230)
    one = good(check(role="pv", phases=1, phase_order="L2L3L1").judge(sample(total_power_w=-2300.0, power_l1_w=None)))
    assert one.current_a == (0, -10, 0)
    assert one.voltage_v is None  # of the other phases it knows nothing


@pytest.mark.parametrize(("soc", "expected"), [(0.0, 0.0), (55.5, 55.5), (100.0, 100.0), (655.35, None), (-1.0, None)])
def test_state_of_charge(soc, expected):
    assert good(check(role="battery").judge(sample(soc_percent=soc))).soc_percent == expected


def test_nothing_readable_is_no_measurement():
    assert "none of its values is readable" in check().judge(Sample(1.0, {"current_l1_a": math.nan}))


def test_m8_a_counter_that_falls_is_believed_after_two_rising_reads():
    counter = EnergyCounter()
    assert [counter.accept(v) for v in (None, 100, 110)] == [None, 100, 110]
    assert counter.accept(0) == 110  # a glitch
    assert counter.accept(120) == 120
    assert [counter.accept(v) for v in (5, 5, 6, 6, 7, 8)] == [120, 120, 120, 120, 7, 8]
    assert counter.accept(-1) == 8
    assert counter.accept(None) == 8
