"""Sharing the room in every zone among the EVSEs that want current: admit, water-fill, round to steps.

``share`` gives each EVSE 0 or a current between its minimum and its maximum such that no row (zone and phase, power,
group) is exceeded. ``raise_within`` says how far of a wanted rise may be sent now, while others have not yet fallen.
Everything is exact and deterministic; currents are A per phase.
"""

from dataclasses import dataclass

import numpy as np

from cem.core.admission import FITS, take_in_order
from cem.core.filling import OWN_MAX, fill, water_fill
from cem.core.steps import Steps, hand_out
from cem.core.topology import EPS_A, Bools, Floats, Ints, Topology, Uses, feasible, room, uses

__all__ = [
    "EPS_A",
    "FITS",
    "NOT_ADMITTED",
    "NOT_WANTING",
    "OWN_MAX",
    "Request",
    "Shares",
    "feasible",
    "raise_within",
    "room",
    "share",
    "water_fill",
]

NOT_WANTING = -2
NOT_ADMITTED = -3


@dataclass(frozen=True, slots=True)
class Request:
    """What the EVSEs ask for, one entry per EVSE in the order of the site.

    Attributes:
        wants: It wants current now.
        min_a: Least current it can be given; below it gets 0.
        max_a: Most it may be given now.
        phases: ``(n, 3)`` grid phases it counts on; where unknown all three.
        n_phases: Coefficient of the SUM rows; ``None`` counts the phases.
        weight: Share within its class, above 0; ``None`` is 1 for all.
        priority: Strict classes, higher first; ``None`` is one class.
        step_a: Steps it can take; 0 where any value will do; ``None`` is 1 A for all.
        running: It draws current already, so it comes before those that would start.
        urgency: Smaller is served first (laxity).
        waiting_s: Longer is served first.
        had_a: What it has now; only the throughput policy looks, and moves nobody for little.
        waits: It starts only with what others leave; ``policy.share_by`` sees to it.
        fixed_a: Draw per phase that counts whatever is decided, of EVSEs beyond our reach; may be negative.
    """

    wants: Bools
    min_a: Floats
    max_a: Floats
    phases: Bools
    n_phases: Floats | None = None
    weight: Floats | None = None
    priority: Ints | None = None
    step_a: Floats | None = None
    running: Bools | None = None
    urgency: Floats | None = None
    waiting_s: Floats | None = None
    had_a: Floats | None = None
    waits: Bools | None = None
    fixed_a: Floats | None = None


@dataclass(frozen=True, slots=True)
class Shares:
    """What each EVSE gets.

    Attributes:
        current_a: 0, or from its minimum to its maximum, in its steps.
        level_a: The fair share before rounding to steps.
        binding: Row that holds its share; ``OWN_MAX``, ``NOT_WANTING`` or ``NOT_ADMITTED`` where none does.
        admitted: It gets at least its minimum.
        lacking: Where ``NOT_ADMITTED``: the first row without room for its minimum; else ``FITS``.
    """

    current_a: Floats
    level_a: Floats
    binding: Ints
    admitted: Bools
    lacking: Ints


def share(topology: Topology, request: Request, cap: Floats, start_margin_a: float = 0.0) -> Shares:
    """Share the limits among all who want.

    Args:
        topology: The flattened site.
        request: What the EVSEs ask for.
        cap: Room for our EVSEs in each row, A; infinite where there is no limit, negative where it is overdrawn.
        start_margin_a: Room beyond the minimum that an EVSE must find before it starts; a running one needs none.

    Returns:
        A feasible share for each EVSE; overdrawn rows admit nobody who counts there.
    """
    n = topology.n
    weight = np.ones(n) if request.weight is None else request.weight
    priority = np.zeros(n, dtype=np.int64) if request.priority is None else request.priority
    running = np.zeros(n, dtype=np.bool_) if request.running is None else request.running
    steps = Steps.of(request.step_a, n)
    lowest, highest = steps.up(request.min_a), steps.down(request.max_a)

    use = uses(topology, request.phases, request.n_phases)
    room_a = cap if request.fixed_a is None else cap - use.load(request.fixed_a)
    can = request.wants & (lowest <= highest)
    keys = _keys(running, priority, request.urgency, request.waiting_s)
    need = lowest if start_margin_a == 0 else np.where(running, lowest, lowest + start_margin_a)
    admitted, lacking = take_in_order(use, can, keys, take_a=lowest, need_a=need, room_a=room_a)

    low = np.where(admitted, lowest, 0.0)
    level, binding = _by_class(
        use,
        low,
        np.where(admitted, highest, 0.0),
        weight=weight,
        priority=request.priority,
        room_a=room_a,
    )
    current = hand_out(
        use,
        np.where(admitted, np.maximum(steps.down(level), low), 0.0),
        highest,
        np.zeros(n),
        fair=level,
        steps=steps,
        weight=weight,
        priority=priority,
        room_a=room_a,
    )
    rest = admitted & (steps.size_a == 0)
    if np.count_nonzero(rest) and not rest[admitted].all():  # what the steps left over is of use to those without steps
        current, _ = _by_class(
            use, current, np.where(rest, highest, current), weight=weight, priority=request.priority, room_a=room_a
        )
    binding[~request.wants] = NOT_WANTING
    binding[lacking != FITS] = NOT_ADMITTED
    return Shares(current, level, binding, admitted, lacking)


