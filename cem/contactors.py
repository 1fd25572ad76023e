"""Contactors that feed stations: opened where limits are not enough (faults D6 and S4), closed again when that is over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cem.core.cycle import Decision, Plan
from cem.core.limits import Origin
from cem.core.reasons import Reason
from cem.core.state import SiteState
from cem.ports import Event

DEAF_S = 30.0
"""A station that draws beyond its limit is taken off the supply after this."""

LATCH_S = 600.0
"""And stays off until its car is gone, at least for so long where that cannot be seen."""

OVER_A = 1.0


@dataclass(frozen=True, slots=True)
class Contactor:
    """A contactor as built.

    Attributes:
        evses: Indices of the EVSEs that it feeds.
        zones: Every zone above any of them.
        opens_after_s: A load shed opens it after this.
    """

    name: str
    evses: tuple[int, ...]
    zones: frozenset[str]
    opens_after_s: float


@dataclass
class _Standing:
    shed_since_s: float | None = None
    deaf_since_s: float | None = None
    latched_s: float | None = None
    why: str | None = None


class Contactors:
    """The contactors of a site, at every cycle.

    Args:
        contactors: As built.
        switch: Opens (``False``) or closes one; returns at once.
        on_event: Told when one is opened and closed.
    """

    def __init__(
        self, contactors: Sequence[Contactor], switch: Callable[[str, bool], None], on_event: Callable[[Event], None]
    ) -> None:
        self._all = [(contactor, _Standing()) for contactor in contactors]
        self._switch, self._on_event = switch, on_event

    def apply(self, state: SiteState, decision: Decision) -> None:
        """Takes one cycle in."""
        now_s = state.now_s
        for contactor, standing in self._all:
            before = standing.why
            standing.why = self._shed(contactor, standing, state) or self._deaf(contactor, standing, state, decision)
            self._switch(contactor.name, standing.why is None)
            if (before is None) != (standing.why is None):
                text = f"contactor {contactor.name} " + (f"opens: {standing.why}" if standing.why else "closes again")
                data: dict[str, float | str | None] = {"why": standing.why}
                self._on_event(Event(state.utc, now_s, "contactor", contactor.name, text, data))

    @staticmethod
    def _shed(contactor: Contactor, standing: _Standing, state: SiteState) -> str | None:
        """D6: limits first, then the contactor; what is left some power is not switched off."""
        found = next(
            (
                limit
                for limit in state.limits
                if limit.origin is Origin.LOAD_SHED and limit.value_w is None and limit.zone_id in contactor.zones
            ),
            None,
        )
        if found is None:
            standing.shed_since_s = None
            return None
        if standing.shed_since_s is None:
            standing.shed_since_s = state.now_s
        return f"{found.source} sheds load" if state.now_s - standing.shed_since_s >= contactor.opens_after_s else None

    @staticmethod
    def _deaf(contactor: Contactor, standing: _Standing, state: SiteState, decision: Decision) -> str | None:
        """S4: a station that goes on drawing beyond its limit."""
        now_s = state.now_s
        deaf = [
            state.evses[i].evse_id
            for i in contactor.evses
            if decision.reason[i] == Reason.UNCONTROLLED
            and (drawn_a := state.evses[i].measured_a) is not None
            and max(drawn_a) > decision.setpoint_a[i] + OVER_A
        ]
        if deaf:
            standing.deaf_since_s = now_s if standing.deaf_since_s is None else standing.deaf_since_s
            if now_s - standing.deaf_since_s >= DEAF_S:
                standing.latched_s = now_s if standing.latched_s is None else standing.latched_s
                return f"{deaf[0]} draws beyond its limit"
        else:
            standing.deaf_since_s = None
        if standing.latched_s is None:
            return None
        gone = all(state.evses[i].connected is False for i in contactor.evses)
        if gone or now_s - standing.latched_s >= LATCH_S:
            standing.latched_s = None
            return None
        return standing.why or "it drew beyond its limit"


def built(plan: Plan, name: str, stations: Sequence[str], opens_after_s: float) -> Contactor:
    """A contactor of a site file."""
    site = plan.site
    parents = {zone.zone_id: zone.parent_id for zone in site.zones}
    fed = tuple(i for i, evse in enumerate(site.evses) if evse.station_id in stations)
    zones: set[str] = set()
    for i in fed:
        above: str | None = site.evses[i].zone_id
        while above is not None:
            zones.add(above)
            above = parents[above]
    return Contactor(name, fed, frozenset(zones), opens_after_s)
