"""The minimum of § 14a EnWG against its published table."""

import pytest

from cem.core.paragraph14a import minimum_w, too_low


@pytest.mark.parametrize(
    ("devices", "watts"),
    [(0, 0), (1, 4200), (2, 7560), (3, 10_500), (5, 15_120), (8, 18_900), (9, 19_320), (10, 21_210), (20, 40_110)],
)
def test_table(devices, watts):
    assert minimum_w(devices) == pytest.approx(watts)


def test_large_heat_pumps_raise_the_base():
    assert minimum_w(1, heat_pumps_w=[15_000.0]) == pytest.approx(6000)
    assert minimum_w(1, heat_pumps_w=[11_000.0]) == pytest.approx(4200)  # not above 11 kW
    assert minimum_w(3, heat_pumps_w=[6000.0, 9000.0], cooling_w=[20_000.0]) == pytest.approx(8000 + 2 * 0.75 * 4200)


def test_a_limit_below_it_is_told():
    assert too_low("dso", 7560.0, 7560.0) is None
    assert too_low("dso", 0.0, None) is None
    assert too_low("dso", 7000.0, 7560.0) == (
        "dso: limits controllable load to 7.00 kW, below the 7.56 kW that § 14a EnWG leaves to this site; it is obeyed: "
        "ask the grid operator"
    )
