"""What the proxy benchmark compares, each a process of its own: ours, a relay without any logic, and one written with the
``ocpp`` library. All run on uvloop with the product's TLS contexts and the same websockets settings.
"""

import asyncio
import contextlib
import logging
import os
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import ocpp.messages
import uvloop
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory

from adapters.ocpp.server import OcppServer
from adapters.ocpp.tls import ServerTls, upstream_context
from cem.clock import SystemClock
from cem.config.csms_models import Csms, Listen, ListenTls, Upstream
from cem.config.models import StationSection
from cem.core.site import Evse, Protection, Site, Zone
from cem.memory import settle
from cem.store import Store
from tests.benchmarks._proxy_peers import PASSWORD, lines, name
from tests.benchmarks._proxy_traffic import SUBPROTOCOL

ocpp.messages.ASYNC_VALIDATION = False  # a thread for each message would only cost more
Handler = Callable[[ServerConnection], Awaitable[None]]
DEFLATE: dict[str, Any] = {
    "server_no_context_takeover": True,
    "client_no_context_takeover": True,
    "compress_settings": {"memLevel": 5},
}


class Place:
    """Where a subject listens and dials.

    Args:
        folder: With ``cert.pem``, ``key.pem`` and ``ca.pem``.
        port: To listen on.
        cloud: Address of the cloud.
    """

    def __init__(self, folder: Path, port: int, cloud: str) -> None:
        self.folder, self.port, self.cloud = folder, port, cloud
        self.listen_tls = ListenTls(certificate="cert.pem", key="key.pem")
        self.upstream = Upstream(id="cloud", url=cloud, ca="ca.pem")

    @contextlib.asynccontextmanager
    async def serve(self, handler: Handler) -> AsyncIterator[ssl.SSLContext]:
        """Listens as ours does; gives the context to dial with."""
        tls = ServerTls(self.listen_tls, self.folder, None).context
        options: dict[str, Any] = {"ping_interval": 20, "max_size": 1 << 20, "close_timeout": 2}
        deflate = [ServerPerMessageDeflateFactory(**DEFLATE)]
        async with serve(
            handler, "127.0.0.1", self.port, ssl=tls, subprotocols=[SUBPROTOCOL], compression=None, extensions=deflate,
            **options,
        ):  # fmt: skip
            yield upstream_context(self.upstream, self.folder)

    def dial(self, station: ServerConnection, tls: ssl.SSLContext) -> connect:
        """Dials the cloud in the station's name."""
        return connect(
            f"{self.cloud}/{station.request.path.rsplit('/', 1)[1]}", ssl=tls, subprotocols=[SUBPROTOCOL],
            compression=None, extensions=[ClientPerMessageDeflateFactory(**DEFLATE)], proxy=None, ping_interval=30,
            max_size=1 << 20, close_timeout=2,
        )  # fmt: skip


# -- ours -----------------------------------------------------------------------------------------------------------


async def ours(place: Place, size: int) -> None:
    """The local CSMS as the product runs it, with its ledger on disk."""
    ids = [name(number) for number in range(size)]
    sections = [
        StationSection(id=one, zone="site", breaker_a=40, fallback_a=6, password=PASSWORD, security_profile=2)
        for one in ids
    ]
    evses = tuple(Evse(f"{one}/1", one, "site", 1, max_a=32, fallback_a=6) for one in ids)
    site = Site("bench", 230.0, 3, (Zone("site", None, Protection(63)),), evses)
    csms = Csms(listen=Listen(host="127.0.0.1", port=place.port, tls=place.listen_tls), upstreams=(place.upstream,))
    store = Store(place.folder / "var")
    server = OcppServer(csms, sections, site, store, SystemClock(), lambda: None, store.note, folder=place.folder)
    settle()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.run())
        await server.listening.wait()
        print("ready", flush=True)


# -- a relay without logic ------------------------------------------------------------------------------------------


async def raw_relay(place: Place, size: int) -> None:
    """Every text to the other side."""
    del size

    async def copy(source: ServerConnection | ClientConnection, sink: ServerConnection | ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in source:
                await sink.send(text)
        await sink.close()

    async def handle(station: ServerConnection) -> None:
        async with place.dial(station, tls) as cloud, asyncio.TaskGroup() as both:
            both.create_task(copy(station, cloud))
            both.create_task(copy(cloud, station))

    async with place.serve(handle) as tls:
        print("ready", flush=True)
        await asyncio.Event().wait()


# -- with the library -----------------------------------------------------------------------------------------------


class Relay(ChargePoint):
    """A station's side; every CALL is asked of the cloud in the library's own classes, and validated by it."""

    cloud: ChargePoint


def _forward(action: str) -> None:
    async def forward(self: Relay, call_unique_id: str, **payload: Any) -> Any:
        return await self.cloud.call(getattr(call, action)(**payload), unique_id=call_unique_id)

    forward.__name__ = f"on_{action}"  # by which the library finds it
    setattr(Relay, forward.__name__, on(action)(forward))


for _action in (
    "BootNotification", "StatusNotification", "Authorize", "StartTransaction", "MeterValues", "Heartbeat", "StopTransaction",
):  # fmt: skip
    _forward(_action)


async def ocpp_library(place: Place, size: int) -> None:
    """Stations towards us and we towards the cloud, by the library."""
    del size

    async def handle(station: ServerConnection) -> None:
        who = station.request.path.rsplit("/", 1)[1]
        async with place.dial(station, tls) as socket:
            relay = Relay(who, station)
            relay.cloud = ChargePoint(who, socket)
            ends = [asyncio.create_task(relay.start()), asyncio.create_task(relay.cloud.start())]
            with contextlib.suppress(ConnectionClosed):
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async with place.serve(handle) as tls:
        print("ready", flush=True)
        await asyncio.Event().wait()


async def _until_nobody_asks(subject: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(subject)
        async for _ in lines():
            pass
        os._exit(0)  # whoever started us is gone


def main(words: Sequence[str]) -> None:
    subject, folder, port, cloud, size = words
    run = {"ours": ours, "raw_relay": raw_relay, "ocpp_library": ocpp_library}[subject]
    logging.disable()  # lost connections are part of it
    uvloop.run(_until_nobody_asks(run(Place(Path(folder), int(port), cloud), int(size))))


if __name__ == "__main__":
    main(sys.argv[1:])
