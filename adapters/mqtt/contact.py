"""A contact whose state comes by MQTT."""

from adapters.mqtt.availability import Availability
from adapters.mqtt.payload import word_in
from adapters.trouble import Trouble
from cem.config.contact_models import ContactSection
from cem.ports import Clock


class MqttContact:
    """What a contact said last, for as long as it may be believed.

    With an availability topic its word holds, retained or not, while the broker says that it is online. Without one
    it must repeat its state: silence is no state.

    Args:
        config: Its section of the site file.
        trouble: Where its outages are told.
        clock: Monotonic time.
    """

    def __init__(self, config: ContactSection, trouble: Trouble, clock: Clock) -> None:
        self.config = config
        self.trouble = trouble
        self.availability = None if config.availability is None else Availability(config.availability)
        self.topics = frozenset({config.topic or ""})
        self._clock = clock
        self._words = {config.closed.strip().casefold(): True, config.open.strip().casefold(): False}
        self._closed: bool | None = None
        self._heard_s = 0.0
        trouble.problem = f"contact {config.id}: nothing heard yet on {config.topic}"

    def connected(self) -> None:
        """To the broker, anew: everything is said again."""
        self.lost()
        if self.availability is not None:
            self.availability.forget()

    def lost(self) -> None:
        """The broker: nothing is known."""
        self._closed = None

    def heard(self, topic: str, payload: bytes, taken_s: float, *, retained: bool) -> bool:
        """A message on one of its topics; ``True`` where its state changed."""
        before = self.active()
        if self.availability is not None and self.availability.heard(topic, payload):
            if self.availability.online is False:
                self.trouble.bad(
                    f"contact {self.config.id}: the broker says that its device is offline; check its power"
                )
        elif topic == self.config.topic and (not retained or self.availability is not None):
            word = word_in(payload, self.config.path)
            self._closed = None if word is None else self._words.get(word)
            self._heard_s = taken_s
            if self._closed is None:
                seen = payload[:40].decode(errors="replace")
                self.trouble.bad(
                    f"contact {self.config.id}: {topic} says {seen!r}, which is neither {self.config.closed!r} nor "
                    f"{self.config.open!r}; check closed, open and path in the site file"
                )
            else:
                self.trouble.good()
        return self.active() != before

    def active(self) -> bool | None:
        """Whether it acts; ``None``: it cannot be read."""
        if self._closed is None:
            return None
        if self.availability is not None:
            if self.availability.online is not True:
                return None
        elif self._clock.monotonic_s() - self._heard_s > self.config.repeated_s:
            self.trouble.bad(
                f"contact {self.config.id}: silent on {self.config.topic} for more than {self.config.repeated_s:g} s; "
                "check its device, or name its availability topic"
            )
            return None
        return self._closed == (self.config.active_when == "closed")
