"""What one cycle of the engine is given, keeps and says: the flattened site, the memory, the decision."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cem.core.columns import built_modes
from cem.core.commitment import Commitment
from cem.core.headroom import Envelopes, ZoneMemory, ZonePlan
from cem.core.observe import Reports
from cem.core.phases import PhaseMemory
from cem.core.reasons import REASON_OF, Binding, Reason
from cem.core.resources import Envelope, ResourceMemory
from cem.core.rotation import Turns
from cem.core.site import Site
from cem.core.surplus import SurplusMemory
from cem.core.timings import Timings
from cem.core.topology import FAMILIES, NO_ROW, SUM, Bools, Floats, Ints, Topology, flatten

RECONNECT_S = 20.0
"""After our start stations need this long to connect and to report again; nothing of theirs is raised before."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about the site that does not change, flattened once for ``decide``; ``step_a`` is None for 1 A."""

    site: Site
    zones: ZonePlan
    topology: Topology
    timings: Timings
    min_a: Floats
    max_a: Floats
    weight: Floats
    priority: Ints
    step_a: Floats | None
    mode: Ints
    can_switch: Bools

    @classmethod
    def of(cls, site: Site, timings: Timings) -> Self:
        """From the site as built and the control timings."""
        evses = site.evses
        zones = ZonePlan.of(site, timings)
        return cls(
            site,
            zones,
            flatten(site, zones.groups),
            timings,
            np.array([e.min_a for e in evses], dtype=np.float64),
            np.array([e.max_a for e in evses], dtype=np.float64),
            np.array([e.weight for e in evses], dtype=np.float64),
            np.array([e.priority for e in evses], dtype=np.int64),
            None if all(e.step_a == 1 for e in evses) else np.array([e.step_a for e in evses], dtype=np.float64),
            built_modes(evses),
            np.array([e.phase_switching for e in evses], dtype=np.bool_),
        )


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """All that one cycle hands to the next. Arrays are ``(n,)``.

    Attributes:
        zones: Meters and peaks.
        reports: What EVSEs draw.
        committed: What they may draw.
        setpoint_a: Last setpoint of each EVSE.
        raised_s: When it was last raised.
        share_a: Its share in the last cycle.
        wish_s: Since when its share has been above its setpoint; inf where it is not.
        paused_s: When a running transaction was last paused; -inf where it was not.
        began_s: When the present transaction began, NaN outside one.
        reason: What bound it in the last cycle.
        row: And in which row.
        bound_s: Since when that has been so.
        surplus: Who runs on surplus.
        phases: Who charges on one phase of three.
        resources: Batteries and inverters.
        turns: Who runs since when, and whose turn has come.
    """

    zones: ZoneMemory
    reports: Reports
    committed: Commitment
    setpoint_a: Floats
    raised_s: Floats
    share_a: Floats
    wish_s: Floats
    paused_s: Floats
    began_s: Floats
    reason: Ints
    row: Ints
    bound_s: Floats
    surplus: SurplusMemory
    phases: PhaseMemory
    resources: ResourceMemory
    turns: Turns

    @classmethod
    def none(cls, plan: Plan, resumed_a: Floats | None = None, now_s: float = -np.inf) -> Self:
        """At start-up: everything is possible (invariant I10).

        Args:
            plan: The site, flattened.
            resumed_a: Setpoints that stations may still hold from before a restart, so that a running EV is not
                paused by it; ``None`` for none.
            now_s: Monotonic time of the start: resumed setpoints count as raised then, so that the draw behind them
                is not held to be other load before their stations have connected and reported.
        """
        n = plan.topology.n
        never = np.full(n, -np.inf)
        return cls(
            ZoneMemory.none(plan.zones),
            Reports.none(n),
            Commitment.worst(plan.max_a),
            np.zeros(n) if resumed_a is None else resumed_a,
            never if resumed_a is None else np.where(resumed_a > 0, now_s + RECONNECT_S, -np.inf),
            np.zeros(n),
            -never,
            never,
            np.full(n, np.nan),
            np.full(n, -1, dtype=np.int64),
            np.full(n, NO_ROW, dtype=np.int64),
            never,
            SurplusMemory.none(n),
            PhaseMemory.none(n),
            ResourceMemory.none(len(plan.site.zones)),
            Turns.none(n),
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What one cycle decided. Arrays are ``(n,)`` in the order of the site's EVSEs unless said.

    Attributes:
        now_s: The cycle's monotonic time.
        setpoint_a: What each EVSE may draw per phase from now on.
        before_a: What it had.
        target_a: Its fair share; the setpoint rises to it as the guards allow.
        committed_a: The most it may draw now, the new setpoint included.
        counted: The topology with the phases each EVSE counts on now.
        reason: ``Reason`` that bound it.
        row: Row of the limit that did, ``NO_ROW`` where it is its own.
        bound_s: Since when that has been so.
        bounds: Every bound of the EVSEs' own that was looked at, inf where it does not bind.
        left_a: Room left in each row when everybody has settled.
        envelopes: The zones, and after them the surplus as one more row where anybody is on surplus.
        phases_wanted: Phases each EVSE is to charge on; 0 where its station cannot switch.
        resources: What batteries and inverters may do, in the order of the site's.
        surplus_w: Power there is for the cars on surplus; ``None`` where nobody is.
        place: Place in the queue for a minimum, 1 is next; 0 outside it.
        eta_s: Monotonic time at which its turn is expected, or it starts at the latest; NaN where nobody knows.
    """

    now_s: float
    setpoint_a: Floats
    before_a: Floats
    target_a: Floats
    committed_a: Floats
    counted: Topology
    reason: Ints
    row: Ints
    bound_s: Floats
    bounds: tuple[tuple[Reason, Floats], ...]
    left_a: Floats
    envelopes: Envelopes
    phases_wanted: Ints
    resources: tuple[Envelope, ...]
    surplus_w: float | None
    place: Ints
    eta_s: Floats

    def sending_order(self) -> Ints:
        """Indices of all EVSEs, cuts before the rest (invariant I3)."""
        return np.argsort(self.setpoint_a >= self.before_a, kind="stable")

    def granted_a(self, plan: Plan) -> Floats:
        """``(z, 3)`` sum of the setpoints in force in each zone, per phase."""
        load = self.counted.wired.load(self.setpoint_a)
        return load.reshape(-1, 4)[: len(plan.site.zones), :SUM]

    def reserved_a(self, plan: Plan) -> Floats:
        """``(z, 3)`` what may be drawn beyond the setpoints, per phase."""
        load = self.counted.wired.load(np.maximum(self.committed_a - self.setpoint_a, 0.0))
        return load.reshape(-1, 4)[: len(plan.site.zones), :SUM]

    def binding(self, plan: Plan, i: int, at_row: int | None = None) -> Binding:
        """The limit that bound EVSE ``i``, or how the limit ``at_row`` would be told if it had."""
        reason, row = Reason(int(self.reason[i])), int(self.row[i])
        if at_row is not None and at_row != row:
            scope, family = divmod(at_row, 4)
            reason, row = REASON_OF[self.envelopes.source(scope, family).origin], at_row
        waits_s = float(self.eta_s[i] - self.now_s)
        eta_s = waits_s if np.isfinite(waits_s) else None
        if row == NO_ROW:
            return Binding(reason, eta_s=eta_s)
        scope, family = divmod(row, 4)
        queued = self.place[i] > 0
        in_zone = scope < len(plan.site.zones)
        return Binding(
            reason,
            zone_id=plan.site.zones[scope].zone_id if in_zone else None,
            group=None if in_zone else self.counted.scopes[scope],
            family=FAMILIES[family],
            source=self.envelopes.source(scope, family).name,
            room_a=float(self.envelopes.room_a[scope, family]),
            place=int(self.place[i]) if queued else None,
            eta_s=eta_s if queued else None,
        )
