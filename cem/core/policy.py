"""The policies by which envelopes are shared among the EVSEs; a policy only orders and weighs, it passes no limit."""

from dataclasses import replace

import numpy as np

from cem.core.allocation import Request, Shares, share
from cem.core.site import Policy
from cem.core.topology import Bools, Floats, Topology


def share_by(policy: Policy, topology: Topology, request: Request, cap: Floats, start_margin_a: float = 0.0) -> Shares:
    """Share by the site's policy among those who cannot wait; then the others start with what is left.

    Args:
        policy: The site's.
        topology: The flattened site.
        request: What the EVSEs ask for.
        cap: Room for our EVSEs in each row, A.
        start_margin_a: Room beyond the minimum that an EVSE must find before it starts.

    Returns:
        As ``share``: nobody who runs loses by the start of one who can wait.
    """
    later = np.zeros(topology.n, dtype=np.bool_) if request.waits is None else request.wants & request.waits
    now = replace(request, wants=request.wants & ~later) if later.any() else request
    if policy is Policy.THROUGHPUT:
        from cem.core.throughput import share_most  # noqa: PLC0415 - a tenth of a second for the solver where it is used

        first = share_most(topology, now, cap, start_margin_a)
    else:
        first = share(topology, now, cap, start_margin_a)
    return _with_the_rest(topology, request, cap, first, later, start_margin_a) if later.any() else first


def _with_the_rest(
    topology: Topology, request: Request, cap: Floats, first: Shares, later: Bools, start_margin_a: float
) -> Shares:
    """Let those who could wait start with what the first left over; the first keep what they have."""
    ranks = np.zeros(topology.n, dtype=np.int64) if request.priority is None else request.priority
    others = replace(
        request,
        wants=first.admitted | later,
        min_a=np.where(first.admitted, first.current_a, request.min_a),
        max_a=np.where(first.admitted, first.current_a, request.max_a),
        running=first.admitted if request.running is None else first.admitted | (later & request.running),
        priority=np.where(first.admitted, ranks.max(initial=0) + 1, ranks),
    )
    second = share(topology, others, cap, start_margin_a)
    return replace(
        second,
        binding=np.where(later, second.binding, first.binding),
        lacking=np.where(later, second.lacking, first.lacking),
    )
