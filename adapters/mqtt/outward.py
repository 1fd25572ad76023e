"""The site on a broker: its state, whether it lives, commands, and Home Assistant's discovery."""

import asyncio
import json
import logging
import queue
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from adapters.mqtt import discovery
from adapters.mqtt.commands import MOST_BYTES, NotObeyed, read_command
from adapters.mqtt.link import Link
from cem.config.mqtt_models import MqttOut
from cem.core.wish import Wish
from cem.errors import AdapterError
from cem.ports import Clock

PUBLISH_EVERY_S = 1.0
ALIVE_S = 10.0  # without a new control cycle for so long we say offline
WAITING = 100  # commands between two turns of the loop; more are dropped

_log = logging.getLogger(__name__)

View = Callable[[], Mapping[str, Any] | None]
"""The picture of the last control cycle; ``None`` before the first."""


class MqttOutward:
    """Publishes what changed, once a second at most, and hands commands over like the HTTP API does.

    Args:
        config: The section ``mqtt_out`` of the site file.
        view: The picture of the last control cycle.
        wish: The wish in force or handed in last for an EVSE.
        hand_in: Takes a wish; ``False`` where it cannot be taken now.
        clock: Time.
        version: Ours, for people.
    """

    def __init__(
        self,
        config: MqttOut,
        view: View,
        wish: Callable[[str], Wish],
        hand_in: Callable[[str, Wish], bool],
        clock: Clock,
        *,
        version: str = "",
    ) -> None:
        self.name = f"mqtt_out {config.connection.host}:{config.connection.port}"
        self._config = config
        self._base = config.base_topic
        self._view = view
        self._wish = wish
        self._hand_in = hand_in
        self._clock = clock
        self._version = version
        self._sent: dict[str, bytes] = {}
        self._old: set[str] = set()  # retained topics of ours that the broker holds
        self._arrived: queue.Queue[tuple[str, bytes, bool]] = queue.Queue(WAITING)
        self._cycle: tuple[int, float] = (0, 0.0)

    async def run(self) -> None:
        """Serve until the broker is lost; then everything is published anew.

        Raises:
            AdapterError: The broker is away or refuses us.
        """
        loop = asyncio.get_running_loop()
        status = f"{self._base}/status"
        self._sent.clear()
        self._old.clear()
        arrived = asyncio.Event()

        def on_message(topic: str, payload: bytes, retained: bool) -> None:
            with suppress(queue.Full):
                self._arrived.put_nowait((topic, payload[: MOST_BYTES + 1], retained))
            with suppress(RuntimeError):  # the loop has gone, and we with it
                loop.call_soon_threadsafe(arrived.set)

        link = Link(self.name, self._config.connection, self._topics(), on_message, will=(status, "offline"))
        ready = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:  # one ends the other
                group.create_task(link.run(ready.set))
                group.create_task(self._serve(link, ready, arrived))
        except* AdapterError as errors:
            raise errors.exceptions[0] from None

    def _topics(self) -> dict[str, int]:
        """Commands, and what of ours the broker still holds from before, to take away what no longer is."""
        base = self._base
        return {
            f"{base}/evse/+/+/set": 1,
            f"{base}/evse/+/+": 0,
            f"{base}/zone/+": 0,
            f"{base}/resource/+": 0,
            f"{base}/limit/+": 0,
            f"{self._config.discovery_prefix}/device/+/config": 0,
        }

    async def _serve(self, link: Link, ready: asyncio.Event, arrived: asyncio.Event) -> None:
        await ready.wait()
        try:
            while True:
                self._publish(link)
                next_s = self._clock.monotonic_s() + PUBLISH_EVERY_S
                while (left_s := next_s - self._clock.monotonic_s()) > 0:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(left_s):
                            await arrived.wait()
                    arrived.clear()
                    self._take(link)
        finally:
            link.publish(f"{self._base}/status", b"offline", retain=True)

    # -- state ------------------------------------------------------------------------------------------------------
    def _publish(self, link: Link) -> None:
        view = self._view()
        if view is None:
            return
        now_s = self._clock.monotonic_s()
        if view["cycle"]["count"] != self._cycle[0]:
            self._cycle = (view["cycle"]["count"], now_s)
        alive = now_s - self._cycle[1] < ALIVE_S
        wanted = {f"{self._base}/status": b"online" if alive else b"offline"}
        wanted |= {topic: _json(value) for topic, value in self._state(view).items()}
        if self._config.home_assistant:
            found = discovery.devices(
                view,
                self._base,
                self._config.discovery_prefix,
                self._version,
                control=self._config.takes_commands,
            )
            wanted |= {topic: _json(value) for topic, value in found.items()}
        for topic in (self._old | self._sent.keys()) - wanted.keys():
            link.publish(topic, b"", retain=True)  # no longer there: the broker forgets it
            self._old.discard(topic)
            self._sent.pop(topic, None)
        for topic, payload in wanted.items():
            if self._sent.get(topic) != payload:
                self._sent[topic] = payload
                link.publish(topic, payload, retain=True)

    def _state(self, view: Mapping[str, Any]) -> dict[str, Any]:
        base = self._base
        made: dict[str, Any] = {
            f"{base}/site": {
                "name": view["name"],
                "surplus_w": view["surplus_w"],
                "problems": view["problems"],
            }
        }
        made |= {f"{base}/zone/{name}": zone for name, zone in view["zones"].items()}
        made |= {f"{base}/evse/{name}": evse for name, evse in view["evses"].items()}
        made |= {f"{base}/resource/{name}": resource for name, resource in view["resources"].items()}
        made |= {f"{base}/limit/{name}": limit for name, limit in view["external_limits"].items()}
        return made

    # -- commands ---------------------------------------------------------------------------------------------------
    def _take(self, link: Link) -> None:
        while True:
            try:
                topic, payload, retained = self._arrived.get_nowait()
            except queue.Empty:
                return
            if topic.endswith("/set"):
                if not retained:  # L10: said once, some time ago
                    self._command(link, topic, payload)
            elif retained and payload and self._is_ours(topic):
                self._old.add(topic)

    def _is_ours(self, topic: str) -> bool:
        prefix = self._config.discovery_prefix
        return topic.startswith(f"{self._base}/") or discovery.is_mine(topic, prefix, self._base)

    def _command(self, link: Link, topic: str, payload: bytes) -> None:
        evse_id = topic.removeprefix(f"{self._base}/evse/").removesuffix("/set")
        try:
            self._obey(evse_id, payload)
        except NotObeyed as error:
            _log.info("command by MQTT for %s refused: %s", evse_id, error)
            answer = {"accepted": False, "problem": str(error)}
        else:
            answer = {"accepted": True, "problem": None}
        stamp = self._clock.utc().isoformat(timespec="milliseconds")
        link.publish(f"{topic.removesuffix('/set')}/result", _json({"ts": stamp, **answer}))

    def _obey(self, evse_id: str, payload: bytes) -> None:
        if not self._config.takes_commands:
            raise NotObeyed("the site file does not allow it: mqtt_out.allow_control")
        view = self._view()
        if view is None or evse_id not in view["evses"]:
            raise NotObeyed(f"there is no EVSE {evse_id} at this site")
        wish = read_command(payload, self._wish(evse_id), self._clock.utc())
        if not self._hand_in(evse_id, wish):
            raise NotObeyed("too many wishes wait for the next cycle; try again in a second")


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
