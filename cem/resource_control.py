"""Batteries and inverters held in their envelopes: what to write, when to write it again, and whether it is obeyed.

``apply`` only notes what every resource may do; one task for each device writes, so that a slow one delays nobody. A
command is written when it changed, and again before the device's own reversion time is over: when we are gone, the
device goes back to its own ways. Whether it obeys is seen by its own measurement and never assumed: the engine counts
what is measured.
"""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cem.core.resources import Envelope
from cem.core.site import Resource, ResourceKind
from cem.core.state import Measurement
from cem.errors import AdapterError
from cem.ports import Clock, Event

REVERT_S = 60
"""How long a device with a reversion timer obeys without hearing from us."""

REFRESH_S = 20.0
UNHURRIED_REFRESH_S = 300.0
"""For devices that do not forget: a device that was restarted may have."""

SPACING_S = 1.0
RETRY_S = 10.0
STEPS = 100
"""Limits move in steps of nameplate / STEPS, downwards: noise of the meters is not written to devices."""

RELEASE_S = 60.0
"""A battery that is led is left alone after its envelope has not bound it for so long."""

OBEY_S = 20.0
"""A command counts as ignored when the measured power is outside of it for so long."""

FRESH_S = 15.0


@runtime_checkable
class DeviceWriter(Protocol):
    """An adapter that can write to devices, by the names of ``config.names.WriteName``."""

    def serves(self, device_id: str) -> bool:
        """It is a device of this adapter."""
        ...

    def writes(self, device_id: str) -> Collection[str] | None:
        """What a device can be written; ``None``: it did not say yet."""
        ...

    async def write(self, device_id: str, name: str, value: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Controlled:
    """A resource that is commanded.

    Attributes:
        fallback_w: What an inverter may give when we are gone, where it can be told; ``None``: all it can.
        lapses_s: Its commands lapse by themselves after so long; ``None`` where they do not, or a register says when.
    """

    resource: Resource
    fallback_w: float | None = None
    lapses_s: float | None = None


Command = tuple[tuple[str, float], ...]
"""What is written, in this order."""


@dataclass
class _Driven:
    """One resource: what it may do, what was written, and how it behaves."""

    controlled: Controlled
    writer: DeviceWriter
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    envelope: Envelope | None = None
    given_s: float = -math.inf
    sent: Command | None = None
    sent_s: float = -math.inf
    tried_s: float = -math.inf
    beats: int = 0
    led_w: float | None = None
    free_since_s: float | None = None
    outside_since_s: float | None = None
    problem: str | None = None
    deaf: bool = False


class ResourceCommander:
    """The ``ResourceControl`` of a site; an adapter of its own, kept running like the others.

    Args:
        controlled: Resources that the site file lets us command.
        writers: Adapters that can write.
        read: The latest measurements of all devices.
        grid_meter: The root zone's meter: a led battery keeps the site's exchange small, as it would by itself.
        clock: Time.
        on_event: Told once when a resource cannot be commanded or does not obey, and once when it does again.
    """

    name = "resources"

    def __init__(
        self,
        controlled: Sequence[Controlled],
        writers: Sequence[DeviceWriter],
        read: Callable[[], Mapping[str, Measurement]],
        grid_meter: str | None,
        clock: Clock,
        on_event: Callable[[Event], None],
    ) -> None:
        self._clock, self._on_event, self._read, self._grid_meter = clock, on_event, read, grid_meter
        self._all = {
            each.resource.resource_id: _Driven(each, writer) for each, writer in zip(controlled, writers, strict=True)
        }

    def problems(self) -> Mapping[str, str]:
        """What is wrong with commanding, by resource."""
        return {name: driven.problem for name, driven in self._all.items() if driven.problem is not None}

    def apply(self, now_s: float, envelopes: Sequence[Envelope]) -> None:
        """Notes what every resource may do; returns at once."""
        found = self._read()
        grid_w = self._power_w(found, self._grid_meter, now_s)
        for envelope in envelopes:
            driven = self._all.get(envelope.resource_id)
            if driven is None:
                continue
            driven.envelope, driven.given_s = envelope, now_s
            power_w = self._power_w(found, envelope.resource_id, now_s)
            _lead(driven, power_w, grid_w, now_s)
            self._judge(driven, power_w, now_s)
            driven.changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for driven in self._all.values():
                group.create_task(self._drive(driven))

    async def _drive(self, driven: _Driven) -> None:
        while True:
            driven.changed.clear()
            if driven.envelope is not None:
                await self._send_if_due(driven)
            await asyncio.sleep(SPACING_S)
            try:
                async with asyncio.timeout(SPACING_S):
                    await driven.changed.wait()
            except TimeoutError:
                pass

    async def _send_if_due(self, driven: _Driven) -> None:
        now_s = self._clock.monotonic_s()
        resource_id = driven.controlled.resource.resource_id
        writes = driven.writer.writes(resource_id)
        if writes is None:  # it does not answer: told as its own outage; what it was told may be forgotten
            driven.sent = None
            return
        if driven.problem is not None and not driven.deaf and now_s - driven.tried_s < RETRY_S:
            return
        gone = now_s - driven.given_s > REVERT_S
        command = _command(driven, writes, gone=gone)
        if command is None:
            self._tell(driven, "it has nothing that a limit can be written to; leave 'control' out of the site file")
            driven.tried_s = now_s
            return
        released = command == _release(driven, writes)
        age_s = now_s - driven.sent_s
        if command == driven.sent and (released or age_s < _refresh_s(driven.controlled, writes)):
            return
        driven.tried_s = now_s
        try:
            for name, value in command:
                await driven.writer.write(resource_id, name, value)
            if "alive" in writes:
                driven.beats = (driven.beats + 1) % 0x8000
                await driven.writer.write(resource_id, "alive", driven.beats)
        except AdapterError as error:
            driven.sent = None
            self._tell(driven, str(error))
            return
        driven.sent, driven.sent_s = command, self._clock.monotonic_s()
        if not driven.deaf:
            self._tell(driven, None)

    def _judge(self, driven: _Driven, power_w: float | None, now_s: float) -> None:
        """Whether it does what it was told: its own measurement says so, some time after the command."""
        envelope, most_w = driven.envelope, driven.controlled.resource.max_w
        if power_w is None or envelope is None or driven.sent is None:
            driven.outside_since_s = None
            return
        slack_w = max(0.05 * most_w, 100.0)
        inside = envelope.lower_w - slack_w <= power_w <= envelope.upper_w + slack_w
        if inside:
            driven.outside_since_s = None
            if driven.deaf:
                driven.deaf = False
                self._tell(driven, None)
            return
        if driven.outside_since_s is None:
            driven.outside_since_s = now_s
        if driven.deaf or now_s - driven.outside_since_s < OBEY_S:
            return
        driven.deaf = True
        driven.sent = None  # said once more: a device that was restarted has forgotten it
        self._tell(
            driven,
            f"it does not obey: {power_w:.0f} W measured, {envelope.lower_w:.0f} to {envelope.upper_w:.0f} W allowed; "
            "what it really does is counted. Check that it accepts external control, and that nothing else commands it",
        )

    def _tell(self, driven: _Driven, problem: str | None) -> None:
        before, driven.problem = driven.problem, problem
        if (before is None) == (problem is None):
            return
        name = driven.controlled.resource.resource_id
        text = f"{name}: " + ("obeys its limits again" if problem is None else problem.removeprefix(f"{name}: "))
        now_s = self._clock.monotonic_s()
        data: dict[str, float | str | None] = {"problem": problem}
        self._on_event(Event(self._clock.utc(), now_s, "resource_control", name, text, data))

    @staticmethod
    def _power_w(found: Mapping[str, Measurement], name: str | None, now_s: float) -> float | None:
        one = None if name is None else found.get(name)
        if one is None or now_s - one.taken_s > FRESH_S:
            return None
        if one.total_power_w is not None:
            return one.total_power_w
        return None if one.power_w is None else one.power_w.total


def _refresh_s(controlled: Controlled, writes: Collection[str]) -> float:
    """How often a command that stands is written again."""
    if controlled.lapses_s is not None:
        return min(controlled.lapses_s / 3, REFRESH_S)
    timed = {"limit_revert_s", "power_revert_s", "storage_revert_s", "alive"} & set(writes)
    return REFRESH_S if timed else UNHURRIED_REFRESH_S


def _command(driven: _Driven, writes: Collection[str], *, gone: bool) -> Command | None:
    """What is to be written now; ``None`` where the device takes nothing that would hold it."""
    envelope, resource = driven.envelope, driven.controlled.resource
    if envelope is None or gone:
        return _release(driven, writes)
    gives_w, takes_w = _floored(-envelope.lower_w, resource.max_w), _floored(envelope.upper_w, resource.max_w)
    if resource.kind is ResourceKind.PV:
        return _release(driven, writes) if gives_w >= resource.max_w else _curtail(driven.controlled, writes, gives_w)
    if "charge_limit_w" in writes or "discharge_limit_w" in writes:
        bound = gives_w < resource.max_w or takes_w < resource.max_w
        return _bounds(writes, takes_w, gives_w) if bound else _release(driven, writes)
    if "power_w" not in writes:
        return None
    return _release(driven, writes) if driven.led_w is None else _led(writes, driven.led_w)


def _release(driven: _Driven, writes: Collection[str]) -> Command | None:
    """Back to its own ways."""
    most_w = driven.controlled.resource.max_w
    if driven.controlled.resource.kind is ResourceKind.PV:
        name, value = ("limit_w", most_w) if "limit_w" in writes else ("limit_percent", 100.0)
        return _known(writes, ((name, value), ("limit_enable", 0.0))) if name in writes else None
    if "charge_limit_w" in writes or "discharge_limit_w" in writes:
        bounds = (("charge_limit_w", most_w), ("discharge_limit_w", most_w), ("storage_mode", 0.0))
        return _known(writes, bounds)
    if "power_enable" in writes:
        return (("power_enable", 0.0),)
    return () if "power_w" in writes else None  # it goes back when it is not written any more


def _curtail(controlled: Controlled, writes: Collection[str], gives_w: float) -> Command | None:
    most_w = controlled.resource.max_w
    name, value = ("limit_w", gives_w) if "limit_w" in writes else ("limit_percent", math.floor(100 * gives_w / most_w))
    if name not in writes:
        return None
    fallback_w = most_w if controlled.fallback_w is None else min(controlled.fallback_w, most_w)
    return _known(
        writes,
        (
            ("limit_revert_s", REVERT_S),
            ("limit_revert_percent", math.floor(100 * fallback_w / most_w)),
            ("limit_revert_enable", float(fallback_w < most_w)),
            (name, value),
            ("limit_enable", 1.0),
        ),
    )


def _bounds(writes: Collection[str], takes_w: float, gives_w: float) -> Command:
    return _known(
        writes,
        (
            ("storage_revert_s", REVERT_S),
            ("charge_limit_w", takes_w),
            ("discharge_limit_w", gives_w),
            ("storage_mode", 3.0),
        ),
    )


def _led(writes: Collection[str], power_w: float) -> Command:
    return _known(
        writes,
        (
            ("power_revert_s", REVERT_S),
            ("power_revert_w", 0.0),
            ("power_revert_enable", 0.0),
            ("power_mode", 1.0),
            ("power_w", power_w),
            ("power_enable", 1.0),
        ),
    )


def _known(writes: Collection[str], command: Command) -> Command:
    return tuple((name, value) for name, value in command if name in writes)


def _floored(power_w: float, most_w: float) -> float:
    """Never more than allowed, in steps."""
    step_w = max(most_w / STEPS, 1.0)
    return min(most_w, max(0.0, math.floor(power_w / step_w + 1e-6) * step_w))


def _lead(driven: _Driven, power_w: float | None, grid_w: float | None, now_s: float) -> None:
    """A battery that takes a set-point and no bounds is led while its own ways would leave the envelope.

    Led, it goes half of the way each time to where the site exchanges nothing with the grid (what it would do by
    itself), inside the envelope; it is left alone once that stayed inside for a while.
    """
    envelope, most_w = driven.envelope, driven.controlled.resource.max_w
    if envelope is None or driven.controlled.resource.kind is ResourceKind.PV:
        return
    low_w, high_w = envelope.lower_w, envelope.upper_w
    bound = low_w > -most_w or high_w < most_w
    if driven.led_w is None:
        outside = power_w is None or not low_w <= power_w <= high_w
        if not (bound and outside):
            return
        driven.led_w, driven.free_since_s = 0.0 if power_w is None else power_w, None
    wish_w = 0.0 if power_w is None or grid_w is None else driven.led_w + (power_w - grid_w - driven.led_w) / 2
    step_w = max(most_w / STEPS, 1.0)
    driven.led_w = math.trunc(min(max(wish_w, low_w), high_w) / step_w) * step_w
    if bound and not low_w < wish_w < high_w:
        driven.free_since_s = None
    elif driven.free_since_s is None:
        driven.free_since_s = now_s
    elif now_s - driven.free_since_s >= RELEASE_S:
        driven.led_w = driven.free_since_s = None
