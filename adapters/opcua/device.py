"""OPC UA: meters, inverters and batteries whose values are nodes of a server."""

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from adapters.opcua import session
from adapters.opcua.write import write_node
from adapters.quality import QualityCheck, Sample
from adapters.reading import Reading
from adapters.trouble import Trouble
from cem.config.models import Device
from cem.config.opcua_models import OpcUaServer
from cem.core.limits import LimitSignal
from cem.core.state import Measurement
from cem.errors import DeviceMisconfigured, DeviceUnavailable
from cem.ports import Clock, News
from cem.supervise import obey_cancellation

HEARTBEAT = "heartbeat"
STILL_S = 10.0
"""A life counter that stands still for longer is told; what it guards is as old as its last movement."""

_SLOW = ("voltage_", "energy_", "soc_")


class OpcUaDevices:
    """Reads the nodes of every device behind one server, each device at its own period, one request at a time.

    A read proves that the server lives, not that the meter behind it does: a life counter does, or the time at which
    the server says that it took the value.

    Args:
        connection: The server.
        devices: Every device that comes by it.
        clock: Monotonic time.
        news: Called when a device begins or ceases to fail.
    """

    def __init__(self, connection: OpcUaServer, devices: Sequence[Device], clock: Clock, news: News) -> None:
        self.name = f"opcua {connection.endpoint.removeprefix('opc.tcp://')}"
        self._server = connection
        self._clock = clock
        self._devices = [_Device(device, connection, Trouble(device.id, clock, news), clock) for device in devices]
        self._session: tuple[Any, Any, int] | None = None

    def measurements(self) -> Mapping[str, Measurement]:
        """The latest good sample of each device that ever gave one."""
        return {device.device.id: device.latest for device in self._devices if device.latest is not None}

    def signals(self) -> Mapping[str, LimitSignal]:
        """None: no limit comes by this adapter."""
        return {}

    def problems(self) -> Mapping[str, str]:
        """Devices without a good sample at the moment, and why."""
        return {d.device.id: d.trouble.problem for d in self._devices if d.trouble.problem is not None}

    @property
    def ready(self) -> bool:
        """Something can be written."""
        return self._session is not None

    def reading(self, device_id: str) -> Reading | None:
        """The last one of a device of ours, for tools."""
        return next(each.reading for each in self._devices if each.device.id == device_id)

    def serves(self, device_id: str) -> bool:
        """It is one of this adapter's devices."""
        return any(each.device.id == device_id for each in self._devices)

    def writes(self, device_id: str) -> Collection[str] | None:
        """Names that a device of ours can be written by; ``None`` while the server is away."""
        if self._session is None:
            return None
        return next(sorted(each.device.write_nodes) for each in self._devices if each.device.id == device_id)

    async def write(self, device_id: str, name: str, value: float) -> float:
        """Set one value of a device and read it back, see ``write_node``; nothing is sent later than asked.

        Raises:
            AdapterError: It was not set, or that is not known.
        """
        device = next((each.device for each in self._devices if each.device.id == device_id), None)
        if device is None:
            raise DeviceMisconfigured(f"{device_id}: no such device behind {self.name}")
        if self._session is None:
            raise DeviceUnavailable(f"{device_id}: {name} cannot be set: no connection to {self._server.endpoint}")
        client, ua, index = self._session
        return await write_node(client, ua, device, index, name, value)

    async def run(self) -> None:
        """Read until the server is lost.

        Raises:
            DeviceUnavailable: The server is away.
            DeviceRefused: It refuses our user or our certificate.
            DeviceMisconfigured: It has no such namespace, node or security, or is not trusted.
        """
        try:
            await self._read_all(f"{self.name}: {self._server.endpoint}")
        finally:
            self._session = None

    async def _read_all(self, where: str) -> None:
        async with session.connected(self.name, self._server) as (client, ua):
            lost = asyncio.Event()

            async def connection_lost(_error: Exception) -> None:
                lost.set()

            client.connection_lost_callback = connection_lost
            async with asyncio.timeout(session.CONNECT_TIMEOUT_S):
                index = await session.namespace_index(client, self._server, where)
                nodes = [await self._nodes(client, ua, device, index) for device in self._devices]
            obey_cancellation()
            self._session = (client, ua, index)
            due_s = [self._clock.monotonic_s()] * len(self._devices)
            for device in self._devices:
                device.connected()
            while not lost.is_set():
                now_s = self._clock.monotonic_s()
                for i, device in enumerate(self._devices):
                    if due_s[i] > now_s:
                        continue
                    period_s = device.device.poll_s
                    due_s[i] = max(due_s[i] + period_s, now_s + period_s / 2)  # a missed read is skipped, never queued
                    started_s = self._clock.monotonic_s()
                    async with asyncio.timeout(session.READ_TIMEOUT_S):
                        values = await _read(client, ua, list(nodes[i].values()))
                    obey_cancellation()
                    device.heard(dict(zip(nodes[i], values, strict=True)), started_s)
                try:
                    async with asyncio.timeout(max(0.0, min(due_s) - self._clock.monotonic_s())):
                        await lost.wait()
                except TimeoutError:
                    obey_cancellation()
        raise DeviceUnavailable(f"{where}: connection lost; check network and server")

    async def _nodes(self, client: Any, ua: Any, device: "_Device", index: int) -> dict[str, Any]:
        where = f"{self.name}: {self._server.endpoint}: {device.device.id}"
        wanted: dict[str, str] = {name: value.node for name, value in device.device.nodes.items()}
        if device.device.heartbeat is not None:
            wanted[HEARTBEAT] = device.device.heartbeat
        return {name: await session.find_node(client, ua, text, index, where) for name, text in wanted.items()}


