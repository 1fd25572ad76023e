"""One electric vehicle: how it follows its pilot, how full it is. Pure; any time step gives the same car."""

import math
import random
from collections import deque
from dataclasses import dataclass

PILOT_MIN_A = 6.0
"""Below this duty cycle an EV must not draw (IEC 61851-1)."""


@dataclass(frozen=True, slots=True)
class EvType:
    """What a car is.

    Attributes:
        phases: Phases its charger uses, 1 to 3, beginning at the EVSE's own first phase.
        max_a: Most current per phase that its charger takes.
        settle_s: Time until 95 % of a step of the pilot is followed.
        draw: Part of the allowed current that it really takes (chargers stay a little below).
        need_wh: Energy until it is full; the last tenth is drawn with falling current.
    """

    phases: int = 3
    max_a: float = 32.0
    settle_s: float = 3.0
    draw: float = 0.98
    need_wh: float = 20_000.0

    @staticmethod
    def pick(rng: random.Random, most_phases: int = 3) -> "EvType":
        """A car as they come: lag 1 to 4.8 s, one or three phases, one in three takes less than most EVSEs offer."""
        phases = min(most_phases, rng.choice((1, 3, 3)))
        max_a = rng.choice((32.0, 32.0, 16.0) if phases == 1 else (32.0, 16.0, 16.0, 13.0))
        return EvType(
            phases=phases,
            max_a=max_a,
            settle_s=rng.uniform(1.0, 4.8),
            draw=rng.uniform(0.96, 1.0),
            need_wh=rng.uniform(5_000.0, 40_000.0),
        )


class Ev:
    """A car at an EVSE.

    Attributes:
        kind: What it is.
        current_a: Drawn now on each phase it uses.
        charged_wh: Energy taken since it came.
    """

    def __init__(self, kind: EvType) -> None:
        self.kind = kind
        self.current_a = 0.0
        self.charged_wh = 0.0
        self._target_a = 0.0
        self._dead_s = 0.2 * kind.settle_s
        self._tau_s = 0.8 * kind.settle_s / 3.0  # e^-3 = 5 % is left at settle_s
        self._pilots: deque[tuple[float, float]] = deque()
        self._now_s = 0.0

    @property
    def full(self) -> bool:
        """It has what it needs and asks for no more."""
        return self.charged_wh >= self.kind.need_wh

    def wanted_a(self, pilot_a: float) -> float:
        """What it would draw on each phase in the long run at this pilot."""
        if pilot_a < PILOT_MIN_A or self.full:
            return 0.0
        left = 1.0 - self.charged_wh / self.kind.need_wh
        taper_a = max(PILOT_MIN_A, self.kind.max_a * min(1.0, left / 0.1))
        return min(pilot_a, self.kind.max_a, taper_a) * self.kind.draw

    def step(self, pilot_a: float, dt_s: float, voltage_v: float, phases: int = 3) -> None:
        """Lives for ``dt_s`` at a pilot of ``pilot_a`` amps per phase on at most so many phases."""
        if not self._pilots or self._pilots[-1][1] != pilot_a:
            self._pilots.append((self._now_s, pilot_a))
        self._now_s += dt_s
        while len(self._pilots) > 1 and self._pilots[1][0] + self._dead_s <= self._now_s:
            self._pilots.popleft()
        heard_s, heard_a = self._pilots[0]
        if heard_s + self._dead_s <= self._now_s:
            self._target_a = heard_a
        wanted_a = self.wanted_a(self._target_a)
        before_a = self.current_a
        self.current_a = wanted_a + (before_a - wanted_a) * math.exp(-dt_s / self._tau_s)
        if wanted_a == 0.0 and self.current_a < 0.1:  # the contactor opens
            self.current_a = 0.0
        mean_a = (before_a + self.current_a) / 2
        self.charged_wh += mean_a * min(self.kind.phases, phases) * voltage_v * dt_s / 3600
