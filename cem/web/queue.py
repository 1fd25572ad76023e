"""``/api/v1/queue``: what upstream CSMSs have not heard yet.

Anybody may read what waits, but not the messages themselves, which name who charges: those, and another try for what
was refused, are for whom the site file lets command (``web.allow_control``), as wishes are.
"""

from collections.abc import Callable
from typing import Annotated, Any, Protocol

import orjson
from fastapi import APIRouter, Query, Request, Response

from cem.ports import JournalEntry
from cem.web.permission import permitted

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


def make_queue_router(read: ReadQueue, retry: Callable[[], object] | None) -> APIRouter:
    """The routes.

    Args:
        read: The queue.
        retry: Has what was refused tried again, from any thread; ``None`` where the site file does not allow it.
    """
    router = APIRouter()

    @router.get("/api/v1/queue", tags=["records"], summary="What upstream CSMSs have not heard yet")
    def get_queue(limit: Limit = 200, station: Station = None) -> Response:
        rows = read(limit + 1, station_id=station)
        return _json({"queue": [_row(entry) for entry in rows[:limit]], "more": len(rows) > limit})

    @router.post("/api/v1/queue/export", tags=["records"], summary="The waiting messages themselves")
    def post_export(request: Request, limit: Limit = MOST, station: Station = None) -> Response:
        permitted(retry, request)
        rows = read(limit, station_id=station)
        return _json({"queue": [{**_row(e), "transaction_id": e.local_id, "text": e.text} for e in rows]})

    @router.post(
        "/api/v1/queue/retry", status_code=202, tags=["records"], summary="Another try for what a CSMS has refused"
    )
    def post_retry(request: Request) -> dict[str, Any]:
        permitted(retry, request)()
        return {"accepted": True}

    return router


def _row(entry: JournalEntry) -> dict[str, Any]:
    return {key: getattr(entry, key) for key in _KEYS}


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json", headers={"Cache-Control": "no-store"})