async def _read(client: Any, ua: Any, nodes: list[Any]) -> list[Any]:
    """Values with status and both times: how old a value was when it was read is by the server's own clock."""
    wanted = [ua.ReadValueId(NodeId=node.nodeid, AttributeId=ua.AttributeIds.Value) for node in nodes]
    parameters = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=wanted)
    values: list[Any] = await client.uaclient.read(parameters)
    return values


class _Device:
    def __init__(self, device: Device, server: OpcUaServer, trouble: Trouble, clock: Clock) -> None:
        self.device = device
        self.latest: Measurement | None = None
        self.reading: Reading | None = None
        self.trouble = trouble
        self._check = QualityCheck(device)
        self._clock = clock
        self._by_source_time = server.source_time
        self._scales: dict[str, float] = {name: value.scale for name, value in device.nodes.items()}
        self._beat: Any = None
        self._moved_s: float | None = None
        self._since_s = 0.0
        trouble.problem = f"{device.id}: not read yet from {server.endpoint}"

    def connected(self) -> None:
        self._beat = None  # a first value is no movement
        self._since_s = self._clock.monotonic_s()

    def heard(self, values: Mapping[str, Any], started_s: float) -> None:
        numbers: dict[str, float] = {}
        bad: list[str] = []
        taken_s = started_s
        for name, data in values.items():
            status, value = data.StatusCode, data.Value.Value if data.Value is not None else None
            if name == HEARTBEAT:
                if status is None or status.is_good():
                    self._heard_beat(value, started_s)
                continue
            if status is not None and not status.is_good():
                bad.append(f"{name} has status {status.name}")
            elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                bad.append(f"{name} holds {str(value)[:40]!r}, not a number")
            else:
                numbers[name] = value * self._scales[name]
                if self._by_source_time and not name.startswith(_SLOW):
                    taken_s = min(taken_s, started_s - _age_s(data.SourceTimestamp, data.ServerTimestamp))
        if self.device.heartbeat is not None:
            still_s = started_s - (self._since_s if self._moved_s is None else self._moved_s)
            if still_s > max(STILL_S, 3 * self.device.poll_s):
                bad.append(f"its heartbeat {self.device.heartbeat} stands still: the device behind the server is away")
            if self._moved_s is None:
                numbers.clear()
            else:
                taken_s = min(taken_s, self._moved_s)
        outcome = self._check.judge(Sample(taken_s, numbers)) if numbers else None
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
        latency_s = self._clock.monotonic_s() - started_s
        self.reading = Reading(started_s, latency_s, numbers, found, problem, answered=True)

    def _heard_beat(self, value: Any, now_s: float) -> None:
        if self._beat is not None and value != self._beat:
            self._moved_s = now_s
        self._beat = value


def _age_s(source: datetime | None, server: datetime | None) -> float:
    if source is None or server is None:
        return 0.0
    return max(0.0, (server - source).total_seconds())
