"""Limits by the clock, groups, energy budgets, unbalance: as built, and what is refused."""

from zoneinfo import ZoneInfo

import pytest

from cem.core.limits import LimitKind
from cem.core.schedules import ScheduledLimit
from cem.core.site import StationGroup

from .sites import found, load, refused, spoiled

WEB = "web: {port: 8080}\n"


def with_limits(text):
    return spoiled((WEB, WEB + text))


def test_built(tmp_path):
    text = spoiled(
        ("fuse_a: 63}", "fuse_a: 63, unbalance_a: 20, paragraph_14a: true}"),
        ("    meter: gm\n", "    meter: gm\n    energy_budget_w: 20000\n"),
        (
            WEB,
            WEB + "scheduled_limits:\n"
            "  - {id: evening, value: 11, unit: kW, days: [mon, fri], from_time: '17:00', to_time: '20:15'}\n"
            "  - {id: night, kind: load, zone: row, value: 16, unit: A, from_time: '22:00', to_time: '06:00'}\n"
            "groups:\n  - {id: cable, stations: [st-2, st-1], limit_a: 20, limit_w: 9000}\n",
        ),
    )
    site = load(tmp_path, text).site
    assert site.time_zone == ZoneInfo("Europe/Berlin")
    assert site.schedules == (
        ScheduledLimit(
            "evening",
            "root",
            LimitKind.IMPORT,
            value_w=11_000.0,
            days=frozenset({0, 4}),
            from_min=17 * 60,
            to_min=20 * 60 + 15,
        ),
        ScheduledLimit("night", "row", LimitKind.LOAD, value_a=16.0, from_min=22 * 60, to_min=6 * 60),
    )
    assert site.groups == (StationGroup("cable", ("st-1/1", "st-2/1"), 20.0, 9000.0),)
    assert (site.unbalance_a, site.root.energy_budget_w, site.least_load_w) == (20.0, 20_000.0, 7560.0)


def test_left_out(tmp_path):
    site = load(tmp_path, spoiled()).site
    assert (site.schedules, site.groups, site.unbalance_a, site.least_load_w) == ((), (), None, None)


REFUSED = {
    "no quarter": (
        "scheduled_limits: [{id: a, value: 1, from_time: '17:05'}]\n",
        (
            "48:49: scheduled_limits[0].from_time: '17:05' is no time at a quarter of an hour: write it as \"HH:MM\" with "
            'minutes 00, 15, 30 or 45, from "00:00" to "23:45"'
        ),
    ),
    "no time": (
        "scheduled_limits: [{id: a, value: 1, to_time: '8:00'}]\n",
        (
            "48:47: scheduled_limits[0].to_time: '8:00' is no time at a quarter of an hour: write it as \"HH:MM\" with "
            'minutes 00, 15, 30 or 45, from "00:00" to "24:00"'
        ),
    ),
    "a day's name": (
        "scheduled_limits: [{id: a, value: 1, days: [monday]}]\n",
        (
            "48:45: scheduled_limits[0].days[0]: 'monday' is not one of mon, tue, wed, thu, fri, sat, sun (did you mean "
            "'mon'?)"
        ),
    ),
    "no zone": (
        "scheduled_limits: [{id: a, value: 1, zone: rows}]\n",
        "48:44: scheduled_limits[0].zone: no zone 'rows' (did you mean 'row'?)",
    ),
    "twice": (
        "scheduled_limits: [{id: a, value: 1}, {id: a, value: 2}]\n",
        "48:44: scheduled_limits[1].id: scheduled limit 'a' exists already: scheduled_limits[0]",
    ),
    "group without limit": (
        "groups: [{id: g, stations: [st-1]}]\n",
        "48:10: groups[0]: group 'g' limits nothing: give 'limit_a' (per phase) or 'limit_w'",
    ),
    "group's station": (
        "groups: [{id: g, stations: [st-3], limit_a: 5}]\n",
        "48:29: groups[0].stations[0]: no station 'st-3' (did you mean 'st-2'?)",
    ),
    "station twice": (
        "groups: [{id: g, stations: [st-1, st-1], limit_a: 5}]\n",
        "48:35: groups[0].stations[1]: station 'st-1' is in group 'g' already",
    ),
    "group's name": (
        "groups: [{id: row, stations: [st-1], limit_a: 5}]\n",
        "48:15: groups[0].id: 'row' is the name of a zone or of the engine's own; choose another",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    text, message = REFUSED[name]
    assert refused(tmp_path, with_limits(text)) == [message]


def test_a_budget_needs_a_meter(tmp_path):
    text = spoiled(("    uncontrolled_max_a: 0\n", "    uncontrolled_max_a: 0\n    energy_budget_w: 5000\n"))
    assert refused(tmp_path, text) == [
        "16:22: zones[1].energy_budget_w: zone 'row' has an energy budget and no meter, so nobody knows what is used of it"
    ]


def test_one_phase_has_no_unbalance(tmp_path):
    text = spoiled(("{phases: 3, fuse_a: 63}", "{phases: 1, fuse_a: 63, unbalance_a: 20}"))
    assert any("a connection of one phase has no unbalance" in line for line in refused(tmp_path, text))


def test_a_limit_that_never_binds_is_told(tmp_path):
    text = with_limits("scheduled_limits: [{id: a, value: 11000, unit: kW}]\n")
    (line,) = found(tmp_path, text)
    assert "is above what the protection of zone 'root' allows (43.47 kW), so it never binds" in line
