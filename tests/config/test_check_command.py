"""``cem check`` and ``cem schema`` as commands."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cem.cli.check import check, schema
from cem.config.document import site_file_schema

from .sites import spoiled

EXAMPLES = Path(__file__).parents[2] / "site_configs"
MODEL = ("model: meter_map", "model: sunspec_meter")
MEANT = ("  profile_refresh_s: 20\n", "  profile_refresh_s: 20\n  security_profile: 0\n")


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(check)
    app.command()(schema)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


def test_good_file(run, monkeypatch) -> None:
    monkeypatch.chdir(EXAMPLES.parent)
    result = run("check", "site_configs/home.yaml")
    assert result.exit_code == 0
    note, good = result.output.splitlines()
    assert note.startswith(
        "site_configs/home.yaml:19:25: note: zones[0].uncontrolled_max_a: zone 'house': should this controller"
    )
    assert good == "site_configs/home.yaml: good: 1 zone, 2 stations, 2 EVSEs, 4 devices; no warnings"


def test_where_nothing_can_trip_in_the_time_there_is_no_note(run, tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(spoiled(MODEL, MEANT, ("uncontrolled_max_a: 40", "uncontrolled_max_a: 10")))
    assert "note:" not in run("check", file).output


def test_bad_file(run, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(spoiled(MODEL, MEANT, ("rating_a: 32}", "rating_a: 32 A}"), ("    max_w: 9000\n", "")))
    result = run("check", file)
    assert result.exit_code == 78
    assert result.output.splitlines() == [
        f"{file}:14:28: zones[1].protection.rating_a: '32 A': write the number alone, in A: 32",
        f"{file}:22:5: warning: devices[1]: pv 'sun' should state 'max_w', its nameplate power in W",
        f"{file}: 1 error, 1 warning: this file is refused",
    ]


def test_warnings_alone_do_not_refuse(run, tmp_path: Path) -> None:
    file = tmp_path / "fair.yaml"
    file.write_text(spoiled(MODEL, MEANT, ("    max_w: 9000\n", "")))
    result = run("check", file)
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == f"{file}: good: 2 zones, 2 stations, 2 EVSEs, 2 devices; 1 warning"


def test_certificates_that_cannot_be_read_here_are_named(run, tmp_path: Path) -> None:
    file = tmp_path / "site.yaml"
    tls = "  listen: {port: 9000, tls: {certificate: cert.pem, key: cert.key}}\n  security_profile: 2\n"
    file.write_text(spoiled(MODEL, ("  listen: {port: 9000}\n", tls)))
    (tmp_path / "cert.pem").touch()
    result = run("check", file)
    assert result.exit_code == 0
    [warning] = [line for line in result.output.splitlines() if "warning:" in line]
    assert "csms.listen.tls.key: cert.key cannot be read here" in warning
    (tmp_path / "cert.key").touch()
    assert "no warnings" in run("check", file).output


def test_json(run, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(spoiled(MODEL, MEANT, ("id: st-2", "id: st-1")))
    result = run("check", "--json", file)
    assert result.exit_code == 78
    assert json.loads(result.output) == [
        {
            "file": str(file),
            "line": 33,
            "column": 9,
            "path": "stations[1].id",
            "message": "station 'st-1' exists already: stations[0]",
            "severity": "error",
        }
    ]


def test_unknown_model_is_told_from_the_shipped_maps(run, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(spoiled(("model: meter_map", "model: sunspec_metre")))
    result = run("check", file)
    assert result.exit_code == 78
    assert "no device model 'sunspec_metre' (did you mean 'sunspec_meter'?)" in result.output


def test_schema(run) -> None:
    result = run("schema")
    assert result.exit_code == 0
    assert json.loads(result.output) == site_file_schema()
