"""The site as its own station tells a CSMS of it: the tree of zones, what limits them, what flows."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from cem.core.cycle import Decision, Plan
from cem.core.limits import LimitKind, Origin
from cem.core.meter_health import MeterHealth
from cem.csms.site_limit import OtherLimit


@dataclass(frozen=True, slots=True)
class ZoneTold:
    """One zone; currents in A on each phase, ``None`` where unknown.

    Attributes:
        limit_w: ``None``: no limit of power.
        granted_a: What EVSEs beneath may draw.
    """

    zone_id: str
    parent_id: str | None
    rating_a: float
    limit_a: Sequence[float | None] = ()
    limit_source: str = ""
    limit_w: float | None = None
    measured_a: Sequence[float | None] | None = None
    granted_a: Sequence[float | None] = ()


@dataclass(frozen=True, slots=True)
class SiteTold:
    """The whole site, its root first.

    Attributes:
        others: Limits of the root that the CSMS did not set.
    """

    zones: tuple[ZoneTold, ...] = ()
    others: tuple[OtherLimit, ...] = ()

    @property
    def measured_a(self) -> Sequence[float | None] | None:
        """What flows into the site; ``None`` where it has no meter, or that is lost."""
        return self.zones[0].measured_a if self.zones else None


def site_told(plan: Plan, decision: Decision, own: Collection[str]) -> SiteTold:
    """The site after one decision.

    Args:
        plan: The site, flattened.
        decision: The last one.
        own: Sources of limits that the CSMS itself has set: it knows those.
    """
    envelopes, granted = decision.envelopes, decision.granted_a(plan)
    zones = tuple(
        ZoneTold(
            zone.zone_id,
            zone.parent_id,
            zone.protection.rating_a,
            _known(envelopes.limit_a[z].tolist()),
            envelopes.limit_source[z],
            _known([float(envelopes.limit_w[z])])[0],
            None if math.isnan(envelopes.measured_a[z][0]) else _known(envelopes.measured_a[z].tolist()),
            _known(granted[z].tolist()),
        )
        for z, zone in enumerate(plan.site.zones)
    )
    return SiteTold(zones, tuple(_others(plan, decision, own)))


def _others(plan: Plan, decision: Decision, own: Collection[str]) -> Iterator[OtherLimit]:
    root = plan.site.root
    for limit in decision.envelopes.limits:
        if limit.zone_id != root.zone_id or limit.kind not in {LimitKind.IMPORT, LimitKind.LOAD} or limit.source in own:
            continue
        source = "SO" if limit.origin is Origin.EXTERNAL else "EMS"
        if limit.value_w is not None:
            yield OtherLimit(source, limit.value_w, "W")
        if limit.value_a is not None:
            yield OtherLimit(source, min(limit.value_a), "A")
    if decision.envelopes.health[0] is MeterHealth.LOST:
        yield OtherLimit("EMS", root.fallback_limit_a, "A")


def _known(values: Sequence[float]) -> list[float | None]:
    return [round(value, 2) if math.isfinite(value) else None for value in values]
