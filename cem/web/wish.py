"""``POST /api/v1/evses/{station}/{evse}/wish``: a mode, a target, a time.

The API has no login, so pages of other origins must not be able to send one: only JSON is taken, which a foreign page
may not send unasked, a request that names its origin must come from the page's own, and the controller must be named
as no stranger can name it.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from cem.core.site import Mode
from cem.core.wish import Wish

HandIn = Callable[[str, Wish], bool]
"""Takes a wish for an EVSE; ``False`` where it cannot be taken now. Thread-safe, never blocks."""

MOST_BYTES = 4096

_LOCAL_ENDS = (".local", ".lan", ".internal", ".home.arpa")


class WishBody(BaseModel):
    """What is wished. The whole wish is replaced; what is left out is no longer wished."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["fast", "min_surplus", "surplus", "off"] | None = None
    target_kwh: Annotated[float, Field(gt=0, le=1000)] | None = None
    soc_percent: Annotated[float, Field(ge=0, le=100)] | None = None
    target_soc_percent: Annotated[float, Field(gt=0, le=100)] | None = None
    battery_kwh: Annotated[float, Field(gt=0, le=1000)] | None = None
    departure: AwareDatetime | None = None

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
        return Wish(None if self.mode is None else Mode(self.mode), target_wh, departure)


def foreign(headers: Mapping[str, str]) -> str | None:
    """Why a request may have been sent by somebody else's page; ``None`` where it was not."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return "send JSON with Content-Type: application/json"
    if not _here(headers.get("host", "")):
        return "name the controller by its address, not by a public name"
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return "sent from a page of another origin"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return "sent from a page of another origin"
    return None


def _here(host: str) -> bool:
    """A name that no stranger can point at this machine (DNS rebinding): an address, or one of the local network."""
    name = (urlsplit(f"//{host}").hostname or "").lower()
    try:
        ip_address(name)
    except ValueError:
        return bool(name) and ("." not in name or name.endswith(_LOCAL_ENDS))
    return True


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
        summary="Wish a mode, a target and a departure for a charging point",
        openapi_extra={
            "requestBody": {"content": {"application/json": {"schema": WishBody.model_json_schema()}}, "required": True}
        },
    )
    async def post_wish(station: str, evse: str, request: Request) -> dict[str, Any]:
        if hand_in is None:
            raise HTTPException(403, "the site file does not allow it: web.allow_control")
        problem = foreign(request.headers)
        if problem is not None:
            raise HTTPException(403, problem)
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
        if not hand_in(evse_id, wish):
            raise HTTPException(503, "too many wishes wait for the next cycle; try again in a second")
        return {"evse": evse_id, "accepted": True}

    return router
