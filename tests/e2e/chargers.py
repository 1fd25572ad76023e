"""Charging stations on the ``ocpp`` library with cars that obey, and the house whose meter sees what they draw."""

import asyncio
import contextlib
import math
import time

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.adapters.ocpp_peers import Limits, Station16, Station201
from tests.e2e.meter import MeterProcess

REDIAL_S = 0.3
REPORT_S = 1.0
CALL_S = 5.0


class Heard(Limits):
    """Every limit with the monotonic time it came."""

    def __init__(self):
        super().__init__()
        self.timed: list[tuple[float, str, float]] = []

    def take(self, evse, profile):
        super().take(evse, profile)
        _, purpose, amps = self.limits[-1]
        self.timed.append((time.monotonic(), purpose, amps))


class Charger:
    """One station that dials for ever, keeps its transaction over lost connections, and reports what its car draws.

    Args:
        kind: ``Station16`` or ``Station201``.
        address: Of the local CSMS, without the identity.
        name: Identity.
        max_a: Most its three-phase car takes; it follows a limit at once.
    """

    def __init__(self, kind: type[Station16 | Station201], address: str, name: str, *, max_a: float = 32.0) -> None:
        self.kind, self.address, self.name, self.max_a = kind, address, name, max_a
        self.heard = Heard()
        self.peer: Station16 | Station201 | None = None
        self.transaction: int | str | None = None
        self.sequence = 0
        self.booted: str | None = None
        self.connections = 0

    # -- the car ----------------------------------------------------------------------------------------------------
    @property
    def allowed_a(self) -> float:
        """What its profiles allow: the last of the transaction, else the last default, else all."""
        for purpose in ("TxProfile", "TxDefaultProfile"):
            amps = [a for _, p, a in self.heard.timed if p == purpose]
            if amps:
                return amps[-1]
        return math.inf

    @property
    def draw_a(self) -> float:
        if self.transaction is None or self.allowed_a < 6.0:
            return 0.0
        return min(self.allowed_a, self.max_a)

    def live(self, since_s: float = 0.0) -> list[tuple[float, float]]:
        """(time, amps) of each live limit received since a time."""
        return [(t, a) for t, p, a in self.heard.timed if p == "TxProfile" and t >= since_s]

    # -- the station ------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._report())
            while True:
                with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                    await self._serve()
                self.peer = None
                await asyncio.sleep(REDIAL_S)

    async def _serve(self) -> None:
        async with connect(
            f"{self.address}/{self.name}", subprotocols=[self.kind.version], proxy=None, open_timeout=5
        ) as ws:
            peer = self.kind(self.name, ws)
            peer.seen, peer.transaction, peer.sequence = self.heard, self.transaction, self.sequence
            reading = asyncio.create_task(peer.start_reading())
            try:
                self.connections += 1
                if self.booted is None:  # a lost connection is no boot
                    self.booted = await asyncio.wait_for(peer.boot(), CALL_S)
                self.peer = peer
                await ws.wait_closed()
            finally:
                self.sequence = getattr(peer, "sequence", 0)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            if self.peer is not None and self.transaction is not None:
                with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                    await asyncio.wait_for(self.peer.meter(*[self.draw_a] * 3), CALL_S)

    async def online(self, timeout_s: float = 15.0) -> None:
        async with asyncio.timeout(timeout_s):
            while self.peer is None:
                await asyncio.sleep(0.05)

    async def begin(self, meter: int = 100) -> None:
        await self.online()
        await asyncio.wait_for(self.peer.start(meter=meter), CALL_S)
        self.transaction = self.peer.transaction

    async def end(self, meter: int = 900) -> None:
        await self.online()
        self.transaction = None
        await asyncio.wait_for(self.peer.stop(meter=meter), CALL_S)
        self.heard.timed = [h for h in self.heard.timed if h[1] != "TxProfile"]

    async def gets(self, condition, timeout_s: float = 15.0, since_s: float = 0.0) -> tuple[float, float]:
        """Wait for a live limit; its (time, amps)."""
        async with asyncio.timeout(timeout_s):
            while True:
                for t, amps in self.live(since_s):
                    if condition(amps):
                        return t, amps
                await asyncio.sleep(0.02)

    async def allows(self, condition, timeout_s: float = 30.0) -> None:
        """Wait until what it may draw satisfies a condition."""
        until_s = time.monotonic() + timeout_s
        while not condition(self.allowed_a):
            assert time.monotonic() < until_s, f"{self.name} was told {self.heard.timed[-8:]}"
            await asyncio.sleep(0.02)


class House:
    """What the grid meter sees: a base load on every phase and the cars."""

    def __init__(self, meter: MeterProcess, chargers: list[Charger], base_a: float = 5.0) -> None:
        self.meter, self.chargers, self.base_a = meter, chargers, base_a
        self.broken = False

    async def run(self) -> None:
        while True:
            if self.meter.alive:
                total_a = math.nan if self.broken else self.base_a + sum(c.draw_a for c in self.chargers)
                with contextlib.suppress(OSError, AssertionError):  # killed in between
                    self.meter.amps(total_a, total_a, total_a)
            await asyncio.sleep(0.25)


@contextlib.asynccontextmanager
async def living(*parts: Charger | House):
    """Every part lives until the block ends; a part that fails ends it."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(part.run()) for part in parts]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
