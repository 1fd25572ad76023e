"""Both ends of the proxy benchmark, each a process of its own: the cloud, and all the stations.

Commands come as JSON, one a line; each is answered by one line. OCPP and TLS as the field has them, the rest bare.
"""

import asyncio
import base64
import contextlib
import json
import logging
import random
import ssl
import sys
import time
from collections.abc import Sequence
from itertools import count
from typing import Any

import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.benchmarks._proxy_traffic import BOOT, JOURNALED, SUBPROTOCOL, Talk, answer_text

PASSWORD = "a password that is long"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0
"""How stations dial again: at random within a pause that doubles."""
GIVE_UP_S = 120.0


def name(number: int) -> str:
    """Of a station."""
    return f"CS{number:04d}"


# -- the cloud ------------------------------------------------------------------------------------------------------


async def cloud(certificate: str, deflate: str) -> None:
    """Answers every CALL at once; prints its port, and for each line on its input how many connections it has."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    connections = 0

    async def talk(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        try:
            with contextlib.suppress(ConnectionClosed):
                async for text in socket:
                    answer = answer_text(str(text))
                    if answer is not None:
                        await socket.send(answer)
        finally:
            connections -= 1

    compression = "deflate" if deflate == "deflate" else None
    options: dict[str, Any] = {"compression": compression, "ping_interval": None, "close_timeout": 1}
    async with serve(talk, "127.0.0.1", 0, ssl=tls, subprotocols=[SUBPROTOCOL], backlog=1000, **options) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        async for _ in lines():
            print(connections, flush=True)


async def lines() -> Any:
    """The commands on our input, until whoever started us is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line


# -- the stations ---------------------------------------------------------------------------------------------------


