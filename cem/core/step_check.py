"""M6: a meter whose sign is turned, or a current transformer put on backwards, contradicts what our stations do.

When our EVSEs are raised, the current that a meter shows must rise with them. Raises alone are watched: headroom makes
them long after other load has fallen, while a cut follows other load that rises in the same second. A step counts on
each phase by itself (one CT may be turned), and only where it stands out of what other load does there by itself.
Three steps the wrong way with none the right way between them are believed; so is a single one after five minutes in
which the phase seemed to feed in although our EVs drew, where nothing beneath could. Three steps the right way, or a
restart, bring trust back.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from cem.core.topology import Bools, Floats, Ints

STEP_A = 6.0
"""Our EVSEs must have risen by this much on a phase."""

NEAR = 0.4
"""What the meter shows contradicts or agrees when it is within this part of the step turned round, or of the step."""

STANDS_OUT = 3.0
"""A step must be so many times what other load moved in the quiet times before."""

QUIET_A = 2.0
FADES = 0.8
"""Of what other load moved, this much is remembered from one quiet time to the next."""

STEPS = 3
FEEDS_IN_A = 1.0
CERTAIN_S = 300.0
"""So long an impossible direction confirms a single step."""


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What is known of each zone's meter, arrays ``(z, 3)`` unless said.

    Attributes:
        setpoint_a: ``(n,)`` of the cycle before.
        meter_a: What each meter showed in the cycle before.
        ours_a: What our EVSEs were seen to draw then.
        since_s: ``(z,)`` when the present stretch began.
        raising: ``(z,)`` it began with a raise; else it is a quiet one so far.
        from_meter_a: What the meter showed at its beginning.
        from_ours_a: What our EVSEs drew then.
        noise_a: How far other load moved in quiet stretches.
        against: Steps the wrong way since the last one the right way.
        agreed: While it is not believed, steps the right way since the last one the wrong way.
        impossible_s: Since when it has seemed to feed in; inf where it does not.
        turned: The sign is held to be wrong.
    """

    setpoint_a: Floats
    meter_a: Floats
    ours_a: Floats
    since_s: Floats
    raising: Bools
    from_meter_a: Floats
    from_ours_a: Floats
    noise_a: Floats
    against: Ints
    agreed: Ints
    impossible_s: Floats
    turned: Bools

    @classmethod
    def none(cls, zones: int, count: int) -> Self:
        """Every meter is believed at first."""
        unknown, none = np.full((zones, 3), np.nan), np.zeros((zones, 3), dtype=np.int64)
        return cls(
            setpoint_a=np.zeros(count),
            meter_a=unknown,
            ours_a=unknown,
            since_s=np.full(zones, -np.inf),
            raising=np.zeros(zones, dtype=np.bool_),
            from_meter_a=unknown,
            from_ours_a=unknown,
            noise_a=np.zeros((zones, 3)),
            against=none,
            agreed=none,
            impossible_s=np.full((zones, 3), np.inf),
            turned=none.astype(np.bool_),
        )

    @property
    def implausible(self) -> Bools:
        """``(z,)`` zones whose meter cannot be believed."""
        return self.turned[:, 0] | self.turned[:, 1] | self.turned[:, 2]


def watch(
    memory: StepMemory,
    *,
    setpoint_a: Floats,
    raised: Bools,
    meter_a: Floats,
    ours_a: Floats,
    settles_s: Floats,
    feeds: Bools,
    now_s: float,
) -> StepMemory:
    """Take one cycle in.

    Args:
        memory: From the last cycle.
        setpoint_a: ``(n,)`` in force.
        raised: ``(z,)`` some EVSE beneath was raised since the cycle before.
        meter_a: ``(z, 3)`` what each meter shows; NaN where it does not answer: then nothing is concluded.
        ours_a: ``(z, 3)`` what our EVSEs beneath are seen to draw.
        settles_s: ``(z,)`` so long after a raise EVs have followed and reported.
        feeds: ``(z,)`` something beneath may feed in.
        now_s: Monotonic.
    """
    over = now_s - memory.since_s >= settles_s
    begins = raised & ~memory.raising
    fresh = over | begins
    if not (np.count_nonzero(fresh) or np.count_nonzero(memory.against | memory.agreed | memory.turned)):
        return replace(  # in the middle of a stretch, and no meter has been doubted so far
            memory,
            setpoint_a=setpoint_a,
            meter_a=meter_a,
            ours_a=ours_a,
            raising=memory.raising | raised,
            impossible_s=np.full(meter_a.shape, np.inf),
        )
    # a quiet stretch ends just before the raise, a watched one when all have followed
    to_meter_a = np.where(begins[:, None], memory.meter_a, meter_a)
    to_ours_a = np.where(begins[:, None], memory.ours_a, ours_a)
    moved_a, shown_a = to_ours_a - memory.from_ours_a, to_meter_a - memory.from_meter_a  # NaN: says nothing
    quiet = ((over | begins) & ~memory.raising)[:, None] & (np.abs(moved_a) < QUIET_A) & ~np.isnan(shown_a)
    noise_a = np.where(quiet, np.maximum(np.abs(shown_a - moved_a), FADES * memory.noise_a), memory.noise_a)
    judged = (over & memory.raising)[:, None] & (moved_a >= np.maximum(STEP_A, STANDS_OUT * memory.noise_a))
    contradicts = judged & (np.abs(shown_a + moved_a) <= NEAR * moved_a)
    agrees = judged & (np.abs(shown_a - moved_a) <= NEAR * moved_a)
    against = np.where(agrees, 0, memory.against + contradicts)
    agreed = np.where(contradicts | ~memory.turned, 0, memory.agreed + agrees)

    odd = (against > 0) & (meter_a < -FEEDS_IN_A) & (ours_a >= STEP_A) & ~feeds[:, None]
    impossible = np.where(odd, np.minimum(memory.impossible_s, now_s), np.inf)
    turned = (memory.turned & (agreed < STEPS)) | (against >= STEPS) | (now_s - impossible >= CERTAIN_S)
    return StepMemory(
        setpoint_a=setpoint_a,
        meter_a=meter_a,
        ours_a=ours_a,
        since_s=np.where(fresh, now_s, memory.since_s),
        raising=np.where(over, raised, memory.raising | raised),
        from_meter_a=np.where(fresh[:, None], np.where(begins[:, None], memory.meter_a, meter_a), memory.from_meter_a),
        from_ours_a=np.where(fresh[:, None], np.where(begins[:, None], memory.ours_a, ours_a), memory.from_ours_a),
        noise_a=noise_a,
        against=np.where(memory.turned & ~turned, 0, against),
        agreed=agreed,
        impossible_s=impossible,
        turned=turned,
    )
