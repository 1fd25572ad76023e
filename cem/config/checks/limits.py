"""Limits by the clock, groups of stations, energy budgets, unbalance."""

from collections.abc import Iterator

from cem.config.draft import Draft, Finding
from cem.config.scalars import did_you_mean, plain
from cem.core.schedules import DAY_MIN, minutes_of
from cem.core.surplus import SURPLUS
from cem.core.zone_plan import UNBALANCE


def times_are_quarters(draft: Draft) -> Iterator[Finding]:
    for i, limit in draft.schedules:
        for key in ("from_time", "to_time"):
            text = getattr(limit, key)
            minutes = minutes_of(text)
            if minutes is None or (key == "from_time" and minutes == DAY_MIN):
                latest = "23:45" if key == "from_time" else "24:00"
                yield Finding(
                    ("scheduled_limits", i, key),
                    f"'{text[:20]}' is no time at a quarter of an hour: write it as \"HH:MM\" with minutes 00, 15, 30 or "
                    f'45, from "00:00" to "{latest}"',
                )


def schedules_fit_their_zone(draft: Draft) -> Iterator[Finding]:
    """A limit above what the zone's protection allows anyway is most often one in the wrong unit."""
    zones = {zone.id: zone for _, zone in draft.zones}
    root = next((zone for zone in zones.values() if zone.parent is None), None)
    volts = draft.grid.nominal_voltage_v if draft.grid else 230.0
    for i, limit in draft.schedules:
        zone = zones.get(limit.zone or "", root if limit.zone is None else None)
        if zone is None:
            continue
        rating_a = zone.protection.rating_a
        most = {"A": rating_a, "W": rating_a * draft.phases * volts, "kW": rating_a * draft.phases * volts / 1000}
        if limit.value > most[limit.unit]:
            yield Finding(
                ("scheduled_limits", i, "value"),
                f"scheduled limit '{limit.id}' of {plain(limit.value)} {limit.unit} is above what the protection of zone "
                f"'{zone.id}' allows ({plain(most[limit.unit])} {limit.unit}), so it never binds",
                "warning",
            )


def groups_have_limits_and_stations(draft: Draft) -> Iterator[Finding]:
    known = draft.names("stations")
    taken = {*draft.names("zones"), UNBALANCE, SURPLUS}
    for i, group in draft.groups:
        if group.limit_a is None and group.limit_w is None:
            yield Finding(("groups", i), f"group '{group.id}' limits nothing: give 'limit_a' (per phase) or 'limit_w'")
        if group.id in taken:
            yield Finding(
                ("groups", i, "id"), f"'{group.id}' is the name of a zone or of the engine's own; choose another"
            )
        for j, name in enumerate(group.stations):
            if name in group.stations[:j]:
                yield Finding(("groups", i, "stations", j), f"station '{name}' is in group '{group.id}' already")
            elif name not in known and "stations" in draft.complete:
                yield Finding(("groups", i, "stations", j), f"no station '{name}'{did_you_mean(name, known)}")


def budgets_are_measured(draft: Draft) -> Iterator[Finding]:
    for i, zone in draft.zones:
        if zone.energy_budget_w is not None and zone.meter is None:
            yield Finding(
                ("zones", i, "energy_budget_w"),
                f"zone '{zone.id}' has an energy budget and no meter, so nobody knows what is used of it",
            )


def unbalance_is_of_three_phases(draft: Draft) -> Iterator[Finding]:
    if draft.grid is None or draft.grid.unbalance_a is None:
        return
    path = ("site", "grid_connection", "unbalance_a")
    if draft.grid.phases == 1:
        yield Finding(path, "a connection of one phase has no unbalance; leave it out")
        return
    for _, zone in draft.zones:
        if zone.parent is None and zone.meter is None:
            yield Finding(
                path, f"zone '{zone.id}', the grid connection, has no meter to see the phases by; add one", "warning"
            )


RULES = (
    times_are_quarters,
    schedules_fit_their_zone,
    groups_have_limits_and_stations,
    budgets_are_measured,
    unbalance_is_of_three_phases,
)
