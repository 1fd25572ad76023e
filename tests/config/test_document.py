"""The examples, the JSON Schema and the list of keys stay what the models say."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from adapters.modbus.maps import known_models
from cem.config.document import BEGIN, END, SCHEMA_FILE, keys_markdown, main, site_file_schema
from cem.config.loader import load_site_file
from cem.config.models import SiteFile

FOLDER = Path(__file__).parents[2] / "site_configs"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.yaml"))


class _AnyTag(yaml.SafeLoader):
    """Reads a tagged value as the text behind the tag, as editors do."""


_AnyTag.add_multi_constructor("!", lambda loader, _tag, node: loader.construct_scalar(node))


def plain_data(text: str) -> Any:
    return yaml.load(text, Loader=_AnyTag)


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema_rs.validator_for(site_file_schema())


def test_all_examples_are_there() -> None:
    assert {"home.yaml", "parking.yaml", "demo.yaml"} <= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_has_no_problem(name: str) -> None:
    loaded = load_site_file(FOLDER / name, known_models=known_models(), environ={})
    assert loaded.warnings == ()


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_fits_the_schema(name: str, validator: Any) -> None:
    errors = [error.message for error in validator.iter_errors(plain_data((FOLDER / name).read_text()))]
    assert errors == []


def test_schema_refuses_what_the_loader_refuses(validator: Any) -> None:
    text = (FOLDER / "home.yaml").read_text()
    for old, new in [("fuse_a: 35", "fuse_a: 35 A"), ("fuse_a: 35", "fuse_ka: 35"), ("kind: sls", "kind: fuse")]:
        assert old in text
        assert not validator.is_valid(plain_data(text.replace(old, new)))


def test_schema_allows_tags(validator: Any) -> None:
    text = (FOLDER / "home.yaml").read_text().replace("fuse_a: 35", "fuse_a: !env FUSE_A:35")
    text = text[: text.index("devices:")] + "devices: !include devices.yaml\n" + text[text.index("stations:") :]
    assert validator.is_valid(plain_data(text))


def test_committed_schema_is_the_models() -> None:
    committed = json.loads((FOLDER / SCHEMA_FILE).read_text())
    assert committed == site_file_schema(), "run: python -m cem.config.document site_configs"


def test_committed_keys_are_the_models() -> None:
    readme = (FOLDER / "README.md").read_text()
    keys = readme.partition(BEGIN)[2].partition(END)[0]
    assert keys.strip() == keys_markdown().strip(), "run: python -m cem.config.document site_configs"


def test_writing_anew_changes_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    main(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith(f"before\n{BEGIN}\n\n### Top level")
    assert text.endswith(f"{END}\nafter\n")
    assert json.loads((tmp_path / SCHEMA_FILE).read_text()) == site_file_schema()


def test_every_key_has_a_meaning() -> None:
    empty = [line for line in keys_markdown().splitlines() if line.startswith("| `") and line.endswith("| |")]
    assert empty == []
    assert all(f"`{key}`" in keys_markdown() for key in SiteFile.model_fields)


def test_the_demo_takes_every_port_from_the_environment() -> None:
    names = ["METER", "PV", "BATTERY", "GARAGE", "MQTT", "OPCUA", "CLOUD", "OCPP", "WEB"]
    environ = {f"CEM_DEMO_{name}_PORT": str(40_000 + n) for n, name in enumerate(names)} | {"CEM_DEMO_VAR": "/tmp/demo"}
    file = load_site_file(FOLDER / "demo.yaml", environ=environ).file
    ports = {device.id: device.connection.port for device in file.devices}
    assert ports == {"grid_meter": 40_000, "pv": 40_001, "battery": 40_002, "garage_meter": 40_003, "house": 40_004}
    assert file.external_limits[0].connection.endpoint == "opc.tcp://127.0.0.1:40005"
    assert file.csms.upstreams[0].url == "ws://127.0.0.1:40006/ocpp"
    assert (file.csms.listen.port, file.web.port, file.storage.directory) == (40_007, 40_008, "/tmp/demo")


def test_the_parking_has_three_levels_and_24_stations() -> None:
    loaded = load_site_file(FOLDER / "parking.yaml")
    parents = {zone.zone_id: zone.parent_id for zone in loaded.site.zones}
    assert parents["row_1a"] == "level_1"
    assert parents["level_1"] == "grid"
    assert parents["grid"] is None
    assert len(loaded.file.stations) == 24
