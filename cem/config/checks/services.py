"""External limits, the local CSMS, the web server, the site's clock."""

import zoneinfo
from collections.abc import Iterator

from cem.config.draft import Draft, Finding
from cem.config.scalars import did_you_mean, plain

_EVERY_ADDRESS = {"0.0.0.0", "::", ""}  # noqa: S104 - compared with, never listened on


def limits_have_failsafe(draft: Draft) -> Iterator[Finding]:
    for i, limit in draft.limits:
        wanted, other = ("failsafe_a", "failsafe_w") if limit.unit == "A" else ("failsafe_w", "failsafe_a")
        if getattr(limit, wanted) is None:
            yield Finding(
                ("external_limits", i),
                f"external limit '{limit.id}' in {limit.unit} needs '{wanted}': the limit in force without contact "
                "(0 is allowed)",
            )
        if getattr(limit, other) is not None:
            yield Finding(
                ("external_limits", i, other),
                f"external limit '{limit.id}' is in {limit.unit}: give '{wanted}' instead",
            )


def profiles_are_refreshed_in_time(draft: Draft) -> Iterator[Finding]:
    csms = draft.csms
    if csms and csms.profile_refresh_s >= csms.profile_duration_s / 2:
        key = "profile_refresh_s" if "profile_refresh_s" in csms.model_fields_set else "profile_duration_s"
        yield Finding(
            ("csms", key),
            f"profile_refresh_s ({plain(csms.profile_refresh_s)} s) must be below half of profile_duration_s "
            f"({plain(csms.profile_duration_s)} s), so that one lost message does no harm",
        )


def one_upstream_decides(draft: Draft) -> Iterator[Finding]:
    upstreams = draft.csms.upstreams if draft.csms else ()
    primaries = [i for i, upstream in enumerate(upstreams) if upstream.role == "primary"]
    if any(upstream.role == "observer" for upstream in upstreams) and not primaries:
        yield Finding(("csms", "upstreams"), "one upstream must have 'role: primary'; observers decide nothing")
    for i in primaries[1:]:
        first = upstreams[primaries[0]].id
        yield Finding(
            ("csms", "upstreams", i), f"'{first}' is the primary upstream already; give this one 'role: observer'"
        )
    for i, upstream in enumerate(upstreams):
        if upstream.id in [other.id for other in upstreams[:i]]:
            yield Finding(("csms", "upstreams", i, "id"), f"upstream '{upstream.id}' exists already")
        if upstream.allow and upstream.role != "observer":
            yield Finding(
                ("csms", "upstreams", i, "allow"), "'allow' is for observers; the primary may command anything"
            )
        if upstream.replay_boot and upstream.role == "site":
            yield Finding(
                ("csms", "upstreams", i, "replay_boot"),
                f"upstream '{upstream.id}' hears of no station (role: site), so there is no boot to tell: leave it out",
            )


def versions_are_assumed_of_ocpp_stations(draft: Draft) -> Iterator[Finding]:
    for i, station in draft.stations:
        if station.assume_subprotocol is None:
            continue
        why = "is commanded by Modbus" if station.modbus is not None else ""
        if station.kind == "site":
            why = "is a site, which names its version itself"
        if why:
            yield Finding(
                ("stations", i, "assume_subprotocol"),
                f"'{station.id}' {why}: leave assume_subprotocol out, it is for stations that dial by OCPP",
            )


def own_identities_are_free(draft: Draft) -> Iterator[Finding]:
    """The site's own station is no station of the site, and its limit has a name of its own."""
    upstreams = draft.csms.upstreams if draft.csms else ()
    stations, limits = draft.names("stations"), draft.names("external_limits")
    for i, upstream in enumerate(upstreams):
        path, own = ("csms", "upstreams", i, "own_identity"), upstream.own_identity
        if own is None:
            if upstream.role == "site":
                yield Finding(("csms", "upstreams", i), f"upstream '{upstream.id}' has role site and no 'own_identity'")
            continue
        if own.id in stations:
            yield Finding((*path, "id"), f"'{own.id}' is a station of this site; the site needs an identity of its own")
        if {upstream.id, f"{upstream.id}:w"} & set(limits):
            yield Finding(
                (*path,),
                f"an external limit is called '{upstream.id}' too; the site's limit of this upstream has its name",
            )


def ports_are_free(draft: Draft) -> Iterator[Finding]:
    if draft.csms is None or draft.web is None:
        return
    listen = draft.csms.listen
    if listen.tls is not None and listen.tls.port == listen.port:
        yield Finding(
            ("csms", "listen", "tls", "port"),
            f"port {listen.port} is that of csms.listen; give another one, or leave tls.port out to serve TLS only",
        )
    hosts = {listen.host, draft.web.host}
    ports = {listen.port} | ({listen.tls.port} if listen.tls is not None else set())
    if draft.web.port in ports and (len(hosts) == 1 or hosts & _EVERY_ADDRESS):
        yield Finding(("web", "port"), f"port {draft.web.port} is taken by csms.listen; the web server needs another")


def time_zone_exists(draft: Draft) -> Iterator[Finding]:
    if draft.site is None:
        return
    name = draft.site.time_zone
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        guess = did_you_mean(name, sorted(zoneinfo.available_timezones()))
        yield Finding(("site", "time_zone"), f"no time zone '{name[:60]}'{guess}; write one such as Europe/Berlin")


RULES = (
    limits_have_failsafe,
    profiles_are_refreshed_in_time,
    one_upstream_decides,
    versions_are_assumed_of_ocpp_stations,
    own_identities_are_free,
    ports_are_free,
    time_zone_exists,
)
