"""The one thing that passes from control to the web part: the latest picture of the site."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

SiteView = Mapping[str, Any]
"""The body of ``GET /api/v1/site``, JSON-able and never changed once it was handed over:

``{"time", "cycle": {"count", "p50_ms", "p99_ms", "last_ms"},
"zones": {ID: {"parent", "limit_a": [l1, l2, l3], "limit_w", "limit_source", "measured_a", "granted_a", "reserved_a",
"stale"}}, "evses": {"STATION/EVSE": {"status", "phases", "setpoint_a", "measured_a", "reason", "binding"}},
"external_limits": {ID: {...}}, "csms": {...}}``
"""


Explain = Callable[[str], Sequence[Mapping[str, Any]] | None]
"""The limit stack of an EVSE at that cycle, made when asked; ``None`` where there is no such EVSE. Thread-safe."""


class Snapshot(NamedTuple):
    """A picture, the monotonic time at which it was handed over, and who can explain it."""

    view: SiteView
    at_s: float
    explain: Explain

    def age_s(self) -> float:
        """Seconds since the control cycle that made it was completed."""
        return time.monotonic() - self.at_s


class SnapshotCell:
    """Holds the latest picture. One reference is swapped, so writer and readers never wait for each other."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None

    def set(self, view: SiteView, explain: Explain = lambda _evse_id: None) -> None:
        """Hand over the picture of a completed cycle; from then on nobody may change it."""
        self._snapshot = Snapshot(view, time.monotonic(), explain)

    def get(self) -> Snapshot | None:
        """The latest picture; ``None`` before the first completed cycle."""
        return self._snapshot

    def knows(self, evse_id: str) -> bool:
        """There is such an EVSE in the latest picture."""
        return self._snapshot is not None and evse_id in self._snapshot.view.get("evses", ())
