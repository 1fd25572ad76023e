"""The web part's own thread and event loop, with an embedded HTTP server."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Sequence

import uvicorn
from fastapi import APIRouter, FastAPI

from cem.errors import CemError
from cem.ports import Event
from cem.store import Session
from cem.web.api import Events, Sessions, make_router
from cem.web.guard import Guard
from cem.web.page import PageData, has_room, serve_page
from cem.web.privacy import ForgetToken, make_privacy_router
from cem.web.queue import QueueCommands, ReadQueue, make_queue_router, no_queue
from cem.web.snapshot import SnapshotCell
from cem.web.stations import StationCommands, make_stations_router
from cem.web.wish import HandIn, make_wish_router

log = logging.getLogger(__name__)

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 300


def _no_sessions(_limit: int) -> Sequence[Session]:
    return ()


def _no_events(_limit: int) -> Sequence[Event]:
    return ()


class WebServer:
    """API and live page of one site; one at a time in a process.

    Attributes:
        port: The bound port, also where 0 was asked for; known after ``start``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        view: SnapshotCell,
        *,
        site_name: str = "Site",
        cycle_s: float = 1.0,
        sessions: Sessions = _no_sessions,
        events: Events = _no_events,
        version: str = "",
        wish: HandIn | None = None,
        queue: ReadQueue = no_queue,
        queue_commands: QueueCommands | None = None,
        forget: ForgetToken | None = None,
        commands: StationCommands | None = None,
    ) -> None:
        """Prepare; nothing is bound before ``start``.

        Args:
            host: The only address to listen at.
            port: 0 takes a free one.
            view: Where control puts its pictures.
            site_name: For people.
            cycle_s: The control cycle, for the health check.
            sessions: Latest sessions, at most so many; thread-safe, may read a file.
            events: Latest events, at most so many; thread-safe, quick.
            version: Of the product.
            wish: Takes wishes for EVSEs; ``None``: nobody may wish anything here.
            queue: What upstream CSMSs have not heard.
            forget: Forgets a token, from any thread; ``None``: nobody may ask for that here.
            commands: Re-credentials and re-points stations; ``None``: nobody may ask for that here.
            queue_commands: Changes what is told to them; ``None``: nobody may ask for that here.
        """
        self.port = port
        self._host = host
        self._data = PageData(view, site_name, cycle_s, events)
        routers = (
            make_wish_router(wish, view.knows),
            make_queue_router(queue, queue_commands, view),
            make_privacy_router(forget),
            make_stations_router(commands),
            make_router(view, cycle_s, sessions, events),
        )
        self._app = self._make_app(routers, version)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def _make_app(self, routers: Sequence[APIRouter], version: str) -> FastAPI:
        page_app, page_lifespan = serve_page(self._data)

        @contextlib.asynccontextmanager
        async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
            async with page_lifespan():
                yield

        app = FastAPI(
            title="Site controller",
            summary="Limits, zones, charging points and sessions of one site",
            version=version or "0",
            docs_url=None,  # the stock documentation page loads its scripts from another host
            redoc_url=None,
            openapi_url="/api/v1/openapi.json",
            lifespan=lifespan,
        )
        for router in routers:
            app.include_router(router)
        app.mount("/", page_app)
        app.add_middleware(Guard, has_room=has_room)
        return app

    @property
    def url(self) -> str:
        """Where a browser on this machine or network finds the page."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/"

    @property
    def alive(self) -> bool:
        """The server's thread is running."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Bind and serve; blocks until the first request can be answered.

        Raises:
            CemError: The address cannot be had, or the server did not come up.
        """
        listener = self._bind()
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            loop="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=1,
            ws_max_size=64 * 1024,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, args=(self._server, listener), name="web", daemon=True)
        self._thread.start()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline_s:
                self.stop()
                raise CemError(f"web: the server at {self.url} did not come up; see the log above")
            time.sleep(0.01)

    def _bind(self) -> socket.socket:
        try:
            family, _, _, _, address = socket.getaddrinfo(self._host, self.port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[:2], family=family, backlog=128)
        except OSError as error:
            raise CemError(
                f"web: cannot listen at {self._host}:{self.port} ({error.strerror or error}); is another program using "
                "the port, or is web.host not an address of this machine?"
            ) from error

    def _run(self, server: uvicorn.Server, listener: socket.socket) -> None:
        try:
            # Not the main thread: the server leaves the process's signals alone.
            asyncio.run(_serve(server, listener))
        except (Exception, SystemExit):
            log.exception("web: the server stopped; control goes on without API and pages")
        finally:
            listener.close()

    def stop(self) -> None:
        """End live pages and free the port; may be called twice."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive():
            log.warning("web: the server did not stop within %.0f s", STOP_TIMEOUT_S)
        self._server = None


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    await server.serve(sockets=[listener])
    for connection in list(server.server_state.connections):  # viewers who were cut off in the middle of something
        transport = getattr(connection, "transport", None)
        if transport is not None:
            transport.abort()
    await asyncio.sleep(0.05)  # an aborted connection is closed in the loop's next rounds
