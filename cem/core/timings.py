"""Reaction times and deadbands of the control loop; the site file's ``control`` section fills them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timings:
    """How fast control moves, up and down.

    Attributes:
        raise_interval_s: At least this long between two raises of one EVSE.
        raise_rate_a_per_s: No faster than this, counted over the interval.
        hold_off_s: A meter that came back is trusted for raises after this.
        peak_hold_s: Headroom rises only after the other load stayed low this long.
        min_off_s: A paused EV stays paused at least this long.
        reaction_s: A cut counts as obeyed after this where the EVSE is not measured.
        follow_s: An EV that stays below its limit this long gives back what it does not use.
        rotation_s: Where not all minima fit, a running EV makes way for a waiting one after this.
        start_margin_a: A paused EV starts only with this much more than its minimum.
    """

    raise_interval_s: float = 5.0
    raise_rate_a_per_s: float = 4.0
    hold_off_s: float = 30.0
    peak_hold_s: float = 15.0
    min_off_s: float = 120.0
    reaction_s: float = 10.0
    follow_s: float = 15.0
    rotation_s: float = 900.0
    start_margin_a: float = 1.0
