"""What one read of one device gave, for the tools of an installer; and who can be asked for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from cem.core.state import Measurement


@dataclass(frozen=True, slots=True)
class Reading:
    """One read of one device.

    Attributes:
        taken_s: Monotonic time at its start; of a message that came by itself: of its arrival.
        latency_s: Until the last answer; ``None`` where nothing was asked.
        values: As the device's map or the site file decodes them, on the device's terminals; ``frequency_hz`` too.
        measurement: What the controller would make of it; ``None`` where the sample is refused or there was no answer.
        problem: Why there is none.
        answered: The device answered, whatever it said.
    """

    taken_s: float
    latency_s: float | None
    values: Mapping[str, float]
    measurement: Measurement | None
    problem: str | None
    answered: bool


class Probe(Protocol):
    """The devices behind one connection, for tools; an asynchronous context."""

    one_at_a_time: bool
    """A line that is asked; else devices speak by themselves and each is waited for on its own."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def read(self, device_id: str) -> Reading:
        """Its next reading; an error is in it."""
        ...

    async def write(self, device_id: str, name: str, value: float) -> float:
        """Set one value and read it back: what the device holds now."""
        ...

    async def models(self, device_id: str) -> list[Any]:
        """Its SunSpec models; empty where it has none."""
        ...
