"""The plant's own truth: written down, and judged by what the protecting devices would have done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from cem.core.overload import ThermalModel
from cem.core.site import Site
from cem.core.units import PerPhase

HEADER = "t_s,zone,phase,current_a,rating_a,external_a"

External = Mapping[str, PerPhase]
"""Zone id to the outside limit on each phase; absent where there is none."""


def external_a(limit: float, unit: str, amps: PerPhase, voltage_v: float) -> PerPhase:
    """An outside limit as amps on each phase.

    A limit in watts binds the sum of the phases and leaves their balance open: what is too much or too little is spread
    evenly, so that a phase is above its figure exactly when the sum is above the limit.
    """
    if unit == "A":
        return PerPhase.same(limit)
    total_a = limit * (1000.0 if unit == "kW" else 1.0) / voltage_v
    spare_a = (total_a - amps.total) / 3
    return PerPhase.of(a + spare_a for a in amps)


@dataclass(slots=True)
class Excess:
    """One continuous time above a limit, on one phase of one zone.

    Attributes:
        since_s: When it began.
        seconds: How long it has lasted.
        amp_seconds: Its integral above the limit.
        most_a: The largest current above the limit.
    """

    since_s: float
    seconds: float = 0.0
    amp_seconds: float = 0.0
    most_a: float = 0.0


@dataclass(slots=True)
class Judge:
    """Watches every phase of every zone through the eyes of its protecting device.

    Attributes:
        site: As built.
        worst: The excess with the largest integral so far, above the rating or the outside limit.
        longest_s: The longest excess.
        least_margin: The smallest trip margin so far; 0 means that something tripped.
        tripped: Zones whose device would have tripped.
    """

    site: Site
    worst: Excess | None = None
    longest_s: float = 0.0
    least_margin: float = 1.0
    tripped: set[str] = field(default_factory=set)
    _poles: dict[tuple[str, int], ThermalModel] = field(default_factory=dict)
    _open: dict[tuple[str, int], Excess] = field(default_factory=dict)

    def watch(self, t_s: float, dt_s: float, amps: dict[str, PerPhase], external: External) -> None:
        """One step of the plant: currents through every zone's device during the last ``dt_s``."""
        for zone in self.site.zones:
            rating_a = zone.protection.rating_a
            outside = external.get(zone.zone_id)
            for p, current_a in enumerate(amps[zone.zone_id]):
                key = (zone.zone_id, p)
                pole = self._poles.get(key) or ThermalModel.of(zone.protection)
                pole = pole.advance(current_a / rating_a, dt_s)
                self._poles[key] = pole
                self.least_margin = min(self.least_margin, pole.margin)
                if pole.tripped:
                    self.tripped.add(zone.zone_id)
                limit_a = rating_a if outside is None else min(rating_a, outside[p])
                over_a = max(current_a - limit_a, abs(current_a) - rating_a)  # export heats the fuse all the same
                if over_a <= 0.0:
                    self._open.pop(key, None)
                    continue
                excess = self._open.setdefault(key, Excess(t_s))
                excess.seconds += dt_s
                excess.amp_seconds += over_a * dt_s
                excess.most_a = max(excess.most_a, over_a)
                self.longest_s = max(self.longest_s, excess.seconds)
                if self.worst is None or excess.amp_seconds >= self.worst.amp_seconds:
                    self.worst = excess

    @property
    def worst_overshoot_as(self) -> float:
        """A.s above rating or outside limit of the worst single excess."""
        return self.worst.amp_seconds if self.worst else 0.0


class TruthFile:
    """The truth as CSV: one row for each zone and phase."""

    def __init__(self, path: Path, site: Site) -> None:
        self._site = site
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._file.write(HEADER + "\n")

    def write(self, t_s: float, amps: dict[str, PerPhase], external: External) -> None:
        """One moment of the plant."""
        lines = []
        for zone in self._site.zones:
            outside = external.get(zone.zone_id)
            for p, current_a in enumerate(amps[zone.zone_id]):
                bound = "" if outside is None else f"{outside[p]:.3f}"
                lines.append(f"{t_s:.2f},{zone.zone_id},{p + 1},{current_a:.3f},{zone.protection.rating_a:g},{bound}\n")
        self._file.writelines(lines)

    def close(self) -> None:
        """Ends it."""
        self._file.close()
