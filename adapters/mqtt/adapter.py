"""Meters, inverters, batteries and contacts that publish to a broker, as JSON or as plain words and numbers."""

import asyncio
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from adapters.mqtt.contact import MqttContact
from adapters.mqtt.device import MqttDevice
from adapters.mqtt.link import Link
from adapters.mqtt.output import LOOK_S, MqttOutput
from adapters.mqtt.write import MqttWrites
from adapters.reading import Reading
from adapters.trouble import Trouble
from cem.config.contact_models import ContactorSection, ContactSection
from cem.config.models import Device
from cem.config.mqtt_models import MqttBroker, MqttKeepalive
from cem.core.limits import LimitSignal
from cem.core.state import Measurement
from cem.errors import AdapterError, DeviceMisconfigured
from cem.ports import Clock, News

LARGEST_PAYLOAD = 65_536
GATHER_S = 0.05
"""What came in this time is taken over together: to change threads costs more than a message. Ages count from arrival."""


_Listener = MqttDevice | MqttContact | MqttOutput


class MqttAdapter:
    """Keeps the latest value of each configured topic; nothing is queued, a flood is coalesced.

    A retained message is what somebody said once, not that he lives: it is ignored (GRID_SIGNALS, L10). The last good
    sample stays when the broker is away: its age tells.

    Args:
        connection: The broker.
        devices: Every device that comes by this broker.
        clock: Monotonic time; asked from the network thread too.
        news: Called when a device begins or ceases to send nonsense, and when a contact changes.
        contacts: Every contact that comes by this broker.
        contactors: Outputs that are switched by this broker.
    """

    def __init__(
        self,
        connection: MqttBroker,
        devices: Sequence[Device],
        clock: Clock,
        news: News,
        contacts: Sequence[ContactSection] = (),
        contactors: Sequence[ContactorSection] = (),
    ) -> None:
        self.name = f"mqtt {connection.host}:{connection.port}"
        self._broker = connection
        self._clock = clock
        self._news = news
        self._devices = [MqttDevice(device, Trouble(device.id, clock, news)) for device in devices]
        self._contacts = [MqttContact(c, Trouble(f"contact {c.id}", clock, news), clock) for c in contacts]
        self._outputs = [MqttOutput(c, Trouble(f"contactor {c.id}", clock, news), clock) for c in contactors]
        self._digital: tuple[MqttContact | MqttOutput, ...] = (*self._contacts, *self._outputs)
        self._listeners: tuple[_Listener, ...] = (*self._devices, *self._digital)
        self._writes = MqttWrites(list(devices))
        self._link: Link | None = None
        self._topics = self._all_topics()
        self._keepalives = tuple(dict.fromkeys(d.keepalive for d in devices if d.keepalive is not None))
        self._by_topic: dict[str, list[_Listener]] = {}
        for listener in self._listeners:
            will = frozenset() if listener.availability is None else {listener.availability.topic}
            for topic in listener.topics | will:
                self._by_topic.setdefault(topic, []).append(listener)
        for topic in self._topics:
            if "#" in topic or "+" in topic:
                raise DeviceMisconfigured(f"{self.name}: topic {topic!r}: a value needs one topic, without + and #")

    def _all_topics(self) -> frozenset[str]:
        said = {topic for listener in self._listeners for topic in listener.topics}
        said |= self._writes.topics
        return frozenset(said | {li.availability.topic for li in self._listeners if li.availability is not None})

    def measurements(self) -> Mapping[str, Measurement]:
        """The latest good sample of each device that ever sent one."""
        return {device.device.id: device.latest for device in self._devices if device.latest is not None}

    def signals(self) -> Mapping[str, LimitSignal]:
        """None: no limit comes by this adapter."""
        return {}

    def contacts(self) -> Mapping[str, bool | None]:
        """For each contact whether it acts; ``None``: it cannot be read."""
        return {contact.config.id: contact.active() for contact in self._contacts}

    def contactors(self) -> Mapping[str, bool | None]:
        """For each contactor whether it is closed; ``None``: nobody knows."""
        return {output.config.id: output.closed for output in self._outputs}

    def switch(self, contactor: str, closed: bool) -> None:
        """Have a contactor closed or opened, and kept so; returns at once. Others' are left alone."""
        for output in self._outputs:
            if output.config.id == contactor and output.switch(closed=closed) and self._link is not None:
                output.tend(self._link)

    def problems(self) -> Mapping[str, str]:
        """Devices without a good sample at the moment, and why."""
        told = {device.device.id: device.trouble.problem for device in self._devices}
        told |= {one.config.id: one.trouble.problem for one in self._digital}
        return {name: problem for name, problem in told.items() if problem is not None}

    @property
    def ready(self) -> bool:
        """Something can be written."""
        return self._link is not None and self._link.connected

    def reading(self, device_id: str) -> Reading | None:
        """The last one of a device of ours, for tools."""
        return next(device.reading for device in self._devices if device.device.id == device_id)

    def serves(self, device_id: str) -> bool:
        """It is one of this adapter's devices."""
        return any(device.device.id == device_id for device in self._devices)

    def writes(self, device_id: str) -> Collection[str] | None:
        """Names that a device of ours can be written by; ``None`` while the broker is away."""
        return self._writes.names(device_id) if self.ready else None

    async def write(self, device_id: str, name: str, value: float) -> float:
        """Set one value of a device, see ``MqttWrites.write``.

        Raises:
            AdapterError: It was not set, or that is not known.
        """
        if not self.serves(device_id):
            raise DeviceMisconfigured(f"{device_id}: no such device behind {self.name}")
        return await self._writes.write(self._link, device_id, name, value)

    async def run(self) -> None:
        """Listen until the broker is lost.

        Raises:
            DeviceUnavailable: The broker is away.
            DeviceRefused: It refuses us.
        """
        loop = asyncio.get_running_loop()
        cell = _Latest(self._clock)

        def heard() -> None:
            changed = False
            for topic, (payload, taken_s, retained) in cell.take().items():
                self._writes.heard(topic, payload, retained=retained)
                for listener in self._by_topic.get(topic, ()):
                    changed |= listener.heard(topic, payload, taken_s, retained=retained)
            if changed:
                self._news()

        def on_message(topic: str, payload: bytes, retained: bool) -> None:
            if topic in self._topics and cell.put(topic, payload, retained=retained):
                with suppress(RuntimeError):  # the loop has gone, and we with it
                    loop.call_soon_threadsafe(loop.call_later, GATHER_S, heard)

        for listener in self._listeners:
            listener.connected()
        self._link = link = Link(self.name, self._broker, dict.fromkeys(self._topics, 0), on_message)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(link.run())
                for keepalive in self._keepalives:
                    group.create_task(_keep_alive(link, keepalive))
                if self._outputs:
                    group.create_task(_tend(link, self._outputs))
        except* AdapterError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._link = None
            for one in self._digital:
                one.lost()


async def _tend(link: Link, outputs: Sequence[MqttOutput]) -> None:
    while True:
        for output in outputs:
            output.tend(link)
        await asyncio.sleep(LOOK_S)


async def _keep_alive(link: Link, keepalive: MqttKeepalive) -> None:
    """The first one goes out as soon as we are connected: what waits is said then."""
    while True:
        link.publish(keepalive.topic, keepalive.payload.encode())
        await asyncio.sleep(keepalive.every_s)


class _Latest:
    """The latest payload of each topic, from the network thread to the loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: dict[str, tuple[bytes, float, bool]] = {}  # bounded by the topics we asked for

    def put(self, topic: str, payload: bytes, *, retained: bool) -> bool:
        """``True`` where somebody should come and take it."""
        kept = payload if len(payload) <= LARGEST_PAYLOAD else b"(too long)"
        with self._lock:
            first = not self._latest
            self._latest[topic] = (kept, self._clock.monotonic_s(), retained)
        return first

    def take(self) -> Mapping[str, tuple[bytes, float, bool]]:
        """What came since the last call, with its time."""
        with self._lock:
            latest, self._latest = self._latest, {}
            return latest
