"""How urgent each car is, and a share that looks at it.

A car with a target and a departure needs a certain rate from now on, and could put charging off for a certain time.
Cars in a hurry weigh more. A car that needs little more than its minimum waits while others fill the limits: once
started it holds its minimum for good, because a running car is never paused for a gain.
"""

from dataclasses import replace

import numpy as np

from cem.core.allocation import Request, Shares, share
from cem.core.topology import Bools, Floats, Topology

LATE_START = 1.75
"""A car starts before others have all they want once it needs this many times its minimum."""

SOON_H = 0.25
"""Laxities well below this weigh alike."""


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


def urgency_weight(laxity_h: Floats) -> Floats:
    """Share of a car with this laxity: 4 without any, 1 with 45 minutes or where it is unknown, 0.1 with ten hours."""
    return np.where(np.isinf(laxity_h), 1.0, 1.0 / (SOON_H + np.maximum(laxity_h, 0.0)))


def share_by_urgency(
    topology: Topology,
    request: Request,
    cap: Floats,
    *,
    needed_a: Floats,
    laxity_h: Floats,
    start_margin_a: float = 0.0,
) -> Shares:
    """Share among those who run or must start, by urgency; then others start with what is left.

    Args:
        topology: The flattened site.
        request: What the EVSEs ask for. Its weight is multiplied by the urgency; its order of admission stays.
        cap: Room for our EVSEs in each row, A.
        needed_a: Rate each needs, as ``needed_rate`` says.
        laxity_h: As ``laxity`` says.
        start_margin_a: Room beyond the minimum that an EVSE must find before it starts.

    Returns:
        As ``share``: nobody who runs loses by the start of one who could wait.
    """
    weight = urgency_weight(laxity_h) if request.weight is None else request.weight * urgency_weight(laxity_h)
    weighted = replace(request, weight=weight)
    now = due(request, needed_a)
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
