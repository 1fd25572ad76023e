"""The ways of asking a station for a limit, from the best to the last resort; each is tried until one is taken and obeyed."""

from dataclasses import dataclass
from enum import Enum
from math import inf


class Purpose(Enum):
    """Which kind of profile carries the live limit; each dialect has its own word for it."""

    TX = "tx"
    TX_DEFAULT = "tx_default"
    STATION_MAX = "station_max"


@dataclass(frozen=True, slots=True)
class Rung:
    """One way of asking for a limit.

    Attributes:
        purpose: Kind of profile.
        stack_level: Its level; our permanent default is a TxDefaultProfile at level 0.
        unit: ``A`` per phase, or ``W``.
        relative: Counted from the start of the transaction; else Absolute.
        lasts: It is kept on a disk, which no number of writes wears.
        dynamic: Its one value is moved by updates, and each keeps it alive (2.1 K28).
    """

    purpose: Purpose
    stack_level: int
    unit: str = "A"
    relative: bool = False
    lasts: bool = False
    dynamic: bool = False

    @property
    def flash(self) -> bool:
        """The station keeps such a profile over a power cut: each is a write to its flash memory."""
        return self.purpose is not Purpose.TX and not self.lasts

    @property
    def replaces_default(self) -> bool:
        """It takes the place of our permanent default, so that nothing is left when it ends: no dead-man."""
        return self.purpose is Purpose.TX_DEFAULT and self.stack_level == 0

    @property
    def name(self) -> str:
        """For people and for the record."""
        kind = "/relative" if self.relative else "/dynamic" if self.dynamic else ""
        return f"{self.purpose.value}/{self.stack_level}/{self.unit}{kind}"


DYNAMIC = Rung(Purpose.TX, 1, dynamic=True)
"""Before all others, where a station says that it knows such profiles and shows that they end."""
END_TO_END = (Rung(Purpose.STATION_MAX, 1),)
"""Where the cloud's own profiles reach the station: only a maximum takes the minimum with them."""
SITE = (Rung(Purpose.STATION_MAX, 1, lasts=True),)
"""A site below takes a maximum alone."""
SLOWER = 5
"""A flash write lives and is refreshed so many times slower, and is raised at most once a minute, by 2 A or more."""
RAISE_PAUSE_S = 60.0
DEADBAND_A = 2.0
_AMPS = (
    Rung(Purpose.TX, 1),
    Rung(Purpose.TX, 0),
    Rung(Purpose.TX_DEFAULT, 1),
    Rung(Purpose.STATION_MAX, 0),
)
LADDER = (
    *_AMPS,
    Rung(Purpose.TX, 0, relative=True),
    Rung(Purpose.TX, 0, "W"),
    Rung(Purpose.TX_DEFAULT, 1, "W"),
    Rung(Purpose.STATION_MAX, 0, "W"),
    Rung(Purpose.TX_DEFAULT, 0),
    Rung(Purpose.TX_DEFAULT, 0, "W"),
)
"""From those with a dead-man and no flash write to those without a dead-man; current before power."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A live limit that was sent; it ends by itself.

    Attributes:
        until_s: Until then it may be in force.
        sure_s: Until then it surely is, once accepted.
        phases: That it was to charge on; ``None`` where that was not said.
        whole: As a profile; else as a new value for the dynamic profile in force.
    """

    amps: float
    rung: Rung
    until_s: float
    sure_s: float = -inf
    phases: int | None = None
    whole: bool = True
