"""Switching an EVSE between three phases and one: only through a pause, seldom, and never counted too early.

A car that cannot have its minimum on three phases may have it on one. Until the station confirmed that it charges on
one phase, and from the moment it is to go back to three, the EVSE counts on all of them.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cem.core.columns import Columns
from cem.core.observe import Seen, Wiring
from cem.core.topology import SUM, Bools, Floats, Ints, Topology

DWELL_S = 600.0
"""At least this long between two switches: contactors and on-board chargers wear."""

CONFIRM_S = 120.0
"""A station that has not switched by then is left as it is."""

HYSTERESIS_W = 200.0
IDLE_A = 0.5


@dataclass(frozen=True, slots=True)
class PhaseMemory:
    """What switching remembers, ``(n,)`` each.

    Attributes:
        wanted: Phases it is to charge on; 0 where it does not switch.
        changed_s: When that last changed.
        since_s: Since when the other number would be better; inf where it would not.
        settled_s: When a switch was last under way.
    """

    wanted: Ints
    changed_s: Floats
    since_s: Floats
    settled_s: Floats

    @classmethod
    def none(cls, count: int) -> Self:
        """At start-up everybody stays as it is."""
        never = np.full(count, -np.inf)
        return cls(np.zeros(count, dtype=np.int64), never, np.full(count, np.inf), never)


@dataclass(frozen=True, slots=True)
class Switching:
    """Phases in this cycle, ``(n,)`` each.

    Attributes:
        in_force: Confirmed by the station; 0 where it does not switch.
        under_way: It is paused for a switch.
    """

    in_force: Ints
    under_way: Bools


def observe(can_switch: Bools, evses: Columns, memory: PhaseMemory, now_s: float) -> tuple[Switching, PhaseMemory]:
    """Take in what the stations confirm; ``can_switch`` ``(n,)`` as built."""
    in_force = np.where(can_switch & evses.online, evses.phases_in_force, 0)
    wanted = np.where((in_force == 0) | (memory.wanted == 0), in_force, memory.wanted)
    under_way = (in_force > 0) & (wanted != in_force)
    settled_s = np.where(under_way, now_s, memory.settled_s)
    return Switching(in_force, under_way), PhaseMemory(wanted, memory.changed_s, memory.since_s, settled_s)


def on_one_phase(
    topology_phases: Bools,
    n_phases: Floats,
    switching: Switching,
    memory: PhaseMemory,
    seen: Seen,
    wiring: Wiring,
) -> tuple[Bools, Floats]:
    """Phases to count on: one where that is confirmed, wanted, and no report says otherwise."""
    one = (switching.in_force == 1) & (memory.wanted == 1)
    if not np.count_nonzero(one):
        return topology_phases, n_phases
    elsewhere = seen.fresh & (seen.last_a[:, 1:] > IDLE_A).any(axis=1)
    one &= ~elsewhere
    first = (wiring.own_of_grid == 0) | ~wiring.known[:, None]
    return np.where(one[:, None], topology_phases & first, topology_phases), np.where(one, 1.0, n_phases)


def choose(
    switching: Switching,
    memory: PhaseMemory,
    wiring: Wiring,
    topology: Topology,
    counted: Topology,
    occupied_a: Floats,
    left_a: Floats,
    *,
    asking: Bools,
    min_a: Floats,
    surplus_w: Floats,
    volts: float,
    delay_s: float,
    now_s: float,
) -> PhaseMemory:
    """Who is to switch from now on.

    Args:
        switching: Of this cycle.
        memory: From ``observe``.
        wiring: EVSEs on grid phases.
        topology: As wired.
        counted: With the phases counted now.
        occupied_a: ``(n,)`` what each occupies.
        left_a: Room left in each row with that.
        asking: ``(n,)`` a car would charge.
        min_a: ``(n,)`` minima.
        surplus_w: ``(n,)`` surplus for each; inf where it is not on surplus.
        volts: To turn A into W.
        delay_s: For so long the other number must have been better.
        now_s: Monotonic.
    """
    able = (switching.in_force > 0).nonzero()[0]
    if able.size == 0:
        return memory
    first = (wiring.own_of_grid == 0) | ~wiring.known[:, None]
    wanted, changed, since = memory.wanted.copy(), memory.changed_s.copy(), memory.since_s.copy()
    for i in able.tolist():
        now_on = int(switching.in_force[i])
        if wanted[i] != now_on:
            if now_s - changed[i] > CONFIRM_S:
                wanted[i], changed[i] = now_on, now_s
            continue
        room = _room(i, first[i], topology, counted, float(occupied_a[i]), left_a)
        better = 3 if now_on == 1 else 1
        least, margin_w = float(min_a[i]), HYSTERESIS_W
        three = _fits(room, least, 3, float(surplus_w[i]), volts, margin_w if now_on == 1 else 0.0)
        one = _fits(room, least, 1, float(surplus_w[i]), volts, margin_w)
        would = asking[i] and (three if better == 3 else not three and one)
        since[i] = min(since[i], now_s) if would else np.inf
        if now_s - since[i] >= delay_s and now_s - changed[i] >= DWELL_S:
            wanted[i], changed[i], since[i] = better, now_s, np.inf
    return PhaseMemory(wanted, changed, since, memory.settled_s)


def commands(switching: Switching, memory: PhaseMemory, committed_a: Floats, drawn_a: Floats) -> Ints:
    """``(n,)`` phases to tell the stations; 0 where they are not told. A switch is told once nothing flows."""
    flows = (committed_a > 0) | (drawn_a > IDLE_A)
    return np.where(flows, switching.in_force, memory.wanted)


@dataclass(frozen=True, slots=True)
class _Room:
    first_a: float
    all_a: float
    sum_a: float


def _room(i: int, first: Bools, topology: Topology, counted: Topology, occupied_a: float, left_a: Floats) -> _Room:
    """Least room for one EVSE over its rows, what it occupies itself included."""
    mine = counted.wired.evse == i
    own = dict(zip(counted.wired.row[mine].tolist(), counted.wired.coef[mine].tolist(), strict=True))
    rows = topology.wired.row[topology.wired.evse == i].tolist()
    room = {row: float(left_a[row]) + own.get(row, 0.0) * occupied_a for row in rows}
    phases = [a for row, a in room.items() if row % 4 != SUM]
    return _Room(
        min((a for row, a in room.items() if row % 4 != SUM and first[row % 4]), default=np.inf),
        min(phases, default=np.inf),
        min((a for row, a in room.items() if row % 4 == SUM), default=np.inf),
    )


def _fits(room: _Room, min_a: float, phases: int, surplus_w: float, volts: float, margin_w: float) -> bool:
    per_phase_a = room.all_a if phases == 3 else room.first_a
    takes_w = phases * min_a * volts + margin_w
    return bool(per_phase_a >= min_a + margin_w / volts and room.sum_a * volts >= takes_w and surplus_w >= takes_w)
