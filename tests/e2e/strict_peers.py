"""Stations and a CSMS of the ``ocpp-rpc`` package, which validates every message strictly: one node process a side."""

import asyncio
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from tests import needs

HERE = Path(__file__).parent / "ocpp_rpc"
MISSING = "the strict OCPP peers are not installed: run 'make peers' (it needs node 18 or later and npm)"
Answer = Callable[[str, str, Mapping[str, Any]], Any]


class Refused(Exception):
    """The other side answered with a CALLERROR; also to be returned by an ``Answer`` for one of ours."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(code, text)
        self.code = code

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused) and self.args == other.args

    __hash__ = Exception.__hash__


class Side:
    """The stations, or the CSMS.

    Attributes:
        answer: Asked for each CALL that comes in (who, action, payload): the payload of the answer, or ``Refused``.
        calls: What came in, in order, and what was answered: (who, action, payload, answer).
        faults: What strict validation objected to, or what was no message at all.
        open: Who is connected.
    """

    def __init__(self, process: asyncio.subprocess.Process, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[tuple[str, str, Any, Any]] = []
        self.faults: list[dict[str, Any]] = []
        self.open: set[str] = set()
        self._process = process
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def read(self) -> None:
        async for line in self._process.stdout:
            message = json.loads(line)
            match message:
                case {"of": number, "result": result}:
                    self._settle(number, lambda future, result=result: future.set_result(result))
                case {"of": number, "error": [code, text]}:
                    self._settle(number, lambda f, code=code, text=text: f.set_exception(Refused(code, text)))
                case {"saw": "call", "id": number, "who": who, "action": action, "payload": payload}:
                    answer = self.answer(who, action, payload)
                    self.calls.append((who, action, payload, answer))
                    said = {"error": list(answer.args)} if isinstance(answer, Refused) else {"payload": answer}
                    self._write({"do": "answer", "of": number, **said})
                case {"saw": "fault"}:
                    self.faults.append(message)
                case {"saw": "open", "who": who}:
                    self.open.add(who)
                case {"saw": "closed", "who": who}:
                    self.open.discard(who)

    def _settle(self, number: int, how: Callable[[asyncio.Future[Any]], None]) -> None:
        future = self._waiting.pop(number, None)
        if future is not None and not future.done():
            how(future)

    def _write(self, message: Mapping[str, Any]) -> None:
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def do(self, what: str, **more: Any) -> Any:
        number = next(self._ids)
        self._waiting[number] = future = asyncio.get_running_loop().create_future()
        self._write({"do": what, "id": number, **more})
        return await asyncio.wait_for(future, 60)

    async def call(self, who: str, action: str, payload: Mapping[str, Any]) -> Any:
        """One CALL; gives the payload of its answer, or raises ``Refused``."""
        return await self.do("call", who=who, action=action, payload=payload)


@contextlib.asynccontextmanager
async def side(answer: Answer) -> AsyncIterator[Side]:
    """A running peer process."""
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None or not (HERE / "node_modules" / "ocpp-rpc").is_dir():
        needs.missing(MISSING)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(node, HERE / "peer.js", stdin=pipe, stdout=pipe, limit=1 << 22)
    running = Side(process, answer)
    reading = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
