"""How urgent each car is, and a share that looks at it.

A car with a target and a departure needs a certain rate from now on, and could put charging off for a certain time.
Cars in a hurry weigh more. A car that needs little more than its minimum waits while others fill the limits: once
started it holds its minimum for good, because a running car is never paused for a gain.
"""

from dataclasses import dataclass, replace

import numpy as np

from cem.core.allocation import Request, Shares, share
from cem.core.topology import Bools, Floats, Topology

LATE_START = 2.25
"""A car starts before others have all they want once it needs this many times its minimum."""

SOON_H = 0.25
"""Times well below this weigh alike."""


@dataclass(frozen=True, slots=True)
class Urgency:
    """How urgent each car is, one entry per EVSE.

    Attributes:
        needed_a: Rate that brings the rest by departure, as ``needed_rate``.
        laxity_h: How long charging could be put off, as ``laxity``.
        weight: Share of each, see ``urgency``.
    """

    needed_a: Floats
    laxity_h: Floats
    weight: Floats


def urgency(remaining_ah: Floats, remaining_h: Floats, max_a: Floats) -> Urgency:
    """What is known of each car, turned into how urgent it is; arguments as for ``needed_rate``.

    The weight falls with the laxity, so that cars in a hurry are in time, and with the time the car still takes, so
    that where not all can have everything those who want little are served whole. A car of which target or departure
    is unknown weighs 1, as one that takes 45 minutes and has as much to spare.
    """
    lax = laxity(remaining_ah, remaining_h, max_a)
    known = np.isfinite(lax)
    takes_h = np.maximum(np.where(known, remaining_ah, 0.0), 0.0) / np.where(known, max_a, 1.0)
    weight = 1.0 / ((SOON_H + np.maximum(lax, 0.0)) * (SOON_H + takes_h))
    return Urgency(needed_rate(remaining_ah, remaining_h, max_a), lax, np.where(known, weight, 1.0))


def needed_rate(remaining_ah: Floats, remaining_h: Floats, max_a: Floats) -> Floats:
    """Current per phase that brings the rest by departure, A; all it can take where that is too late or unknown.

    Args:
        remaining_ah: Charge still wanted, Ah per phase; NaN where no target is known.
        remaining_h: Time to departure; NaN where unknown, 0 or less where it has passed.
        max_a: Most the car can take.
    """
    hours = np.where(remaining_h > 0, remaining_h, np.nan)
    rate = np.maximum(remaining_ah, 0.0) / hours
    return np.where(np.isnan(rate), max_a, np.minimum(rate, max_a))


def laxity(remaining_ah: Floats, remaining_h: Floats, max_a: Floats) -> Floats:
    """Hours that charging could still be put off; infinite where target or departure is unknown, negative if late."""
    takes_h = np.maximum(remaining_ah, 0.0) / np.where(max_a > 0, max_a, np.nan)
    lax = remaining_h - takes_h
    return np.where(np.isnan(lax), np.inf, lax)


def share_by_urgency(
    topology: Topology,
    request: Request,
    cap: Floats,
    how_urgent: Urgency,
    start_margin_a: float = 0.0,
) -> Shares:
    """Share among those who run or must start, by urgency; then others start with what is left.

    Args:
        topology: The flattened site.
        request: What the EVSEs ask for. Its weight is multiplied by that of the urgency; its order of admission stays.
        cap: Room for our EVSEs in each row, A.
        how_urgent: As ``urgency`` says.
        start_margin_a: Room beyond the minimum that an EVSE must find before it starts.

    Returns:
        As ``share``: nobody who runs loses by the start of one who could wait.
    """
    weight = how_urgent.weight if request.weight is None else request.weight * how_urgent.weight
    weighted = replace(request, weight=weight)
    now = due(request, how_urgent.needed_a)
    first = share(topology, replace(weighted, wants=now), cap, start_margin_a)
    return with_the_rest(topology, weighted, cap, first, now, start_margin_a)


def due(request: Request, needed_a: Floats) -> Bools:
    """Who runs, or must start before others have all they want."""
    due_a = np.minimum(LATE_START * request.min_a, request.max_a)
    starts = needed_a >= due_a
    return request.wants & (starts if request.running is None else request.running | starts)


def with_the_rest(
    topology: Topology, request: Request, cap: Floats, first: Shares, now: Bools, start_margin_a: float = 0.0
) -> Shares:
    """Let those who were not due start with what the first left over; the first keep what they have."""
    if (now == request.wants).all():
        return first
    others = replace(
        request,
        wants=request.wants & (first.admitted | ~now),
        min_a=np.where(first.admitted, first.current_a, request.min_a),
        max_a=np.where(first.admitted, first.current_a, request.max_a),
        running=first.admitted,
    )
    second = share(topology, others, cap, start_margin_a)
    return Shares(
        current_a=second.current_a,
        level_a=np.where(now, first.level_a, second.level_a),
        binding=np.where(now, first.binding, second.binding),
        admitted=second.admitted,
        lacking=np.where(now, first.lacking, second.lacking),
    )
