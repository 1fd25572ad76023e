"""A mosquitto broker of our own on a free port, and a household meter that publishes to it once a second."""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from cem.config.mqtt_models import MqttValue

Values = Callable[[], Mapping[str, float]]
"""Gives the meter's values now, by the site file's names of values."""


def find_mosquitto() -> str | None:
    """Path of the broker; ``None`` where it is not installed (Debian keeps it in /usr/sbin, often not in PATH)."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Broker:
    """mosquitto as a child process, on 127.0.0.1, ended with us."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._process: asyncio.subprocess.Process | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def start(self) -> None:
        """Starts it and waits until it accepts connections.

        Raises:
            RuntimeError: mosquitto is not installed, or does not come up.
        """
        program = find_mosquitto()
        if program is None:
            raise RuntimeError("mosquitto is not installed: on Debian, apt-get install mosquitto")
        self._folder = tempfile.TemporaryDirectory(prefix="cem-broker-")
        config = Path(self._folder.name) / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n")
        self._process = await asyncio.create_subprocess_exec(
            program, "-c", str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        for _ in range(100):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return
        await self.stop()
        raise RuntimeError(f"mosquitto did not begin to listen on 127.0.0.1:{self.port} within 5 s")

    async def stop(self) -> None:
        """Ends it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(5):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class MqttMeter:
    """Publishes values as the site file reads them: plain numbers, or JSON where paths are given.

    Args:
        name: The device's name in the site file.
        port: The broker's, on 127.0.0.1.
        topics: The device's ``values`` section.
        values: The meter's values now.
        period_s: Between two messages.
    """

    def __init__(
        self, name: str, port: int, topics: Mapping[str, MqttValue], values: Values, period_s: float = 1.0
    ) -> None:
        self.name = name
        self.muted = False
        self._topics, self._values, self._period_s = topics, values, period_s
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"simulated-{name}")
        self._client.reconnect_delay_set(1, 2)
        self._port = port

    def payloads(self) -> dict[str, str]:
        """What would be published now, by topic."""
        values, plain, trees = self._values(), dict[str, str](), dict[str, dict[str, Any]]()
        for name, place in self._topics.items():
            if name not in values:
                continue
            number = round(values[name] / place.scale, 3)
            if place.path is None:
                plain[place.topic] = str(number)
                continue
            node = trees.setdefault(place.topic, {})
            *parents, leaf = place.path.split(".")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = number
        return plain | {topic: json.dumps(tree) for topic, tree in trees.items()}

    async def run(self) -> None:
        """Publishes until cancelled."""
        self._client.connect_async("127.0.0.1", self._port)
        self._client.loop_start()
        try:
            while True:
                if not self.muted:
                    for topic, payload in self.payloads().items():
                        self._client.publish(topic, payload)
                await asyncio.sleep(self._period_s)
        finally:
            self._client.disconnect()
            await asyncio.to_thread(self._client.loop_stop)