def raise_within(
    topology: Topology,
    start_a: Floats,
    target_a: Floats,
    occupied_a: Floats,
    phases: Bools,
    cap: Floats,
    *,
    min_a: Floats,
    n_phases: Floats | None = None,
    weight: Floats | None = None,
    priority: Ints | None = None,
    step_a: Floats | None = None,
) -> Floats:
    """How far each may rise from what it has towards its target, while the others still occupy what they do.

    Args:
        topology: The flattened site.
        start_a: Setpoint in force.
        target_a: Setpoint wanted; who is to fall or stay keeps ``start_a``.
        occupied_a: The most each may still draw (a cut not yet confirmed, a draw over its limit).
        phases: ``(n, 3)`` grid phases each EVSE counts on.
        cap: Limit of each row.
        min_a: Least current of each; from below it an EVSE rises to at least this or not at all.
        n_phases: Coefficient of the SUM rows; ``None`` counts the phases.
        weight: Shares; ``None`` is 1 for all.
        priority: Strict classes, higher first.
        step_a: Steps; 0 where any value will do; ``None`` is 1 A for all.

    Returns:
        From ``start_a`` to ``target_a``, such that all of ``max(result, occupied_a)`` together exceed no row that
        was not exceeded before; nobody rises in a row that was.
    """
    n = topology.n
    weight = np.ones(n) if weight is None else weight
    classes, priority = priority, np.zeros(n, dtype=np.int64) if priority is None else priority
    rises = target_a > start_a + EPS_A
    if not np.count_nonzero(rises):
        return start_a
    steps = Steps.of(step_a, n)
    use = uses(topology, phases, n_phases)
    held = np.maximum(start_a, occupied_a)
    room_a = cap - use.load(held)

    # From below its minimum it must find room for the whole minimum at once; the highest class, the first index wins.
    # Where a row is exceeded already, even a rise that takes no room (below what is occupied) is refused.
    starts = rises & (start_a < min_a)
    least = np.where(starts, np.minimum(steps.up(min_a), target_a), start_a)
    low = np.maximum(held, least)
    jump = np.where(rises, low - held, 0.0)
    rises, _ = take_in_order(use, rises, (-priority,), take_a=jump, need_a=jump, room_a=room_a)
    low = np.where(rises, low, held)
    others = room_a + use.load(np.where(rises, held, 0.0))
    use = use.where(rises[use.evse])
    most = np.where(rises, np.maximum(target_a, low), low)
    level, _ = _by_class(use, low, most, weight=weight, priority=classes, room_a=others)

    # Now from what is occupied back to setpoints: the target where it was reached, else whole steps below the level.
    reached = level >= target_a - EPS_A
    current = np.where(reached, target_a, np.maximum(steps.down(level), least))
    current = hand_out(
        use,
        np.where(rises, current, 0.0),
        np.where(rises, target_a, 0.0),
        held,
        fair=level,
        steps=steps,
        weight=weight,
        priority=priority,
        room_a=others,
    )
    return np.where(rises, current, start_a)


def _keys(
    running: Bools, priority: Ints, urgency: Floats | None, waiting_s: Floats | None
) -> list[Floats | Ints | Bools]:
    """The order of admission, what counts least first: longer waiting, more urgent, higher class, running."""
    keys: list[Floats | Ints | Bools] = [] if waiting_s is None else [-waiting_s]
    if urgency is not None:
        keys.append(urgency)
    return [*keys, -priority, ~running]


def _by_class(
    use: Uses,
    low: Floats,
    high: Floats,
    *,
    weight: Floats,
    priority: Ints | None,
    room_a: Floats,
) -> tuple[Floats, Ints]:
    """Water-fill the classes one after the other, the higher first; those to come keep their minimum."""
    level = low
    binding = np.full(use.n, OWN_MAX, dtype=np.int64)
    classes = [0] if priority is None else sorted(set(priority.tolist()), reverse=True)
    for one in classes:
        mine = True if priority is None else priority == one
        top = np.where(mine, high, level)
        level, held = fill(use, level, top, weight, room_a)
        binding = np.where(mine, held, binding)
    return level, binding
