"""The HTTP API, version 1."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response

from cem.ports import Event
from cem.store import Session
from cem.web.snapshot import SnapshotCell

STALE_CYCLES = 3
"""The controller is unhealthy when its last completed cycle is older than this many cycles."""

Sessions = Callable[[int], Sequence[Session]]
Events = Callable[[int], Sequence[Event]]
Limit = Annotated[int, Query(ge=1, le=2000, description="At most this many, latest first.")]

_SESSION_KEYS = (
    "session_id", "station_id", "evse_id", "transaction_id", "open", "started_utc", "stopped_utc", "updated_utc",
    "energy_wh", "reason",
)  # fmt: skip
# Who charged stays in the ledger: this API has no login yet.


def health(cell: SnapshotCell, cycle_s: float) -> tuple[int, dict[str, Any]]:
    """HTTP status and body of ``/healthz``."""
    snapshot = cell.get()
    if snapshot is None:
        return 503, {"status": "starting", "cycle_age_s": None}
    age_s = snapshot.age_s()
    if age_s > STALE_CYCLES * cycle_s:
        return 503, {"status": "stalled", "cycle_age_s": round(age_s, 3)}
    return 200, {"status": "ok", "cycle_age_s": round(age_s, 3)}


def make_router(cell: SnapshotCell, cycle_s: float, sessions: Sessions, events: Events) -> APIRouter:
    """The routes; ``sessions`` and ``events`` are called in worker threads."""
    router = APIRouter()

    @router.get("/api/v1/site", tags=["site"], summary="The whole site now")
    async def get_site() -> Response:
        snapshot = cell.get()
        if snapshot is None:
            return _json({"detail": "the controller has not completed its first cycle yet"}, 503)
        return _json(snapshot.view)

    @router.get(
        "/api/v1/evses/{station}/{evse}/why", tags=["site"], summary="Every limit a charging point stands under"
    )
    def get_why(station: str, evse: str) -> Response:
        snapshot = cell.get()
        evse_id = f"{station}/{evse}"
        lines = None if snapshot is None else snapshot.explain(evse_id)
        if snapshot is None or lines is None:
            return _json({"detail": f"there is no EVSE {evse_id} at this site"}, 404)
        return _json({"evse": evse_id, **snapshot.view["evses"].get(evse_id, {}), "stack": lines})

    @router.get("/api/v1/stations", tags=["site"], summary="Charging stations, those that wait, and the upstreams")
    async def get_stations() -> Response:
        snapshot = cell.get()
        if snapshot is None:
            return _json({"detail": "the controller has not completed its first cycle yet"}, 503)
        return _json(snapshot.view["csms"])

    @router.get("/healthz", tags=["service"], summary="200 while control cycles are being completed, else 503")
    async def get_health() -> Response:
        status, body = health(cell, cycle_s)
        return _json(body, status)

    @router.get("/api/v1/sessions", tags=["records"], summary="Charging sessions, latest first")
    def get_sessions(limit: Limit = 100) -> Response:
        rows = ({key: value for key, value in asdict(s).items() if key in _SESSION_KEYS} for s in sessions(limit))
        return _json({"sessions": list(rows)})

    @router.get("/api/v1/events", tags=["records"], summary="What happened, latest first")
    def get_events(limit: Limit = 100) -> Response:
        keys = ("at_utc", "code", "subject", "text", "data")
        return _json({"events": [{key: getattr(event, key) for key in keys} for event in events(limit)]})

    @router.get("/api/{path:path}", include_in_schema=False)
    async def get_nothing(path: str) -> Response:
        return _json({"detail": f"/api/{path} does not exist; see /api/v1/openapi.json"}, 404)

    return router


def _json(body: object, status: int = 200) -> Response:
    return Response(
        orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
