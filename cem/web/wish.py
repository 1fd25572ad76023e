"""``POST /api/v1/evses/{station}/{evse}/wish``: a mode, a target, a time, a limit."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from cem.core.site import Mode
from cem.core.wish import Wish
from cem.web.permission import permitted

HandIn = Callable[[str, Wish], bool]
"""Takes a wish for an EVSE; ``False`` where it cannot be taken now. Thread-safe, never blocks."""

MOST_BYTES = 4096


class WishBody(BaseModel):
    """What is wished. The whole wish is replaced; what is left out is no longer wished."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["fast", "min_surplus", "surplus", "off"] | None = None
    target_kwh: Annotated[float, Field(gt=0, le=1000)] | None = None
    soc_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    target_soc_percent: Annotated[float, Field(gt=0, le=100)] | None = None
    battery_kwh: Annotated[float, Field(gt=0, le=1000)] | None = None
    departure: AwareDatetime | None = None
    limit_a: Annotated[float, Field(ge=6, le=1000)] | None = None

    def wish(self) -> Wish:
        """As control wants it.

        Raises:
            ValueError: Keys that do not go together.
        """
        target_wh = None if self.target_kwh is None else self.target_kwh * 1000
        if self.target_soc_percent is not None:
            if target_wh is not None:
                raise ValueError("give target_kwh or target_soc_percent, not both")
            if self.soc_percent is None or self.battery_kwh is None:
                raise ValueError("target_soc_percent needs soc_percent (the charge now) and battery_kwh")
            share = (self.target_soc_percent - self.soc_percent) / 100
            target_wh = max(0.0, share * self.battery_kwh * 1000) or None
        if self.departure is not None and target_wh is None:
            raise ValueError("a departure needs target_kwh or target_soc_percent: what is wanted by then")
        departure = None if self.departure is None else self.departure.astimezone(UTC)
        if departure is not None and departure <= datetime.now(UTC):
            raise ValueError("the departure is in the past")
        mode = None if self.mode is None else Mode(self.mode)
        return Wish(mode, target_wh, departure, limit_a=self.limit_a)


def make_wish_router(hand_in: HandIn | None, known: Callable[[str], bool]) -> APIRouter:
    """The route.

    Args:
        hand_in: ``None`` where the site file does not allow it.
        known: Whether there is such an EVSE.
    """
    router = APIRouter()

    @router.post(
        "/api/v1/evses/{station}/{evse}/wish",
        status_code=202,
        tags=["site"],
        summary="Wish a mode, a target, a departure and a limit for a charging point",
        openapi_extra={
            "requestBody": {"content": {"application/json": {"schema": WishBody.model_json_schema()}}, "required": True}
        },
    )
    async def post_wish(station: str, evse: str, request: Request) -> dict[str, Any]:
        take = permitted(hand_in, request)
        evse_id = f"{station}/{evse}"
        if not known(evse_id):
            raise HTTPException(404, f"there is no EVSE {evse_id} at this site")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                raise HTTPException(413, f"a wish has at most {MOST_BYTES} bytes")
        try:
            wish = WishBody.model_validate_json(body).wish()
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
            raise HTTPException(422, told) from error
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        if not take(evse_id, wish):
            raise HTTPException(503, "too many wishes wait for the next cycle; try again in a second")
        return {"evse": evse_id, "accepted": True}

    return router
