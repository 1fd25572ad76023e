"""Modbus wallboxes with a car: what each maker's document says that they do, over register images; nothing reads our maps."""

import asyncio
import struct
from contextlib import asynccontextmanager

from tests.adapters import image_files
from tests.adapters.modbus_server import Server


def _float(words):
    return struct.unpack(">f", struct.pack(">2H", *words))[0]


def _words32(number):
    return [number >> 16, number & 0xFFFF]


class Box:
    """One wallbox behind a real server; its car takes what it may, up to 16 A on three phases.

    Attributes:
        plugged: The car is there.
        stuck: What it shows for its limit whatever it is told (KEBA); ``None``: what it obeys.
        drawn_a: What the car draws on each phase.
    """

    def __init__(self, model):
        self.image = image_files.load(model)
        self.model = model
        self.plugged = True
        self.stuck = None
        self.drawn_a = 0.0
        self.limit_a = 0.0
        self.alive = 0
        self.energy_wh = 10_000.0
        self.server = Server(self.image.served())

    @asynccontextmanager
    async def runs(self):
        async with self.server:
            task = asyncio.create_task(self._live())
            try:
                yield self
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def get(self, address, count=1):
        return await self.server.get(self.image.unit, address, count)

    async def set(self, address, words):
        await self.server.set(self.image.unit, address, words)

    async def _live(self):
        step = getattr(self, f"_{self.model}")
        while True:
            await step()
            await asyncio.sleep(0.02)

    def _draws(self, limit_a):
        self.limit_a = limit_a
        self.drawn_a = min(self.limit_a, 16.0) if self.plugged and self.limit_a >= 6 else 0.0
        self.energy_wh += self.drawn_a * 0.001
        return self.drawn_a

    async def _keba_p30(self):
        (set_ma,), (enabled,) = await self.get(5004), await self.get(5014)
        allowed_a = set_ma / 1000 if enabled else 0.0
        await self.set(1100, self.stuck or _words32(round(1000 * allowed_a)))
        await self.set(1600, [0, (await self.get(5016))[0]])
        await self.set(1602, [0, (await self.get(5018))[0]])
        amps = self._draws(allowed_a)
        for address in (1008, 1010, 1012):
            await self.set(address, _words32(round(1000 * amps)))
        await self.set(1020, _words32(round(1000 * amps * 690)))
        await self.set(1036, _words32(round(10 * self.energy_wh)))
        await self.set(1000, [0, 3 if amps else 5 if self.plugged else 1])
        await self.set(1004, [0, 7 if self.plugged else 1])

    async def _abb_terra_ac(self):
        await self.set(0x4022, await self.get(0x4100, 2))
        await self.set(0x4020, await self.get(0x4106))
        await self.set(0x4024, await self.get(0x4109))
        high, low = await self.get(0x4100, 2)
        amps = self._draws(((high << 16) + low) / 1000)
        for address in (0x4010, 0x4012, 0x4014):
            await self.set(address, _words32(round(1000 * amps)))
        await self.set(0x401C, _words32(round(amps * 690)))
        await self.set(0x400C, [0, (4 if amps else 2 if self.plugged else 0) << 8])

    async def _alfen_ng9xx(self):
        amps = self._draws(_float(await self.get(1210, 2)))
        words = list(struct.unpack(">2H", struct.pack(">f", amps)))
        for address in (320, 322, 324):
            await self.set(address, words)
        watts = list(struct.unpack(">2H", struct.pack(">f", amps * 230)))
        for address in (338, 340, 342):
            await self.set(address, watts)
        await self.set(344, list(struct.unpack(">2H", struct.pack(">f", amps * 690))))
        await self.set(374, list(struct.unpack(">4H", struct.pack(">d", self.energy_wh))))
        await self.set(1201, [0x4332 if amps else 0x4231 if self.plugged else 0x4100])

    async def _phoenix_charx(self):
        (enabled,), (set_a,) = await self.get(1300), await self.get(1301)
        amps = self._draws(float(set_a) if enabled else 0.0)
        for address in (1238, 1240, 1242):
            await self.set(address, _words32(round(1000 * amps)))
        await self.set(1244, _words32(round(1000 * amps * 690)))
        await self.set(1299, [(0x43 if amps else 0x42 if self.plugged else 0x41) << 8])

    async def _webasto_unite(self):
        if (await self.get(6000)) == [1]:
            self.alive += 1
            await self.set(6000, [0])
        amps = self._draws(float((await self.get(5004))[0]))
        for address in (1008, 1010, 1012):
            await self.set(address, [round(1000 * amps)])
        await self.set(1020, _words32(round(amps * 690)))
        await self.set(1036, _words32(round(self.energy_wh / 100)))
        await self.set(1001, [1 if amps else 0])
        await self.set(1004, [2 if self.plugged else 0])
