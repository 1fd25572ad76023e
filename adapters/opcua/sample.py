"""What is known of one device behind an OPC UA server, and the sample that it makes."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from adapters.opcua.feed import Batch
from adapters.quality import QualityCheck, Sample
from adapters.reading import Reading
from adapters.trouble import Trouble
from cem.config.models import Device
from cem.config.opcua_models import OpcUaServer
from cem.core.state import Measurement
from cem.ports import Clock

HEARTBEAT = "heartbeat"
STILL_S = 10.0
"""A life counter that stands still for longer is told; what it guards is as old as its last movement."""

READ_ANYWAY_S = 10.0
"""A watched device is read whole this often: values of one moment, and what the subscription should have said."""

RENEWED = 0.4
"""Of a period: after this the values that did not change are taken over again."""

_SLOW = ("voltage_", "energy_", "soc_")


class Sampled:
    """One device: its latest values, and what was made of them.

    Args:
        device: Its section of the site file.
        server: The server's.
        trouble: Where its problems are told.
        clock: Monotonic time.
    """

    def __init__(self, device: Device, server: OpcUaServer, trouble: Trouble, clock: Clock) -> None:
        self.device = device
        self.latest: Measurement | None = None
        self.reading: Reading | None = None
        self.trouble = trouble
        self.lag_s: float | None = None  # how old a value may be when it is published; None: nobody watches it for us
        self._check = QualityCheck(device)
        self._clock = clock
        self._by_source_time = server.source_time
        self._scales: dict[str, float] = {name: value.scale for name, value in device.nodes.items()}
        self._fast = frozenset(name for name in self._scales if not name.startswith(_SLOW))
        self._wanted = len(self._scales) + (device.heartbeat is not None)
        self._cells: dict[str, Any] = {}
        self._mixed_s = -math.inf
        self._unlike = False  # judged without comparing its values with each other
        self._judged_s = -math.inf
        self._read_s = -math.inf
        self._beat: Any = None
        self._moved_s: float | None = None
        self._since_s = 0.0
        trouble.problem = f"{device.id}: not read yet from {server.endpoint}"

    def connected(self) -> None:
        """Forget what was heard by an earlier session."""
        self._beat = None  # a first value is no movement
        self._since_s = self._clock.monotonic_s()
        self._cells = {}
        self.lag_s = None
        self._read_s = self._judged_s = self._mixed_s = -math.inf

    def wants_a_read(self, now_s: float) -> bool:
        """It is read: always where the server watches it not, else now and then."""
        return self.lag_s is None or now_s - self._read_s >= READ_ANYWAY_S

    def read(self, values: Mapping[str, Any], started_s: float) -> None:
        """All values, by one read."""
        self._read_s = self._judged_s = started_s
        self._cells = dict(values)
        self._beat_of(values, started_s)
        self._unlike = False
        self._judge(started_s, None, coherent=True, latency_s=self._clock.monotonic_s() - started_s)

    def published(self, batch: Batch, changed: Mapping[str, Any] | None, round_trip_s: float) -> None:
        """An answer of the subscription: ``changed`` values of this device, or none of them."""
        if self.lag_s is None:
            return
        known_s = batch.known_s - self.lag_s
        if changed:
            self._cells.update(changed)
            self._beat_of(changed, known_s)
            changed = {name: data for name, data in changed.items() if name != HEARTBEAT}
        if len(self._cells) < self._wanted:
            return
        if changed and not self._fast <= changed.keys():
            self._mixed_s = batch.known_s  # some of them are from before: not to be compared with each other
        elif not changed:
            if batch.known_s - self._judged_s < RENEWED * self.device.poll_s:
                return
            if self._goes_on(known_s, round_trip_s):
                return
        settled = bool(changed and self._fast <= changed.keys()) or known_s > self._mixed_s
        self._judge(known_s, batch.server_time, coherent=settled, latency_s=round_trip_s)
        self._judged_s, self._unlike = batch.known_s, not settled

    def _goes_on(self, known_s: float, round_trip_s: float) -> bool:
        """The same good values hold on; nothing has to be judged again."""
        last, reading = self.latest, self.reading
        if self._unlike or self._by_source_time or self.device.heartbeat is not None:
            return False
        if last is None or reading is None or reading.measurement is not last:
            return False
        self.latest = replace(last, taken_s=known_s)
        self.reading = replace(reading, taken_s=known_s, latency_s=round_trip_s, measurement=self.latest)
        self.trouble.good()
        return True

    def _judge(self, taken_s: float, server_time: datetime | None, *, coherent: bool, latency_s: float) -> None:
        known_s = taken_s
        numbers: dict[str, float] = {}
        bad: list[str] = []
        for name, data in self._cells.items():
            if name == HEARTBEAT:
                continue
            status, value = data.StatusCode, data.Value.Value if data.Value is not None else None
            if status is not None and not status.is_good():
                bad.append(f"{name} has status {status.name}")
            elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                bad.append(f"{name} holds {str(value)[:40]!r}, not a number")
            else:
                numbers[name] = value * self._scales[name]
                if self._by_source_time and not name.startswith(_SLOW):
                    age_s = _age_s(data.SourceTimestamp, server_time or data.ServerTimestamp)
                    taken_s = min(taken_s, known_s - age_s)
        if self.device.heartbeat is not None:
            still_s = known_s - (self._since_s if self._moved_s is None else self._moved_s)
            if still_s > max(STILL_S, 3 * self.device.poll_s):
                bad.append(f"its heartbeat {self.device.heartbeat} stands still: the device behind the server is away")
            if self._moved_s is None:
                numbers.clear()
            else:
                taken_s = min(taken_s, self._moved_s)
        outcome = self._check.judge(Sample(taken_s, numbers, coherent)) if numbers else None
        if isinstance(outcome, Measurement):
            self.latest = outcome
        problem = None
        if bad:
            problem = f"{self.device.id}: {'; '.join(bad[:3])}; check the nodes, or ask whoever runs the server"
        elif isinstance(outcome, str):
            problem = f"{self.device.id}: {outcome}"
        elif outcome is None:
            return  # its heartbeat has not moved yet
        if problem is None:
            self.trouble.good()
        else:
            self.trouble.bad(problem)
        found = outcome if problem is None and isinstance(outcome, Measurement) else None
        self.reading = Reading(known_s, latency_s, numbers, found, problem, answered=True)

    def _beat_of(self, values: Mapping[str, Any], now_s: float) -> None:
        data = values.get(HEARTBEAT)
        if data is None or (data.StatusCode is not None and not data.StatusCode.is_good()):
            return
        value = data.Value.Value if data.Value is not None else None
        if self._beat is not None and value != self._beat:
            self._moved_s = now_s
        self._beat = value


def _age_s(source: datetime | None, server: datetime | None) -> float:
    if source is None or server is None:
        return 0.0
    return max(0.0, (server - source).total_seconds())
