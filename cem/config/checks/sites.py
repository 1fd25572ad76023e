"""Sites below this one: each one connection, with stations of its own that are only carried."""

from collections.abc import Iterator

from cem.config.draft import Draft, Finding


def sites_are_one_connection(draft: Draft) -> Iterator[Finding]:
    for i, station in draft.stations:
        if station.kind != "site":
            continue
        if len(station.evses) > 1:
            yield Finding(
                ("stations", i, "evses"),
                f"site '{station.id}' is one connection: give its 'evses' one entry, without id",
            )
        evse = station.evses[0]
        if evse.dc or evse.phase_switching or evse.discharge_a:
            yield Finding(
                ("stations", i, "evses", 0),
                f"site '{station.id}' is a connection, not an outlet: dc, phase_switching and discharge_a are not for it",
            )
        if station.cloud_profiles == "end_to_end":
            yield Finding(
                ("stations", i, "cloud_profiles"),
                f"site '{station.id}' is held by its maximum, where the upstream's own would be in the way: leave this out",
            )


def carried_stations_belong_to_a_site(draft: Draft) -> Iterator[Finding]:
    known = set(draft.names("stations"))
    primary = draft.csms is not None and any(up.role == "primary" for up in draft.csms.upstreams)
    seen: set[str] = set()
    for i, station in draft.stations:
        if station.carries and station.kind != "site":
            yield Finding(("stations", i, "carries"), f"'carries' is for a site; '{station.id}' is a station")
        elif station.carries and not primary:
            yield Finding(
                ("stations", i, "carries"),
                f"the stations of site '{station.id}' are carried to our primary upstream, and there is none",
            )
        for j, name in enumerate(station.carries):
            if name in known:
                yield Finding(
                    ("stations", i, "carries", j),
                    f"'{name}' is a station of this site file; what a site carries is held by its own controller alone",
                )
            elif name in seen:
                yield Finding(("stations", i, "carries", j), f"'{name}' is carried already")
            seen.add(name)


RULES = (sites_are_one_connection, carried_stations_belong_to_a_site)
