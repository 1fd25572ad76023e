"""The limit stack of one EVSE: every constraint it stands under, in order, made when somebody asks."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from cem.core.cycle import Decision, Plan
from cem.core.reasons import TEXTS, Reason
from cem.core.topology import FAMILIES, NO_ROW, SUM


class Hold(Enum):
    """What a constraint does to an EVSE now."""

    INACTIVE = "inactive"
    """It exists but says nothing now."""
    OK = "ok"
    """It would allow more than the EVSE has."""
    LIMITING = "limiting"
    """It allows no more either, but another one binds."""
    BINDING = "binding"
    """It is the one that bound the EVSE."""
    BLOCKING = "blocking"
    """It bound the EVSE and leaves less than its minimum."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """One line of the stack.

    Attributes:
        code: Stable word: a reason, or ``zone_current`` / ``zone_power`` for a zone's room.
        text: One sentence for people.
        state: What it does now.
        value_a: What it would allow this EVSE, per phase; ``None`` where it says nothing.
        zone_id: Where it lies; ``None`` where it is the EVSE's own.
        family: ``L1``, ``L2``, ``L3`` or ``SUM``.
        source: Who set it.
        since_s: Monotonic time since when it binds; ``None`` where it does not.
    """

    code: str
    text: str
    state: Hold
    value_a: float | None
    zone_id: str | None = None
    family: str | None = None
    source: str | None = None
    since_s: float | None = None


def stack(plan: Plan, decision: Decision, i: int) -> tuple[Constraint, ...]:
    """Every constraint of EVSE ``i``: its own first, then its zones from the nearest to the grid connection.

    Exactly one is binding or blocking. A zone's value is what the EVSE could have there if all others kept theirs.
    """
    evse = plan.site.evses[i]
    had = float(decision.setpoint_a[i])
    reason, bound_row = Reason(int(decision.reason[i])), int(decision.row[i])
    since_s = float(decision.bound_s[i])
    held = Hold.BLOCKING if had < evse.min_a else Hold.BINDING

    def state(value_a: float, *, binds: bool) -> Hold:
        if binds:
            return held
        if not np.isfinite(value_a):
            return Hold.INACTIVE
        return Hold.LIMITING if value_a <= had + 1e-6 else Hold.OK

    own = [(Reason.EVSE_MAXIMUM, float(plan.max_a[i]))]
    own += [(code, float(values[i])) for code, values in decision.bounds]
    if bound_row == NO_ROW and reason not in {code for code, _ in own}:
        own.insert(0, (reason, had))
    lines = []
    for code, value_a in own:
        binds = bound_row == NO_ROW and code is reason
        value = value_a if np.isfinite(value_a) else None
        lines.append(
            Constraint(
                code.name.lower(),
                TEXTS[code],
                state(value_a, binds=binds),
                value,
                since_s=since_s if binds else None,
            )
        )
    use = decision.counted.wired
    mine = use.evse == i
    rows = zip(use.row[mine].tolist(), use.coef[mine].tolist(), strict=True)
    for row, coef in sorted(rows, key=lambda pair: (-(pair[0] // 4), pair[0])):
        family = row % 4
        if not np.isfinite(decision.envelopes.room_a.ravel()[row]):
            continue
        value_a = max(0.0, had + float(decision.left_a[row]) / coef)
        binds = row == bound_row
        bound = decision.binding(plan, i, row)
        lines.append(
            Constraint(
                bound.code if binds else ("zone_power" if family == SUM else "zone_current"),
                bound.text,
                state(value_a, binds=binds),
                value_a,
                zone_id=bound.zone_id,
                family=FAMILIES[family],
                source=bound.source,
                since_s=since_s if binds else None,
            )
        )
    return tuple(lines)
