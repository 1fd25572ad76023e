"""One good site file, a way to spoil it, and a loader of texts."""

import dataclasses
from pathlib import Path

import pytest

from cem.config.loader import LoadedSite, load_site_file
from cem.errors import ConfigError

GOOD = """\
version: 1
site:
  name: Yard
  time_zone: Europe/Berlin
  grid_connection: {phases: 3, fuse_a: 63}
zones:
  - id: root
    protection: {rating_a: 63, kind: gg}
    meter: gm
    fallback_limit_a: 12
    uncontrolled_max_a: 40
  - id: row
    parent: root
    protection: {rating_a: 32}
    uncontrolled_max_a: 0
devices:
  - id: gm
    role: grid_meter
    connection: {kind: modbus_tcp, host: 10.0.0.1}
    model: meter_map
    poll_s: 1
  - id: sun
    role: pv
    connection: {kind: mqtt, host: 10.0.0.2}
    values: {total_power_w: {topic: sun/w}}
    max_w: 9000
stations:
  - id: st-1
    zone: row
    breaker_a: 32
    fallback_a: 6
    evses: [{id: 1, max_a: 16, rotation: RST}]
  - id: st-2
    zone: row
    breaker_a: 32
    evses: [{id: 1, max_a: 16, phases: 1, rotation: L2}]
csms:
  listen: {port: 9000}
  profile_duration_s: 60
  profile_refresh_s: 20
external_limits:
  - id: dso
    unit: kW
    connection: {kind: opcua, endpoint: "opc.tcp://10.0.0.3:4840"}
    nodes: {limit: Objects/Limit}
    failsafe_w: 4200
web: {port: 8080}
"""

NO_PASSWORD = "no password is asked of"
"""The good file's stations have none; ``test_security`` looks at what is told of that."""

MODELS = ("meter_map", "inverter_map")


def spoiled(*changes: tuple[str, str]) -> str:
    """The good file with texts exchanged, each of which must be there exactly once."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    return text


def load(folder: Path, text: str | bytes, **environ: str) -> LoadedSite:
    file = folder / "site.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_site_file(file, known_models=MODELS, environ=environ)


def found(folder: Path, text: str | bytes, **environ: str) -> list[str]:
    """Every problem of a text as ``line:col: path: message``, refused or not."""
    try:
        problems = load(folder, text, **environ).warnings
    except ConfigError as error:
        problems = error.problems
        assert any(problem.severity == "error" for problem in problems)
    told = [p for p in problems if NO_PASSWORD not in p.message]
    return [str(dataclasses.replace(p, file=Path(p.file).name)).removeprefix("site.yaml:") for p in told]


def refused(folder: Path, text: str | bytes, **environ: str) -> list[str]:
    """As ``found``, and the file must have been refused."""
    with pytest.raises(ConfigError):
        load(folder, text, **environ)
    return found(folder, text, **environ)
