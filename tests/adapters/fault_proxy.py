"""A TCP proxy that misbehaves on purpose. Sits between a client under test and a real server on 127.0.0.1."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Self


class FaultProxy:
    """Forwards bytes until told otherwise. Faults touch server-to-client traffic unless said otherwise.

    Attributes:
        delays_s: Each answer is held back this long, once per entry; empty: no delay.
        black_hole: Accept, then forward nothing in either direction.
        truncate: Forward this many bytes of the next answer, then close; ``None``: do not.
        reset: Abort at the first bytes from the client.
        swallow: A request for which this is true never reaches the server; ``None``: all do.
        connections: How many were accepted so far.
        most_open: The most that were open at once.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self._target = target
        self.delays_s: list[float] = []
        self.black_hole = False
        self.truncate: int | None = None
        self.reset = False
        self.swallow: Callable[[bytes], bool] | None = None
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task] = set()
        self.port = port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def drop(self) -> None:
        """Abort every open connection (RST)."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self._writers.add(writer)
        back = None
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(up_writer)
            back = asyncio.create_task(self._answers(up_reader, writer))
            while data := await reader.read(65536):
                if self.reset:
                    writer.transport.abort()
                    break
                if not self.black_hole and not (self.swallow and self.swallow(data)):
                    up_writer.write(data)
            up_writer.close()
        except (OSError, asyncio.CancelledError):
            pass  # the other side went away, or the test is over
        finally:
            self.open -= 1
            writer.close()
            if back is not None:
                back.cancel()
                with suppress(asyncio.CancelledError):
                    await back
                up_writer.close()
                self._writers.discard(up_writer)
            self._writers.discard(writer)
            self._tasks.discard(asyncio.current_task())

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.delays_s:
                    await asyncio.sleep(self.delays_s.pop(0))
                if self.black_hole:
                    continue
                if self.truncate is not None:
                    writer.write(data[: self.truncate])
                    self.truncate = None
                    break
                writer.write(data)
            writer.close()
