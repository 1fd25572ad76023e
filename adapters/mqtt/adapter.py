"""MQTT: meters, inverters and batteries that publish to a broker, as JSON or as plain numbers."""

import asyncio
import json
import math
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from adapters.mqtt.link import Link
from adapters.quality import QualityCheck, Sample
from adapters.trouble import Trouble
from cem.config.models import Device
from cem.config.mqtt_models import MqttBroker, MqttValue
from cem.core.limits import LimitSignal
from cem.core.state import Measurement
from cem.errors import DeviceMisconfigured
from cem.ports import Clock, News

LARGEST_PAYLOAD = 65_536

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_SLOW = ("voltage_", "energy_", "soc_")  # may come rarely; the age of a sample is that of its currents and powers


class MqttAdapter:
    """Keeps the latest value of each configured topic; nothing is queued, a flood is coalesced.

    A retained message is what somebody said once, not that he lives: it is ignored (GRID_SIGNALS, L10). The last good
    sample stays when the broker is away: its age tells.

    Args:
        connection: The broker.
        devices: Every device that comes by this broker.
        clock: Monotonic time; asked from the network thread too.
        news: Called when a device begins or ceases to send nonsense.
    """

    def __init__(self, connection: MqttBroker, devices: Sequence[Device], clock: Clock, news: News) -> None:
        self.name = f"mqtt {connection.host}:{connection.port}"
        self._broker = connection
        self._clock = clock
        self._devices = [_Device(device, Trouble(device.id, clock, news)) for device in devices]
        self._topics = sorted({value.topic for device in devices for value in device.values.values()})
        for topic in self._topics:
            if "#" in topic or "+" in topic:
                raise DeviceMisconfigured(f"{self.name}: topic {topic!r}: a value needs one topic, without + and #")

    def measurements(self) -> Mapping[str, Measurement]:
        """The latest good sample of each device that ever sent one."""
        return {device.device.id: device.latest for device in self._devices if device.latest is not None}

    def signals(self) -> Mapping[str, LimitSignal]:
        """None: no limit comes by this adapter."""
        return {}

    def problems(self) -> Mapping[str, str]:
        """Devices without a good sample at the moment, and why."""
        return {
            device.device.id: device.trouble.problem for device in self._devices if device.trouble.problem is not None
        }

    async def run(self) -> None:
        """Listen until the broker is lost.

        Raises:
            DeviceUnavailable: The broker is away.
            DeviceRefused: It refuses us.
        """
        loop = asyncio.get_running_loop()
        cell = _Latest(self._clock)

        def heard() -> None:
            for topic, (payload, taken_s) in cell.take().items():
                for device in self._devices:
                    device.heard(topic, payload, taken_s)

        def on_message(topic: str, payload: bytes, retained: bool) -> None:
            if retained or topic not in self._topics:
                return
            if cell.put(topic, payload):
                with suppress(RuntimeError):  # the loop has gone, and we with it
                    loop.call_soon_threadsafe(heard)

        await Link(self.name, self._broker, dict.fromkeys(self._topics, 0), on_message).run()


class _Latest:
    """The latest payload of each topic, from the network thread to the loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: dict[str, tuple[bytes, float]] = {}  # bounded by the topics we asked for

    def put(self, topic: str, payload: bytes) -> bool:
        """``True`` where somebody should come and take it."""
        kept = payload if len(payload) <= LARGEST_PAYLOAD else b"(too long)"
        with self._lock:
            first = not self._latest
            self._latest[topic] = (kept, self._clock.monotonic_s())
        return first

    def take(self) -> Mapping[str, tuple[bytes, float]]:
        """What came since the last call, with its time."""
        with self._lock:
            latest, self._latest = self._latest, {}
            return latest


@dataclass
class _Device:
    """What one device said last, by value name."""

    device: Device
    trouble: Trouble
    latest: Measurement | None = None
    values: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check = QualityCheck(self.device)
        self._coherent = len({value.topic for value in self.device.values.values()}) == 1
        topics = ", ".join(sorted({value.topic for value in self.device.values.values()}))
        self.trouble.problem = f"{self.device.id}: nothing heard yet on {topics} (retained messages do not count)"

    def heard(self, topic: str, payload: bytes, taken_s: float) -> None:
        wanted: dict[str, MqttValue] = {
            name: value for name, value in self.device.values.items() if value.topic == topic
        }
        if not wanted:
            return
        bad: list[str] = []
        parsed = _json(payload) if any(value.path for value in wanted.values()) else None
        for name, value in wanted.items():
            number = _number(payload.decode(errors="replace")) if value.path is None else _at(parsed, value.path)
            if number is None:
                bad.append(name)
                self.values.pop(name, None)
            else:
                self.values[name] = (number * value.scale, taken_s)
        if bad:
            self.trouble.bad(f"{self.device.id}: {self._told(wanted, bad, topic, payload)}")
        if not self.values:
            return
        outcome = self._check.judge(
            Sample(
                _age_from_s(self.values),
                {name: number for name, (number, _) in self.values.items()},
                coherent=self._coherent,
            )
        )
        if isinstance(outcome, Measurement):
            self.latest = outcome
            if not bad:
                self.trouble.good()
        elif not bad:
            self.trouble.bad(f"{self.device.id}: {outcome}")

    @staticmethod
    def _told(wanted: Mapping[str, MqttValue], bad: Iterable[str], topic: str, payload: bytes) -> str:
        names = ", ".join(f"{name} ({wanted[name].path or 'a plain number'})" for name in bad)
        seen = payload[:60].decode(errors="replace")
        return f"cannot read {names} from topic {topic}, which says {seen!r}; check topic and path in the site file"


def _age_from_s(values: Mapping[str, tuple[float, float]]) -> float:
    """A sample is as old as the oldest current or power in it: one phase that fell silent makes all of it old."""
    fast = [taken_s for name, (_, taken_s) in values.items() if not name.startswith(_SLOW)]
    return min(fast) if fast else max(taken_s for _, taken_s in values.values())


def _json(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def _at(document: Any, path: str) -> float | None:
    """The number at a dotted path; a list is indexed by number."""
    for key in path.split("."):
        if isinstance(document, dict):
            document = document.get(key)
        elif isinstance(document, list) and key.isdecimal() and int(key) < len(document):
            document = document[int(key)]
        else:
            return None
    if isinstance(document, str):
        return _number(document)
    if isinstance(document, bool) or not isinstance(document, int | float):
        return None
    try:
        number = float(document)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _number(text: str) -> float | None:
    """A plain number as devices write it; nothing else (``16,0`` or ``on``) is guessed at."""
    stripped = text.strip()
    if not _NUMBER.fullmatch(stripped):
        return None
    number = float(stripped)
    return number if math.isfinite(number) else None
