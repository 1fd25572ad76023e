"""A station's connection to its CSMS: dialling, calls one at a time, and what waits while there is no connection."""

import asyncio
import base64
import json
import random
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

CALL_TIMEOUT_S = 30.0
ATTEMPTS = 3
MOST_QUEUED = 2000


class Refused(Exception):
    """The peer answered a call with CALLERROR, or we answer one with it."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


@dataclass(slots=True)
class Outgoing:
    """A call waiting to be sent.

    Attributes:
        action: Its name.
        payload: Made when it is sent; ``None`` then drops the call.
        keep: It outlives a lost connection (transaction messages).
        sample: May be dropped where too many wait.
        on_answer: Hears the answer.
        attempts: How often it failed.
    """

    action: str
    payload: Callable[[], dict[str, Any] | None]
    keep: bool = False
    sample: bool = False
    on_answer: Callable[[dict[str, Any]], None] | None = None
    attempts: int = 0


class Line(Protocol):
    """A station's way to its CSMS, as the station uses it."""

    online: bool
    heartbeat_s: float

    @property
    def waiting(self) -> int: ...
    def post(
        self,
        action: str,
        payload: Callable[[], dict[str, Any] | None],
        *,
        keep: bool = False,
        sample: bool = False,
        on_answer: Callable[[dict[str, Any]], None] | None = None,
    ) -> None: ...
    def later(self, what: Callable[..., object], *arguments: object) -> None: ...
    def send_boot(self) -> None: ...
    def power_cycle(self) -> None: ...
    def cut(self) -> None: ...
    def restore(self) -> None: ...
    async def run(self) -> None: ...


