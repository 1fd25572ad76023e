"""Does a battery's own zero-export logic work against charging from surplus? Recognised and told; nothing is commanded.

A hybrid inverter brings the grid to 0 by itself and does not know which load is a car. Surplus never counts what a battery
gives, so cars give way in the end; but one that goes on feeding them, or swings to and fro with them, wears out for nothing.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cem.core.cycle import Decision
from cem.core.site import Resource, ResourceKind
from cem.core.state import SiteState
from cem.core.surplus import power_w
from cem.ports import Event

FEEDS_S = 180.0
QUIET_S = 300.0
"""A trouble is over when nothing was seen of it for so long."""

SWINGS, SWINGS_S = 6, 600.0
"""So many changes of direction in this time are a fight, not clouds."""

DRAWS_A = 3.0


@dataclass
class _Seen:
    feeds_since_s: float | None = None
    bad_s: float | None = None
    direction: int = 0
    swings: deque[float] = field(default_factory=lambda: deque(maxlen=SWINGS))


class BatteryWatch:
    """Watches every battery of a site.

    Args:
        resources: The site's.
        on_event: Told once when a battery works against surplus charging, once when that is over.
    """

    def __init__(self, resources: Sequence[Resource], on_event: Callable[[Event], None]) -> None:
        self._all = [(r, _Seen()) for r in resources if r.kind is ResourceKind.BATTERY]
        self._on_event = on_event

    def take(self, state: SiteState, decision: Decision) -> None:
        """Takes one cycle in."""
        drawing = decision.surplus_w is not None and any(
            evse.charging and evse.measured_a is not None and max(evse.measured_a) >= DRAWS_A for evse in state.evses
        )
        for battery, seen in self._all:
            now_w = power_w(battery, state)
            why = _fights(battery, seen, now_w, state.now_s) if drawing and now_w is not None else None
            if not drawing:
                seen.feeds_since_s, seen.direction = None, 0
                seen.swings.clear()
            if why is not None:
                if seen.bad_s is None:
                    self._tell(state, battery, f"{battery.resource_id}: {why}", now_w)
                seen.bad_s = state.now_s
            elif seen.bad_s is not None and state.now_s - seen.bad_s >= QUIET_S:
                seen.bad_s = None
                text = f"{battery.resource_id}: no longer works against charging from surplus"
                self._tell(state, battery, text, now_w)

    def _tell(self, state: SiteState, battery: Resource, text: str, now_w: float | None) -> None:
        self._on_event(Event(state.utc, state.now_s, "battery", battery.resource_id, text, {"power_w": now_w}))


def _fights(battery: Resource, seen: _Seen, now_w: float, now_s: float) -> str | None:
    little_w, much_w = max(0.05 * battery.max_w, 300.0), max(0.1 * battery.max_w, 500.0)
    direction = 1 if now_w > much_w else -1 if now_w < -much_w else seen.direction
    if seen.direction not in {0, direction}:
        seen.swings.append(now_s)
    seen.direction = direction
    if now_w >= -little_w:
        seen.feeds_since_s = None
    elif seen.feeds_since_s is None:
        seen.feeds_since_s = now_s
    if len(seen.swings) == SWINGS and now_s - seen.swings[0] <= SWINGS_S:
        return (
            "swings between charging and discharging while cars charge from surplus: its own control and ours take turns; "
            "hold it (control: true, or by its maker's own setting), or let it come first (first_below_soc_percent)"
        )
    if seen.feeds_since_s is not None and now_s - seen.feeds_since_s >= FEEDS_S:
        return (
            f"gives {-now_w:.0f} W while cars charge from surplus: its own control brings the grid to 0 and does not know "
            "the cars; tell it not to discharge for them (its maker's setting for wallboxes, or a meter that does not "
            "see them), or set reserve_soc_percent with control: true"
        )
    return None
