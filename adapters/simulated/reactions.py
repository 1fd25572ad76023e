"""How fast the controller answered, seen from the site alone: by the limits that stations received."""

import time
from collections.abc import Mapping
from typing import Any

from adapters.simulated.plant import Plant
from adapters.simulated.station import Emit, SimulatedStation

DSO_WINDOW_S = 8.0
"""Cuts that running stations receive this soon after the DSO's limit are taken as due to it."""

SLACK_A = 0.05


class Reactions:
    """Measures with monotonic time of this one process.

    Attributes:
        dso_to_last_command_s: From the DSO's write to the last cut that a running EVSE received due to it, the
            slowest of all limits set; ``None`` while none was needed.
        meter_loss_to_fallback_s: From the cut of a zone's meter until all EVSEs in the zone together hold its
            fallback limit on every phase, the slowest of all cuts.
        fallback_missed: Cut meters whose zone never came to hold its fallback.
    """

    def __init__(self, plant: Plant, stations: Mapping[str, SimulatedStation], emit: Emit) -> None:
        self._plant, self._stations, self._emit = plant, stations, emit
        self.dso_to_last_command_s: float | None = None
        self.meter_loss_to_fallback_s: float | None = None
        self.fallback_missed: list[str] = []
        self._dso_s: float | None = None
        self._cuts_s: dict[str, float] = {}

    def dso_set(self, limit: float | None) -> None:
        """The DSO is about to write."""
        self._dso_s = time.monotonic() if limit is not None else None

    def meter_cut(self, device_id: str) -> None:
        """A device is about to be cut."""
        for zone in self._plant.site.zones:
            if zone.meter_id == device_id:
                self._cuts_s[zone.zone_id] = time.monotonic()

    def meter_back(self, device_id: str) -> None:
        """A device is about to come back."""
        for zone in self._plant.site.zones:
            if zone.meter_id == device_id and self._cuts_s.pop(zone.zone_id, None) is not None:
                self.fallback_missed.append(device_id)

    def hear(self, event: str, data: Mapping[str, Any]) -> None:
        """Events of the stations."""
        if event != "limit_received" or self._dso_s is None or not data["running"]:
            return
        after_s = time.monotonic() - self._dso_s
        if data["limit_a"] < data["before_a"] and after_s <= DSO_WINDOW_S:
            self.dso_to_last_command_s = max(self.dso_to_last_command_s or 0.0, after_s)

    def step(self) -> None:
        """Looks whether a zone without its meter holds its fallback now."""
        for zone_id, since_s in list(self._cuts_s.items()):
            zone = next(z for z in self._plant.site.zones if z.zone_id == zone_id)
            if max(self.allowed_a(zone_id)) > zone.fallback_limit_a + SLACK_A:
                continue
            del self._cuts_s[zone_id]
            after_s = time.monotonic() - since_s
            self.meter_loss_to_fallback_s = max(self.meter_loss_to_fallback_s or 0.0, after_s)
            self._emit("fallback_held", zone=zone_id, after_s=round(after_s, 3))

    def allowed_a(self, zone_id: str) -> list[float]:
        """What the running EVSEs under a zone may draw together by their profiles, on each phase of the grid."""
        under = {zone_id}
        for zone in self._plant.site.zones:  # parents come first
            if zone.parent_id in under:
                under.add(zone.zone_id)
        total = [0.0, 0.0, 0.0]
        for station in self._stations.values():
            for connector in station.connectors.values():
                if connector.transaction is None or connector.point.evse.zone_id not in under:
                    continue
                limit_a = station.limit_a(connector, station.utc_s())
                for wire in connector.point.rotation:
                    total[wire] += limit_a if limit_a >= 6.0 else 0.0
        return total

    def figures(self) -> dict[str, Any]:
        """Rounded, for a report."""
        dso_s, meter_s = self.dso_to_last_command_s, self.meter_loss_to_fallback_s
        return {
            "dso_to_last_command_s": None if dso_s is None else round(dso_s, 3),
            "meter_loss_to_fallback_s": None if meter_s is None else round(meter_s, 3),
            "fallback_missed": self.fallback_missed,
        }
