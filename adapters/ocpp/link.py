"""One station's session with its sockets: carries out the session's actions, in order."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from adapters.ocpp.upstream import UpstreamLink
from cem.config.models import Upstream
from cem.csms.actions import (
    Action,
    CloseStation,
    CloseUpstream,
    Emit,
    News,
    OpenUpstream,
    Persist,
    Remember,
    SendDown,
    SendUp,
)
from cem.csms.moment import Now
from cem.csms.session import StationSession
from cem.errors import CemError
from cem.ports import StationStore

LOG = logging.getLogger(__name__)
SEND_TIMEOUT_S = 10.0
MOST_BATCHES = 2000
"""A station that takes nothing any more is dropped before its actions grow past this (I11)."""


def state_key(station_id: str, name: str) -> str:
    """Under which key the store keeps a session's state."""
    return f"csms/{station_id}/{name}"


class StationLink:
    """Runs one session.

    Args:
        session: Decides everything.
        upstream: The cloud, where there is one.
        store: Where records go.
        now: Reads both clocks.
        emit: Called with each thing to tell people.
        news: Wakes control.
        uplink_changed: Called with whether the uplink is up and, where it is down, why; with ``None`` when we closed it.
    """

    def __init__(
        self,
        session: StationSession,
        upstream: Upstream | None,
        store: StationStore,
        now: Callable[[], Now],
        emit: Callable[[Emit], None],
        news: Callable[[], None],
        uplink_changed: Callable[[bool | None, str], None],
    ) -> None:
        self.session = session
        self.socket: ServerConnection | None = None
        self.free = asyncio.Event()
        self.free.set()
        self._upstream = upstream
        self._store = store
        self._now = now
        self._emit = emit
        self._news = news
        self._uplink_changed = uplink_changed
        self._batches: deque[Sequence[Action]] = deque()
        self._wake = asyncio.Event()
        self._uplink: UpstreamLink | None = None
        self._uplink_task: asyncio.Task[None] | None = None
        self._store_failed = False

    def do(self, step: Callable[[Now], Sequence[Action]]) -> None:
        """Takes one step of the session; a fault in it costs this station's connection and no other's."""
        try:
            actions = step(self._now())
        except Exception:
            LOG.exception("%s: this message or moment could not be handled", self.session.station_id)
            actions = [CloseStation(1011, "internal error")]
        if actions:
            self._batches.append(actions)
            self._wake.set()
            if len(self._batches) > MOST_BATCHES and self.socket is not None:
                self.socket.transport.abort()

    def opened(self, socket: ServerConnection, subprotocol: str) -> None:
        """The station is connected."""
        self.socket = socket
        self.free.clear()
        self.do(lambda now: self.session.station_opened(subprotocol, now))

    def closed(self) -> None:
        """The station is gone; what was still to be sent to it is void."""
        self.socket = None
        self.free.set()
        self._forget(SendDown, CloseStation)
        self.do(self.session.station_closed)

    def _forget(self, *kinds: type) -> None:
        """Drops what waits for a connection that is gone; on the next one it would be out of place."""
        kept = [[action for action in batch if not isinstance(action, kinds)] for batch in self._batches]
        self._batches = deque(batch for batch in kept if batch)

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Carries out actions until cancelled; may be run again."""
        try:
            while True:
                while self._batches:
                    await self._carry_out(self._batches.popleft(), tasks)
                self._wake.clear()
                await self._wake.wait()
        finally:
            if self._uplink is not None:
                self._close_upstream()
                self._forget(SendUp)
                self.do(self.session.upstream_closed)

    async def _carry_out(self, batch: Sequence[Action], tasks: asyncio.TaskGroup) -> None:
        written = True
        for action in batch:
            match action:
                case SendDown(text) if written:
                    await self._send_down(text)
                case SendUp(text) if self._uplink is not None:  # the cloud's own record is as good as ours
                    await self._uplink.send(text)
                case Persist(records):
                    written = await self._persist(action) and written
                    if not written:
                        self.session.persist_failed()
                    del records
                case Remember(name, value):
                    self._remember(name, value)
                case CloseStation(code, reason) if self.socket is not None:
                    tasks.create_task(self._close(self.socket, code, reason))
                case OpenUpstream(subprotocol):
                    self._open_upstream(subprotocol, tasks)
                case CloseUpstream():
                    self._close_upstream()
                case Emit():
                    self._emit(action)
                case News():
                    self._news()
                case _:
                    pass  # nothing to send it on any more

    async def _send_down(self, text: str) -> None:
        socket = self.socket
        if socket is None:
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await socket.send(text)
        except ConnectionClosed:
            return
        except TimeoutError:
            socket.transport.abort()

    async def _persist(self, action: Persist) -> bool:
        try:
            await self._store.commit(action.records)
        except CemError as problem:
            if not self._store_failed:
                text = f"{self.session.station_id}: records cannot be written, so it is not answered: {problem}"
                self._emit(Emit("records_unwritable", text))
            self._store_failed = True
            return False
        self._store_failed = False
        return True

    def _remember(self, name: str, value: object) -> None:
        try:
            self._store.save_state(state_key(self.session.station_id, name), value)
        except (TypeError, ValueError):  # a cloud's number beyond what JSON may carry
            LOG.warning("%s: %s cannot be kept over a restart", self.session.station_id, name)

    @staticmethod
    async def _close(socket: ServerConnection, code: int, reason: str) -> None:
        with suppress(ConnectionClosed):
            await socket.close(code, reason)

    def _open_upstream(self, subprotocol: str, tasks: asyncio.TaskGroup) -> None:
        if self._upstream is None or (self._uplink is not None and self._uplink.subprotocol == subprotocol):
            return
        self._close_upstream()
        link = UpstreamLink(
            self._upstream,
            self.session.station_id,
            subprotocol,
            opened=self._upstream_opened,
            closed=self._upstream_closed,
            frame=lambda text: self.do(lambda now: self.session.upstream_frame(text, now)),
        )
        self._uplink = link
        self._uplink_task = tasks.create_task(link.run())

    def _upstream_opened(self) -> None:
        self._uplink_changed(True, "")
        self.do(self.session.upstream_opened)

    def _upstream_closed(self, reason: str) -> None:
        self._uplink_changed(False, reason)
        self._forget(SendUp)
        self.do(self.session.upstream_closed)

    def _close_upstream(self) -> None:
        if self._uplink_task is not None:
            self._uplink_task.cancel()
            self._uplink_changed(None, "")
        self._uplink = self._uplink_task = None
