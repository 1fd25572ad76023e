"""Currents that must fit even when nobody steers: the controller dead, a meter dead, a breaker at its station."""

from collections.abc import Iterator

from cem.config.build import breaker_zone_id
from cem.config.csms_models import Csms
from cem.config.draft import Draft, Finding
from cem.config.scalars import plain
from cem.core.overload import trip_curve
from cem.core.site import Protection
from cem.core.units import MIN_CURRENT_A

FOLLOWS_S = 10.0
"""From the end of a limit to the fall of the slowest car."""


def safe_with_controller_dead(draft: Draft) -> Iterator[Finding]:
    """FAULTS L16: every station at its own fallback, the rest at its worst, on every phase of every zone."""
    for i, zone in draft.zones:
        inside = draft.inside(zone.id)
        sums_a = [0.0] * draft.phases
        for _, station in draft.stations:
            if station.zone in inside:
                sums_a = [a + b for a, b in zip(sums_a, draft.fallback_a(station), strict=True)]
        worst_a = max(sums_a)
        rating_a = zone.protection.rating_a
        if worst_a + zone.uncontrolled_max_a > rating_a:
            phase = f" on L{sums_a.index(worst_a) + 1}" if min(sums_a) < worst_a else " on each phase"
            yield Finding(
                ("zones", i, "protection", "rating_a"),
                f"zone '{zone.id}' with the controller dead: station fallbacks {plain(worst_a)} A + other load "
                f"{plain(zone.uncontrolled_max_a)} A = {plain(worst_a + zone.uncontrolled_max_a)} A{phase}, above its "
                f"rating of {plain(rating_a)} A; lower 'fallback_a' of its stations",
            )


def bears_the_last_limits(draft: Draft) -> Iterator[Finding]:
    """FAULTS L16: until the last limits end nobody cuts, whatever the other load does then."""
    life_s = plain((draft.csms or Csms()).profile_duration_s)
    for i, zone in draft.zones:
        most_a = [0.0] * draft.phases
        for _, station in draft.stations:
            if station.zone in draft.inside(zone.id):
                own = draft.per_phase(station, [evse.max_a for evse in station.evses])
                most_a = [a + b for a, b in zip(most_a, own, strict=True)]
        rating_a, other_a = zone.protection.rating_a, zone.uncontrolled_max_a
        full_a = rating_a - zone.protection.guard_a
        worst_a = min(max(most_a), full_a) + other_a
        protection = Protection(rating_a, zone.protection.kind, zone.protection.curve, zone.protection.guard_a)
        trips_s = trip_curve(protection).seconds_to_trip(worst_a / rating_a, heat=(full_a / rating_a) ** 2)
        if other_a > 0 and trips_s is not None and trips_s < float(life_s) + FOLLOWS_S:
            yield Finding(
                ("zones", i, "uncontrolled_max_a"),
                f"zone '{zone.id}': should this controller die, cars keep their last limit for up to {life_s} s; if the other "
                f"load rose from nothing to {plain(other_a)} A just then, {plain(worst_a)} A would flow and its "
                f"{plain(rating_a)} A {zone.protection.kind} could trip after {plain(round(trips_s))} s; a shorter "
                "csms.profile_duration_s or a larger guard_a makes that less likely",
                "note",
            )


def falls_back(draft: Draft) -> Iterator[Finding]:
    """FAULTS L16: a station without a dead-man is told, with what it counts as."""
    for i, station in draft.stations:
        why = draft.no_dead_man.get(station.id)
        if why is not None:
            yield Finding(
                ("stations", i, "id"),
                f"station '{station.id}' has no dead-man ({why}): with the controller dead it counts with its maximum, "
                f"{plain(max(draft.fallback_a(station)))} A",
                "warning",
            )


def safe_with_meter_dead(draft: Draft) -> Iterator[Finding]:
    """FAULTS M1."""
    for i, zone in draft.zones:
        sum_a = (zone.fallback_limit_a or 0.0) + zone.uncontrolled_max_a
        rating_a = zone.protection.rating_a
        if zone.meter and zone.fallback_limit_a is not None and sum_a > rating_a:
            yield Finding(
                ("zones", i, "fallback_limit_a"),
                f"zone '{zone.id}' with its meter dead: fallback {plain(zone.fallback_limit_a)} A + other load "
                f"{plain(zone.uncontrolled_max_a)} A = {plain(sum_a)} A, above its rating of {plain(rating_a)} A",
            )


