"""Whether a device lives, as its broker tells by the device's last will."""

from adapters.mqtt.payload import word_in
from cem.config.mqtt_models import MqttAvailability


class Availability:
    """What was said last on the topic of a last will; retained messages count, for that is how a will is kept.

    Attributes:
        online: ``None``: nothing was said since we connected, or a word that the site file does not know.
    """

    def __init__(self, config: MqttAvailability) -> None:
        self.online: bool | None = None
        self.topic = config.topic
        self._path = config.path
        self._words = {config.online.strip().casefold(): True, config.offline.strip().casefold(): False}

    def heard(self, topic: str, payload: bytes) -> bool:
        """Takes a message in; ``False`` where it is not about this."""
        if topic != self.topic:
            return False
        word = word_in(payload, self._path)
        self.online = None if word is None else self._words.get(word)
        return True

    def forget(self) -> None:
        """Connected anew: the broker will tell."""
        self.online = None
