"""Limits from outside as channels of the core: those of the DSO, and what upstreams set for the site by its own identity."""

from collections.abc import Iterator

from cem.config.csms_models import Csms
from cem.config.models import SiteFile
from cem.core.grid_channel import Channel
from cem.core.limits import LimitKind
from cem.core.site import Site, Zone
from cem.core.units import HIGHEST_V
from cem.errors import CemError


def built_most(zone: Zone, site: Site) -> dict[str, float]:
    """The most that a zone's protection lets through, by unit: A on each phase, and W in all at the highest voltage."""
    rating_a = zone.protection.rating_a
    return {"A": rating_a, "W": rating_a * site.phases * HIGHEST_V}


def channels(file: SiteFile, site: Site) -> tuple[Channel, ...]:
    """The external limits as their state machines want them: in W, or A per phase."""
    zones = {zone.zone_id: zone for zone in site.zones}
    made = []
    for limit in file.external_limits:
        zone = zones[limit.zone or site.root.zone_id]
        unit = "A" if limit.unit == "A" else "W"
        failsafe = limit.failsafe_a if unit == "A" else limit.failsafe_w
        if failsafe is None:
            raise CemError(f"external limit {limit.id} has no failsafe value in {limit.unit}")  # `cem check` refuses it
        made.append(
            Channel(
                limit.id,
                LimitKind(limit.kind),
                zone.zone_id,
                unit,
                failsafe=failsafe,
                nominal=built_most(zone, site)[unit],
                failsafe_duration_s=limit.failsafe_duration_s,
                heartbeat_timeout_s=limit.heartbeat_timeout_s,
                settle_s=limit.settle_s,
                release_ramp_s=limit.release_ramp_s,
                hold_after_failsafe=limit.after_failsafe == "hold",
            )
        )
    return (*made, *_identity_channels(file.csms, site))


def _identity_channels(csms: Csms, site: Site) -> Iterator[Channel]:
    """Two for each own identity, in A and in W: a profile may come in either, and neither is turned into the other."""
    nominal = built_most(site.root, site)
    for upstream in csms.upstreams:
        own = upstream.own_identity
        if own is None:
            continue
        for unit, limit_id in upstream.limit_names.items():
            failsafe_a = own.failsafe_a if unit == "A" else None
            yield Channel(
                limit_id,
                LimitKind(own.kind),
                site.root.zone_id,
                unit,
                failsafe=nominal[unit] if failsafe_a is None else min(failsafe_a, nominal["A"]),
                nominal=nominal[unit],
                failsafe_duration_s=own.failsafe_duration_s,
                heartbeat_timeout_s=own.contact_timeout_s,
                settle_s=own.settle_s,
                release_ramp_s=own.release_ramp_s,
                hold_after_failsafe=own.after_failsafe == "hold",
                lasting=True,
            )
