"""What the stations of a site share: pace and room of what a CSMS has still to hear, and what it said of tokens."""

from dataclasses import dataclass, field

from cem.csms.token_cache import TokenCache

REPLAY_PER_S = 100.0
"""Journaled messages a second, the whole site together: 200,000 take 34 minutes."""
STATION_ROOM = 2_000
SITE_ROOM = 200_000
HARD_FACTOR = 10
"""What may never be dropped may grow to this many times the room; then no new transaction is taken, and one room later
nothing at all (I11)."""


@dataclass(slots=True)
class Pace:
    """A token bucket (C4)."""

    rate_per_s: float = REPLAY_PER_S
    burst: float = 20.0
    _tokens: float = 20.0
    _at_s: float | None = None

    def take(self, now_s: float) -> bool:
        """Whether one more message may go now."""
        if self._at_s is not None:
            self._tokens = min(self.burst, self._tokens + max(0.0, now_s - self._at_s) * self.rate_per_s)
        self._at_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


@dataclass(slots=True)
class Room:
    """How many journaled messages there may be; ``used`` counts every station's.

    Attributes:
        stations: Among how many the site's room is shared once it is short.
    """

    per_station: int = STATION_ROOM
    per_site: int = SITE_ROOM
    stations: int = 1
    used: int = 0

    @property
    def station_share(self) -> int:
        """What one station may keep now."""
        if self.used < self.per_site:
            return self.per_station
        return min(self.per_station, max(1, self.per_site // self.stations))

    def refuses(self, station_used: int, *, begins: bool) -> bool:
        """Whether nothing may be taken any more: what begins something first, what belongs to something later."""
        factor = HARD_FACTOR if begins else HARD_FACTOR + 1
        return station_used >= factor * self.per_station or self.used >= factor * self.per_site


@dataclass(slots=True)
class Shared:
    """One for all stations of a site."""

    room: Room = field(default_factory=Room)
    rate_per_s: float = REPLAY_PER_S
    cache: TokenCache = field(default_factory=TokenCache)
    paces: dict[str, Pace] = field(default_factory=dict)

    def pace(self, upstream_id: str) -> Pace:
        """The pace towards one CSMS."""
        return self.paces.setdefault(upstream_id, Pace(self.rate_per_s))
