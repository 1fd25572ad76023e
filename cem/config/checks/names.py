"""Names: each given once, each reference to something that exists."""

from collections.abc import Iterator

from cem.config.draft import LISTS, REFERENCES, Draft, Finding
from cem.config.scalars import did_you_mean

_KINDS = {
    "zones": "zone",
    "devices": "device",
    "stations": "station",
    "external_limits": "external limit",
    "scheduled_limits": "scheduled limit",
    "groups": "group",
    "contacts": "contact",
    "contactors": "contactor",
}


def ids_are_given_once(draft: Draft) -> Iterator[Finding]:
    for kind in LISTS:
        first: dict[str, int] = {}
        for i, name in draft.ids[kind]:
            if name in first:
                yield Finding((kind, i, "id"), f"{_KINDS[kind]} '{name}' exists already: {kind}[{first[name]}]")
            first.setdefault(name, i)


def evse_ids_are_given_once(draft: Draft) -> Iterator[Finding]:
    for i, station in draft.stations:
        seen: set[int] = set()
        for j, evse in enumerate(station.evses):
            if evse.id in seen:
                path = ("stations", i, "evses", j)
                yield Finding((*path, "id"), f"station '{station.id}' has an EVSE {evse.id} already")
            seen.add(evse.id)


def references_exist(draft: Draft) -> Iterator[Finding]:
    for place, key, i, name in draft.references:
        kind = REFERENCES[place, key]
        known = draft.names(kind)
        if name not in known and kind in draft.complete:
            guess = did_you_mean(name, known) or (f"; there are: {', '.join(known[:8])}" if known else "")
            yield Finding((place, i, key), f"no {_KINDS[kind]} '{name}'{guess}")


RULES = (ids_are_given_once, evse_ids_are_given_once, references_exist)
