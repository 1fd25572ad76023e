"""How far the phases at the connection may differ (VDE-AR-N 4100: 20 A).

Only what does not draw evenly on all phases counts: a symmetric car moves every phase alike. For the others together, on
each phase: ``current <= allowed + min(other phases) - this phase``, where the phases are what the meter shows of all
else. What such cars draw on the other phases now is part of that, as long as they keep it: where this very decision
takes it away, the ceiling is lowered and the shares are made anew.

It is a rule of the grid's, no fuse: where the meter is lost, our own cars alone keep to the allowed difference.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cem.core.allocation import Shares
from cem.core.observe import Seen, Wiring, highest_phase
from cem.core.topology import EPS_A, SUM, Bools, Floats, Topology, uses

DRAWS_A = 4.0
"""A car that draws less tells nothing about its phases."""

EVEN_A = 2.0
"""Phases nearer than this are even."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What the unbalance at the connection rests on in this cycle.

    Attributes:
        uneven: ``(n,)`` EVSEs that do not draw evenly on all phases.
        drawn_a: ``(n, 3)`` what they surely draw, on grid phases.
        phases_a: ``(3,)`` what each phase carries, that included, even cars left out; NaN where nobody measures.
        above_a: ``(3,)`` how far all else on a phase is above the lowest of the others; NaN where nobody measures.
    """

    uneven: Bools
    drawn_a: Floats
    phases_a: Floats
    above_a: Floats

    @classmethod
    def of(cls, measured_a: Floats, uneven: Bools, surely_a: Floats) -> Self:
        """From the connection's meter.

        Args:
            measured_a: ``(3,)`` NaN where nobody measures.
            uneven: ``(n,)`` EVSEs that do not draw evenly.
            surely_a: ``(n, 3)`` what each EVSE is seen to draw, on grid phases.
        """
        drawn_a = np.where(uneven[:, None], surely_a, 0.0)
        # even cars are taken out as they report themselves: what is not reported yet is on every phase and cancels out
        phases_a = measured_a - np.where(uneven[:, None], 0.0, surely_a).sum(axis=0)
        rest_a = phases_a - drawn_a.sum(axis=0)
        return cls(uneven, drawn_a, phases_a, rest_a - _lowest_of_others(phases_a))

    def lowered_by(self, current_a: Floats) -> Floats:
        """``(3,)`` how much lower each phase's ceiling is once our uneven EVSEs draw no more than ``current_a``."""
        if np.isnan(self.phases_a).any():
            return np.zeros(3)
        gone_a = np.maximum(self.drawn_a - current_a[:, None], 0.0).sum(axis=0)
        lowered: Floats = _lowest_of_others(self.phases_a) - _lowest_of_others(self.phases_a - gone_a)
        return np.where(lowered > EPS_A, lowered, 0.0)


def _lowest_of_others(phases_a: Floats) -> Floats:
    l1, l2, l3 = phases_a.tolist()
    return np.array([min(l2, l3), min(l1, l3), min(l1, l2)])


def uneven_now(wiring: Wiring, seen: Seen, idle: Bools) -> Bools:
    """``(n,)`` EVSEs that do not, or are not seen to, draw evenly on three phases.

    Args:
        wiring: EVSEs on grid phases.
        seen: This cycle's reports: a car on one phase of a three-phase EVSE counts from its first report on.
        idle: ``(n, 3)`` own phases learned to be idle.
    """
    most, least = highest_phase(seen.last_a), -highest_phase(-seen.last_a)
    shown = seen.fresh & (most >= DRAWS_A) & (most - least > EVEN_A)
    uneven: Bools = (wiring.phases < 3) | idle[:, 0] | idle[:, 1] | idle[:, 2] | shown
    return uneven


def weigh(topology: Topology, scope: int, uneven: Bools) -> Topology:
    """The topology with those EVSEs alone in the unbalance's rows; itself where nothing changed."""
    pairs = topology.scope == scope
    factor = topology.factor.copy()
    factor[pairs] = uneven[topology.evse[pairs]]
    if np.array_equal(factor, topology.factor):
        return topology
    weighed = replace(topology, factor=factor)
    return replace(weighed, wired=uses(weighed, topology.phases, topology.n_phases.copy()))


def share_balanced(
    share: Callable[[Floats], Shares],
    topology: Topology,
    fixed_a: Floats,
    cap: Floats,
    scope: int | None,
    balance: Balance | None,
) -> Shares:
    """Share, and anew with lower ceilings as long as it takes away what held another phase up.

    Args:
        share: Makes the shares from the room in each row.
        topology: With the unbalance's rows weighed.
        fixed_a: ``(n,)`` what counts whatever is decided.
        cap: Room in each row.
        scope: The unbalance's; ``None`` where none is stated.
        balance: Of this cycle.
    """
    shares = share(cap)
    if scope is None or balance is None:
        return shares
    rows = slice(4 * scope, 4 * scope + SUM)
    for last in (False, False, False, True):
        current_a = np.zeros(topology.n) if last else shares.current_a + fixed_a
        lowered = cap.copy()
        lowered[rows] = np.maximum(0.0, cap[rows] - balance.lowered_by(current_a))
        if np.all(topology.wired.load(shares.current_a + fixed_a)[rows] <= lowered[rows] + EPS_A):
            break
        shares = share(lowered)
    return shares
