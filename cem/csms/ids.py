"""Under which id an upstream CSMS knows each transaction of a station (OCPP 1.6, where only the CSMS gives ids).

A transaction that began while the CSMS was away has a provisional id of ours, which the station keeps for ever; once
the CSMS has answered the start, ids are mapped in both directions for the life of the transaction.
"""

from collections import OrderedDict
from collections.abc import Container, Sequence

from cem.csms.actions import Action, Persist
from cem.csms.records import IdMap

ROOM = 500


class Ids:
    """The mapping of one station towards one CSMS.

    Args:
        station_id: Identity.
        upstream_id: The CSMS.
        running: Transactions in progress by the station's ids; their mapping is never forgotten.
        out: Where actions go.
    """

    def __init__(self, station_id: str, upstream_id: str, running: Container[str], out: list[Action]) -> None:
        self._station_id = station_id
        self._upstream_id = upstream_id
        self._running = running
        self._out = out
        self._to_cloud: OrderedDict[str, str] = OrderedDict()

    def restore(self, maps: Sequence[IdMap]) -> None:
        """Takes over what was on disk, oldest first."""
        for item in maps:
            if item.upstream_id == self._upstream_id and item.cloud_id is not None:
                self._to_cloud[item.local_id] = item.cloud_id

    def map(self, local_id: str, cloud_id: str, start_key: str = "") -> None:
        """The CSMS answered a start with this id; it is on disk before anything else is sent."""
        self._to_cloud[local_id] = cloud_id
        records = [IdMap(self._station_id, self._upstream_id, local_id, cloud_id, start_key)]
        if len(self._to_cloud) > ROOM:
            over = next((known for known in self._to_cloud if known not in self._running), None)
            if over is not None:
                del self._to_cloud[over]
                records.append(IdMap(self._station_id, self._upstream_id, over, None))
        self._out.append(Persist(tuple(records)))

    def knows(self, local_id: str) -> bool:
        """Whether the CSMS has answered this transaction's start."""
        return local_id in self._to_cloud

    def cloud_id(self, local_id: str) -> str:
        """What the CSMS calls it; the same where it was never mapped."""
        return self._to_cloud.get(local_id, local_id)

    def local_id(self, cloud_id: str) -> str:
        """What the station calls it; the newest mapping counts."""
        for local, cloud in reversed(self._to_cloud.items()):
            if cloud == cloud_id:
                return local
        return cloud_id
