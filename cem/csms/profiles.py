"""Charging profiles as values, whatever version they were written in, and what of a schedule period bounds charging.

The words are OCPP 2.1's (Part 2 section K, chapters 3.2 to 3.6); 1.6 section 3.13 is a subset but for its names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MAX, EXTERNAL = "max", "external"
TX_DEFAULT, TX, PRIORITY = "tx_default", "tx", "priority"
GENERATION = "generation"
"""Purposes. External constraints come from the site, never from a CSMS (K01.FR.22)."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

Rate = tuple[float, ...]
"""One number (A: on each phase, W: on all of them together), or three (L1, L2, L3)."""


def to_us(at: datetime) -> int:
    """Whole microseconds since 1970: schedules are added up and compared exactly."""
    passed = at - EPOCH
    return (passed.days * 86_400 + passed.seconds) * SECOND_US + passed.microseconds


@dataclass(frozen=True, slots=True)
class Period:
    """What a schedule says from one moment to the next.

    Attributes:
        start_us: Into the schedule.
        limit: Most that may be charged with; ``None`` where it is left to somebody else (2.1).
        phases: That may be used; 3 where the message does not say (K01.FR.49).
        phase_to_use: 1 to 3, where one phase may be used and the EVSE can choose.
        mode: Operation mode (2.1).
        setpoint: To be followed as close as possible; negative discharges (2.1).
        discharge: Most that may be discharged with, negative (2.1).
        sleep: The EVSE is to switch its power electronics off (2.1).
    """

    start_us: int
    limit: Rate | None
    phases: int = 3
    phase_to_use: int | None = None
    mode: str = "ChargingOnly"
    setpoint: Rate | None = None
    discharge: Rate | None = None
    sleep: bool = False

    @property
    def most(self) -> Rate | None:
        """The most that may be charged with while this period leads; ``None`` where it sets no bound.

        A negative limit is an old way to ask for discharging (2.1 ChargingSchedulePeriodType), and charges nothing.
        """
        if self.sleep or self.mode == "Idle":
            return (0.0,)
        limit = None if self.limit is None else tuple(max(0.0, value) for value in self.limit)
        if self.mode != "CentralSetpoint" or self.setpoint is None:
            return limit
        asked = tuple(max(0.0, value) for value in self.setpoint)
        if limit is None:
            return asked
        if len(asked) == len(limit):
            return tuple(min(pair) for pair in zip(asked, limit, strict=True))
        return limit


@dataclass(frozen=True, slots=True)
class Schedule:
    """One charging schedule.

    Attributes:
        schedule_id: Its id (2.x), for the choice of the car among up to three.
        unit: ``A`` or ``W``.
        periods: By their start.
        start_us: Of an Absolute or Recurring one.
        duration_us: ``None``: the last period does not end.
        min_rate: Below this charging is inefficient; for whoever plans.
    """

    unit: str
    periods: tuple[Period, ...]
    start_us: int | None = None
    duration_us: int | None = None
    min_rate: float | None = None
    schedule_id: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """One charging profile.

    Attributes:
        evse: 0 is the whole station.
        purpose: One of the constants above.
        kind: ``Absolute``, ``Recurring``, ``Relative`` or ``Dynamic``.
        schedules: One, or up to three that a car may choose from.
        raw: As the CSMS wrote it, for reports.
        received_us: When it came, or a dynamic one's last update; what has no other beginning counts from it.
        repeat_us: Recurring: a day or a week.
        offline_us: How long it stays valid while the CSMS is away; ``None``: for ever (``maxOfflineDuration``).
        offline_ends: After that it is void for good.
        update_s: Dynamic: ask for an update after so many seconds.
        chosen: Index of the schedule in force.
    """

    profile_id: int
    evse: int
    purpose: str
    stack_level: int
    kind: str
    schedules: tuple[Schedule, ...]
    raw: Mapping[str, Any]
    received_us: int = 0
    repeat_us: int | None = None
    valid_from_us: int | None = None
    valid_to_us: int | None = None
    transaction_id: str | None = None
    offline_us: int | None = None
    offline_ends: bool = False
    update_s: float | None = None
    chosen: int = 0

    @property
    def schedule(self) -> Schedule:
        """The schedule in force."""
        return self.schedules[self.chosen]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a station would not take a profile.

    Attributes:
        code: OCPP 2.x reason code (Part 2 appendix 5).
        text: For whoever reads the CSMS's log.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Clear:
    """ClearChargingProfile: an id, or criteria that must all match; none of them: everything."""

    profile_id: int | None = None
    evse: int | None = None
    purpose: str | None = None
    stack_level: int | None = None

    def matches(self, profile: Profile) -> bool:
        """Whether it clears this profile; an id alone decides (1.6 section 5.2, 2.0.1 K10.FR.03)."""
        if profile.purpose == EXTERNAL:
            return False  # K10.FR.06: not the CSMS's to clear
        if self.profile_id is not None:
            return profile.profile_id == self.profile_id
        return (
            (self.evse is None or profile.evse == self.evse)
            and (self.purpose is None or profile.purpose == self.purpose)
            and (self.stack_level is None or profile.stack_level == self.stack_level)
        )


@dataclass(frozen=True, slots=True)
class CompositeAsked:
    """GetCompositeSchedule."""

    evse: int
    duration_s: int
    unit: str


@dataclass(frozen=True, slots=True)
class Step:
    """One period of a composite schedule, whole seconds from its start."""

    start_s: int
    limit: Rate
    phases: int = 3


@dataclass(frozen=True, slots=True)
class Running:
    """The transaction at an EVSE, as far as profiles care."""

    transaction_id: str
    started_us: int
