"""What the plant's currents did to the protecting devices and the outside limits."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cem.core.overload import ThermalModel
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
    """

    total_as: float = 0.0
    worst_as: float = 0.0
    longest_s: float = 0.0
    peak_ratio: float = 0.0
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


@dataclass(slots=True)
class Judge:
    """Watches every zone and phase.

    Attributes:
        site: As built.
        outside_a: The outside limit in force at its source for a zone, A per phase; ``None`` for none.
        excess: (zone, phase) to its record.
        tripped: Devices that would have tripped, with the time.
    """

    site: Site
    outside_a: Callable[[str], PerPhase | None]
    excess: dict[tuple[str, int], Excess] = field(default_factory=dict)
    tripped: dict[str, float] = field(default_factory=dict)
    _heat: dict[tuple[str, int], ThermalModel] = field(default_factory=dict)

    def watch(self, t_s: float, dt_s: float, current_a: Callable[[str], PerPhase]) -> None:
        """Take one step of the plant in."""
        for zone in self.site.zones:
            outside = self.outside_a(zone.zone_id)
            rating_a = zone.protection.rating_a
            for phase, amps in enumerate(current_a(zone.zone_id)):
                key = zone.zone_id, phase
                limit_a = rating_a if outside is None else min(rating_a, outside[phase])
                record = self.excess.setdefault(key, Excess())
                record.add(amps - limit_a, dt_s)
                record.peak_ratio = max(record.peak_ratio, abs(amps) / rating_a)
                heat = self._heat.get(key) or ThermalModel.of(zone.protection)
                self._heat[key] = heat = heat.advance(amps / rating_a, dt_s)
                if heat.tripped:
                    self.tripped.setdefault(zone.zone_id, t_s)

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
