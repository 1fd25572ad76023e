"""24 charging points behind 3 x 100 A, with a building whose load steps: the plant of the control-quality benchmark.

It shares no code with the engine; what it draws is the truth by which every controller is judged. Cars are arrays, so
an hour takes seconds. Cars lag, some take little, some are slow, one does not listen at all, some sleep and wake.
"""

from dataclasses import dataclass

import numpy as np

COUNT, LIMIT_A, MIN_A, MAX_A = 24, 100.0, 6.0, 32.0
THREE_PHASE = 4
"""So many points have three phases; the others have one, spread over the grid's phases."""


@dataclass(frozen=True)
class Day:
    """All that happens, laid out by a seed: two controllers on the same day meet the same cars and loads.

    Attributes:
        seed: Of everything.
        length_s: Seconds.
        building_a: ``(length, 3)`` load that is not ours.
        wants_a: ``(length, COUNT)`` the most each car would draw, 0 asleep; NaN with nobody there.
        deaf: ``(COUNT,)`` draws what it wants, whatever it is told.
        delay_s: ``(COUNT,)`` whole seconds from the pilot to the first reaction.
        lag_s: ``(COUNT,)`` time constant of the rest.
    """

    seed: int
    length_s: int
    building_a: np.ndarray
    wants_a: np.ndarray
    deaf: np.ndarray
    delay_s: np.ndarray
    lag_s: np.ndarray


def wiring() -> np.ndarray:
    """``(COUNT, 3)`` grid phases of each point."""
    wired = np.zeros((COUNT, 3), dtype=bool)
    for i in range(COUNT):
        wired[i] = True if i < THREE_PHASE else [p == i % 3 for p in range(3)]
    return wired


def lay_out(seed: int, length_s: int, load: str) -> Day:
    """A day; ``load`` is ``steps``, ``calm`` (the same without the steps) or ``constant`` (always the mean)."""
    rng = np.random.default_rng(seed)
    building = np.tile(rng.uniform(8.0, 18.0, 3), (length_s, 1))
    steps = np.zeros((length_s, 3))
    at = -600.0
    while (at := at + rng.exponential(400.0)) < length_s:
        until = int(at + rng.exponential(300.0)) + 20
        amps = rng.uniform(4.0, 16.0)
        on = np.ones(3, dtype=bool) if rng.random() < 0.3 else np.arange(3) == rng.integers(3)
        steps[max(0, int(at)) : max(0, until), on] += amps
    match load:
        case "steps":
            building = building + np.minimum(steps, 45.0)
        case "constant":
            building = building + steps.mean(axis=0)
    wants = np.full((length_s, COUNT), np.nan)
    kinds = rng.permutation(COUNT)
    deaf = np.zeros(COUNT, dtype=bool)
    deaf[kinds[0]] = True
    for i in range(COUNT):
        _stay(rng, wants[:, i], lazy=i in kinds[1:7], sleepy=i in kinds[7:10], whole=bool(deaf[i]))
    wants[:, deaf] = np.minimum(np.nan_to_num(wants[:, deaf]), 16.0)
    delay, lag = rng.uniform(1.0, 8.0, COUNT), rng.uniform(1.0, 12.0, COUNT)
    slow = kinds[10:13]
    delay[slow], lag[slow] = 8.0, 12.0
    return Day(seed, length_s, building, wants, deaf, np.rint(delay).astype(int), lag)


def _stay(rng: np.random.Generator, wants: np.ndarray, *, lazy: bool, sleepy: bool, whole: bool) -> None:
    """One point's cars: they come, stay and go; three of four points are taken."""
    at = -rng.uniform(0.0, 3600.0)
    if whole:
        wants[:] = MAX_A
        return
    while at < wants.size:
        leaves = at + rng.uniform(1800.0, 5400.0)
        most = rng.uniform(7.0, 13.0) if lazy else rng.choice((16.0, 32.0, 32.0))
        first, last = max(0, int(at)), max(0, int(leaves))
        wants[first:last] = most
        nap = max(0, int(rng.uniform(at, leaves)))
        if sleepy:
            wants[nap : min(last, nap + int(rng.uniform(120.0, 600.0)))] = 0.0
        at = leaves + rng.uniform(300.0, 1800.0)


class Cars:
    """The cars of a day, second by second."""

    def __init__(self, day: Day) -> None:
        self.day = day
        self.current_a = np.zeros(COUNT)
        self._told = np.zeros((10, COUNT))
        self._index = np.arange(COUNT)
        self._follow = 1.0 - np.exp(-1.0 / day.lag_s)

    def step(self, t: int, pilot_a: np.ndarray) -> np.ndarray:
        """One second at these pilots: the current of each car on each of its phases."""
        self._told[t % 10] = pilot_a
        heard = self._told[(t - self.day.delay_s) % 10, self._index]
        wants = self.day.wants_a[t]
        most = np.nan_to_num(wants)
        goal = np.where(heard >= MIN_A, np.minimum(heard, most), 0.0)
        goal = np.where(self.day.deaf, most, goal)
        moved = self.current_a + (goal - self.current_a) * self._follow
        moved = np.where((goal == 0.0) & (moved < 0.1), 0.0, moved)
        self.current_a = np.where(np.isnan(wants), 0.0, moved)  # unplugged: gone at once
        return self.current_a