class StationLink:
    """Keeps one connection up by itself.

    Attributes:
        online: Connected, and accepted by the CSMS.
        heartbeat_s: As the CSMS said in its answer to the boot.

    Args:
        url: The CSMS's address, the station's identity included.
        subprotocol: ``ocpp1.6`` or ``ocpp2.0.1``.
        boot: Payload of the BootNotification.
        handle: Answers a call from the CSMS; ``None``: never; raises ``Refused`` to answer with CALLERROR.
        changed: Called when ``online`` changed.
        password: For HTTP Basic.
        pause_s: Before it dials again, from and to.
        pipelines: Calls go out without waiting for the answer to the one before.
        boots_once: It boots but once in its life.
    """

    def __init__(
        self,
        url: str,
        subprotocol: str,
        *,
        boot: Callable[[], dict[str, Any]],
        handle: Callable[[str, dict[str, Any]], dict[str, Any] | None],
        changed: Callable[[], None],
        password: str | None = None,
        pause_s: tuple[float, float] = (1.0, 3.0),
        pipelines: bool = False,
        boots_once: bool = False,
    ) -> None:
        self.online = False
        self.heartbeat_s = 300.0
        self._url, self._subprotocol, self._password, self._pause_s = url, subprotocol, password, pause_s
        self._boot, self._handle, self._changed = boot, handle, changed
        self._booted = False
        self._pipelines, self._boots_once = pipelines, boots_once
        self._unawaited: set[asyncio.Task[None]] = set()
        self._wired = asyncio.Event()
        self._wired.set()
        self._socket: ClientConnection | None = None
        self._queue: deque[Outgoing] = deque()
        self._news = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._rng = random.Random(url)

    def cut(self) -> None:
        """The network cable is pulled."""
        self._wired.clear()
        if self._socket is not None:
            self._socket.transport.abort()

    def restore(self) -> None:
        """The network cable is back."""
        self._wired.set()

    def power_cycle(self) -> None:
        """The station boots again: the connection ends and the next one begins with a BootNotification."""
        self._booted = self._booted and self._boots_once
        if self._socket is not None:
            self._socket.transport.abort()

    def later(self, what: Callable[..., object], *arguments: object) -> None:
        """Does something once the answer to the present call is out."""
        asyncio.get_running_loop().call_later(0.05, what, *arguments)

    def send_boot(self) -> None:
        """A BootNotification because the CSMS asked for one."""
        self.post("BootNotification", self._boot)

    def post(
        self,
        action: str,
        payload: Callable[[], dict[str, Any] | None],
        *,
        keep: bool = False,
        sample: bool = False,
        on_answer: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Queues a call; one without ``keep`` is dropped while offline."""
        if not keep and not self.online:
            return
        if len(self._queue) >= MOST_QUEUED:  # samples between first and last are the ones to lose
            oldest = next((item for item in self._queue if item.sample), None)
            if oldest is not None:
                self._queue.remove(oldest)
        self._queue.append(Outgoing(action, payload, keep, sample, on_answer))
        self._news.set()

    @property
    def waiting(self) -> int:
        """Calls not yet answered."""
        return len(self._queue)

    async def run(self) -> None:
        """Stays connected until cancelled."""
        headers = {}
        if self._password is not None:
            identity = self._url.rsplit("/", 1)[1]
            pair = base64.b64encode(f"{identity}:{self._password}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        while True:
            await self._wired.wait()
            try:
                async with connect(
                    self._url,
                    subprotocols=[Subprotocol(self._subprotocol)],
                    additional_headers=headers,
                    proxy=None,
                    compression=None,
                    open_timeout=5,
                    close_timeout=1,
                ) as socket:
                    self._socket = socket
                    await self._converse(socket)
            except (OSError, WebSocketException, TimeoutError):
                pass  # dials again below
            finally:
                self._socket = None
                self._hang_up()
            await asyncio.sleep(self._rng.uniform(*self._pause_s))

    def _hang_up(self) -> None:
        if self.online:
            self.online = False
            self._changed()
        self._queue = deque(item for item in self._queue if item.keep)
        for waiting in self._waiting.values():
            waiting.cancel()
        self._waiting.clear()

    async def _converse(self, socket: ClientConnection) -> None:
        speaker = asyncio.create_task(self._speak(socket))
        speaker.add_done_callback(lambda _: socket.transport.abort())  # a refused boot: hang up and dial again
        try:
            async for text in socket:
                if isinstance(text, str):
                    await self._hear(socket, text)
        finally:
            speaker.cancel()
            await asyncio.gather(speaker, return_exceptions=True)

    async def _speak(self, socket: ClientConnection) -> None:
        while not self._booted:
            answer = await self._call(socket, "BootNotification", self._boot())
            self._booted = answer.get("status") == "Accepted"
            pause_s = float(answer.get("interval") or 10)
            if self._booted:
                self.heartbeat_s = pause_s
            else:
                await asyncio.sleep(min(pause_s, 10.0))
        self.online = True
        self._changed()
        while True:
            if not self._queue:
                self._news.clear()
                await self._news.wait()
                continue
            item = self._queue[0]
            payload = item.payload()
            answer = {}
            if self._pipelines and item.on_answer is None and payload is not None:
                self._queue.remove(item)
                task = asyncio.create_task(self._call_unawaited(socket, item.action, payload))
                self._unawaited.add(task)
                task.add_done_callback(self._unawaited.discard)
                continue
            if payload is not None:
                try:
                    answer = await self._call(socket, item.action, payload)
                except (Refused, TimeoutError):
                    item.attempts += 1
                    if item.keep and item.attempts < ATTEMPTS:  # OCPP: TransactionMessageAttempts
                        await asyncio.sleep(item.attempts)
                        continue
            self._queue.remove(item)
            if item.on_answer is not None and answer:
                item.on_answer(answer)

    async def _call_unawaited(self, socket: ClientConnection, action: str, payload: dict[str, Any]) -> None:
        with suppress(Refused, TimeoutError, ConnectionClosed):
            await self._call(socket, action, payload)

    async def _call(self, socket: ClientConnection, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        message_id = str(uuid.uuid4())
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[message_id] = waiting
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await socket.send(json.dumps([2, message_id, action, payload]))
                return dict(await waiting)
        finally:
            self._waiting.pop(message_id, None)

    async def _hear(self, socket: ClientConnection, text: str) -> None:
        frame = json.loads(text)
        waiting = self._waiting.get(frame[1])
        match frame:
            case [2, message_id, action, payload]:
                try:
                    answer = self._handle(action, payload)
                    if answer is None:
                        return
                    reply = [3, message_id, answer]
                except Refused as error:
                    reply = [4, message_id, error.code, error.text, {}]
                except (KeyError, ValueError, TypeError, IndexError) as error:
                    reply = [4, message_id, "FormationViolation", repr(error), {}]
                try:
                    await socket.send(json.dumps(reply))
                except ConnectionClosed:
                    return
            case [3, _, answer] if waiting is not None and not waiting.done():
                waiting.set_result(answer)
            case [4, _, code, text, *_] if waiting is not None and not waiting.done():
                waiting.set_exception(Refused(code, text))
