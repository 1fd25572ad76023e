"""A contactor that is switched by messages, and what its relay says that it does."""

from adapters.mqtt.availability import Availability
from adapters.mqtt.link import Link
from adapters.mqtt.payload import word_in
from adapters.trouble import Trouble
from cem.config.contact_models import ContactorSection
from cem.ports import Clock

LOOK_S = 0.25
FOLLOWS_S = 2.0
"""A relay says that it followed, and an auxiliary contact moves, in less."""

AGAIN_S = 30.0
"""It is told anew this often: one that was without power in between says nothing of it."""


class MqttOutput:
    """One contactor: told where it does not say that it is as wanted, and again now and then.

    Args:
        config: Its section of the site file.
        trouble: Where its outages are told.
        clock: Monotonic time.
    """

    availability: Availability | None = None

    def __init__(self, config: ContactorSection, trouble: Trouble, clock: Clock) -> None:
        self.config = config
        self.trouble = trouble
        self.topics = frozenset({config.state_topic or "", config.feedback_topic or ""} - {""})
        self.want_closed: bool | None = None
        self._clock = clock
        self._words = {
            (config.state_on or config.on).strip().casefold(): True,
            (config.state_off or config.off).strip().casefold(): False,
        }
        self._on: bool | None = None
        self._feedback: bool | None = None
        self._wanted_s = self._told_s = float("-inf")

    @property
    def closed(self) -> bool | None:
        """How it stands; ``None``: nobody knows."""
        if self.config.feedback_topic is not None:
            return self._feedback
        return None if self._on is None else self._on == (self.config.closed_when == "on")

    def connected(self) -> None:
        """To the broker, anew: nothing is known, and it is told again."""
        self.lost()
        self._told_s = float("-inf")

    def lost(self) -> None:
        """The broker: nobody knows how it stands."""
        self._on = self._feedback = None

    def switch(self, *, closed: bool) -> bool:
        """Wants it so; ``True`` where that is new."""
        if closed == self.want_closed:
            return False
        self.want_closed, self._wanted_s, self._told_s = closed, self._clock.monotonic_s(), float("-inf")
        return True

    def heard(self, topic: str, payload: bytes, taken_s: float, *, retained: bool) -> bool:
        """Its relay or its auxiliary contact says how it stands; what the broker kept is from before."""
        del taken_s
        if retained:
            return False
        path = self.config.state_path if topic == self.config.state_topic else None
        word = word_in(payload, path)
        state = None if word is None else self._words.get(word)
        if topic == self.config.state_topic:
            self._on = state
        if topic == self.config.feedback_topic:
            self._feedback = state
        if state is None:
            seen = payload[:40].decode(errors="replace")
            self.trouble.bad(
                f"contactor {self.config.id}: {topic} says {seen!r}, which is none of its words; check state_on, state_off and "
                "state_path in the site file"
            )
        return False

    def tend(self, link: Link) -> None:
        """Tell it where that is due, and tell what is wrong."""
        want, now_s = self.want_closed, self._clock.monotonic_s()
        if want is None or not link.connected:
            return
        wanted_on = want == (self.config.closed_when == "on")
        pause_s = AGAIN_S if self._on == wanted_on else FOLLOWS_S
        if now_s - self._told_s >= pause_s:
            self._told_s = now_s
            link.publish(self.config.topic or "", (self.config.on if wanted_on else self.config.off).encode())
        if now_s - self._wanted_s < FOLLOWS_S:
            return
        if self._on != wanted_on:
            says = "says nothing" if self._on is None else f"says {_word(self._on)}"
            self.trouble.bad(
                f"contactor {self.config.id}: was told {_word(wanted_on)} by {self.config.topic} and {self.config.state_topic} "
                f"{says}; check its relay"
            )
        elif self.closed != want:
            self.trouble.bad(
                f"contactor {self.config.id}: its auxiliary contact ({self.config.feedback_topic}) does not say that it is "
                f"{'closed' if want else 'open'}: check the contactor and its wiring"
            )
        else:
            self.trouble.good()


def _word(on: bool) -> str:
    return "on" if on else "off"
