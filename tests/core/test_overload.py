"""The thermal model against the standards' points."""

import math

import pytest

from cem.core.overload import ThermalModel, trip_curve
from cem.core.site import Protection

KINDS = [
    Protection(32, "mcb", "B"),
    Protection(32, "mcb", "C"),
    Protection(63, "gg", None),
    Protection(63, "sls", None),
    Protection(63, "cutoff", None),
]
HOUR_S = 3600.0


@pytest.mark.parametrize("protection", KINDS, ids=lambda p: f"{p.kind}{p.curve or ''}")
def test_holds_and_trips_where_its_standard_says(protection):
    curve = trip_curve(protection)
    cold = ThermalModel.of(protection)
    assert not cold.advance(curve.holds * 0.9999, HOUR_S).tripped
    assert cold.advance(curve.trips, HOUR_S).tripped
    assert curve.seconds_to_trip(curve.holds) is None
    assert 0 < curve.seconds_to_trip(curve.trips) < HOUR_S


def test_mcb_points_of_iec_60898():
    curve = trip_curve(Protection(32, "mcb", "C"))
    assert curve.seconds_to_trip(1.13) is None
    assert curve.seconds_to_trip(1.45) < HOUR_S
    assert 1.0 < curve.seconds_to_trip(2.55) < 60.0
    assert [trip_curve(Protection(32, "mcb", c)).instant for c in "BCD"] == [3.0, 5.0, 10.0]


def test_a_selective_main_switch_is_stricter_than_a_breaker_and_a_fuse_is_milder():
    seconds = [trip_curve(p).seconds_to_trip(1.5) or math.inf for p in KINDS]
    b, _, fuse, sls, cutoff = seconds
    assert cutoff < sls < b < fuse


def test_short_steps_heat_like_one_long_step():
    model = once = ThermalModel.of(KINDS[0])
    for _ in range(100):
        model = model.advance(1.3, 0.1)
    assert model.heat == pytest.approx(once.advance(1.3, 10.0).heat)
    assert 0 < model.margin < 1


def test_a_preheated_breaker_trips_sooner():
    curve = trip_curve(KINDS[0])
    assert curve.seconds_to_trip(1.45, heat=1.0) < curve.seconds_to_trip(1.45)


def test_it_trips_at_the_second_it_announces_and_stays_tripped():
    curve, model = trip_curve(KINDS[0]), ThermalModel.of(KINDS[0])
    seconds = curve.seconds_to_trip(1.6)
    assert not model.advance(1.6, seconds - 0.01).tripped
    tripped = model.advance(1.6, seconds + 0.01)
    assert tripped.tripped
    assert tripped.margin == 0.0
    assert tripped.advance(0.0, HOUR_S).tripped


def test_the_magnetic_stage_trips_at_once_and_export_counts_like_import():
    cold = ThermalModel.of(KINDS[0])
    assert cold.advance(3.0, 0.01).tripped
    assert cold.advance(-3.0, 0.01).tripped
    assert not cold.advance(2.9, 0.01).tripped
    assert cold.margin == 1.0
