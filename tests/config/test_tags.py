"""``!env``, ``!secret`` and ``!include``."""

from pathlib import Path

from .sites import found, load, refused, spoiled

PORT = ("{port: 9000}", "{port: !env OCPP_PORT:19010}")


def secrets(folder: Path, text: str, mode: int = 0o600) -> None:
    file = folder / "secrets.yaml"
    file.write_text(text)
    file.chmod(mode)


def test_env_is_read_as_the_type_of_its_key(tmp_path: Path) -> None:
    assert load(tmp_path, spoiled(PORT), OCPP_PORT="9100").file.csms.listen.port == 9100


def test_env_default(tmp_path: Path) -> None:
    assert load(tmp_path, spoiled(PORT)).file.csms.listen.port == 19010


def test_env_inside_a_text(tmp_path: Path) -> None:
    change = ('"opc.tcp://10.0.0.3:4840"', '!env "opc.tcp://${DSO_HOST}:${DSO_PORT:4840}/x"')
    loaded = load(tmp_path, spoiled(change), DSO_HOST="dso.example")
    assert loaded.file.external_limits[0].connection.endpoint == "opc.tcp://dso.example:4840/x"


def test_env_not_set(tmp_path: Path) -> None:
    assert refused(tmp_path, spoiled(("{port: 9000}", "{port: !env OCPP_PORT}"))) == [
        (
            "38:18: csms.listen.port: the environment variable OCPP_PORT is not set; set it, or give a default: "
            "!env OCPP_PORT:default"
        )
    ]


def test_env_without_a_name(tmp_path: Path) -> None:
    assert refused(tmp_path, spoiled(("{port: 9000}", '{port: !env "19 0"}'))) == [
        "38:18: csms.listen.port: !env takes NAME, NAME:default or a text with ${NAME:default} in it"
    ]


def test_value_of_env_is_never_shown(tmp_path: Path) -> None:
    for value in ("hunter2", "007", "9.5", "99999999"):
        (problem,) = refused(tmp_path, spoiled(("id: st-2", "id: st-2\n    priority: !env RANK")), RANK=value)
        assert problem.startswith("34:15: stations[1].priority: ")
        assert "hunter2" not in problem


def test_secret(tmp_path: Path) -> None:
    secrets(tmp_path, "garage: 'hunter2'\nnumber: 007\n")
    text = spoiled(("    fallback_a: 6", "    fallback_a: 6\n    password: !secret number"))
    assert load(tmp_path, text).file.stations[0].password == "007"
    assert found(tmp_path, text) == []


def test_unknown_secret(tmp_path: Path) -> None:
    secrets(tmp_path, "garage: hunter2\n")
    text = spoiled(("    fallback_a: 6", "    fallback_a: 6\n    password: !secret garge"))
    assert refused(tmp_path, text) == [
        f"32:15: stations[0].password: no secret 'garge' in {tmp_path}/secrets.yaml; add a line 'garge: ...' there"
    ]


def test_no_secrets_file(tmp_path: Path) -> None:
    text = spoiled(("    fallback_a: 6", "    fallback_a: 6\n    password: !secret garage"))
    assert refused(tmp_path, text) == [
        f"32:15: stations[0].password: cannot read {tmp_path}/secrets.yaml: No such file or directory"
    ]


def test_a_broken_secrets_file_is_not_quoted(tmp_path: Path) -> None:
    secrets(tmp_path, "garage: [hunter2\n")
    text = spoiled(("    fallback_a: 6", "    fallback_a: 6\n    password: !secret garage"))
    assert refused(tmp_path, text) == [
        f"32:15: stations[0].password: {tmp_path}/secrets.yaml is not YAML; write lines 'name: value'"
    ]


def test_secrets_that_everybody_reads(tmp_path: Path) -> None:
    secrets(tmp_path, "garage: hunter2\n", 0o644)
    text = spoiled(("    fallback_a: 6", "    fallback_a: 6\n    password: !secret garage"))
    file = tmp_path / "secrets.yaml"
    assert found(tmp_path, text) == [
        f"32:15: warning: stations[0].password: everybody on this machine can read {file}; run: chmod 640 {file}"
    ]


def test_secret_as_a_number_is_not_shown(tmp_path: Path) -> None:
    secrets(tmp_path, "garage: hunter2\n")
    assert refused(tmp_path, spoiled(("{port: 9000}", "{port: !secret garage}"))) == [
        "38:18: csms.listen.port: the value of !secret garage is not a number"
    ]


def test_secret_in_the_place_of_a_name_is_not_shown(tmp_path: Path) -> None:
    secrets(tmp_path, "garage: hunter2\nnumber: 99999\n")
    text = spoiled(
        ("time_zone: Europe/Berlin", "time_zone: !secret garage"),
        ("id: st-2\n    zone: row", "id: st-2\n    zone: !secret garage"),
        ("{port: 9000}", "{port: !secret number}"),
    )
    problems = refused(tmp_path, text)
    assert len(problems) == 3
    assert all("(secret)" in problem for problem in problems)
    assert not any("hunter2" in problem or "99999" in problem for problem in problems)


def test_include(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text("host: 127.0.0.1\nport: 8081\n")
    assert load(tmp_path, spoiled(("{port: 8080}", "!include web.yaml"))).file.web.port == 8081


def test_problems_of_an_included_file_carry_its_name(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "web.yaml").write_text("host: 127.0.0.1\nport: 80 80\n")
    assert refused(tmp_path, spoiled(("{port: 8080}", "!include parts/web.yaml"))) == [
        "web.yaml:2:7: web.port: '80 80' is not a number; wanted is a number"
    ]


def test_include_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text("port: !include site.yaml\n")
    assert refused(tmp_path, spoiled(("{port: 8080}", "!include web.yaml"))) == [
        "web.yaml:1:7: web.port: !include site.yaml goes round in a circle"
    ]


def test_include_of_nothing(tmp_path: Path) -> None:
    assert refused(tmp_path, spoiled(("{port: 8080}", "!include absent.yaml"))) == [
        f"47:6: web: cannot read {tmp_path}/absent.yaml: no such file"
    ]


def test_include_of_an_absolute_path(tmp_path: Path) -> None:
    assert refused(tmp_path, spoiled(("{port: 8080}", "!include /etc/passwd"))) == [
        "47:6: web: !include takes the name of a file beside this one"
    ]


def test_include_of_a_name_no_file_can_have(tmp_path: Path) -> None:
    assert refused(tmp_path, spoiled(("{port: 8080}", '!include "a\\0b"'))) == [
        "47:6: web: !include takes the name of a file beside this one"
    ]


def test_missing_zones_file_does_not_make_references_dangle(tmp_path: Path) -> None:
    text = spoiled(("version: 1\n", "version: 1\nspare: &spare\n"))
    head, _, rest = text.partition("zones:\n")
    text = head.replace("spare: &spare\n", "") + "zones: !include zones.yaml\n" + rest[rest.index("devices:\n") :]
    assert refused(tmp_path, text) == [f"6:8: zones: cannot read {tmp_path}/zones.yaml: no such file"]
