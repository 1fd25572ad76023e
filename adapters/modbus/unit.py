"""One device behind a Modbus connection: when to read it next, and what it said last."""

import asyncio
import math
import random
from dataclasses import dataclass

from adapters.modbus.decode import (
    WIDTH,
    Decoder,
    Layout,
    Request,
    WritePoint,
    block_of,
    decode_words,
    encode_words,
    exponent_of,
    plain_layout,
)
from adapters.modbus.link import Link
from adapters.modbus.maps import load_map
from adapters.modbus.sunspec import discover
from adapters.quality import QualityCheck, Sample
from adapters.trouble import Trouble
from cem.config.maps import RegisterMap, SunSpecMap
from cem.config.modbus_models import ModbusConnection
from cem.config.models import Device
from cem.core.state import Measurement
from cem.errors import DeviceMisconfigured, DeviceRefused
from cem.ports import Clock

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
LOST_AFTER = 3  # failures in a row before it is called an outage
SLOW_POLL_S = 30.0

_random = random.SystemRandom()


@dataclass
class Unit:
    """State of one device; changed only by the task that owns the connection.

    Attributes:
        due_s: Monotonic time of its next read.
        failed_this_run: It failed since the adapter's run began, and has not answered since.
        values: What its last good or refused sample held, by name, as its map decodes it; for tools.
    """

    device: Device
    connection: ModbusConnection
    epoch_s: float
    trouble: Trouble
    due_s: float = 0.0
    failed_this_run: bool = False
    latest: Measurement | None = None

    def __post_init__(self) -> None:
        if self.device.model is None:
            raise DeviceMisconfigured(f"{self.device.id}: a modbus device needs a model in the site file")
        self.map = load_map(self.device.model)
        self.values: dict[str, float] = {}
        self._check = QualityCheck(self.device)
        self._layout: Layout | None = None
        self._decoder: Decoder | None = None
        self._slow: list[bytes] = []
        self._slow_s = float("-inf")

    async def read(self, link: Link, clock: Clock) -> Measurement | str:
        """One sample, or why it counts as missing.

        Raises:
            AdapterError: The device or the connection failed.
        """
        layout = await self._known(link)
        taken_s = clock.monotonic_s()
        blocks = await self._blocks(link, layout.requests)
        if taken_s - self._slow_s >= SLOW_POLL_S:
            self._slow = await self._blocks(link, layout.slow_requests)
            self._slow_s = taken_s
        assert self._decoder is not None  # noqa: S101 - made with the layout
        self.values = self._decoder.decode([*blocks, *self._slow])
        return self._check.judge(Sample(taken_s, self.values, unsigned_currents=layout.unsigned_currents))

    async def write(self, link: Link, name: str, value: float) -> float:
        """Write one value and read it back.

        Returns:
            What the device holds now; the value itself where it cannot be read back.

        Raises:
            DeviceMisconfigured: The device has nothing of that name, or the value is out of its range.
            DeviceRefused: It refused, or holds something else now.
            DeviceUnavailable: It did not answer.
        """
        point, writable = (layout := await self._known(link)).writes.get(name), sorted(layout.writes)
        if point is None:
            offer = f"it has {', '.join(writable)}" if writable else "its map has nothing to write"
            raise DeviceMisconfigured(f"{self.device.id}: cannot write {name!r}; {offer}")
        low, high = point.valid
        if not low <= value <= high:
            raise DeviceMisconfigured(f"{self.device.id}: {name} of {value:g} is outside {low:g} to {high:g}")
        unit_scale, most = await self._scale(link, point)
        value = min(value, most)
        raw = _raw(point, value, unit_scale)
        if raw is None:
            raise DeviceMisconfigured(f"{self.device.id}: {name} of {value:g} is none of {sorted(point.codes)}")
        try:
            words = encode_words(point.type, raw, high_word_first=point.high_word_first)
        except ValueError as error:
            raise DeviceMisconfigured(f"{self.device.id}: {name} of {value:g}: {error}") from error
        at = self.connection
        await link.write(
            at.unit_id, point.address, words, single=point.single, timeout_s=at.timeout_s, device=self.device.id
        )
        if point.read_back is None:
            return value
        if point.settle_s:
            await asyncio.sleep(point.settle_s)
        address, kind = point.read_back
        held = await self.ask(link, Request("holding", address, WIDTH[kind]))
        number = decode_words(kind, held, high_word_first=point.high_word_first)
        if number is None or abs(number - raw) > 0.501:
            seen = "nothing" if number is None else f"{number * unit_scale:g}"
            raise DeviceRefused(f"{self.device.id}: {name} was set to {value:g} and reads back as {seen}")
        return value if point.codes else number * unit_scale

    def writes(self) -> frozenset[str] | None:
        """Names of what may be written; ``None`` until it was asked for the first time."""
        return None if self._layout is None else frozenset(self._layout.writes)

    async def _known(self, link: Link) -> Layout:
        if self._layout is None:
            match self.map:
                case RegisterMap():
                    self._layout = plain_layout(self.map)
                case SunSpecMap():
                    self._layout = await discover(lambda request: self.ask(link, request), self.map, self.device.id)
            self._decoder = Decoder(self._layout.points, (*self._layout.requests, *self._layout.slow_requests))
        return self._layout

    async def _scale(self, link: Link, point: WritePoint) -> tuple[float, float]:
        """What one unit of the register means, and the most that it can be set to."""
        scale = point.scale * await self._power_of_ten(link, point.name, point.scale_address)
        if point.percent_of is None:
            return scale, math.inf
        address, kind, scale_address = point.percent_of
        whole = decode_words(kind, await self.ask(link, Request("holding", address, WIDTH[kind])))
        if not whole:
            raise DeviceRefused(
                f"{self.device.id}: {point.name} is set in percent, and the device does not say of what"
            )
        most = whole * await self._power_of_ten(link, point.name, scale_address)
        return scale / 100 * most, most

    async def _power_of_ten(self, link: Link, name: str, address: int | None) -> float:
        if address is None:
            return 1.0
        (word,) = await self.ask(link, Request("holding", address, 1))
        exponent = exponent_of(word)
        if exponent is None:
            raise DeviceRefused(f"{self.device.id}: {name} has no scale factor now; it cannot be set")
        return float(10.0**exponent)

    async def ask(self, link: Link, request: Request) -> list[int]:
        """Read some of its registers.

        Raises:
            AdapterError: It did not answer, or refused.
        """
        return await link.read(self.connection.unit_id, request, self.connection.timeout_s, self.device.id)

    async def _blocks(self, link: Link, requests: tuple[Request, ...]) -> list[bytes]:
        return [block_of(await self.ask(link, request)) for request in requests]

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
        self.forget()
        self.due_s = max(self._next_tick_s(now_s), now_s + pause_s(self.trouble.in_a_row))

    def forget(self) -> None:
        """It was away: it may come back as another device, or with other models."""
        self._layout = None
        self._slow_s = float("-inf")

    def _next_tick_s(self, now_s: float) -> float:
        """Aligned to the period; ticks that passed are skipped, never made up for (M10)."""
        period_s = self.device.poll_s
        return self.epoch_s + ((now_s - self.epoch_s) // period_s + 1) * period_s


def pause_s(failures: int) -> float:
    """How long one is left alone that has failed so often in a row."""
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 5), LONGEST_PAUSE_S) * _random.uniform(0.75, 1.0)


def _raw(point: WritePoint, value: float, unit_scale: float) -> float | None:
    """What the register is to hold; ``None`` where it has no code for the value."""
    if point.codes:
        return point.codes.get(round(value))
    if point.percent_of is not None:
        return float(math.floor(value / unit_scale + 1e-6))  # a limit is never rounded up
    return value / unit_scale + 0.0  # no negative zero in a float
