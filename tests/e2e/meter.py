"""A site's meter as a process of its own: the registers of an SDM630 behind a real Modbus TCP server."""

import asyncio
import itertools
import struct
import sys

from tests.adapters.child import Child
from tests.adapters.modbus_server import Server, device

VOLTS = 230.0


class MeterProcess(Child):
    """One meter, unit 1, on a free port unless told otherwise."""

    def __init__(self, port: int = 0) -> None:
        super().__init__("tests.e2e.meter", port)

    def amps(self, *amps: float) -> None:
        """What flows on L1, L2, L3 from now on; ``nan`` is what a meter writes that has lost its sensor."""
        self.tell(" ".join(map(str, amps)))


def image(amps: tuple[float, ...], beat: int) -> list[int]:
    """Input registers 0 to 73: volts, amps, watts of each phase, their sum, frequency, energy."""
    values = dict.fromkeys(range(0, 74, 2), 0.0)
    volts = VOLTS + 0.01 * (beat % 7)  # the last digit of a living meter never rests
    for p, a in enumerate(amps):
        values |= {2 * p: volts, 6 + 2 * p: abs(a) + 0.001 * (beat % 5), 12 + 2 * p: a * volts}
    values |= {52: sum(amps) * volts, 70: 50.0, 72: 1000.0 + beat * 1e-3}
    if any(a != a for a in amps):
        values = dict.fromkeys(values, float("nan"))
    return [word for value in values.values() for word in struct.unpack(">2H", struct.pack(">f", value))]


async def _main() -> None:
    amps: tuple[float, ...] = (5.0, 5.0, 5.0)
    beats = itertools.count()
    async with Server(device(1, {0: image(amps, 0)}), port=int(sys.argv[1])) as server:
        print(server.port, flush=True)

        async def live() -> None:
            while True:
                await server.set(1, 0, image(amps, next(beats)))
                await asyncio.sleep(0.2)

        living = asyncio.create_task(live())
        while line := await asyncio.to_thread(sys.stdin.readline):
            amps = tuple(map(float, line.split()))
            await server.set(1, 0, image(amps, next(beats)))
            print("done", flush=True)
        living.cancel()


if __name__ == "__main__":
    asyncio.run(_main())
