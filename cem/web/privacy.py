"""``/api/v1/privacy``: forgetting a person, for whom the site file lets command (``web.allow_control``)."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from cem.errors import CemError
from cem.web.permission import permitted

ForgetToken = Callable[[str, bool, bool], Mapping[str, Any]]
"""Forgets a token (the token, keep it on the local list, signed values too); blocks for seconds, from any thread."""


class Asked(BaseModel):
    """Whom to forget; in the body, since addresses end up in logs."""

    model_config = ConfigDict(extra="forbid")

    tag: str = Field(min_length=1, max_length=255, description="The tag's number, as stations tell it.")
    keep_local_tag: bool = Field(False, description="Leave it on the list of cem tag.")
    signed_too: bool = Field(False, description="Delete signed values that name it as well.")


def make_privacy_router(forget: ForgetToken | None) -> APIRouter:
    """The route; ``forget`` is ``None`` where the site file does not allow it."""
    router = APIRouter()

    @router.post("/api/v1/privacy/forget", tags=["records"], summary="Forget a tag everywhere")
    def post_forget(request: Request, asked: Asked) -> dict[str, Any]:
        do = permitted(forget, request)
        try:
            return dict(do(asked.tag, asked.keep_local_tag, asked.signed_too))
        except (CemError, TimeoutError) as error:
            raise HTTPException(503, str(error) or "it took too long; ask again") from error

    return router
