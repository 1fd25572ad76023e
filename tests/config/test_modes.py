"""What cars charge from: keys, defaults, and the rules over them."""

from pathlib import Path

import pytest

from cem.core.site import BatteryRules, Mode, SurplusRules

from .sites import GOOD, found, load, spoiled

EVSE = "[{id: 1, max_a: 16, rotation: RST}]"


def test_nothing_changes_by_default(tmp_path: Path) -> None:
    site = load(tmp_path, GOOD).site
    assert {(e.mode, e.phase_switching, e.efficiency, e.discharge_a) for e in site.evses} == {
        (Mode.FAST, False, None, 0.0)
    }
    assert (site.surplus, site.battery) == (SurplusRules(), BatteryRules())


def test_modes_and_rules_are_read(tmp_path: Path) -> None:
    control = "control: {surplus: {start_w: 1500, stop_delay_s: 90}, battery: {reserve_soc_percent: 20}}\n"
    text = spoiled(("    fallback_a: 6\n", "    fallback_a: 6\n    mode: surplus\n")) + control
    site = load(tmp_path, text).site
    assert [e.mode for e in site.evses] == [Mode.SURPLUS, Mode.FAST]
    assert site.surplus == SurplusRules(start_w=1500, stop_delay_s=90)
    assert site.battery == BatteryRules(reserve_soc_percent=20)


def test_a_dc_outlet_is_bounded_by_its_output(tmp_path: Path) -> None:
    text = spoiled((EVSE, "[{id: 1, dc: true, efficiency: 0.9, max_w: 10000, rotation: RST}]"))
    evse = load(tmp_path, text).site.evses[0]
    assert evse.efficiency == 0.9
    assert evse.max_a == pytest.approx(10_000 / 0.9 / 3 / 207)


CASES = {
    "surplus without a meter": (
        [
            ("    fallback_a: 6\n", "    fallback_a: 6\n    mode: min_surplus\n"),
            ("    meter: gm\n    fallback_limit_a: 12\n", ""),
        ],
        "station 'st-1' is to charge from surplus, but the root zone 'root' has no 'meter' that could show any",
    ),
    "one phase cannot switch": (
        [("phases: 1, rotation: L2", "phases: 1, rotation: L2, phase_switching: true")],
        "EVSE st-2/1 cannot switch between three phases and one: it has 1",
    ),
    "profiles end to end for several": (
        [(EVSE, "[{id: 1}, {id: 2}]\n    cloud_profiles: end_to_end")],
        "station 'st-1' has 2 EVSEs; profiles go end to end only where there is one",
    ),
    "output of an AC outlet": (
        [(EVSE, "[{id: 1, max_w: 11000}]")],
        "'max_w' is the output of a DC outlet; EVSE st-1/1 has no 'dc: true'",
    ),
    "thresholds crossed": (
        [("web: {port: 8080}", "web: {port: 8080}\ncontrol: {surplus: {start_w: 1000, stop_w: 2000}}")],
        "cars would stop below 2000 W and start above 1000 W",
    ),
    "no such mode": (
        [("    fallback_a: 6\n", "    fallback_a: 6\n    mode: solar\n")],
        "'solar' is not one of fast, min_surplus, surplus, off",
    ),
}


@pytest.mark.parametrize(("changes", "told"), CASES.values(), ids=CASES.keys())
def test_rule(tmp_path: Path, changes: list[tuple[str, str]], told: str) -> None:
    assert any(told in problem for problem in found(tmp_path, spoiled(*changes)))
