"""What headroom needs of the site, flattened once."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cem.core.limits import Origin, Source
from cem.core.observe import Wiring
from cem.core.overload import trip_curve
from cem.core.site import Meter, Site
from cem.core.timings import Timings
from cem.core.topology import Bools, Floats, Group, Ints, grid_phases
from cem.core.units import HIGHEST_V

FUSE, CONTRACT, FALLBACK = "fuse", "contract", "fallback"
UNBALANCE = "unbalance"
"""Name of the group that stands for the difference between the phases at the connection."""

SOURCES = (
    Source(FUSE, Origin.FUSE),
    Source(CONTRACT, Origin.CONTRACT),
    Source(FALLBACK, Origin.FALLBACK),
    Source(FALLBACK, Origin.IMPLAUSIBLE),
    Source("busbar", Origin.BUSBAR),
    Source("generation", Origin.SOURCE_LOSS),
    Source(UNBALANCE, Origin.UNBALANCE),
)
"""Sources that every site has, in the order of these indexes; groups and the cycle's limits follow."""
BY_FUSE, BY_CONTRACT, BY_FALLBACK, BY_IMPLAUSIBLE, BY_BUSBAR, BY_SOURCE_LOSS, BY_UNBALANCE = range(7)

MARGIN_USED = 0.8
"""Part of a protecting device's trip margin that the loss of a source may use."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Zones with an energy budget, ``(b,)`` each.

    Attributes:
        zone: Their indexes.
        mean_w: Most in the mean of a quarter.
        worst_w: What they may have drawn while nobody looked.
    """

    zone: Ints
    mean_w: Floats
    worst_w: Floats

    @classmethod
    def of(cls, site: Site, highest_w: Floats) -> Self:
        """From the site as built and what its zones may draw."""
        found = [(z, zone.energy_budget_w) for z, zone in enumerate(site.zones) if zone.energy_budget_w is not None]
        zone = np.array([z for z, _ in found], dtype=np.int64)
        return cls(zone, np.array([watts for _, watts in found], dtype=np.float64), highest_w[zone])


