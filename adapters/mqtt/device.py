"""One device behind a broker: what it said last, as a sample that may be believed or not."""

from collections.abc import Iterable

from adapters.mqtt.availability import Availability
from adapters.mqtt.payload import Steps, follow, number_of, parsed, steps_of
from adapters.quality import QualityCheck, Sample
from adapters.reading import Reading
from adapters.trouble import Trouble
from cem.config.models import Device
from cem.config.mqtt_models import MqttValue
from cem.core.state import Measurement

_SLOW = ("voltage_", "energy_", "soc_")  # may come rarely; the age of a sample is that of its currents and powers

Source = tuple[str, str | None]
"""Topic and path of one number."""


class MqttDevice:
    """The latest numbers of a device, by value name.

    Args:
        device: Its section of the site file.
        trouble: Where its outages are told.
    """

    def __init__(self, device: Device, trouble: Trouble) -> None:
        self.device = device
        self.trouble = trouble
        self.latest: Measurement | None = None
        self.reading: Reading | None = None
        self.values: dict[str, tuple[float, float]] = {}
        self._spoke: set[str] = set()
        self._numbers: dict[Source, tuple[float, float]] = {}
        self._scales: dict[str, float] = {name: value.scale for name, value in device.values.items()}
        self._sources: dict[str, tuple[Source, Source | None]] = {
            name: (_plus(value), _minus(value)) for name, value in device.values.items()
        }
        self.topics = frozenset(topic for plus, minus in self._sources.values() for topic, _ in (plus, minus or plus))
        self._by_topic: dict[str, list[tuple[Source, Steps, str, float | None]]] = {topic: [] for topic in self.topics}
        for name, (plus, minus) in self._sources.items():
            scale = self._scales[name] if minus is None else None  # a difference is worked out apart
            for source in (plus, minus):
                if source is not None:
                    self._by_topic[source[0]].append((source, steps_of(source[1] or ""), name, scale))
        self._documents = {topic: any(s[1] is not None for s, *_ in found) for topic, found in self._by_topic.items()}
        self._check = QualityCheck(device)
        self._coherent = len(self.topics) == 1
        self._fast = [name for name in self._sources if not name.startswith(_SLOW)]
        self.availability = None if device.availability is None else Availability(device.availability)
        told = ", ".join(sorted(self.topics))
        self.trouble.problem = f"{device.id}: nothing heard yet on {told} (retained messages do not count)"

    def connected(self) -> None:
        """To the broker, anew: whether the device lives is said again."""
        if self.availability is not None:
            self.availability.forget()

    def heard(self, topic: str, payload: bytes, taken_s: float, *, retained: bool) -> bool:
        """A message on one of its topics; ``False``: control need not be told of a sample."""
        if self.availability is not None and self.availability.heard(topic, payload):
            if self.availability.online is False:
                self.values.clear()
                self._numbers.clear()
                self._spoke.clear()
                gone = (
                    f"{self.device.id}: the broker says that it is offline ({topic}: {payload[:40].decode(errors='replace')}); "
                    "check its power and its network"
                )
                self.trouble.bad(gone)
                self.reading = Reading(taken_s, None, {}, None, gone, answered=False)
            return False
        if retained or topic not in self.topics:
            return False  # L10: said once, some time ago
        if self.availability is not None and self.availability.online is False:
            return False
        bad = self._read(topic, payload, taken_s)
        problem = f"{self.device.id}: {self._told(bad, topic, payload)}" if bad else None
        numbers = {name: number for name, (number, _) in self.values.items()}
        found: Measurement | None = None
        if numbers:
            outcome = self._check.judge(
                Sample(
                    taken_s if self._coherent else _age_from_s(self.values, self._fast),
                    numbers,
                    coherent=self._coherent,
                )
            )
            if isinstance(outcome, Measurement):
                self.latest = found = outcome
            elif problem is None:
                problem = f"{self.device.id}: {outcome}"
        waited_for = sorted(self.topics - self._spoke)
        if found is None and not bad:
            if waited_for:  # half of a first sample is no outage
                self.trouble.problem = f"{self.device.id}: nothing heard yet on {', '.join(waited_for)}"
                return False
            if problem is None:
                return False
        if problem is not None:
            self.trouble.bad(problem)
        else:
            self.trouble.good()
        self.reading = Reading(taken_s, None, numbers, None if problem else found, problem, answered=True)
        return False

    def _read(self, topic: str, payload: bytes, taken_s: float) -> list[str]:
        """Takes in what a payload says; the names of values that could not be read from it."""
        self._spoke.add(topic)
        document = parsed(payload) if self._documents[topic] else None
        bad = []
        for source, steps, name, scale in self._by_topic[topic]:
            path = source[1]
            number = number_of(payload.decode(errors="replace") if path is None else follow(document, steps, path))
            if number is None:
                self._numbers.pop(source, None)
                bad.append(name)
            elif scale is not None:
                self.values[name] = (number * scale, taken_s)
                continue
            else:
                self._numbers[source] = (number, taken_s)
            self._work_out(name)
        return list(dict.fromkeys(bad))

    def _work_out(self, name: str) -> None:
        """A value that is a difference, or that could not be read."""
        plus, minus = self._sources[name]
        first, second = self._numbers.get(plus), self._numbers.get(minus) if minus is not None else None
        if first is None or second is None:
            self.values.pop(name, None)
        else:
            self.values[name] = ((first[0] - second[0]) * self._scales[name], min(first[1], second[1]))

    def _told(self, bad: Iterable[str], topic: str, payload: bytes) -> str:
        sources = self._sources
        names = ", ".join(
            f"{name} ({' - '.join(s[1] or 'a plain number' for s in sources[name] if s and s[0] == topic)})"
            for name in bad
        )
        seen = payload[:60].decode(errors="replace")
        return f"cannot read {names} from topic {topic}, which says {seen!r}; check topic and path in the site file"


def _plus(value: MqttValue) -> Source:
    return value.topic, value.path


def _minus(value: MqttValue) -> Source | None:
    if value.minus_topic is None and value.minus_path is None:
        return None
    return value.minus_topic or value.topic, value.minus_path or value.path


def _age_from_s(values: dict[str, tuple[float, float]], fast_names: Iterable[str]) -> float:
    """A sample is as old as the oldest current or power in it: one phase that fell silent makes all of it old."""
    fast = [values[name][1] for name in fast_names if name in values]
    return min(fast) if fast else max(taken_s for _, taken_s in values.values())
