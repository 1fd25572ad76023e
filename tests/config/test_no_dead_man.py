"""A station that was learned not to fall back by itself counts with its maximum where the controller is dead (L16)."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cem.cli import make_app
from cem.config.quirks import read_quirks
from cem.csms.personality import NAME, Personality, begun
from cem.csms.records import Kept
from cem.store.store import Store

QUIRKS = Path(__file__).parents[2] / "adapters/ocpp/quirks.yaml"
SITE = """
version: 1
site: {{name: x, grid_connection: {{fuse_a: 63}}}}
storage: {{directory: data}}
zones:
- {{id: main, protection: {{rating_a: {rating_a}}}, uncontrolled_max_a: 10}}
stations:
- {{id: A, zone: main, breaker_a: 32, fallback_a: 6, security_profile: 0}}
- {{id: B, zone: main, breaker_a: 32, fallback_a: 6, security_profile: 0}}
"""


def learned(folder: Path, personality: Personality) -> None:
    folder.mkdir()
    store = Store(folder)
    asyncio.run(store.commit((Kept("A", NAME, json.dumps(personality.record())),)))
    store.close()


@pytest.mark.parametrize(
    ("personality", "why"),
    [
        (Personality(way="tx/1/A", dead_man=True), None),
        (Personality(), None),
        (Personality(way="tx/1/A"), "not proven: not seen yet"),
        (Personality(way="tx/1/A", dead_man=False, dead_man_by="it refuses a default charging profile"), "it refuses"),
        (Personality(way="tx/1/A", dead_man=True, ignores=True), "it draws more than the limits that it accepts"),
        (Personality(way="tx/1/A", dead_man=True, loses=("resume",)), "it loses its limits"),
        (Personality(way="tx/1/A", dead_man=True, loses=("reconnect",)), None),
    ],
)
def test_l16_check_counts_the_maximum_of_a_station_without_dead_man_and_says_so(
    tmp_path: Path, personality: Personality, why: str | None
) -> None:
    learned(tmp_path / "data", personality)
    file = tmp_path / "site.yaml"
    file.write_text(SITE.format(rating_a=63))
    result = CliRunner().invoke(make_app(["check"]), ["check", str(file)])
    assert result.exit_code == 0, result.output
    assert ("station 'A' has no dead-man" in result.output) == (why is not None)
    assert why is None or why in result.output
    assert "'B'" not in result.output
    file.write_text(SITE.format(rating_a=40))  # 6 + 6 + 10 fits, 32 + 6 + 10 does not
    result = CliRunner().invoke(make_app(["check"]), ["check", str(file)])
    assert result.exit_code == (78 if why is not None else 0), result.output


def test_every_row_of_the_quirk_table_can_be_read_and_names_its_source() -> None:
    rows = read_quirks(QUIRKS)
    assert len(rows) >= 6
    assert all(row.sources and row.note for row in rows)


@pytest.mark.parametrize(
    ("identity", "known"),
    [
        (("ABB", "Terra AC W22-T-RD-M-0", "1.8.21"), {"max_level": 0}),
        (("EV-BOX", "G3-M5320E-F2", "P0134"), {"bad": ("station_max/",)}),
        (("Huawei", "SCharger-22KT-S0", "V100R023C10"), {"units": ("W",), "zero_ends": True}),
        (("go-e", "Charger", "56.2"), {"loses": ("reconnect",)}),
        (("go-e", "Charger", "57.1"), {"loses": ()}),
        (("Acme", "Box", "1"), {"known": (), "max_level": None}),
    ],
)
def test_a_station_begins_with_what_is_publicly_known(identity: tuple[str, str, str], known: dict[str, object]) -> None:
    own = begun(identity, read_quirks(QUIRKS)).record()
    assert {name: own[name] for name in known} == known
