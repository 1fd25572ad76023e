"""S9: meter values as stations really send them."""

import pytest

from cem.csms.metering import number, read


def values(*samples, at="2026-11-22T10:00:00Z"):
    return [{"timestamp": at, "sampledValue": list(samples)}]


def amps(value, phase=None, **more):
    return {"value": value, "measurand": "Current.Import", **({"phase": phase} if phase else {}), **more}


def watts(value, phase=None, **more):
    return {"value": value, "measurand": "Power.Active.Import", **({"phase": phase} if phase else {}), **more}


@pytest.mark.parametrize(
    ("told", "meant"),
    [("16.0", 16.0), ("16,0", 16.0), (" 7 ", 7.0), (6, 6.0), ("NaN", None), ("inf", None), ("", None), ("x", None), (None, None), (True, None), ("1.2.3", None), (10**400, None)],
)  # fmt: skip
def test_numbers(told, meant):
    assert number(told) == meant


def test_currents_per_phase():
    assert read(values(amps("10", "L1"), amps("11", "L2"), amps("12", "L3")), 3, 230).current_a == (10, 11, 12)
    assert read(values(amps(10, "L1-N"), amps(11, "L2-N"), amps(12, "L3-N")), 3, 230).current_a == (10, 11, 12)


def test_one_phase_told_is_a_single_phase_car_and_two_of_three_are_missing():
    assert read(values(amps("15", "L1")), 3, 230).current_a == (15, 0, 0)
    assert read(values(amps("15", "L1"), amps("NaN", "L2"), amps("14", "L3")), 3, 230).current_a is None
    assert read(values(amps("15", "L1"), amps("14", "L2")), 2, 230).current_a == (15, 14, 0)


def test_power_per_phase_by_voltage():
    told = values(
        watts("2300", "L1"),
        watts("2.3", "L2", unit="kW"),
        watts("0", "L3"),
        {"value": "115", "measurand": "Voltage", "phase": "L1"},
    )
    assert read(told, 3, 230).current_a == (20, 10, 0)


def test_totals_over_the_phases():
    assert read(values(amps("10")), 2, 230).current_a == (10, 10, 0)
    assert read(values(watts("6900")), 3, 230).current_a == (10, 10, 10)


def test_a_multiplier_and_kilo_units():
    told = values({"value": 1.5, "measurand": "Energy.Active.Import.Register", "unitOfMeasure": {"unit": "kWh"}})
    assert read(told, 3, 230).energy_wh == 1500
    told = values({"value": 15, "unitOfMeasure": {"unit": "Wh", "multiplier": 2}})
    assert read(told, 3, 230).energy_wh == 1500
    assert read(values({"value": "1.5", "unit": "kWh"}), 3, 230).energy_wh == 1500


@pytest.mark.parametrize("bad", ["-3", "NaN", "nonsense", None, [], "99999"])
def test_s9_nonsense_is_missing(bad):
    assert read(values(amps(bad, "L1")), 1, 230).current_a is None


@pytest.mark.parametrize(
    "shape", [None, 7, "x", [None], [{}], [{"sampledValue": 5}], [{"sampledValue": [1, None]}], {}]
)
def test_s9_strange_shapes_are_nothing(shape):
    assert read(shape, 3, 230).current_a is None


def test_neutral_line_to_line_signed_and_inlet_are_left_out():
    told = values(
        amps("3", "N"), amps("9", "L1-L2"), amps("8", "L1", location="Inlet"), amps("5", "L1", format="SignedData")
    )
    assert read(told, 3, 230).current_a is None
