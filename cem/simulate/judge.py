"""What the plant's currents did to the protecting devices and the outside limits."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from cem.core.overload import TripCurve, trip_curve
from cem.core.site import Site
from cem.core.units import PerPhase

TOLERANCE_A = 0.05
"""Below what any meter resolves."""


@dataclass(slots=True)
class Excess:
    """One zone's and phase's record.

    Attributes:
        total_as: A.s above the limit in all.
        worst_as: A.s of the worst single stretch.
        longest_s: The longest stretch.
        peak_ratio: Highest current over the rating.
        peak_a: Highest current.
    """

    total_as: float = 0.0
    worst_as: float = 0.0
    longest_s: float = 0.0
    peak_ratio: float = 0.0
    peak_a: float = 0.0
    _now_as: float = 0.0
    _now_s: float = 0.0

    def add(self, over_a: float, dt_s: float) -> None:
        if over_a <= TOLERANCE_A:
            self._now_as = self._now_s = 0.0
            return
        self._now_as += over_a * dt_s
        self._now_s += dt_s
        self.total_as += over_a * dt_s
        self.worst_as = max(self.worst_as, self._now_as)
        self.longest_s = max(self.longest_s, self._now_s)


class _Pole:
    """One phase of one protecting device; the arithmetic of ``ThermalModel``, in place."""

    __slots__ = ("_decay", "_dt_s", "curve", "excess", "heat", "rating_a")

    def __init__(self, curve: TripCurve, rating_a: float) -> None:
        self.curve, self.rating_a = curve, rating_a
        self.excess = Excess()
        self.heat = 0.0
        self._dt_s = self._decay = 0.0

    def trips(self, amps: float, dt_s: float) -> bool:
        if dt_s != self._dt_s:
            self._dt_s, self._decay = dt_s, math.exp(-dt_s / self.curve.tau_s)
        ratio = abs(amps) / self.rating_a
        end = ratio * ratio
        self.heat = end + (self.heat - end) * self._decay
        instant = self.curve.instant
        return self.heat >= self.curve.holds**2 or (instant is not None and ratio >= instant)


@dataclass(slots=True)
class Judge:
    """Watches every zone and phase.

    Attributes:
        site: As built.
        outside_a: The outside limit in force at its source for a zone, A per phase; ``None`` for none.
        outside_total_a: The same as A over all phases together (a W limit at the plant's voltage).
        tripped: Devices that would have tripped, with the time.
        over: Some limit is exceeded at this moment.
    """

    site: Site
    outside_a: Callable[[str], PerPhase | None]
    outside_total_a: Callable[[str], float | None] = lambda _: None
    tripped: dict[str, float] = field(default_factory=dict)
    over: bool = False
    _poles: list[tuple[str, tuple[_Pole, _Pole, _Pole]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for zone in self.site.zones:
            curve, rating_a = trip_curve(zone.protection), zone.protection.rating_a
            poles = _Pole(curve, rating_a), _Pole(curve, rating_a), _Pole(curve, rating_a)
            self._poles.append((zone.zone_id, poles))

    def watch(self, t_s: float, dt_s: float, current_a: Callable[[str], PerPhase]) -> None:
        """Take one step of the plant in."""
        self.over = False
        for zone_id, poles in self._poles:
            amps = current_a(zone_id)
            outside = self.outside_a(zone_id)
            total_a = self.outside_total_a(zone_id)
            # a limit of the sum leaves the balance of the phases open: an excess is spread evenly
            spread_a = -math.inf if total_a is None else (amps.total - total_a) / 3
            for phase, pole in enumerate(poles):
                now_a = amps[phase]
                limit_a = pole.rating_a if outside is None else min(pole.rating_a, outside[phase])
                over_a = now_a - limit_a
                over_a = max(over_a, spread_a)
                record = pole.excess
                record.add(over_a, dt_s)
                if over_a > TOLERANCE_A:
                    self.over = True
                if abs(now_a) > record.peak_a:
                    record.peak_a, record.peak_ratio = abs(now_a), abs(now_a) / pole.rating_a
                if pole.trips(now_a, dt_s):
                    self.tripped.setdefault(zone_id, t_s)

    @property
    def excess(self) -> dict[tuple[str, int], Excess]:
        """(zone, phase) to its record."""
        return {(zone_id, p): pole.excess for zone_id, poles in self._poles for p, pole in enumerate(poles)}

    @property
    def total_as(self) -> float:
        """A.s above any limit, all zones and phases."""
        return sum(e.total_as for e in self.excess.values())

    @property
    def longest_s(self) -> float:
        """The longest stretch above any limit."""
        return max((e.longest_s for e in self.excess.values()), default=0.0)

    @property
    def worst_as(self) -> float:
        """The worst single stretch above any limit."""
        return max((e.worst_as for e in self.excess.values()), default=0.0)
