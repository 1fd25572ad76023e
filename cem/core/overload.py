"""When a fuse or breaker would trip: a thermal model of the protecting device.

Overshoot is judged by the heat in the device, not by single samples. The model is one body that heats with the square
of the current and cools towards it, ``dh/dt = ((I/In)^2 - h) / tau``; the device trips when ``h`` reaches the heat of
the largest current it must carry for ever. Each curve sits at the early (hot) edge of what its standard allows: a
device on the market trips later, or at that moment, never sooner for a current that lasts.

| kind | must hold | must trip | at once from | source |
|---|---|---|---|---|
| ``mcb`` | 1.13 In for 1 h | 1.45 In within 1 h | B 3 In, C 5 In, D 10 In | IEC 60898-1, table 7 |
| ``gg`` | 1.25 In for 1 h | 1.6 In within 1 h | - | IEC 60269-1, table 2 (16 A to 63 A; slower above) |
| ``sls`` | 1.05 In for 2 h | 1.2 In within 2 h | 5 In | DIN VDE 0641-21, curve E |
| ``cutoff`` | 1.02 In | 1.1 In | 2 In | no standard: a meter that disconnects, assumed strict |
"""

import math
from dataclasses import dataclass, replace

from cem.core.site import Protection


@dataclass(frozen=True, slots=True)
class TripCurve:
    """A protecting device's limits, as multiples of its rated current.

    Attributes:
        holds: Carried for ever without tripping.
        trips: Trips within the conventional time.
        tau_s: Time constant of the heat, at the early edge of the standard's band.
        instant: Trips at once from here on; ``None`` for a fuse, which has no magnetic stage.
    """

    holds: float
    trips: float
    tau_s: float
    instant: float | None

    def seconds_to_trip(self, load_ratio: float, heat: float = 0.0) -> float | None:
        """Time until a steady load trips the device; ``None`` where it never does.

        Args:
            load_ratio: Current over rated current.
            heat: Heat at the start (0 = cold; in squares of the rated current).
        """
        if self.instant is not None and abs(load_ratio) >= self.instant:
            return 0.0
        end, limit = load_ratio**2, self.holds**2
        if heat >= limit:
            return 0.0
        if end <= limit:
            return None
        return self.tau_s * math.log((end - heat) / (end - limit))

    def borne_ratio(self, seconds: float, margin_used: float = 1.0) -> float:
        """The highest load ratio that a pole at rated current bears for so long.

        Args:
            seconds: How long it lasts.
            margin_used: Part of the margin between rated current and tripping that may be used.
        """
        kept = math.exp(-seconds / self.tau_s)
        heat = 1.0 + margin_used * (self.holds**2 - 1.0)
        ratio = math.sqrt((heat - kept) / (1.0 - kept))
        return ratio if self.instant is None else min(ratio, 1.0 + margin_used * (self.instant - 1.0))


_MCB_INSTANT = {"B": 3.0, "C": 5.0, "D": 10.0}
_CURVES = {
    "gg": TripCurve(holds=1.25, trips=1.6, tau_s=100.0, instant=None),
    "sls": TripCurve(holds=1.05, trips=1.2, tau_s=60.0, instant=5.0),
    "cutoff": TripCurve(holds=1.02, trips=1.1, tau_s=20.0, instant=2.0),
}


def trip_curve(protection: Protection) -> TripCurve:
    """The curve of one protecting device (an MCB without a curve is taken as B, the most sensitive)."""
    if protection.kind == "mcb":
        return TripCurve(holds=1.13, trips=1.45, tau_s=60.0, instant=_MCB_INSTANT[protection.curve or "B"])
    return _CURVES[protection.kind]


@dataclass(frozen=True, slots=True)
class ThermalModel:
    """One pole of a protecting device: its heat, and whether it has tripped.

    Attributes:
        curve: What the device is.
        heat: 0 when cold; 1 after a long time at rated current.
        tripped: Stays set: nothing resets a fuse.
    """

    curve: TripCurve
    heat: float = 0.0
    tripped: bool = False

    @classmethod
    def of(cls, protection: Protection) -> "ThermalModel":
        """A cold pole of this device."""
        return cls(trip_curve(protection))

    def advance(self, load_ratio: float, dt_s: float) -> "ThermalModel":
        """The pole after ``dt_s`` at a steady ``load_ratio`` (current over rating; the direction does not matter).

        Exact for any step: two steps give the same heat as one of their sum.
        """
        end = load_ratio**2
        heat = end + (self.heat - end) * math.exp(-dt_s / self.curve.tau_s)
        at_once = self.curve.instant is not None and abs(load_ratio) >= self.curve.instant
        return replace(self, heat=heat, tripped=self.tripped or at_once or heat >= self.curve.holds**2)

    @property
    def margin(self) -> float:
        """1 when cold, 0 when it trips or has tripped."""
        return 0.0 if self.tripped else max(0.0, 1.0 - self.heat / self.curve.holds**2)
