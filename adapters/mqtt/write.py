"""One value set by a message to a device, and what it says that it holds afterwards."""

import asyncio
from dataclasses import dataclass

from adapters.mqtt.link import Link
from adapters.mqtt.payload import number_in
from cem.config.models import Device
from cem.config.mqtt_models import MqttWrite
from cem.errors import DeviceMisconfigured, DeviceRefused, DeviceUnavailable

CLOSE = 0.005
"""What a device rounds away of what it was told."""


@dataclass
class _Waiting:
    write: MqttWrite
    value: float
    done: asyncio.Future[float]
    seen: float | None = None

    def heard(self, payload: bytes) -> None:
        number = number_in(payload, self.write.read_path)
        if number is None or self.done.done():
            return
        self.seen = number * self.write.scale
        if abs(self.seen - self.value) <= max(CLOSE * abs(self.value), abs(self.write.scale) * CLOSE):
            self.done.set_result(self.seen)


class MqttWrites:
    """What may be set at the devices of one broker."""

    def __init__(self, devices: list[Device]) -> None:
        self._writes = {device.id: {str(k): v for k, v in device.write_topics.items()} for device in devices}
        self._waiting: list[_Waiting] = []
        told = {write.read_topic for writes in self._writes.values() for write in writes.values()}
        self.topics = frozenset(topic for topic in told if topic is not None)

    def names(self, device_id: str) -> list[str]:
        """By which a device can be set."""
        return sorted(self._writes[device_id])

    def heard(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """A device says what it holds; what was kept by the broker it said before it was told."""
        for waiting in self._waiting:
            if waiting.write.read_topic == topic and not retained:
                waiting.heard(payload)

    async def write(self, link: Link | None, device_id: str, name: str, value: float) -> float:
        """Say it once and wait for the device's word.

        Raises:
            DeviceMisconfigured: No such name, or the value is outside its range.
            DeviceUnavailable: No broker; nothing was sent.
            DeviceRefused: The device does not say that it holds it.
        """
        write = self._writes[device_id].get(name)
        if write is None:
            offer = ", ".join(self.names(device_id)) or "nothing: see write_topics"
            raise DeviceMisconfigured(f"{device_id}: cannot write {name!r}; it has {offer}")
        low, high = write.valid
        if not low <= value <= high:
            raise DeviceMisconfigured(f"{device_id}: {name} of {value:g} is outside {low:g} to {high:g}")
        if link is None or not link.connected:
            raise DeviceUnavailable(f"{device_id}: {name} cannot be set: no connection to the broker")
        text = write.payload.replace("{value}", f"{round(value / write.scale, 6):.12g}")
        waiting = _Waiting(write, value, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            link.publish(write.topic, text.encode())
            if write.read_topic is None:
                return value
            async with asyncio.timeout(write.settle_s):
                return await waiting.done
        except TimeoutError as error:
            said = "says nothing" if waiting.seen is None else f"says {waiting.seen:g}"
            raise DeviceRefused(
                f"{device_id}: {name} was set to {value:g} by {write.topic} and {write.read_topic} {said} within "
                f"{write.settle_s:g} s"
            ) from error
        finally:
            self._waiting.remove(waiting)
