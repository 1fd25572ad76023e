"""The site flattened once: which EVSE loads which limit, as arrays.

Every limit the allocation knows is a **row**. A scope (a zone, or a group that cuts across the tree) has four rows,
one for each family: L1, L2, L3 in A, and SUM, a power limit over the nominal voltage, in A summed over the phases.
Scope ``s`` and family ``p`` make row ``4 * s + p``; zones come first, in the order of ``Site.zones``, then groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cem.core.site import Evse, Site

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FAMILIES = ("L1", "L2", "L3", "SUM")
SUM = 3
"""The family of power limits; 0 to 2 are the grid phases."""

NO_ROW = -1

EPS_A = 1e-7
"""Two currents nearer than this are the same: far below any step, far above the rounding of 10,000 summands."""

UNRESOLVED_A = 0.05
"""Less than any meter resolves: nobody is cut by a whole step, or kept out, for so little."""


@dataclass(frozen=True, slots=True)
class Group:
    """A limit that cuts across the zone tree: a transformer's leg, a cable shared by stations of two zones.

    Attributes:
        name: Shown where it binds.
        members: Indices of its EVSEs in ``Site.evses``.
        factors: What one ampere of each member counts there; ``None`` counts 1. Never negative.
    """

    name: str
    members: tuple[int, ...]
    factors: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Uses:
    """The non-zero coefficients: what one ampere per phase of an EVSE counts in a row.

    Attributes:
        n: Number of EVSEs.
        rows: Number of limits.
        evse: EVSE of each entry, ascending.
        row: Row of each entry.
        coef: Coefficient of each entry, above 0.
    """

    n: int
    rows: int
    evse: Ints
    row: Ints
    coef: Floats

    def load(self, current_a: Floats) -> Floats:
        """What these currents (per phase, one per EVSE) add up to in each row."""
        loads = np.bincount(self.row, weights=self.coef * current_a[self.evse], minlength=self.rows)
        return loads.astype(np.float64, copy=False)

    def where(self, keep: Bools) -> "Uses":
        """The entries where ``keep`` holds."""
        k = keep.nonzero()[0]  # indices: numpy gathers by them several times faster than by a mask
        return Uses(self.n, self.rows, self.evse[k], self.row[k], self.coef[k])


@dataclass(frozen=True, slots=True)
class Topology:
    """Who loads what.

    Attributes:
        n: Number of EVSEs.
        rows: Number of limits, four for each scope.
        scopes: Zone ids, then group names.
        parent: Parent zone of each zone, -1 for the root.
        evse: EVSE of each (EVSE, scope) pair, ascending.
        scope: Scope of each pair.
        factor: What one ampere of that EVSE counts in that scope.
        phases: ``(n, 3)`` grid phases each EVSE is wired to; all three where its rotation is unknown.
        n_phases: Number of phases each EVSE really has, the coefficient of its SUM rows.
        wired: The coefficients that follow from these phases.

    Its arrays are read-only.
    """

    n: int
    rows: int
    scopes: tuple[str, ...]
    parent: Ints
    evse: Ints
    scope: Ints
    factor: Floats
    phases: Bools
    n_phases: Floats
    wired: Uses

    def row(self, scope: str, family: str) -> int:
        """Index of one limit, for example ``row("garage", "L2")``."""
        return 4 * self.scopes.index(scope) + FAMILIES.index(family)

    def row_name(self, row: int) -> str:
        """Name of one limit, for people: ``garage L2``."""
        return f"{self.scopes[row // 4]} {FAMILIES[row % 4]}"


def grid_phases(evse: Evse) -> tuple[bool, bool, bool]:
    """Grid phases an EVSE counts on: those it is wired to, or every one where its rotation is unknown."""
    if evse.rotation is None:
        return True, True, True
    used = set(evse.rotation[: evse.phases])
    return 0 in used, 1 in used, 2 in used


def flatten(site: Site, groups: Sequence[Group] = ()) -> Topology:
    """Flatten a site; the order of EVSEs and zones is that of the site."""
    index = {zone.zone_id: z for z, zone in enumerate(site.zones)}
    parent = [-1 if zone.parent_id is None else index[zone.parent_id] for zone in site.zones]
    members: list[list[tuple[int, float]]] = []
    for evse in site.evses:
        zone, path = index[evse.zone_id], []
        while zone >= 0:
            path.append((zone, 1.0))
            zone = parent[zone]
        members.append(path)
    for g, group in enumerate(groups):
        factors = group.factors or (1.0,) * len(group.members)
        for i, factor in zip(group.members, factors, strict=True):
            members[i].append((len(site.zones) + g, factor))
    pairs = [(i, scope, factor) for i, path in enumerate(members) for scope, factor in path]
    scopes = (*index, *(group.name for group in groups))
    evse_of = np.array([i for i, _, _ in pairs], dtype=np.int64)
    scope_of = np.array([scope for _, scope, _ in pairs], dtype=np.int64)
    factor_of = np.array([factor for _, _, factor in pairs], dtype=np.float64)
    phases = np.array([grid_phases(evse) for evse in site.evses], dtype=np.bool_).reshape(-1, 3)
    n_phases = np.array([evse.phases for evse in site.evses], dtype=np.float64)
    wired = _coefficients(4 * len(scopes), evse_of, scope_of, factor_of, _counts(phases, n_phases))
    parent_of = np.array(parent, dtype=np.int64)
    for array in (parent_of, evse_of, scope_of, factor_of, phases, n_phases, wired.evse, wired.row, wired.coef):
        array.setflags(write=False)
    return Topology(
        n=len(site.evses),
        rows=4 * len(scopes),
        scopes=scopes,
        parent=parent_of,
        evse=evse_of,
        scope=scope_of,
        factor=factor_of,
        phases=phases,
        n_phases=n_phases,
        wired=wired,
    )


def _counts(phases: Bools, n_phases: Floats | None) -> Floats:
    """What one ampere of each EVSE counts in each family."""
    counts = np.empty((phases.shape[0], 4))
    counts[:, :SUM] = phases
    counts[:, SUM] = counts[:, :SUM].sum(axis=1) if n_phases is None else n_phases
    return counts


def _coefficients(rows: int, evse: Ints, scope: Ints, factor: Floats, counts: Floats) -> Uses:
    coef = (counts[evse] * factor[:, None]).ravel()
    k = coef.nonzero()[0]
    pair, family = k >> 2, k & 3
    return Uses(counts.shape[0], rows, evse[pair], 4 * scope[pair] + family, coef[k])


def uses(topology: Topology, phases: Bools, n_phases: Floats | None = None) -> Uses:
    """Coefficients for the phases each EVSE counts on now.

    Args:
        topology: The flattened site.
        phases: ``(n, 3)`` grid phases each EVSE counts on; where unknown all three.
        n_phases: Coefficient of the SUM rows; ``None`` counts the phases.
    """
    if phases is topology.phases and n_phases is topology.n_phases:
        return topology.wired
    counts = _counts(phases, n_phases)
    return _coefficients(topology.rows, topology.evse, topology.scope, topology.factor, counts)


def counting(topology: Topology, phases: Bools, n_phases: Floats) -> Topology:
    """The topology with its EVSEs counting on these phases; itself where nothing changed."""
    if phases is topology.phases and n_phases is topology.n_phases:
        return topology
    return replace(topology, phases=phases, n_phases=n_phases, wired=uses(topology, phases, n_phases))


def with_group(topology: Topology, name: str, members: Bools) -> Topology:
    """The topology with one more group, of this cycle only, after all others.

    Args:
        topology: As counted now.
        name: Shown where it binds.
        members: ``(n,)`` its EVSEs.
    """
    own = members.nonzero()[0]
    evse = np.concatenate((topology.evse, own))
    scope = np.concatenate((topology.scope, np.full(own.size, len(topology.scopes), dtype=np.int64)))
    factor = np.concatenate((topology.factor, np.ones(own.size)))
    order = evse.argsort(kind="stable")
    evse, scope, factor = evse[order], scope[order], factor[order]
    rows = topology.rows + 4
    return replace(
        topology,
        rows=rows,
        scopes=(*topology.scopes, name),
        evse=evse,
        scope=scope,
        factor=factor,
        wired=_coefficients(rows, evse, scope, factor, _counts(topology.phases, topology.n_phases)),
    )


def room(
    topology: Topology, occupied_a: Floats, phases: Bools, cap: Floats, *, n_phases: Floats | None = None
) -> Floats:
    """What is left in each row when the EVSEs draw ``occupied_a``; infinite where there is no limit."""
    return cap - uses(topology, phases, n_phases).load(occupied_a)


def feasible(
    topology: Topology,
    current_a: Floats,
    phases: Bools,
    cap: Floats,
    *,
    n_phases: Floats | None = None,
    tolerance_a: float = EPS_A,
) -> bool:
    """Whether no row is exceeded. A row that is below 0 already is exceeded whatever the EVSEs do."""
    return bool(np.all(room(topology, current_a, phases, cap, n_phases=n_phases) >= -tolerance_a))


def crowded_row(counted: Topology, min_a: Floats, left_a: Floats) -> Ints:
    """``(n,)`` the first row without room for each EVSE's minimum; ``NO_ROW`` where there is room."""
    use = counted.wired
    lacks = use.coef * min_a[use.evse] > left_a[use.row] + EPS_A
    first = np.full(use.n, use.rows, dtype=np.int64)
    np.minimum.at(first, use.evse[lacks], use.row[lacks])
    return np.where(first < use.rows, first, NO_ROW)
