"""One device behind a Modbus connection: when to read it next, and what it said last."""

import random
from dataclasses import dataclass

from adapters.modbus.decode import Layout, Request, decode, plain_layout
from adapters.modbus.link import Link
from adapters.modbus.maps import load_map
from adapters.modbus.sunspec import discover
from adapters.quality import QualityCheck, Sample
from adapters.trouble import Trouble
from cem.config.maps import RegisterMap, SunSpecMap
from cem.config.models import Device, ModbusTcp
from cem.core.state import Measurement
from cem.errors import DeviceMisconfigured
from cem.ports import Clock

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
LOST_AFTER = 3  # failures in a row before it is called an outage

_random = random.SystemRandom()


@dataclass
class Unit:
    """State of one device; changed only by the task that owns the connection.

    Attributes:
        due_s: Monotonic time of its next read.
        failed_this_run: It failed since the adapter's run began, and has not answered since.
    """

    device: Device
    connection: ModbusTcp
    epoch_s: float
    trouble: Trouble
    due_s: float = 0.0
    failed_this_run: bool = False
    latest: Measurement | None = None

    def __post_init__(self) -> None:
        if self.device.model is None:
            raise DeviceMisconfigured(f"{self.device.id}: a modbus device needs a model in the site file")
        self._map = load_map(self.device.model)
        self._check = QualityCheck(self.device)
        self._layout: Layout | None = None

    async def read(self, link: Link, clock: Clock) -> Measurement | str:
        """One sample, or why it counts as missing.

        Raises:
            AdapterError: The device or the connection failed.
        """

        async def ask(request: Request) -> list[int]:
            return await link.read(self.connection.unit_id, request, self.connection.timeout_s, self.device.id)

        if self._layout is None:
            match self._map:
                case RegisterMap():
                    self._layout = plain_layout(self._map)
                case SunSpecMap():
                    self._layout = await discover(ask, self._map, self.device.id)
        taken_s = clock.monotonic_s()
        words: dict[tuple[str, int], int] = {}
        for request in self._layout.requests:
            for offset, word in enumerate(await ask(request)):
                words[request.table, request.address + offset] = word
        values = decode(self._layout.points, words)
        return self._check.judge(Sample(taken_s, values, unsigned_currents=self._layout.unsigned_currents))

    def succeeded(self, measurement: Measurement, now_s: float) -> None:
        """Keep the sample; next read at the next tick."""
        self.latest = measurement
        self.failed_this_run = False
        self.trouble.good()
        self.due_s = self._next_tick_s(now_s)

    def missed(self, reason: str, now_s: float) -> None:
        """It answered, but the sample is no good; asked again at the next tick."""
        self.failed_this_run = False
        self.trouble.bad(f"{self.device.id}: {reason}")
        self.due_s = self._next_tick_s(now_s)

    def failed(self, reason: str, now_s: float, *, quiet: bool = False) -> None:
        """It did not answer; asked again after a growing pause, so that it does not slow its neighbours."""
        self.failed_this_run = True
        self.trouble.bad(reason, quiet=quiet)
        self._layout = None  # it may come back as another device, or with other models
        pause_s = min(FIRST_PAUSE_S * 2.0 ** min(self.trouble.in_a_row - 1, 5), LONGEST_PAUSE_S) * _random.uniform(
            0.75, 1.0
        )
        self.due_s = max(self._next_tick_s(now_s), now_s + pause_s)

    def _next_tick_s(self, now_s: float) -> float:
        """Aligned to the period; ticks that passed are skipped, never made up for (M10)."""
        period_s = self.device.poll_s
        return self.epoch_s + ((now_s - self.epoch_s) // period_s + 1) * period_s
