"""One subscription for all nodes behind a server: what changed, and how fresh everything else is.

A subscription is silent about what did not change, so its silence proves nothing. Every answer to a publish request does,
also the empty one (keep-alive): all values are known as of its publish time. That is the server's clock; reading it once a
second ties it to ours, and shows that the server still answers.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from adapters.opcua import session
from cem.errors import DeviceUnavailable
from cem.ports import Clock
from cem.supervise import obey_cancellation

SILENT_S = 3.0
"""Or three keep-alives, if that is longer: then the server lives but has forgotten our subscription."""

STEPPED_S = 10.0
"""Further apart the server's times are of different clocks, or its clock was set; then only ours counts."""

LIFETIME_S = 60.0
"""How long a server keeps the subscription of a controller that died."""

Target = tuple[int, str]
"""Device by its number, and name of the value."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one answer of the server changed.

    Attributes:
        known_s: Monotonic time as of which every value of the subscription is known, before the time a server may take
            until it looks at a node again.
        server_time: The same moment by the server's clock.
        changed: Values with status and times, by device and name.
    """

    known_s: float
    server_time: datetime | None
    changed: Mapping[int, Mapping[str, Any]]


class Feed:
    """Listens to the nodes that a server agrees to watch.

    Args:
        client: Of a session.
        ua: The library's types.
        where: For messages.
        clock: Monotonic time.
        heard: Called with each answer of the server.
    """

    def __init__(self, client: Any, ua: Any, where: str, clock: Clock, heard: Callable[[Batch], None]) -> None:
        self.ended = asyncio.Event()
        self.round_trip_s = 0.0
        self._client = client
        self._ua = ua
        self._where = where
        self._clock = clock
        self._heard = heard
        self._targets: dict[int, Target] = {}  # by client handle
        self._id = 0
        self._interval_s = 0.0
        self._asked_s, self._server_time = 0.0, datetime.now(UTC)
        self._answered_s = 0.0
        self._error: Exception | None = None

    async def open(self, interval_s: float) -> None:
        """Make the subscription.

        Raises:
            ua.UaError: The server gives none.
        """
        wanted = self._ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=interval_s * 1000,
            RequestedMaxKeepAliveCount=1,
            RequestedLifetimeCount=max(3, int(LIFETIME_S / interval_s)),
        )
        await self.prove()
        # not by asyncua's Client.create_subscription: it keeps a keep-alive count of its own, of most of a minute
        given = await self._client.uaclient.create_subscription(wanted, self._published)
        self._id = given.SubscriptionId
        self._interval_s = given.RevisedPublishingInterval / 1000
        self._silent_s = max(SILENT_S, 3 * self._interval_s * max(1, given.RevisedMaxKeepAliveCount))
        self._answered_s = self._clock.monotonic_s()

    async def watch(
        self, number: int, nodes: Mapping[str, Any], interval_s: float, *, each_sample: bool
    ) -> float | None:
        """Watch one device's nodes.

        Args:
            number: Of the device, for what is heard of it.
            nodes: Node by name of the value.
            interval_s: How often the server shall look at them.
            each_sample: A new time stamp is news as well.

        Returns:
            How old a value may be at its publish time, or ``None`` where the server does not watch all of them that often.
        """
        ua = self._ua
        changes = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValueTimestamp) if each_sample else None
        handles = {}
        requests = []
        for name, node in nodes.items():
            handle = len(self._targets) + 1
            self._targets[handle] = (number, name)
            handles[name] = handle
            item = ua.ReadValueId(NodeId=node.nodeid, AttributeId=ua.AttributeIds.Value)
            asked = ua.MonitoringParameters(
                ClientHandle=handle, SamplingInterval=interval_s * 1000, Filter=changes, QueueSize=1, DiscardOldest=True
            )
            requests.append(ua.MonitoredItemCreateRequest(item, ua.MonitoringMode.Reporting, asked))
        results = await self._client.uaclient.create_monitored_items(
            ua.CreateMonitoredItemsParameters(self._id, ua.TimestampsToReturn.Both, requests)
        )
        good = all(result.StatusCode.is_good() for result in results)
        slowest_s = max(result.RevisedSamplingInterval for result in results) / 1000
        if good and max(slowest_s, self._interval_s) <= 2 * interval_s:
            return float(max(0.0, slowest_s))
        for handle in handles.values():
            self._targets[handle] = (-1, "")
        made = [result.MonitoredItemId for result in results if result.StatusCode.is_good()]
        if made:
            await self._client.uaclient.delete_monitored_items(ua.DeleteMonitoredItemsParameters(self._id, made))
        return None

    async def prove(self) -> None:
        """The server answers, and what its clock says.

        Raises:
            DeviceUnavailable: The server lives, but says nothing by the subscription any more.
        """
        ua, asked_s = self._ua, self._clock.monotonic_s()
        state = ua.ReadValueId(
            NodeId=ua.NodeId(ua.ObjectIds.Server_ServerStatus_State), AttributeId=ua.AttributeIds.Value
        )
        request = ua.ReadRequest()
        request.Parameters.NodesToRead = [state]
        async with asyncio.timeout(session.READ_TIMEOUT_S):
            # the header's time: the node CurrentTime may be a second old (asyncua's own server), ServerTimestamp older
            answer = await self._client.uaclient.protocol.send_request(request)
        obey_cancellation()
        header = ua.ua_binary.struct_from_binary(ua.ReadResponse, answer).ResponseHeader
        header.ServiceResult.check()
        now_s = self._clock.monotonic_s()
        self._asked_s, self._server_time = asked_s, header.Timestamp
        self.round_trip_s = now_s - asked_s
        if self._id and now_s - self._answered_s > self._silent_s:
            raise DeviceUnavailable(
                f"{self._where}: answers, but its subscription says nothing any more; check the server"
            )

    def check(self) -> None:
        """Raise what ended it, if anything did but the connection."""
        if self._error is not None:
            raise self._error

    def _published(self, result: Any) -> None:
        """An answer to a publish request. The library would swallow an error in here."""
        try:
            self._take(result.NotificationMessage)
        except Exception as error:  # noqa: BLE001 - handed to whoever runs us
            self._error = error
            self.ended.set()

    def _take(self, message: Any) -> None:
        now_s = self._answered_s = self._clock.monotonic_s()
        changed: dict[int, dict[str, Any]] = {}
        for data in message.NotificationData or ():
            if isinstance(data, self._ua.DataChangeNotification):
                for item in data.MonitoredItems:
                    number, name = self._targets.get(item.ClientHandle, (-1, ""))
                    changed.setdefault(number, {})[name] = item.Value
            elif isinstance(data, self._ua.StatusChangeNotification):
                if data.Status.value != self._ua.StatusCodes.BadShutdown:  # the library's word for a lost connection
                    self._error = DeviceUnavailable(f"{self._where}: it ended our subscription ({data.Status.name})")
                self.ended.set()
        changed.pop(-1, None)
        # On one connection this was sent after the last answer to a read, so it is not from long before its question.
        known_s = self._asked_s - self._interval_s
        since_s = (message.PublishTime - self._server_time).total_seconds() if message.PublishTime else math.inf
        if abs(since_s) < STEPPED_S:
            known_s = max(known_s, self._asked_s + since_s)
        self._heard(Batch(min(now_s, known_s), message.PublishTime, changed))