class Station:
    """Dials for as long as it is wanted, boots, and answers what it is asked with Accepted."""

    def __init__(self, number: int, url: str, tls: ssl.SSLContext, deflate: bool) -> None:
        self.up = asyncio.Event()
        self.tries = 0
        self._url, self._tls, self._deflate = f"{url}/{name(number)}", tls, deflate
        self._credential = base64.b64encode(f"{name(number)}:{PASSWORD}".encode()).decode()
        self._talk = Talk(number)
        self._ids = count(1)
        self._socket: ClientConnection | None = None
        self._asked: asyncio.Future[dict[str, Any]] | None = None
        self._asked_id = ""
        self.task = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            self.tries += 1
            try:
                await self._connection()
                pause_s = FIRST_PAUSE_S
            except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
                pass
            self.up.clear()
            await asyncio.sleep(random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _connection(self) -> None:
        async with connect(
            self._url,
            ssl=self._tls if self._url.startswith("wss") else None,
            subprotocols=[SUBPROTOCOL],
            compression="deflate" if self._deflate else None,
            additional_headers={"Authorization": f"Basic {self._credential}"},
            proxy=None,
            ping_interval=None,
            close_timeout=1,
            open_timeout=20,
        ) as socket:
            self._socket = socket
            reading = asyncio.create_task(self._read(socket))
            try:
                booted = await self._ask("BootNotification", BOOT)
                if booted.get("status") == "Accepted":
                    self.up.set()
                await reading
            finally:
                reading.cancel()

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for text in socket:
                frame = json.loads(text)
                if frame[0] == 2:
                    await socket.send(json.dumps([3, frame[1], {"status": "Accepted"}]))
                elif self._asked is not None and not self._asked.done() and frame[1] == self._asked_id:
                    self._asked.set_result(frame[2] if frame[0] == 3 else {})
        finally:
            if self._asked is not None and not self._asked.done():
                self._asked.set_exception(ConnectionResetError("nobody answers any more"))

    async def _ask(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        self._asked_id = str(next(self._ids))
        self._asked = asyncio.get_running_loop().create_future()
        assert self._socket is not None
        await self._socket.send(json.dumps([2, self._asked_id, action, payload]))
        async with asyncio.timeout(GIVE_UP_S):
            return await self._asked

    async def say(self) -> tuple[str, float]:
        """The next CALL of its day; its action and how long the answer took."""
        action, payload = self._talk.next()
        began_s = time.perf_counter()
        told = await self._ask(action, payload)
        taken_s = time.perf_counter() - began_s
        self._talk.told(told)
        return action, taken_s

    async def flood(self, for_s: float) -> None:
        """Sends without waiting for answers, as fast as they are taken."""
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(for_s):
                while self._socket is not None:
                    await self._socket.send(json.dumps([2, f"f{next(self._ids)}", "Heartbeat", {}]))
                    await asyncio.sleep(0)

    def drop(self) -> None:
        """Power fails."""
        if self._socket is not None:
            self._socket.transport.abort()


class Fleet:
    """The stations of one subject."""

    def __init__(self, url: str, size: int, tls: ssl.SSLContext, deflate: bool) -> None:
        self._new = lambda number: Station(number, url, tls, deflate)
        self._size = size
        self.stations: list[Station] = []

    async def connect(self, a_second: float) -> dict[str, float]:
        """Switches them on one after the other and waits until every boot was accepted."""
        began_s = time.monotonic()
        for number in range(self._size):
            self.stations.append(self._new(number))
            await asyncio.sleep(max(0.0, began_s + number / a_second - time.monotonic()))
        return await self._all_up(began_s)

    async def power_cut(self) -> dict[str, float]:
        """All lose power and come back at the same moment."""
        began_s = time.monotonic()
        for station in self.stations:
            station.tries = 0
            station.up.clear()
            station.drop()
        return await self._all_up(began_s)

    async def storm(self, flooding: int, for_s: float) -> dict[str, float]:
        """Some flood while all others lose power again and again, and come back at once."""
        began_s = time.monotonic()
        floods = [asyncio.create_task(station.flood(for_s)) for station in self.stations[:flooding]]
        cuts = 0
        while time.monotonic() < began_s + for_s:
            for station in self.stations[flooding:]:
                station.up.clear()
                station.drop()
            cuts += 1
            await asyncio.sleep(min(5.0, for_s / 3))
        await asyncio.gather(*floods)
        return {"cuts": cuts, **await self._all_up(began_s)}

    async def await_up(self) -> dict[str, float]:
        """Waits until all are back."""
        began_s = time.monotonic()
        for station in self.stations:
            station.tries = 0
        return await self._all_up(began_s)

    async def _all_up(self, began_s: float) -> dict[str, float]:
        async with asyncio.timeout(GIVE_UP_S):
            await asyncio.gather(*(station.up.wait() for station in self.stations))
        return {"s": time.monotonic() - began_s, "tries": sum(station.tries for station in self.stations)}

    async def say(self, a_second: float, for_s: float) -> dict[str, Any]:
        """All talk at this rate together, each one message at a time."""
        times: dict[bool, list[float]] = {False: [], True: []}
        began_s = time.monotonic() + 0.1

        async def one(number: int, station: Station) -> None:
            pause_s = self._size / a_second
            due_s = began_s + number / a_second
            while due_s < began_s + for_s:
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                if time.monotonic() > began_s + for_s:
                    break
                action, taken_s = await station.say()
                times[action in JOURNALED].append(taken_s)
                due_s += pause_s

        await asyncio.gather(*(one(number, station) for number, station in enumerate(self.stations)))
        taken_s = time.monotonic() - began_s
        return {
            "pairs": len(times[False]) + len(times[True]),
            "s": taken_s,
            "s_plain": times[False],
            "s_kept": times[True],
        }


async def stations(authority: str, deflate: str) -> None:
    """Carries out commands."""
    tls = ssl.create_default_context(cafile=authority or None)
    fleets: dict[str, Fleet] = {}
    async for line in lines():
        do, which, *words = json.loads(line)
        if do == "connect":
            url, size, a_second = words
            fleets[which] = Fleet(url, size, tls, deflate == "deflate")
            found = await fleets[which].connect(a_second)
        elif do == "say":
            found = await fleets[which].say(*words)
        elif do == "power_cut":
            found = await fleets[which].power_cut()
        elif do == "storm":
            found = await fleets[which].storm(*words)
        else:
            found = await fleets[which].await_up()
        print(json.dumps(found), flush=True)


def main(words: Sequence[str]) -> None:
    what, certificate, deflate = words
    logging.disable()  # lost connections are part of it
    uvloop.run((cloud if what == "cloud" else stations)(certificate, deflate))


if __name__ == "__main__":
    main(sys.argv[1:])
