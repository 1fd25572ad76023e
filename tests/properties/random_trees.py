"""Random three-phase sites and requests, reproducible from a seed; sizes are drawn apart so that failures shrink."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from cem.core.allocation import Request
from cem.core.site import Evse, Protection, Site, Zone
from cem.core.topology import Group, Topology, flatten

ROTATIONS = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2))


@dataclass(frozen=True)
class Case:
    """A site, what its EVSEs ask for, and the limits."""

    site: Site
    groups: tuple[Group, ...]
    topology: Topology
    request: Request
    cap: np.ndarray


def random_site(rng: np.random.Generator, n_evses: int, n_zones: int, unknown: float = 0.1) -> Site:
    """A tree of zones in parent-first order; half the EVSEs have three phases, some one or two, some unknown wiring."""
    zones = [Zone("z0", None, Protection(63.0))]
    zones += [Zone(f"z{z}", f"z{rng.integers(0, z)}", Protection(63.0)) for z in range(1, n_zones)]
    evses = []
    for i in range(n_evses):
        phases = int(rng.choice([1, 2, 3], p=[0.4, 0.1, 0.5]))
        rotation: tuple[int, ...] | None = ROTATIONS[rng.integers(6)][:phases]
        if rng.random() < unknown:
            rotation = None
        evses.append(Evse(f"s{i}/1", f"s{i}", f"z{rng.integers(n_zones)}", 1, phases=phases, rotation=rotation))
    return Site("random", 230.0, 3, tuple(zones), tuple(evses))


def random_case(
    seed: int, n_evses: int, n_zones: int, *, whole: bool = True, unit_weights: bool = False, classes: int = 3
) -> Case:
    """A case with tight and slack limits; ``whole`` keeps minima, maxima and steps at whole amps."""
    rng = np.random.default_rng(seed)
    site = random_site(rng, n_evses, n_zones)
    groups: tuple[Group, ...] = ()
    if rng.random() < 0.4:
        members = tuple(np.flatnonzero(rng.random(n_evses) < 0.5).tolist())
        factors = tuple(rng.choice([0.5, 1.0, 1.5], len(members)).tolist()) if rng.random() < 0.5 else None
        groups = (Group("feeder", members, factors),)
    topology = flatten(site, groups)
    min_a = np.full(n_evses, 6.0) if rng.random() < 0.5 else rng.integers(6, 11, n_evses).astype(float)
    max_a = rng.choice([10.0, 13.0, 16.0, 20.0, 32.0], n_evses)
    step_a = None
    if not whole:
        min_a += rng.choice([0.0, 0.3], n_evses)
        max_a += rng.random(n_evses)
        step_a = rng.choice([0.0, 0.1, 0.5, 1.0, 2.0], n_evses)
    request = Request(
        wants=rng.random(n_evses) < 0.9,
        min_a=min_a,
        max_a=max_a,
        phases=topology.phases,
        n_phases=topology.n_phases,
        weight=None if unit_weights else rng.choice([0.5, 1.0, 1.0, 1.0, 2.0, 3.3], n_evses),
        priority=rng.integers(0, classes, n_evses) if rng.random() < 0.5 else None,
        step_a=step_a,
        running=rng.random(n_evses) < 0.5,
        urgency=rng.integers(0, 3, n_evses).astype(float),
        waiting_s=rng.integers(0, 3, n_evses) * 60.0,
    )
    return Case(site, groups, topology, request, random_cap(rng, topology))


def random_cap(rng: np.random.Generator, topology: Topology, negative: float = 0.02) -> np.ndarray:
    """Limits in proportion to the EVSEs beneath, some far too small, some infinite, a few overdrawn."""
    beneath = np.bincount(topology.scope, minlength=topology.rows // 4)
    cap = np.repeat(beneath, 4) * rng.uniform(2.0, 20.0, topology.rows) + rng.uniform(0.0, 20.0, topology.rows)
    cap[3::4] *= rng.uniform(1.0, 3.0, topology.rows // 4)
    cap[rng.random(topology.rows) < 0.3] = np.inf
    cap[rng.random(topology.rows) < negative] = -3.0
    return cap


@st.composite
def cases(draw: st.DrawFn, max_evses: int = 24, max_zones: int = 8, **options: bool | int) -> Case:
    """Random cases for hypothesis."""
    n_evses = draw(st.integers(1, max_evses))
    n_zones = draw(st.integers(1, max_zones))
    return random_case(draw(st.integers(0, 2**32 - 1)), n_evses, n_zones, **options)  # type: ignore[arg-type]
