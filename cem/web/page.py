"""The live page at ``/``: one picture of the site, drawn anew each second for those who look at it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from pathlib import Path

from fastapi import FastAPI
from nicegui import Client, ui

from cem.web import html
from cem.web.api import Events, health
from cem.web.snapshot import SnapshotCell

MAX_VIEWERS = 50
MAX_OPENING = 100
"""Pages that were asked for but not opened in a browser are forgotten within a minute; until then they count here."""

REFRESH_S = 1.0
EVENTS_SHOWN = 8

_CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")


class PageData:
    """What the page shows and where it gets it; drawn once for all viewers."""

    def __init__(self, cell: SnapshotCell, site_name: str, cycle_s: float, events: Events) -> None:
        self.site_name = site_name
        self._cell = cell
        self._cycle_s = cycle_s
        self._events = events
        self._drawn_from: tuple[object, ...] = ()
        self._drawn: dict[str, str] = {}

    def draw(self) -> dict[str, str]:
        """Every section as HTML; the same object as long as nothing changed."""
        snapshot = self._cell.get()
        _, state = health(self._cell, self._cycle_s)
        events = tuple(self._events(EVENTS_SHOWN))
        drawn_from = (None if snapshot is None else snapshot.at_s, state["status"], events)
        if drawn_from != self._drawn_from:
            self._drawn = html.draw(self.site_name, None if snapshot is None else snapshot.view, state, events)
            self._drawn_from = drawn_from
        return self._drawn


_current: PageData | None = None
# The page framework keeps one application a process, so there is one page to fill.


def has_room() -> bool:
    """Whether one more viewer may come (FAULTS L15: pages are bounded)."""
    clients = Client.instances.values()
    viewers = sum(1 for client in clients if client.has_socket_connection)
    return viewers < MAX_VIEWERS and len(clients) < MAX_OPENING


def serve_page(data: PageData) -> tuple[FastAPI, Callable[[], AbstractAsyncContextManager[None]]]:
    """The application that serves the page of this site, and its lifespan to enter while serving."""
    global _current  # noqa: PLW0603 - see above
    _current = data
    app = _page_app()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with app.router.lifespan_context(app):
            yield
            for client in list(Client.instances.values()):
                client.delete()

    return app, lifespan


@cache
def _page_app() -> FastAPI:
    app = FastAPI(openapi_url=None)
    ui.page("/")(_build)
    ui.run_with(app, dark=None, show_welcome_message=False, tailwind=False, binding_refresh_interval=None)
    return app


def _build() -> None:
    """Draw the page for one viewer; the timer lives and dies with the viewer's connection."""
    data = _current
    if data is None:  # pragma: no cover - the application is only reached through serve_page
        return
    ui.page_title(data.site_name)
    ui.add_css(_CSS)
    sections = {name: ui.html("", sanitize=False).classes(f"part part-{name}") for name in html.SECTIONS}

    def refresh() -> None:
        drawn = data.draw()
        for name, section in sections.items():
            if section.content != drawn[name]:  # only what changed travels
                section.set_content(drawn[name])

    refresh()
    ui.timer(REFRESH_S, refresh)
