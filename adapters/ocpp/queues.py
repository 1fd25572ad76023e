"""The operator's commands to what upstream CSMSs have not heard yet, on the server's own loop."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from adapters.ocpp.link import StationLink
from cem.csms.records import JournalEntry
from cem.errors import CemError


class Queues:
    """Every station's.

    Args:
        links: By station.
    """

    def __init__(self, links: Mapping[str, StationLink]) -> None:
        self._links = links

    async def retry(self, station_id: str | None = None) -> int:
        """Another try for what was set aside, of one station or of all; gives how many messages that is.

        Raises:
            CemError: There is no such station.
        """
        counts: list[int] = []
        for link in self._links.values() if station_id is None else [self._link(station_id)]:
            link.do(partial(link.session.retry_refused, told=counts.append))
        return sum(counts)

    async def set_aside(
        self, station_id: str, upstream_id: str | None = None, seq: int | None = None
    ) -> dict[str, Any]:
        """Takes the first message that waits, or this one, out of the way of what follows; it is kept.

        Raises:
            CemError: There is no such station, or nothing such waits.
        """
        link = self._link(station_id)
        found: list[JournalEntry | None] = []
        link.do(lambda now: link.session.set_aside(upstream_id, seq, found.append, now))
        await link.settled()
        if not found or found[0] is None:
            what = "nothing" if seq is None else f"no message {seq}"
            raise CemError(f"{what} of {station_id} waits" + (f" for {upstream_id}" if upstream_id else ""))
        entry = found[0]
        return {
            "station_id": station_id, "upstream_id": entry.upstream_id, "seq": entry.seq, "action": entry.action,
        }  # fmt: skip

    def _link(self, station_id: str) -> StationLink:
        if station_id not in self._links:
            raise CemError(f"there is no station {station_id}")
        return self._links[station_id]
