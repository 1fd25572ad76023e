"""``/api/v1/queue``: what upstream CSMSs have not heard yet.

Anybody may read what waits, but not the messages themselves, which name who charges: those, and what changes the queue,
are for whom the site file lets command (``web.allow_control``), as wishes are.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol, TypeVar

import orjson
from fastapi import APIRouter, HTTPException, Query, Request, Response

from cem.errors import CemError
from cem.ports import JournalEntry
from cem.web.permission import permitted
from cem.web.snapshot import SnapshotCell

MOST = 500_000
_KEYS = (
    "station_id", "upstream_id", "seq", "action", "kind", "ocpp_version", "at_utc", "state", "message_id",
)  # fmt: skip


class ReadQueue(Protocol):
    """Reads the ledger's queue; thread-safe, may read a file."""

    def __call__(self, limit: int, *, station_id: str | None = None) -> tuple[JournalEntry, ...]: ...


def no_queue(limit: int, *, station_id: str | None = None) -> tuple[JournalEntry, ...]:  # noqa: ARG001 - a queue of nothing
    """Where there is no ledger."""
    return ()


Limit = Annotated[int, Query(ge=1, le=MOST, description="At most this many, each queue in its order.")]
Station = Annotated[str | None, Query(max_length=48, description="Only this station's.")]
OneStation = Annotated[str, Query(max_length=48, description="Whose.")]
Upstream = Annotated[str | None, Query(max_length=100, description="For which CSMS; left out: for any.")]
Seq = Annotated[int | None, Query(description="Which one; left out: the first that waits.")]
Place = tuple[str, str, int]
T = TypeVar("T")


class QueueCommands(Protocol):
    """Changes what is told to a CSMS next; waits until it is done, from any thread."""

    def retry(self, station_id: str | None) -> int: ...
    def set_aside(self, station_id: str, upstream_id: str | None, seq: int | None) -> Mapping[str, Any]: ...


def make_queue_router(read: ReadQueue, commands: QueueCommands | None, view: SnapshotCell) -> APIRouter:
    """The routes.

    Args:
        read: The queue.
        commands: ``None`` where the site file does not allow them.
        view: Tells what keeps the first message of each queue.
    """
    router = APIRouter()

    @router.get("/api/v1/queue", tags=["records"], summary="What upstream CSMSs have not heard yet")
    def get_queue(limit: Limit = 200, station: Station = None) -> Response:
        rows = read(limit + 1, station_id=station)
        whys = _kept_up(view)
        return _json({"queue": [_row(entry, whys) for entry in rows[:limit]], "more": len(rows) > limit})

    @router.post("/api/v1/queue/export", tags=["records"], summary="The waiting messages themselves")
    def post_export(request: Request, limit: Limit = MOST, station: Station = None) -> Response:
        permitted(commands, request)
        whys = _kept_up(view)
        rows = read(limit, station_id=station)
        return _json({"queue": [{**_row(e, whys), "transaction_id": e.local_id, "text": e.text} for e in rows]})

    @router.post("/api/v1/queue/retry", tags=["records"], summary="Another try for what was set aside")
    def post_retry(request: Request, station: Station = None) -> dict[str, Any]:
        allowed = permitted(commands, request)
        return {"count": _done(lambda: allowed.retry(station))}

    @router.post("/api/v1/queue/aside", tags=["records"], summary="Take a message out of the way of what follows")
    def post_aside(request: Request, station: OneStation, upstream: Upstream = None, seq: Seq = None) -> dict[str, Any]:
        allowed = permitted(commands, request)
        return dict(_done(lambda: allowed.set_aside(station, upstream, seq)))

    return router


def _done(what: Callable[[], T]) -> T:
    try:
        return what()
    except (CemError, TimeoutError) as error:
        raise HTTPException(409, str(error) or "it took too long") from error


def _kept_up(view: SnapshotCell) -> dict[Place, str]:
    """Why the first message of a queue is still there, where that is known."""
    snapshot = view.get()
    stations = [] if snapshot is None else snapshot.view.get("csms", {}).get("stations", [])
    queues = [(station["id"], queue) for station in stations for queue in station.get("queues", ())]
    return {
        (station_id, queue["upstream"], queue["first"]["seq"]): queue["first"]["why"]
        for station_id, queue in queues
        if queue.get("first")
    }


def _row(entry: JournalEntry, whys: Mapping[Place, str]) -> dict[str, Any]:
    row = {key: getattr(entry, key) for key in _KEYS}
    return {**row, "why": entry.why or whys.get((entry.station_id, entry.upstream_id, entry.seq), "")}


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json", headers={"Cache-Control": "no-store"})