def fallback_is_possible(draft: Draft) -> Iterator[Finding]:
    for i, station in draft.stations:
        if 0 < station.fallback_a < MIN_CURRENT_A:
            yield Finding(
                ("stations", i, "fallback_a"),
                f"station '{station.id}' cannot fall back to {plain(station.fallback_a)} A: 0, or at least "
                f"{plain(MIN_CURRENT_A)} A (IEC 61851-1)",
            )


def fallback_within_breaker(draft: Draft) -> Iterator[Finding]:
    for i, station in draft.stations:
        worst_a = max(draft.fallback_a(station))
        if worst_a > station.breaker_a:
            yield Finding(
                ("stations", i, "fallback_a"),
                f"the EVSEs of station '{station.id}' fall back to {plain(worst_a)} A together, above its breaker of "
                f"{plain(station.breaker_a)} A",
            )


def evse_within_breaker(draft: Draft) -> Iterator[Finding]:
    for i, station in draft.loose_stations:
        for j, evse in enumerate(station.evses):
            if evse.max_a > station.breaker_a:
                key = "max_a" if "max_a" in evse.model_fields_set else "id"
                path = (
                    ("stations", i, "evses", j, key)
                    if "evses" in station.model_fields_set
                    else ("stations", i, "breaker_a")
                )
                yield Finding(
                    path,
                    f"EVSE {evse.id} of station '{station.id}' may draw {plain(evse.max_a)} A, above the station's "
                    f"breaker of {plain(station.breaker_a)} A",
                )


def breaker_zone_is_free(draft: Draft) -> Iterator[Finding]:
    """The breaker that several EVSEs of a station share becomes a zone of its own (``breaker_zone``)."""
    shared = {breaker_zone_id(station.id) for _, station in draft.stations if len(station.evses) > 1}
    for i, zone in draft.zones:
        if zone.id in shared:
            yield Finding(
                ("zones", i, "id"),
                f"zone '{zone.id}' has the name of a station's breaker, which is made a zone by itself; choose another",
            )


def evse_minimum(draft: Draft) -> Iterator[Finding]:
    for i, station in draft.loose_stations:
        for j, evse in enumerate(station.evses):
            path = ("stations", i, "evses", j, "min_a")
            if 0 < evse.min_a < MIN_CURRENT_A:
                yield Finding(
                    path,
                    f"EVSE {evse.id} of station '{station.id}' has a minimum of {plain(evse.min_a)} A; an EV takes at "
                    f"least {plain(MIN_CURRENT_A)} A (IEC 61851-1)",
                )
            if evse.min_a > evse.max_a:
                yield Finding(
                    path if "min_a" in evse.model_fields_set else (*path[:-1], "max_a"),
                    f"EVSE {evse.id} of station '{station.id}' has a minimum of {plain(evse.min_a)} A above its maximum "
                    f"of {plain(evse.max_a)} A",
                )


def evse_phases(draft: Draft) -> Iterator[Finding]:
    for i, station in draft.loose_stations:
        for j, evse in enumerate(station.evses):
            path: tuple[str | int, ...] = ("stations", i, "evses", j)
            if draft.phases < evse.phases and draft.grid:
                where = (*path, "phases") if "evses" in station.model_fields_set else ("stations", i)
                yield Finding(
                    where,
                    f"EVSE {evse.id} of station '{station.id}' has {evse.phases} phases, the site has {draft.phases}",
                )
            if evse.rotation.startswith("L") and evse.phases > 1:
                yield Finding(
                    (*path, "rotation"),
                    f"rotation {evse.rotation} is for one phase; EVSE {evse.id} of station '{station.id}' has "
                    f"{evse.phases}: write RST, STR ... or unknown",
                )


RULES = (
    safe_with_controller_dead,
    bears_the_last_limits,
    falls_back,
    safe_with_meter_dead,
    fallback_is_possible,
    fallback_within_breaker,
    evse_within_breaker,
    breaker_zone_is_free,
    evse_minimum,
    evse_phases,
)