@dataclass(frozen=True, slots=True)
class ZonePlan:
    """What headroom needs of the site, flattened once. Arrays are ``(z,)`` unless said.

    Attributes:
        site: As built.
        wiring: EVSEs on grid phases.
        zone_of: ``(n,)`` index of each EVSE's zone.
        index: Zone id to index.
        parent: Index of each zone's parent, -1 for the root.
        beneath: ``(z, z)`` 1.0 where the second zone lies in the first or is it.
        meters: For each zone its meter, or ``None``.
        groups: Limits that cut across the zones: the site's, then the unbalance where one is stated.
        scopes: Zones and groups.
        fuse_a: Rating less what is kept free.
        borne_a: What the protecting device bears until the EVs have followed a cut.
        busbar_a: NaN where none is stated.
        contract_w: inf where there is none.
        fallback_a: For our EVSEs while blind.
        worst_a: What is not ours, at its worst.
        highest_w: What all together may draw; 0 where no energy budget asks for it.
        sources: Resources that may feed in, as (index, its zones as ``(z,)``).
        feeds: Some resource beneath may feed in.
        resources: For each zone the indexes of the resources in it and beneath.
        poll_s: Period of its meter; 0 without one.
        budgets: Energy budgets.
        place: ``(3 n,)`` where each phase of an EVSE falls in a flattened ``(z, 3)`` array.
    """

    site: Site
    wiring: Wiring
    zone_of: Ints
    index: dict[str, int]
    parent: Ints
    beneath: Floats
    meters: tuple[Meter | None, ...]
    groups: tuple[Group, ...]
    scopes: int
    fuse_a: Floats
    borne_a: Floats
    busbar_a: Floats
    contract_w: Floats
    fallback_a: Floats
    worst_a: Floats
    highest_w: Floats
    sources: tuple[tuple[int, Bools], ...]
    feeds: Bools
    resources: tuple[tuple[int, ...], ...]
    poll_s: Floats
    budgets: Budgets
    place: Ints

    @classmethod
    def of(cls, site: Site, timings: Timings | None = None) -> Self:
        """From the site as built and how fast EVs follow."""
        zones = site.zones
        index = {zone.zone_id: i for i, zone in enumerate(zones)}
        parent = [-1 if zone.parent_id is None else index[zone.parent_id] for zone in zones]
        beneath = np.eye(len(zones))
        for child in range(len(zones) - 1, 0, -1):
            beneath[parent[child]] += beneath[child]
        meters = {meter.meter_id: meter for meter in site.meters}
        guards = tuple(None if zone.meter_id is None else meters[zone.meter_id] for zone in zones)
        reaction_s = (timings or Timings()).reaction_s
        groups = _groups(site)
        zone_of = np.array([index[evse.zone_id] for evse in site.evses], dtype=np.int64)
        sources = tuple((r, beneath[:, index[one.zone_id]] > 0) for r, one in enumerate(site.resources))
        highest_w = np.array([_highest_a(site, one, index, beneath) for one in range(len(zones))]) * HIGHEST_V
        return cls(
            site,
            Wiring.of(site),
            zone_of,
            index,
            np.array(parent, dtype=np.int64),
            beneath,
            guards,
            groups,
            len(zones) + len(groups),
            np.array([zone.protection.rating_a - zone.protection.guard_a for zone in zones]),
            np.array(
                [
                    zone.protection.rating_a
                    * trip_curve(zone.protection).borne_ratio(
                        reaction_s + 2.0 * (1.0 if meter is None else meter.poll_s) + 2.0, MARGIN_USED
                    )
                    for zone, meter in zip(zones, guards, strict=True)
                ]
            ),
            np.array([np.nan if zone.busbar_a is None else zone.busbar_a for zone in zones]),
            np.array([np.inf if zone.import_limit_w is None else zone.import_limit_w for zone in zones]),
            np.array([zone.fallback_limit_a for zone in zones]),
            np.array([zone.uncontrolled_max_a for zone in zones]),
            highest_w,
            sources,
            np.array([any(where[z] for _, where in sources) for z in range(len(zones))], dtype=np.bool_),
            tuple(tuple(r for r, where in sources if where[z]) for z in range(len(zones))),
            np.array([0.0 if meter is None else meter.poll_s for meter in guards]),
            Budgets.of(site, highest_w),
            (3 * zone_of[:, None] + np.arange(3)).ravel(),
        )

    @property
    def unbalance_scope(self) -> int | None:
        """Scope of the unbalance at the connection; ``None`` where none is stated."""
        return None if self.site.unbalance_a is None else self.scopes - 1

    def in_zones(self, per_evse: Floats) -> Floats:
        """Sums of a value per EVSE and phase ``(n, 3)`` over each zone and all beneath it: ``(z, 3)``."""
        per_zone = np.bincount(self.place, weights=per_evse.ravel(), minlength=3 * len(self.parent))
        return self.beneath @ per_zone.reshape(-1, 3)

    def any_beneath(self, flags: Bools) -> Bools:
        """``(z,)`` whether any EVSE in a zone or beneath it is flagged."""
        if not np.count_nonzero(flags):
            return np.zeros(len(self.parent), dtype=np.bool_)
        flagged: Bools = self.beneath @ np.bincount(self.zone_of, weights=flags, minlength=len(self.parent)) > 0
        return flagged

    def from_above(self, flags: Bools) -> Bools:
        """``(n,)`` whether any zone on an EVSE's way to the root is flagged."""
        flagged: Bools = self.beneath.T @ flags > 0
        return flagged[self.zone_of]


def _highest_a(site: Site, z: int, index: dict[str, int], beneath: Floats) -> float:
    """What may flow into a zone, all phases together: other load and our EVSEs at their worst, within its rating."""
    if site.zones[z].energy_budget_w is None:
        return 0.0
    phases_a = [site.zones[z].uncontrolled_max_a] * site.phases
    for evse in site.evses:
        if beneath[z, index[evse.zone_id]]:
            phases_a = [a + evse.max_a * on for a, on in zip(phases_a, grid_phases(evse)[: site.phases], strict=True)]
    return sum(min(a, site.zones[z].protection.rating_a) for a in phases_a)


def _groups(site: Site) -> tuple[Group, ...]:
    place = {evse.evse_id: i for i, evse in enumerate(site.evses)}
    groups = [Group(group.group_id, tuple(place[evse_id] for evse_id in group.evse_ids)) for group in site.groups]
    if site.unbalance_a is not None:
        factors = tuple(1.0 if evse.phases < 3 else 0.0 for evse in site.evses)
        groups.append(Group(UNBALANCE, tuple(range(len(site.evses))), factors))
    return tuple(groups)
