"""Loads that are nobody's to control, per phase, and the sky. Pure functions of a seed and the time.

Nobody publishes household load per phase at 1 s, so it is put together from appliances: each switches on at a second
of its own, on a phase of its own, and off again.
"""

import bisect
import math
import random
from dataclasses import dataclass

from cem.core.units import PerPhase


@dataclass(frozen=True, slots=True)
class LoadStep:
    """A load that is on for a while.

    Attributes:
        start_s: Switched on, in plant time.
        end_s: Switched off.
        power_w: On each phase while it is on.
    """

    start_s: float
    end_s: float
    power_w: PerPhase


_APPLIANCES = (  # name, W, on for s, how many in an hour
    ("kettle", 2000.0, 110.0, 6.0),
    ("oven", 2400.0, 45.0, 14.0),
    ("hob", 1500.0, 20.0, 20.0),
    ("washing machine", 1900.0, 240.0, 2.0),
    ("heat pump", 3300.0, 300.0, 3.0),
)


class Household:
    """A building's load: a steady base on each phase, and appliances that come and go.

    Args:
        seed: Same seed, same load.
        max_a: Never more than this on any phase (the site file's worst case).
        voltage_v: Phase to neutral.
        length_s: For how long appliances are laid out.
        appliances: ``False`` leaves the base alone: the same building on a day without steps.
        quiet: Times (from, to) in which no appliance is on.

    Attributes:
        worst: Draws the site file's worst case on every phase, whatever is switched on.
    """

    def __init__(
        self,
        seed: int,
        max_a: float,
        voltage_v: float = 230.0,
        length_s: float = 3600.0,
        *,
        appliances: bool = True,
        quiet: tuple[tuple[float, float], ...] = (),
    ) -> None:
        rng = random.Random(f"{seed}/household")
        self.max_w = max_a * voltage_v
        self._base_w = PerPhase.of(self.max_w * rng.uniform(0.06, 0.22) for _ in range(3))
        self._ripple_s = tuple(rng.uniform(7.0, 19.0) for _ in range(3))
        self.worst = False
        self.steps: list[LoadStep] = []
        self._on: list[LoadStep] = []
        self._on_from_s, self._on_until_s, self._on_of = math.inf, -math.inf, -1
        self._edges_s: list[float] = []
        scale = max(1.0, max_a / 25.0)
        for name, power_w, on_s, an_hour in _APPLIANCES:
            start_s = rng.expovariate(an_hour / 3600)
            while start_s < length_s:
                phase = rng.randrange(3)
                watts = power_w * scale * rng.uniform(0.8, 1.1)
                per_phase = PerPhase.same(watts / 3) if name == "heat pump" else _on_phase(phase, watts)
                end_s = start_s + on_s * rng.uniform(0.6, 1.4)
                if appliances and not any(start_s <= b and a <= end_s for a, b in quiet):
                    self.steps.append(LoadStep(start_s, end_s, per_phase))
                start_s = end_s + rng.expovariate(an_hour / 3600)

    def power_w(self, t_s: float) -> PerPhase:
        """Load on each phase at a plant time."""
        if self.worst:
            return PerPhase.same(self.max_w)
        watts = [
            base + 0.01 * self.max_w * math.sin(2 * math.pi * t_s / ripple)
            for base, ripple in zip(self._base_w, self._ripple_s, strict=True)
        ]
        for step in self._running(t_s):
            watts = [a + b for a, b in zip(watts, step.power_w, strict=True)]
        l1, l2, l3 = (min(self.max_w, max(0.0, w)) for w in watts)
        return PerPhase(l1, l2, l3)

    def _running(self, t_s: float) -> list[LoadStep]:
        """Appliances that are on, looked up anew only where one is switched: a day has a thousand of them."""
        if not self._on_from_s <= t_s < self._on_until_s or self._on_of != len(self.steps):
            if self._on_of != len(self.steps):
                edges = {edge for step in self.steps for edge in (step.start_s, step.end_s)}
                self._edges_s, self._on_of = [-math.inf, *sorted(edges), math.inf], len(self.steps)
            after = bisect.bisect_right(self._edges_s, t_s)
            self._on_from_s, self._on_until_s = self._edges_s[after - 1], self._edges_s[after]
            self._on = [step for step in self.steps if step.start_s <= t_s < step.end_s]
        return self._on


def _on_phase(phase: int, watts: float) -> PerPhase:
    return PerPhase.of(watts if p == phase else 0.0 for p in range(3))


@dataclass(frozen=True, slots=True)
class Cloud:
    """A cloud passing over the roof.

    Attributes:
        start_s: Its edge arrives, in plant time.
        length_s: How long it stays, both edges included.
        depth: Part of the light it takes.
    """

    start_s: float
    length_s: float
    depth: float

    def shade(self, t_s: float) -> float:
        """Part of the light taken now; an edge passes in 4 s."""
        since_s, left_s = t_s - self.start_s, self.start_s + self.length_s - t_s
        return self.depth * max(0.0, min(1.0, since_s / 4.0, left_s / 4.0))


class Sky:
    """Light on the roof, 0 to 1: the height of the sun and the clouds before it.

    Args:
        seed: Same seed, same clouds.
        clouds: Clouds that must pass; others come by the seed, about every four minutes, where ``own`` is set.
        start_hour: Local solar time at plant time 0.
        length_s: For how long clouds are laid out.
        own: Draw clouds by the seed.
    """

    def __init__(
        self,
        seed: int,
        clouds: tuple[Cloud, ...] = (),
        start_hour: float = 11.5,
        length_s: float = 3600.0,
        *,
        own: bool = True,
    ) -> None:
        rng = random.Random(f"{seed}/sky")
        self._start_hour = start_hour
        self._clouds = list(clouds)
        t_s = rng.expovariate(1 / 240)
        while own and t_s < length_s:
            self._clouds.append(Cloud(t_s, rng.uniform(15.0, 60.0), rng.uniform(0.2, 0.7)))
            t_s += rng.expovariate(1 / 240)
        self._above: list[Cloud] = []
        self._above_from_s, self._above_until_s = math.inf, -math.inf

    def light(self, t_s: float) -> float:
        """0 (night) to 1 (clear noon)."""
        hour = (self._start_hour + t_s / 3600) % 24
        sun = max(0.0, math.sin(math.pi * (hour - 6.0) / 12.0))
        if sun == 0.0:
            return 0.0
        return sun * (1.0 - max((cloud.shade(t_s) for cloud in self._passing(t_s)), default=0.0))

    def _passing(self, t_s: float) -> list[Cloud]:
        """Clouds above, looked up anew only where one comes or goes."""
        if not self._above_from_s <= t_s < self._above_until_s:
            edges = [edge for cloud in self._clouds for edge in (cloud.start_s, cloud.start_s + cloud.length_s)]
            self._above_from_s = max((edge for edge in edges if edge <= t_s), default=-math.inf)
            self._above_until_s = min((edge for edge in edges if edge > t_s), default=math.inf)
            self._above = [c for c in self._clouds if c.start_s <= t_s < c.start_s + c.length_s]
        return self._above
