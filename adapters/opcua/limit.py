"""OPC UA: limits that a DSO's server holds, heard by subscription and checked by reading."""

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from adapters.opcua import session
from adapters.trouble import Trouble
from cem.config.models import ExternalLimit
from cem.core.limits import LimitSignal
from cem.core.state import Measurement
from cem.errors import DeviceUnavailable
from cem.ports import Clock, News
from cem.supervise import obey_cancellation


class OpcUaLimitAdapter:
    """One external limit: its value, its enable flag and its heartbeat counter.

    The subscription makes a change known at once. Reading the same nodes every second proves that the server lives
    and makes good what a silent subscription lost. What was last heard stays when the link is lost: its age tells.

    Args:
        limit: The limit's section of the site file.
        clock: Monotonic time.
        news: Called when value, flag or problem changed, so that control does not wait for its next cycle.
    """

    def __init__(self, limit: ExternalLimit, clock: Clock, news: News) -> None:
        self.name = f"opcua {limit.id}"
        self._limit = limit
        self._channel = _Channel(limit, clock, news)

    def measurements(self) -> Mapping[str, Measurement]:
        """None: no meter comes by this adapter."""
        return {}

    def signals(self) -> Mapping[str, LimitSignal]:
        """The limit as last heard; empty until it was heard once."""
        signal = self._channel.signal
        return {} if signal is None else {self._limit.id: signal}

    def problems(self) -> Mapping[str, str]:
        """Why the limit cannot be read now."""
        problem = self._channel.trouble.problem
        return {} if problem is None else {self._limit.id: problem}

    async def run(self) -> None:
        """Listen until the server is lost.

        Raises:
            DeviceUnavailable: The server is away.
            DeviceRefused: It refuses our user.
            DeviceMisconfigured: It has no such namespace or node.
        """
        connection = self._limit.connection
        async with session.connected(self.name, connection) as (client, ua):
            await self._listen(client, ua, f"{self.name}: {connection.endpoint}")

    async def _listen(self, client: Any, ua: Any, where: str) -> None:
        lost = asyncio.Event()

        async def connection_lost(_error: Exception) -> None:
            lost.set()

        client.connection_lost_callback = connection_lost
        async with asyncio.timeout(session.CONNECT_TIMEOUT_S):
            nodes = await self._nodes(client, ua, where)
            self._channel.connected()
            handler = _Handler(self._channel, {node.nodeid: role for role, node in nodes.items()})
            subscription = await client.create_subscription(
                self._limit.connection.publishing_interval_s * 1000, handler
            )
            await subscription.subscribe_data_change(list(nodes.values()), queuesize=1)
        obey_cancellation()
        while not lost.is_set():
            async with asyncio.timeout(session.READ_TIMEOUT_S):
                values = await client.read_attributes(list(nodes.values()))
            obey_cancellation()
            for role, value in zip(nodes, values, strict=True):
                self._channel.heard(role, value)
            self._channel.polled()
            with suppress(TimeoutError):
                async with asyncio.timeout(session.READ_EVERY_S):
                    await lost.wait()
        raise DeviceUnavailable(f"{where}: connection lost; check network and server")

    async def _nodes(self, client: Any, ua: Any, where: str) -> dict[str, Any]:
        """Role to node. The namespace index is asked anew at each connect: servers change it when they restart."""
        nodes = self._limit.nodes
        index = await session.namespace_index(client, self._limit.connection, where)
        wanted = {"limit": nodes.limit, "enabled": nodes.enabled, "heartbeat": nodes.heartbeat}
        return {
            role: await session.find_node(client, ua, text, index, where)
            for role, text in wanted.items()
            if text is not None
        }


class _Channel:
    """What was heard of one limit, as a ``LimitSignal``."""

    def __init__(self, limit: ExternalLimit, clock: Clock, news: News) -> None:
        self.signal: LimitSignal | None = None
        self.trouble = Trouble(f"limit {limit.id}", clock, lambda: None)
        self._limit = limit
        self._clock = clock
        self._news = news
        self._scale = 1000.0 if limit.unit == "kW" else 1.0
        self._last: dict[str, tuple[Any, Any]] = {}  # role to value and source time
        self._beat: Any = None  # heartbeat on this connection; a first value is no movement
        self._limit_good = False

    def connected(self) -> None:
        self._beat = None

    def polled(self) -> None:
        """All nodes were read: without a heartbeat that is the sign of life (GRID_SIGNALS: plain registers)."""
        if self._limit.nodes.heartbeat is None and self._limit_good:
            self._alive()

    def heard(self, role: str, data: Any) -> None:
        """A DataValue, by subscription or by reading."""
        status = data.StatusCode
        bad = None if status is None or status.is_good() else status.name
        value = data.Value.Value if data.Value is not None else None
        match role:
            case "heartbeat":
                self._heard_beat(value, bad)
            case "enabled":
                self._heard_flag(value, bad, data.SourceTimestamp)
            case _:
                self._heard_limit(value, bad, data.SourceTimestamp)

    def _heard_beat(self, value: Any, bad: str | None) -> None:
        if bad is not None or value is None:
            return
        if self._beat is not None and value != self._beat:
            self._alive()
        self._beat = value

    def _heard_flag(self, value: Any, bad: str | None, source: Any) -> None:
        if bad is None and isinstance(value, bool | int):
            self._change(active=bool(value), written=self._new("enabled", value, source))
        elif self.signal is None:
            self._change(active=True)  # an unreadable flag releases nothing

    def _heard_limit(self, value: Any, bad: str | None, source: Any) -> None:
        node = f"limit {self._limit.id}: node {self._limit.nodes.limit}"
        problem = None
        if bad is not None:
            problem = f"{node} has status {bad}; ask whoever runs the server"
        elif isinstance(value, bool) or not isinstance(value, int | float):
            problem = f"{node} holds {str(value)[:40]!r}, not a number; check the node in the site file"
        elif not math.isfinite(value) or value < 0:
            problem = f"{node} holds {value} {self._limit.unit}, which is no limit"
        self._limit_good = bad is None
        if problem is not None:
            self._last.pop("limit", None)
            self._change(value=None, problem=problem)
            self.trouble.bad(problem)
            return
        self._change(value=value * self._scale, problem=None, written=self._new("limit", value, source))
        self.trouble.good()

    def _new(self, role: str, value: Any, source: Any) -> bool:
        """Whether it changed or was written anew."""
        last, self._last[role] = self._last.get(role), (value, source)
        return last != (value, source)

    def _alive(self) -> None:
        signal = self.signal or LimitSignal(self._limit.id, None, active=True, written_s=None, alive_s=None)
        self.signal = replace(signal, alive_s=self._clock.monotonic_s())

    def _change(self, *, written: bool = False, **fields: Any) -> None:
        before = self.signal or LimitSignal(self._limit.id, None, active=True, written_s=None, alive_s=None)
        after = replace(before, **fields)
        if written:
            after = replace(after, written_s=self._clock.monotonic_s())
        told = (before.value, before.active, before.problem) != (after.value, after.active, after.problem)
        first = self.signal is None
        self.signal = after
        if told or first:
            self._news()


class _Handler:
    """asyncua's callbacks."""

    def __init__(self, channel: _Channel, roles: Mapping[Any, str]) -> None:
        self._channel = channel
        self._roles = roles

    def datachange_notification(self, node: Any, _value: Any, data: Any) -> None:
        self._channel.heard(self._roles[node.nodeid], data.monitored_item.Value)
