"""A site file as the core sees it."""

from pathlib import Path

import pytest

from cem.config.loader import load_site_file
from cem.core.site import Meter, Protection, Resource, ResourceKind

from .sites import GOOD, load, spoiled


def test_zones_parents_first(tmp_path: Path) -> None:
    text = spoiled(
        (
            "zones:\n",
            "zones:\n  - {id: leaf, parent: row, protection: {rating_a: 20, curve: D}, uncontrolled_max_a: 0}\n",
        )
    )
    site = load(tmp_path, text).site
    assert [zone.zone_id for zone in site.zones] == ["root", "row", "leaf"]
    assert site.root.protection == Protection(63, "gg", None, 0)
    assert [zone.protection.curve for zone in site.zones] == [None, "B", "D"]
    assert (site.root.meter_id, site.root.fallback_limit_a, site.root.uncontrolled_max_a) == ("gm", 12, 40)


@pytest.mark.parametrize(
    ("contract_w", "zone_w", "tightest_w"),
    [(None, None, None), (20000, None, 20000), (20000, 9000, 9000), (0, 9000, 0)],
)
def test_root_has_the_tightest_of_its_own_and_the_contract(
    tmp_path: Path, contract_w: int | None, zone_w: int | None, tightest_w: int | None
) -> None:
    contract = f", import_limit_w: {contract_w}, export_limit_w: {contract_w}" if contract_w is not None else ""
    own = f"    import_limit_w: {zone_w}\n    export_limit_w: {zone_w}\n" if zone_w is not None else ""
    root = load(
        tmp_path, spoiled(("fuse_a: 63", f"fuse_a: 63{contract}"), ("    meter: gm\n", f"    meter: gm\n{own}"))
    ).site.root
    assert (root.import_limit_w, root.export_limit_w) == (tightest_w, tightest_w)


@pytest.mark.parametrize(
    ("evse", "phases", "rotation"),
    [
        ("rotation: RST", 3, (0, 1, 2)),
        ("rotation: STR", 3, (1, 2, 0)),
        ("rotation: TSR", 3, (2, 1, 0)),
        ("rotation: unknown", 3, None),
        ("phases: 2, rotation: TRS", 2, (2, 0)),
        ("phases: 1, rotation: SRT", 1, (1,)),
        ("phases: 1, rotation: L3", 1, (2,)),
        ("phases: 1", 1, None),
    ],
)
def test_rotation(tmp_path: Path, evse: str, phases: int, rotation: tuple[int, ...] | None) -> None:
    built = load(tmp_path, spoiled(("max_a: 16, rotation: RST", f"max_a: 16, {evse}"))).site.evses[0]
    assert (built.phases, built.rotation) == (phases, rotation)


def test_one_phase_site_leaves_no_doubt(tmp_path: Path) -> None:
    text = spoiled(
        ("grid_connection: {phases: 3", "grid_connection: {phases: 1"), ("max_a: 16, rotation: RST", "phases: 1")
    )
    site = load(tmp_path, text).site
    assert site.phases == 1
    assert {evse.rotation for evse in site.evses} == {(0,)}


def test_evses_carry_what_their_station_says(tmp_path: Path) -> None:
    text = spoiled(("    fallback_a: 6\n", "    fallback_a: 6\n    priority: 3\n    weight: 2\n"))
    evse = load(tmp_path, text).site.evses[0]
    assert (evse.evse_id, evse.station_id, evse.zone_id, evse.number) == ("st-1/1", "st-1", "row", 1)
    assert (evse.fallback_a, evse.priority, evse.weight, evse.min_a, evse.max_a) == (6, 3, 2, 6, 16)


def test_guarding_meters_and_resources(tmp_path: Path) -> None:
    site = load(tmp_path, spoiled(("poll_s: 1", "poll_s: 2"))).site
    assert site.meters == (Meter("gm", 2),)
    assert site.resources == (Resource("sun", ResourceKind.PV, "root", 9000),)


def test_a_breaker_that_several_evses_share_is_a_zone(tmp_path):
    text = GOOD.replace("[{id: 1, max_a: 16, rotation: RST}]", "[{id: 1}, {id: 2}]")
    path = tmp_path / "site.yaml"
    path.write_text(text)
    site = load_site_file(path).site
    shared = site.zones[-1]
    assert (shared.zone_id, shared.parent_id, shared.protection.rating_a) == ("st-1:breaker", "row", 32.0)
    assert [evse.zone_id for evse in site.evses] == ["st-1:breaker", "st-1:breaker", "row"]
