"""The ceiling over our EVSEs in every row: the tightest limit, less what is not ours."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cem.core.generation import Generation
from cem.core.limits import Limit, LimitKind, Origin, Source
from cem.core.topology import SUM, Bools, Floats, Ints
from cem.core.units import HIGHEST_V
from cem.core.zone_plan import (
    BY_BUSBAR,
    BY_CONTRACT,
    BY_FALLBACK,
    BY_FUSE,
    BY_IMPLAUSIBLE,
    BY_SOURCE_LOSS,
    BY_UNBALANCE,
    SOURCES,
    ZonePlan,
)


@dataclass(frozen=True, slots=True)
class InForce:
    """The limits in force, the tightest of each kind for each zone, with the index of its source.

    Attributes:
        sources: Everything that may bind in this cycle.
        amps: ``(z, 3)`` on all current into the zone.
        amps_by: Its source.
        ours: ``(z, 3)`` on what we control there alone, inf where there is none.
        ours_by: Its source.
        watts: ``(z,)`` on all power into the zone, inf where there is none.
        watts_by: Its source.
        load: ``(z,)`` on what we control there alone, its own generation credited; inf where there is none.
        load_by: Its source.
        limited: Some limit of the cycle is among them.
    """

    sources: tuple[Source, ...]
    amps: Floats
    amps_by: Ints
    ours: Floats
    ours_by: Ints
    watts: Floats
    watts_by: Ints
    load: Floats
    load_by: Ints
    limited: bool


def in_force(plan: ZonePlan, limits: Iterable[Limit]) -> InForce:
    """The tightest limit of each kind in each zone; of equals the first: fuse, contract, then in the order given."""
    zones = len(plan.parent)
    sources = [*SOURCES, *(Source(group.group_id, Origin.GROUP) for group in plan.site.groups)]
    amps, amps_by = np.repeat(plan.fuse_a[:, None], 3, axis=1), np.full((zones, 3), BY_FUSE)
    ours, ours_by = np.full((zones, 3), np.inf), np.full((zones, 3), BY_FUSE)
    watts, watts_by = plan.contract_w.copy(), np.full(zones, BY_CONTRACT)
    load, load_by = np.full(zones, np.inf), np.full(zones, BY_CONTRACT)
    for limit in limits:
        z = plan.index.get(limit.zone_id)
        if z is None or limit.kind not in {LimitKind.IMPORT, LimitKind.LOAD}:
            continue
        everything = limit.kind is LimitKind.IMPORT
        by = len(sources)
        sources.append(Source(limit.source, limit.origin))
        here = slice(z, z + 1)
        if limit.value_a is not None:
            value, value_by = (amps, amps_by) if everything else (ours, ours_by)
            _tighten(value[here], value_by[here], np.array(limit.value_a), by)
        if limit.value_w is not None:
            total, total_by = (watts, watts_by) if everything else (load, load_by)
            _tighten(total[here], total_by[here], limit.value_w, by)
    limited = len(sources) > len(SOURCES) + len(plan.site.groups)
    return InForce(tuple(sources), amps, amps_by, ours, ours_by, watts, watts_by, load, load_by, limited)


def ceilings(
    plan: ZonePlan,
    held: InForce,
    other: Floats,
    given: Generation,
    *,
    blind: Bools,
    implausible: Bools,
    lost: Bools,
    highest_v: Floats,
) -> tuple[Floats, Ints]:
    """What our EVSEs together may draw in every row.

    Args:
        plan: The site, flattened.
        held: The limits in force.
        other: ``(s, 4)`` what is measured and not ours: A on each phase and W in total; for the unbalance how far
            each phase is above the lowest of the others.
        given: What sources beneath each zone feed in.
        blind: ``(z,)`` nobody measures there.
        implausible: ``(z,)`` its meter is lost for that reason.
        lost: ``(z,)`` its meter is lost, for whatever reason.
        highest_v: ``(z,)`` highest voltage there.

    Returns:
        ``(s, 4)`` A, inf where nothing limits, never below 0; and the index of the source of each.
    """
    zones = len(plan.parent)
    room = np.full((plan.scopes, 4), np.inf)
    by = np.full((plan.scopes, 4), BY_FUSE)
    room_a, by_a = room[:zones, :SUM], by[:zones, :SUM]  # views
    amps, watts = other[:zones, :SUM], other[:zones, SUM]
    hidden = blind[:, None]
    has_busbar = ~np.isnan(plan.busbar_a)[:, None]
    some_busbar = np.count_nonzero(has_busbar) > 0
    # generation beneath a zone is credited to its fuse only where the busbar is known to carry both
    credited = np.maximum(0.0, amps)
    if some_busbar:
        credited = np.where(has_busbar, amps, credited)
    used_a = np.where(hidden, plan.worst_a[:, None], credited)
    room_a[:] = held.amps - used_a
    by_a[:] = held.amps_by
    if held.limited:
        _tighten(room_a, by_a, held.ours, held.ours_by)
    if plan.sources:
        if some_busbar:
            gross_a = np.where(hidden, plan.worst_a[:, None], amps + given.all_a)
            _tighten(room_a, by_a, np.where(has_busbar, plan.busbar_a[:, None] - gross_a, np.inf), BY_BUSBAR)
        # an inverter trips in an instant: until the EVs have followed, the device must bear what it gave as well
        after_a = np.where(hidden | (given.largest_a <= 0), -np.inf, amps + given.largest_a)
        _tighten(room_a, by_a, plan.borne_a[:, None] - after_a, BY_SOURCE_LOSS)
    elif some_busbar:
        _tighten(room_a, by_a, np.where(has_busbar, plan.busbar_a[:, None] - used_a, np.inf), BY_BUSBAR)
    if np.count_nonzero(lost):
        fallback = np.where(lost, plan.fallback_a, np.inf)[:, None]
        _tighten(room_a, by_a, fallback, np.where(implausible, BY_IMPLAUSIBLE, BY_FALLBACK)[:, None], ties=True)

    # power: an import limit binds everything, with generation as measured; a limit on controllable load lets through
    # what the site makes beyond its other load, less what batteries charge with: limit + max(0, made - other) - charged
    used_w = np.where(blind, plan.worst_a * plan.site.phases * HIGHEST_V, watts)
    room[:zones, SUM] = (held.watts - used_w) / highest_v
    by[:zones, SUM] = held.watts_by
    if held.limited:
        ours_w = held.load - np.minimum(given.charging_w, np.where(blind, np.inf, watts))
        _tighten(room[:zones, SUM], by[:zones, SUM], ours_w / highest_v, held.load_by)

    for g, group in enumerate(plan.site.groups):
        row = zones + g
        by[row] = len(SOURCES) + g
        room[row, :SUM] = np.inf if group.limit_a is None else group.limit_a
        room[row, SUM] = np.inf if group.limit_w is None else group.limit_w / highest_v[0]
    if plan.site.unbalance_a is not None:
        by[-1] = BY_UNBALANCE
        room[-1, :SUM] = plan.site.unbalance_a - np.nan_to_num(other[-1, :SUM])
    return np.maximum(0.0, room), by


def _tighten(value: Floats, by: Ints, limit: Floats | float, source: Ints | int, *, ties: bool = False) -> None:
    """Lowers ``value`` to ``limit`` in place and notes the source where it did, or where ``ties`` are told by it."""
    lower = limit <= value if ties else limit < value
    np.copyto(value, limit, where=lower)
    np.copyto(by, source, where=lower)
