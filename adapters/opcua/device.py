"""OPC UA: meters, inverters and batteries whose values are nodes of a server."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from adapters.opcua import session
from adapters.opcua.feed import Batch, Feed
from adapters.opcua.sample import HEARTBEAT, Sampled
from adapters.opcua.write import write_node
from adapters.reading import Reading
from adapters.trouble import Trouble
from cem.config.models import Device
from cem.config.opcua_models import OpcUaServer
from cem.core.limits import LimitSignal
from cem.core.state import Measurement
from cem.errors import DeviceMisconfigured, DeviceUnavailable
from cem.ports import Clock, News
from cem.supervise import obey_cancellation

_log = logging.getLogger(__name__)


class OpcUaDevices:
    """Subscribes to the nodes of every device behind one server; reads those that the server does not watch.

    A living server is no living meter behind it: a life counter is, or the time at which the server says that it took
    the value.

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
        self._devices = [Sampled(device, connection, Trouble(device.id, clock, news), clock) for device in devices]
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
        """Listen until the server is lost.

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
            feed = Feed(client, ua, where, self._clock, lambda batch: self._published(batch, feed.round_trip_s))

            async def connection_lost(_error: Exception) -> None:
                feed.ended.set()

            client.connection_lost_callback = connection_lost
            async with asyncio.timeout(session.CONNECT_TIMEOUT_S):
                index = await session.namespace_index(client, self._server, where)
            nodes = []
            for device in self._devices:
                async with asyncio.timeout(session.CONNECT_TIMEOUT_S):
                    nodes.append(await self._nodes(client, ua, device, index))
                device.connected()
            obey_cancellation()
            self._session = (client, ua, index)
            to_watch = await self._subscribed(feed, ua)
            await self._serve(client, ua, nodes, feed, to_watch)
        raise DeviceUnavailable(f"{where}: connection lost; check network and server")

    async def _subscribed(self, feed: Feed, ua: Any) -> list[int]:
        """Make the subscription; which devices are to be watched by it."""
        if not self._server.subscribe:
            return []
        shortest_s = min(device.device.poll_s for device in self._devices) / 2
        try:
            async with asyncio.timeout(session.CONNECT_TIMEOUT_S):
                await feed.open(min(self._server.publishing_interval_s, shortest_s))
        except ua.UaStatusCodeError as error:
            _log.info("%s: no subscription (%s); its devices are read every poll_s", self.name, type(error).__name__)
            return []
        obey_cancellation()
        return list(range(len(self._devices)))

    async def _serve(
        self, client: Any, ua: Any, nodes: Sequence[Mapping[str, Any]], feed: Feed, to_watch: list[int]
    ) -> None:
        """Read what is due; devices are watched one by one in between, so that none of many waits for its first values."""
        proof_s = self._clock.monotonic_s() + session.READ_EVERY_S
        due_s = [self._clock.monotonic_s()] * len(self._devices)
        while not feed.ended.is_set():
            now_s = self._clock.monotonic_s()
            for i, device in enumerate(self._devices):
                if due_s[i] > now_s:
                    continue
                period_s = device.device.poll_s
                due_s[i] = max(due_s[i] + period_s, now_s + period_s / 2)  # a missed read is skipped, never queued
                if not device.wants_a_read(now_s):
                    continue
                started_s = self._clock.monotonic_s()
                async with asyncio.timeout(session.READ_TIMEOUT_S):
                    values = await _read(client, ua, list(nodes[i].values()))
                obey_cancellation()
                device.read(dict(zip(nodes[i], values, strict=True)), started_s)
            if proof_s <= now_s:
                await feed.prove()
                proof_s = max(proof_s + session.READ_EVERY_S, now_s + session.READ_EVERY_S / 2)
            if to_watch:
                await self._watch(feed, ua, to_watch, nodes)
                continue
            wait_s = min(proof_s, *due_s) - self._clock.monotonic_s()
            try:
                async with asyncio.timeout(max(0.0, wait_s)):
                    await feed.ended.wait()
            except TimeoutError:
                obey_cancellation()
        feed.check()

    async def _watch(self, feed: Feed, ua: Any, to_watch: list[int], nodes: Sequence[Mapping[str, Any]]) -> None:
        number = to_watch.pop(0)
        device = self._devices[number]
        every_s = min(self._server.publishing_interval_s, device.device.poll_s / 2)
        try:
            async with asyncio.timeout(session.READ_TIMEOUT_S):
                device.lag_s = await feed.watch(number, nodes[number], every_s, each_sample=self._server.source_time)
        except ua.UaStatusCodeError as error:
            to_watch.clear()
            _log.info(
                "%s: the server watches no more nodes (%s); the other devices are read every poll_s",
                self.name,
                type(error).__name__,
            )
        obey_cancellation()

    def _published(self, batch: Batch, round_trip_s: float) -> None:
        for number, device in enumerate(self._devices):
            device.published(batch, batch.changed.get(number), round_trip_s)

    async def _nodes(self, client: Any, ua: Any, device: Sampled, index: int) -> dict[str, Any]:
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
