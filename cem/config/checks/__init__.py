"""Rules that reach over more than one key. Each is a small function of the draft that yields findings."""

from collections.abc import Collection, Iterator

from cem.config.checks import (
    commands,
    devices,
    electrical,
    inputs,
    limits,
    modes,
    names,
    security,
    services,
    sites,
    zones,
)
from cem.config.draft import Draft, Finding

RULES = (
    *names.RULES, *zones.RULES, *electrical.RULES, *devices.RULES, *commands.RULES, *limits.RULES, *modes.RULES, *services.RULES, *inputs.RULES,
    *security.RULES, *sites.RULES,
)  # fmt: skip


def find_problems(draft: Draft, known_models: Collection[str] | None = None) -> Iterator[Finding]:
    """Everything the rules find in the readable parts of a site file."""
    for rule in RULES:
        yield from rule(draft)
    yield from devices.models_exist(draft, known_models)
    yield from commands.maps_can_command(draft, known_models)
