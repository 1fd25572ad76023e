"""What a driver or operator wishes of one EVSE: a mode, a target, a time, a limit."""

from dataclasses import dataclass, replace
from datetime import datetime

from cem.core.site import Mode
from cem.core.state import EvseState


@dataclass(frozen=True, slots=True)
class Wish:
    """A wish and how far it was met.

    Attributes:
        mode: ``None``: as the site says.
        target_wh: Energy wanted from now on; ``None`` for none.
        departure_utc: By then; ``None`` for no hurry.
        delivered_wh: Measured since the wish was made.
        limit_a: At most so much per phase; ``None`` for no such limit.
    """

    mode: Mode | None = None
    target_wh: float | None = None
    departure_utc: datetime | None = None
    delivered_wh: float = 0.0
    limit_a: float | None = None

    @property
    def empty(self) -> bool:
        """It says nothing."""
        return self.mode is None and self.target_wh is None and self.limit_a is None

    def met(self, energy_wh: float) -> "Wish":
        """With so much more delivered."""
        return self if self.target_wh is None else replace(self, delivered_wh=self.delivered_wh + energy_wh)

    def left(self) -> "Wish":
        """Once the car has left: its target goes with it, the mode and the limit stay."""
        return Wish(self.mode, limit_a=self.limit_a)

    def on(self, state: EvseState, now_s: float, utc: datetime) -> EvseState:
        """The EVSE's state with the wish in it."""
        needed_wh = None if self.target_wh is None else max(0.0, self.target_wh - self.delivered_wh)
        departure_s = None
        if self.departure_utc is not None:
            departure_s = now_s + (self.departure_utc - utc).total_seconds()
        return replace(
            state,
            mode=self.mode or state.mode,
            needed_wh=state.needed_wh if needed_wh is None else needed_wh,
            departure_s=state.departure_s if departure_s is None else departure_s,
            wished_a=self.limit_a,
        )
