"""Limits from outside and from the building, and which of them is the tightest."""

from dataclasses import dataclass
from enum import Enum, auto

from cem.core.units import PerPhase


class LimitKind(Enum):
    """What a limit binds (IEEE 2030.5 names in brackets)."""

    IMPORT = "import"  # opModImpLimW
    EXPORT = "export"  # opModExpLimW
    LOAD = "load"  # opModLoadLimW: controllable consumption
    GENERATION = "generation"  # opModGenLimW


class Origin(Enum):
    """Where a limit comes from; each has its reason code."""

    EXTERNAL = auto()
    """Somebody outside: the DSO, an aggregator, the operator."""
    FUSE = auto()
    CONTRACT = auto()
    SCHEDULE = auto()
    BUDGET = auto()
    """The energy of the running quarter of an hour."""
    FALLBACK = auto()
    """The zone's meter is lost."""
    IMPLAUSIBLE = auto()
    """The zone's meter contradicts what our stations do."""
    BUSBAR = auto()
    SOURCE_LOSS = auto()
    """Kept free for the largest source beneath, which may trip."""
    UNBALANCE = auto()
    SURPLUS = auto()
    """What cars on surplus have together."""
    GROUP = auto()
    """A limit on stations of several zones."""
    LOAD_SHED = auto()
    """A contact: fire alarm, generator, island or backup mode."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who set a limit.

    Attributes:
        name: In words that a person can follow (``fuse``, ``contract``, an external limit's id ...).
        origin: What kind of thing that is.
    """

    name: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit in force now. It may only lower power; 0 is a limit, ``None`` is none.

    Attributes:
        kind: What it binds.
        zone_id: Where.
        source: Who set it, in words that a person can follow (``fuse``, ``contract``, an external limit's id ...).
        value_w: Total over the phases.
        value_a: Per phase.
        since_s: Monotonic time from which it holds.
        until_s: Monotonic time it ends; ``None`` where open.
        origin: What kind of thing its source is.
    """

    kind: LimitKind
    zone_id: str
    source: str
    value_w: float | None = None
    value_a: PerPhase | None = None
    since_s: float | None = None
    until_s: float | None = None
    origin: Origin = Origin.EXTERNAL


@dataclass(frozen=True, slots=True)
class LimitSignal:
    """What an outside limit channel last said, as its adapter heard it.

    Attributes:
        limit_id: The external limit's name in the site file.
        value: In the unit that the site file gives for this channel (W, or A per phase); ``None`` where unreadable.
        active: The enable flag; ``True`` for channels without one.
        written_s: Monotonic time at which this value or flag last changed or was written anew.
        alive_s: Monotonic time of the last sign of life (heartbeat counter moved, poll answered); ``None``: never.
        valid_until_s: Monotonic time after which the value is void; ``None`` where open.
        problem: Why the last write was refused (NaN, negative, above nominal), for people.
    """

    limit_id: str
    value: float | None
    active: bool
    written_s: float | None
    alive_s: float | None
    valid_until_s: float | None = None
    problem: str | None = None
