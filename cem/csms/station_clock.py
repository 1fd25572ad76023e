"""How far a station's clock is off, from the times in its messages (S17)."""

from dataclasses import dataclass
from datetime import datetime

from cem.csms.moment import Now

TOLERATED_S = 5.0
LIVE_S = 2.0
"""Two samples are live, and not from a queue, where they are as far apart by the station's clock as by ours."""

MOST_S = 100 * 365 * 86_400.0
"""Beyond this it is no clock but nonsense, and near the years 1 and 9999 no schedule can be reckoned."""


@dataclass(slots=True)
class StationClock:
    """The offset of one station's clock.

    A message can only be late: it was made before it came, so its time never shows more than the true offset. That a
    station is behind is believed only from samples that are surely live; an emptied queue looks just like a slow clock.
    """

    offset_s: float = 0.0
    _last: tuple[float, float] | None = None

    @property
    def ahead_s(self) -> float:
        """Seconds it is ahead of UTC; 0 within what is tolerated."""
        return self.offset_s if abs(self.offset_s) > TOLERATED_S else 0.0

    def message(self, at_utc: datetime, now: Now) -> bool:
        """A message with a time in it came; returns whether the offset moved so much that schedules are wrong."""
        sample_s = (at_utc - now.utc).total_seconds()
        return self._moved(sample_s) if sample_s > self.offset_s + TOLERATED_S else False

    def periodic(self, at_utc: datetime, now: Now) -> bool:
        """As ``message``, for a sample of a periodic series."""
        sample_s = (at_utc - now.utc).total_seconds()
        last, self._last = self._last, (sample_s, now.s)
        live = last is not None and now.s - last[1] >= LIVE_S / 2 and abs(sample_s - last[0]) < LIVE_S
        if live and abs(sample_s - self.offset_s) > TOLERATED_S:
            return self._moved(sample_s)
        return self.message(at_utc, now)

    def _moved(self, sample_s: float) -> bool:
        if abs(sample_s) > MOST_S:
            return False
        before_s, self.offset_s = self.ahead_s, sample_s
        return self.ahead_s != before_s

    def disconnected(self) -> None:
        """A series ends with its connection."""
        self._last = None
