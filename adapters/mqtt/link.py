"""One connection to a broker, on a thread of its own; paho is never touched from another thread."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from cem.config.mqtt_models import MqttBroker
from cem.errors import AdapterError, DeviceMisconfigured, DeviceRefused, DeviceUnavailable

KEEPALIVE_S = 5  # a frozen broker is noticed within two of these
CONNECT_TIMEOUT_S = 3.0
TURN_S = 0.1  # how often the network thread looks whether there is something to say or to end
FAREWELL_S = 1.0

OnMessage = Callable[[str, bytes, bool], None]
"""Topic, payload and whether it was retained; called on the network thread, must not block."""


class Link:
    """Connects, subscribes, hears and says, until the broker is lost.

    The session is clean: the broker keeps nothing for us while we are away, so nothing old arrives later.

    Args:
        name: For messages.
        broker: Where.
        topics: What to subscribe to, each with its quality of service.
        on_message: Told of every message.
        will: Topic and payload that the broker publishes, retained, when we die.
    """

    def __init__(
        self,
        name: str,
        broker: MqttBroker,
        topics: Mapping[str, int],
        on_message: OnMessage,
        *,
        will: tuple[str, str] | None = None,
    ) -> None:
        self.connected = False
        self._name = name
        self._broker = broker
        self._topics = dict(topics)
        self._on_message = on_message
        self._will = will
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._outbox: dict[str, tuple[bytes, bool]] = {}  # bounded by the topics: the latest word on each
        self._refused: str | None = None

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until the broker is lost.

        Args:
            on_ready: Called on the loop once we are connected and subscribed.

        Raises:
            DeviceUnavailable: The broker is away.
            DeviceRefused: It refuses us.
            DeviceMisconfigured: A file with a certificate or key cannot be used.
        """
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[None] = loop.create_future()

        def ended(error: AdapterError) -> None:
            if not lost.done():
                lost.set_exception(error)

        def from_thread(call: Any, *args: Any) -> None:
            with suppress(RuntimeError):  # the loop has gone, and we with it
                loop.call_soon_threadsafe(call, *args)

        thread = threading.Thread(
            target=self._serve,
            args=(lambda: from_thread(on_ready), lambda error: from_thread(ended, error)),
            name=self._name,
            daemon=True,
        )
        thread.start()
        try:
            await lost
        finally:
            self._stop.set()
            if self._outbox and self.connected:
                await asyncio.to_thread(thread.join, FAREWELL_S)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """From any thread: say something; an older word on the same topic that was not sent yet is dropped."""
        with self._lock:
            self._outbox.pop(topic, None)
            self._outbox[topic] = (payload, retain)

    def _serve(self, on_ready: Callable[[], None], on_end: Callable[[AdapterError], None]) -> None:
        where = f"{self._name}: the broker"
        try:
            client = self._client(on_ready)
            client.connect(self._broker.host, self._broker.port, KEEPALIVE_S)
            code = MQTTErrorCode.MQTT_ERR_SUCCESS
            while code == MQTTErrorCode.MQTT_ERR_SUCCESS and not self._stop.is_set():
                code = client.loop(TURN_S)
                self._say(client)
            self._say(client)
            client.disconnect()
            client.loop_write()
            if self._refused is not None:
                error: AdapterError = DeviceRefused(
                    f"{where} refuses us ({self._refused}); check username and password, or our certificate"
                )
            else:
                error = DeviceUnavailable(f"{where} was lost ({paho.error_string(code).rstrip('.')}); check it runs")
        except AdapterError as cause:
            error = cause
        except OSError as cause:
            error = DeviceUnavailable(f"{where} cannot be reached ({cause}); check address, port, TLS and that it runs")
        except Exception as cause:  # noqa: BLE001 - a thread's exception would be lost; the supervisor gets it
            error = AdapterError(f"{where}: {type(cause).__name__}: {cause}")
        self.connected = False
        on_end(error)

    def _client(self, on_ready: Callable[[], None]) -> paho.Client:
        broker = self._broker
        version = MQTTProtocolVersion.MQTTv5 if broker.protocol == "5" else MQTTProtocolVersion.MQTTv311
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version, reconnect_on_failure=False)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_connect = self._connected
        client.on_subscribe = lambda *_: self._subscribed(on_ready)
        client.on_message = self._heard
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if self._will is not None:
            client.will_set(self._will[0], self._will[1], qos=1, retain=True)
        if broker.tls or broker.ca_file is not None or broker.certificate_file is not None:
            try:
                client.tls_set(broker.ca_file, broker.certificate_file, broker.key_file)
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                files = [f for f in (broker.ca_file, broker.certificate_file, broker.key_file) if f is not None]
                raise DeviceMisconfigured(
                    f"{self._name}: {', '.join(files)} cannot be used ({error}); PEM files are wanted, readable for us"
                ) from error
        return client

    def _connected(
        self, client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            return
        client.subscribe(sorted(self._topics.items()))

    def _subscribed(self, on_ready: Callable[[], None]) -> None:
        self.connected = True
        on_ready()

    def _heard(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        with suppress(UnicodeDecodeError):  # a topic that is no text is none of ours
            self._on_message(message.topic, bytes(message.payload), message.retain)

    def _say(self, client: paho.Client) -> None:
        """What waits, unless the broker does not even take what was said before."""
        while not client.want_write():
            with self._lock:
                if not self._outbox or not self.connected:
                    return
                topic = next(iter(self._outbox))
                payload, retain = self._outbox.pop(topic)
            client.publish(topic, payload, qos=0, retain=retain)
