"""``/api/v1/stations/...``: the operator's own commands to stations, for whom the site file lets command."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from cem.errors import CemError
from cem.web.permission import permitted


class StationCommands(Protocol):
    """Commands a station and waits for what comes of it; blocks for up to minutes, from any thread."""

    def rotate(self, station_id: str) -> Mapping[str, Any]: ...
    def migrate(self, station_id: str, asked: Mapping[str, Any]) -> Mapping[str, Any]: ...


class Migration(BaseModel):
    """Where a station is to dial."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(pattern=r"^wss?://", max_length=512, description="Of the CSMS, without the station's identity.")
    key: str | None = Field(
        None, max_length=50, description="OCPP 1.6: the vendor's configuration key for the address."
    )
    slot: int = Field(2, ge=0, le=1000, description="OCPP 2.x: slot of the network profile; not the one in use.")
    security_profile: int = Field(2, ge=0, le=3, description="OCPP 2.x: security profile of the connection there.")


def make_stations_router(commands: StationCommands | None) -> APIRouter:
    """The routes; ``commands`` is ``None`` where the site file does not allow them."""
    router = APIRouter()

    def _do(request: Request, what: Callable[[StationCommands], Mapping[str, Any]]) -> dict[str, Any]:
        allowed = permitted(commands, request)
        try:
            return dict(what(allowed))
        except (CemError, TimeoutError) as error:
            raise HTTPException(409, str(error) or "it took too long") from error

    @router.post(
        "/api/v1/stations/{station}/rotate-credentials", tags=["site"], summary="Give a station a new password"
    )
    def post_rotate(request: Request, station: str) -> dict[str, Any]:
        return _do(request, lambda stations: stations.rotate(station))

    @router.post("/api/v1/stations/{station}/migrate", tags=["site"], summary="Point a station to another CSMS")
    def post_migrate(request: Request, station: str, asked: Migration) -> dict[str, Any]:
        return _do(request, lambda stations: stations.migrate(station, asked.model_dump()))

    return router
