"""One station's session with its sockets: carries out the session's actions, in order.

What needs no disk goes out in the very step that brought it about; what follows a record waits in a queue for it.
"""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from adapters.ocpp.pulse import Pulse
from adapters.ocpp.upstream import UpstreamLink
from adapters.ocpp.wire import put
from cem.config.csms_models import Upstream
from cem.csms.actions import (
    Action,
    CloseStation,
    CloseUpstream,
    Emit,
    Forget,
    News,
    OpenUpstream,
    Persist,
    SendDown,
    SendUp,
    Sign,
)
from cem.csms.moment import Now
from cem.csms.records import Grant, Record
from cem.csms.session import StationSession
from cem.errors import CemError
from cem.ports import StationStore

LOG = logging.getLogger(__name__)
MOST_BATCHES = 2000
"""A station that takes nothing any more is dropped before its actions grow past this (I11)."""


REWRITE_S = 5.0
"""Records that could not be written are tried again this often."""
MOST_UNWRITTEN = 2000


@dataclass(frozen=True, slots=True)
class _Settled:
    """Everything before this is carried out."""

    reached: asyncio.Event


class StationLink:
    """Runs one session.

    Args:
        session: Decides everything.
        upstreams: The CSMSs above, by the name that actions call them.
        store: Where records go.
        now: Reads both clocks.
        emit: Called with each thing to tell people.
        news: Wakes control.
        uplink_changed: Called with the CSMS and whether the uplink is up and, where it is down, why; with ``None`` when
            we closed it.
        aside: Called with what is not this link's to carry out.
    """

    def __init__(
        self,
        session: StationSession,
        upstreams: Mapping[str, Upstream],
        store: StationStore,
        now: Callable[[], Now],
        emit: Callable[[Emit], None],
        news: Callable[[], None],
        uplink_changed: Callable[[str, bool | None, str], None],
        aside: Callable[[Forget | Sign], None],
    ) -> None:
        self.session = session
        self.socket: ServerConnection | None = None
        self.free = asyncio.Event()
        self.free.set()
        self.upstream_tls: Mapping[str, ssl.SSLContext | None] = {}
        self.pulse: Pulse | None = None
        self.restless: dict[StationLink, None] = {}
        """All links that something has happened to, so that time may soon change what is to be done; shared by them."""
        self._upstreams = upstreams
        self._store = store
        self._now = now
        self._emit = emit
        self._news = news
        self._uplink_changed = uplink_changed
        self._aside = aside
        self._batches: deque[Sequence[Action | _Settled]] = deque()
        self._wake = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._waits = False
        self._uplinks: dict[str, tuple[UpstreamLink, asyncio.Task[None]]] = {}
        self._unwritten: list[Record] = []
        self._rewrite_s = 0.0

    def do(self, step: Callable[[Now], Sequence[Action]]) -> None:
        """Takes one step of the session; a fault in it costs this station's connection and no other's."""
        self.restless[self] = None
        self._take(step)

    def tick(self) -> None:
        """Time has passed."""
        self.rewrite()
        self._take(self.session.tick)

    @property
    def waits(self) -> bool:
        """Whether time may soon change what is to be done."""
        return bool(self._unwritten) or self.session.waits

    def _take(self, step: Callable[[Now], Sequence[Action]]) -> None:
        try:
            actions = step(self._now())
        except Exception:
            LOG.exception("%s: this message or moment could not be handled", self.session.station_id)
            actions = [CloseStation(1011, "internal error")]
        if not actions:
            return
        done = 0
        if self._tasks is not None and not self._waits and not self._batches:
            while done < len(actions) and self._at_once(actions[done], self._tasks):
                done += 1
        if done < len(actions):
            self._batches.append(actions[done:])
            self._wake.set()
            if len(self._batches) > MOST_BATCHES and self.socket is not None:
                self.socket.transport.abort()

    def frame(self, text: str) -> None:
        """A text of the station."""
        self.do(lambda now: self.session.station_frame(text, now))

    def opened(self, socket: ServerConnection, subprotocol: str) -> None:
        """The station is connected."""
        self.socket = socket
        self.free.clear()
        self.do(lambda now: self.session.station_opened(subprotocol, now))

    def closed(self) -> None:
        """The station is gone; what was still to be sent to it is void."""
        self.socket = None
        self.free.set()
        self._forget(lambda action: isinstance(action, SendDown | CloseStation))
        self.do(self.session.station_closed)

    def _forget(self, void: Callable[[object], bool]) -> None:
        """Drops what waits for a connection that is gone; on the next one it would be out of place."""
        kept = [[action for action in batch if not void(action)] for batch in self._batches]
        self._batches = deque(batch for batch in kept if batch)

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Carries out what must wait for the disk, and what comes after it, until cancelled; may be run again."""
        self._tasks = tasks
        try:
            while True:
                while self._batches:
                    self._waits = True
                    await self._carry_out(self._batches.popleft(), tasks)
                self._waits = False
                self._wake.clear()
                await self._wake.wait()
        finally:
            for name in list(self._uplinks):
                self._close_upstream(name)
                self._lost_upstream(name)
            self._tasks, self._waits = None, False

    async def settled(self) -> None:
        """Returns once everything the session has decided so far is carried out."""
        reached = asyncio.Event()
        self._batches.append([_Settled(reached)])
        self._wake.set()
        await reached.wait()

    async def _carry_out(self, batch: Sequence[Action | _Settled], tasks: asyncio.TaskGroup) -> None:
        written = True
        for action in batch:
            if isinstance(action, _Settled):
                action.reached.set()
            elif isinstance(action, Persist):
                written = await self._persist(action.records) and written
            elif isinstance(action, SendDown | SendUp) and action.durable:
                if written and await self._all_written():
                    self._send(action)
                elif isinstance(action, SendUp):
                    self.do(partial(self.session.held_here, action.upstream, action.text))
            else:
                self._at_once(action, tasks)

    def _at_once(self, action: Action, tasks: asyncio.TaskGroup) -> bool:
        """Carries out an action that waits for nothing; ``False`` where it must wait for the disk (I5)."""
        if isinstance(action, (SendDown, SendUp)):  # nearly always; ``|`` would make a type each time
            if action.durable and self._unwritten:
                return False
            self._send(action)
            return True
        match action:
            case Persist():
                return False
            case CloseStation(code, reason) if self.socket is not None:
                tasks.create_task(self._close(self.socket, code, reason))
            case OpenUpstream(subprotocol, upstream):
                self._open_upstream(upstream, subprotocol, tasks)
            case CloseUpstream(upstream):
                self._close_upstream(upstream)
            case Emit():
                self._emit(action)
            case Forget() | Sign():
                self._aside(action)
            case News():
                self._news()
            case _:
                pass  # nothing to send it on any more
        return True

    def _send(self, action: SendDown | SendUp) -> None:
        if isinstance(action, SendDown):
            if self.socket is not None:
                put(self.socket, action.text)
        elif action.upstream in self._uplinks:
            self._uplinks[action.upstream][0].send(action.text)

    async def _persist(self, records: Sequence[Record]) -> bool:
        """Writes what could not be written before, then this; the order of records is kept whatever happens."""
        failed_before = bool(self._unwritten)
        together = (*self._unwritten, *records)
        self._unwritten.clear()
        self._rewrite_s = self._now().s + REWRITE_S
        try:
            await self._store.commit(together)
        except CemError as problem:
            # Grants are sent again by themselves, and an old one would claim too much.
            self._unwritten = [record for record in together if not isinstance(record, Grant)]
            self.session.persist_failed()
            if not failed_before:
                text = f"{self.session.station_id}: records cannot be written, so it is not answered: {problem}"
                self._emit(Emit("records_unwritable", text))
            if len(self._unwritten) > MOST_UNWRITTEN and self.socket is not None:
                self.socket.transport.abort()  # it keeps what is not acknowledged; we cannot (I11)
            return False
        return True

    async def _all_written(self) -> bool:
        """Whether every record so far is on disk."""
        return not self._unwritten or await self._persist(())

    def rewrite(self) -> None:
        """Has what could not be written tried again, now and then."""
        if self._unwritten and self._now().s >= self._rewrite_s:
            self._batches.append([Persist(())])
            self._wake.set()

    @staticmethod
    async def _close(socket: ServerConnection, code: int, reason: str) -> None:
        with suppress(ConnectionClosed):
            await socket.close(code, reason)

    def _open_upstream(self, name: str, subprotocol: str, tasks: asyncio.TaskGroup) -> None:
        upstream = self._upstreams.get(name)
        known = self._uplinks.get(name)
        if upstream is None or (known is not None and known[0].subprotocol == subprotocol):
            return
        self._close_upstream(name)
        link = UpstreamLink(
            upstream,
            self.session.station_id,
            subprotocol,
            tls=self.upstream_tls.get(name),
            opened=lambda: self._upstream_opened(name),
            closed=lambda reason, unspoken: self._upstream_closed(name, reason, unspoken),
            frame=lambda text: self.do(lambda now: self.session.upstream_frame(text, now, name)),
            pulse=self.pulse,
        )
        self._uplinks[name] = link, tasks.create_task(link.run())

    def _upstream_opened(self, name: str) -> None:
        self._uplink_changed(name, True, "")
        self.do(lambda now: self.session.upstream_opened(now, name))

    def _upstream_closed(self, name: str, reason: str, unspoken: bool) -> None:
        self._uplink_changed(name, False, reason)
        self._lost_upstream(name, unspoken=unspoken)

    def _lost_upstream(self, name: str, *, unspoken: bool = False) -> None:
        self._forget(lambda action: isinstance(action, SendUp) and action.upstream == name)
        self.do(lambda now: self.session.upstream_closed(now, name, refused_version=unspoken))

    def _close_upstream(self, name: str) -> None:
        if name in self._uplinks:
            _, task = self._uplinks.pop(name)
            task.cancel()
            self._uplink_changed(name, None, "")
