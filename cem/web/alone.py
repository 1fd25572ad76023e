"""What would happen if this controller died now: which stations do not fall back by themselves, and what that overloads."""

from collections.abc import Iterator, Mapping
from typing import Any

from cem.core.site import Site

NAMED = 5


def without_dead_man(csms: Mapping[str, Any]) -> dict[str, str | None]:
    """Each OCPP station, and why it would draw its maximum; ``None`` where it falls back.

    Args:
        csms: What the local CSMS says of itself.
    """
    return {station["id"]: station["personality"]["without_us"] for station in csms.get("stations", ())}


def overloads(site: Site, alone: Mapping[str, str | None]) -> Iterator[str]:
    """For people: the zones that would carry more than their rating then (FAULTS L16), as ``cem check`` says it too."""
    unheld = [station for station, why in alone.items() if why is not None]
    if not unheld:
        return
    loads = {zone.zone_id: [zone.uncontrolled_max_a] * site.phases for zone in site.zones}
    above = {zone.zone_id: zone.parent_id for zone in site.zones}
    for evse in site.evses:
        amps = evse.max_a if alone.get(evse.station_id) is not None else evse.fallback_a
        place: str | None = evse.zone_id
        while place is not None:
            for phase in range(site.phases) if evse.rotation is None else set(evse.rotation):
                loads[place][phase] += amps
            place = above[place]
    over = [z for z in site.zones if max(loads[z.zone_id]) > z.protection.rating_a]
    if not over:
        return
    names = ", ".join(unheld[:NAMED]) + (f" and {len(unheld) - NAMED} more" if len(unheld) > NAMED else "")
    for zone in over:
        yield (
            f"zone {zone.zone_id} may carry {max(loads[zone.zone_id]):g} A of its {zone.protection.rating_a:g} A if this "
            f"controller dies, for these stations are not known to fall back by themselves: {names}. cem station show "
            "says why; give their zone more room, or lower the maximum of their EVSEs in the site file"
        )
