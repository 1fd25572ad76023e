"""``cem check`` and ``cem schema``: the site file before anything runs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from adapters.modbus.maps import known_models
from cem.config.document import site_file_schema
from cem.config.loader import LoadedSite, load_site_file
from cem.csms.personality import NAME, restored
from cem.csms.records import kept_key
from cem.errors import ConfigError, Problem
from cem.store.peek import kept_states

EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h; the systemd unit does not restart after it."""


def check(
    file: Annotated[Path, typer.Argument(help="The site file.", show_default=False)],
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of lines.")] = False,
) -> None:
    """Check a site file; print every problem with its place, exit 78 where there is an error."""
    problems: tuple[Problem, ...]
    summary = ""
    try:
        loaded = load_site_file(file, known_models=known_models())
        learned = without_dead_man(loaded)
        if learned:
            loaded = load_site_file(file, known_models=known_models(), no_dead_man=learned)
        problems = (*loaded.warnings, *loaded.notes)
        site = loaded.site
        stations = len(loaded.file.stations)
        amounts = {
            "zone": len(site.zones),
            "station": stations,
            "EVSE": len(site.evses),
            "device": len(loaded.file.devices),
        }
        summary = ", ".join(_count(number, noun) for noun, number in amounts.items())
    except ConfigError as error:
        problems = error.problems
    errors = sum(problem.severity == "error" for problem in problems)
    warnings = sum(problem.severity == "warning" for problem in problems)
    if json_output:
        print(json.dumps([asdict(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            print(problem)
        if errors:
            print(f"{file}: {_count(errors, 'error')}, {_count(warnings, 'warning')}: this file is refused")
        else:
            print(f"{file}: good: {summary}; {_count(warnings, 'warning')}")
    if errors:
        raise typer.Exit(EXIT_CONFIG)


def without_dead_man(loaded: LoadedSite) -> dict[str, str]:
    """Stations of which the controller has learned that they do not fall back by themselves, and why."""
    ledger = (loaded.path.parent / loaded.file.storage.directory).resolve() / "ledger.db"
    if not ledger.exists():
        return {}
    kept = kept_states(ledger, [kept_key(station.id, NAME) for station in loaded.file.stations])
    found = {}
    for station in loaded.file.stations:
        personality = restored(kept.get(kept_key(station.id, NAME)))
        if personality is not None and personality.without_us is not None:
            found[station.id] = personality.without_us
    return found


def schema() -> None:
    """Print the JSON Schema of site files, for editors."""
    print(json.dumps(site_file_schema(), indent=2, ensure_ascii=False))


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
