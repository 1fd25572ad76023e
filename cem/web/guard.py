"""What every request passes: known paths only, a bound on viewers, headers that keep the page to itself."""

from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PREFIXES = ("/api/", "/_nicegui/", "/_nicegui_ws/")
_QUEUE = frozenset({"/api/v1/queue/retry", "/api/v1/queue/aside", "/api/v1/queue/export"})
_ASKED = _QUEUE | {"/api/v1/privacy/forget"}
_PATHS = frozenset({"/", "/healthz", "/favicon.ico"})

_HEADERS = {
    # The page's framework evaluates its own templates; nothing may come from another host.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Guard:
    """ASGI middleware in front of the API and the pages.

    Args:
        app: What follows.
        has_room: Whether one more viewer of the page may come.
    """

    def __init__(self, app: ASGIApp, has_room: Callable[[], bool]) -> None:
        self._app = app
        self._has_room = has_room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, refuse or pass on one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        if path not in _PATHS and not path.startswith(_PREFIXES):
            await JSONResponse({"detail": "not found"}, 404)(scope, receive, send)
            return
        reads = scope["method"] in {"GET", "HEAD"}
        wish = path.startswith("/api/v1/evses/") and path.endswith("/wish")
        commands = path.startswith("/api/v1/stations/") and path.endswith(("/rotate-credentials", "/migrate"))
        asks = scope["method"] == "POST" and (wish or commands or path in _ASKED)
        if not reads and not asks and not path.startswith("/_nicegui_ws/"):
            await JSONResponse({"detail": "this address only reads"}, 405, {"Allow": "GET, HEAD"})(scope, receive, send)
            return
        if path == "/" and not self._has_room():
            text = "Too many people are looking at this page right now; please try again in a minute.\n"
            await PlainTextResponse(text, 503, {"Retry-After": "60"})(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
