"""Who may command over the API: whom the site file lets (``web.allow_control``), and no page of strangers.

The API has no login, so pages of other origins must not be able to send a command: only JSON is taken, which a foreign page
may not send unasked, a request that names its origin must come from the page's own, and the controller must be named
as no stranger can name it.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

T = TypeVar("T")
_LOCAL_ENDS = (".local", ".lan", ".internal", ".home.arpa")


def permitted(what: T | None, request: Request) -> T:
    """What a request asks for, where it may be asked for.

    Args:
        what: ``None`` where the site file does not allow it.
        request: Who asks.

    Raises:
        HTTPException: It may not.
    """
    if what is None:
        raise HTTPException(403, "the site file does not allow it: web.allow_control")
    problem = _foreign(request.headers)
    if problem is not None:
        raise HTTPException(403, problem)
    return what


def _foreign(headers: Mapping[str, str]) -> str | None:
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
