"""One-minute figures of zones and EVSEs, made from the cycles of that minute. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Phases = tuple[float | None, ...]
"""Amps per phase; ``None`` where a phase is not measured or not limited."""

Subject = tuple[Literal["zone", "evse"], str]


@dataclass(frozen=True, slots=True)
class Rollup:
    """One minute of one zone or EVSE.

    Attributes:
        minute_utc: Start of the minute.
        kind: What ``subject`` is.
        subject: The zone's or EVSE's id.
        measured_mean_a: Mean of the cycles that had a value.
        measured_max_a: Highest of them.
        granted_a: Highest grant of the minute.
        limit_a: Lowest limit of the minute.
        binding: The reason that bound most cycles of the minute (FAULTS I12: exactly one); ``None``: nothing bound.
    """

    minute_utc: datetime
    kind: Literal["zone", "evse"]
    subject: str
    measured_mean_a: Phases
    measured_max_a: Phases
    granted_a: Phases
    limit_a: Phases
    binding: str | None


@dataclass(slots=True)
class _Tally:
    """One subject's minute while it is being counted; one entry a phase."""

    sums: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    highest: list[float | None] = field(default_factory=list)
    granted: list[float | None] = field(default_factory=list)
    limit: list[float | None] = field(default_factory=list)
    bindings: Counter[str] = field(default_factory=Counter)


class MinuteRollups:
    """Counts one minute of every subject; give it each cycle and hand on what it returns."""

    def __init__(self) -> None:
        self._minute: datetime | None = None
        self._tallies: dict[Subject, _Tally] = {}

    def turn(self, utc: datetime) -> tuple[Rollup, ...]:
        """Call once a cycle before ``sample``: the finished roll-ups when a new minute began, else nothing.

        A clock that was set back or forward simply begins another minute (FAULTS L8).
        """
        minute = utc.replace(second=0, microsecond=0)
        if minute == self._minute:
            return ()
        done = self._finish()
        self._minute = minute
        return done

    def sample(
        self,
        kind: Literal["zone", "evse"],
        subject: str,
        *,
        measured_a: Phases | None,
        granted_a: Phases | None,
        limit_a: Phases | None,
        binding: str | None,
    ) -> None:
        """Add one cycle's figures of one subject."""
        tally = self._tallies.setdefault((kind, subject), _Tally())
        width = max(len(measured_a or ()), len(granted_a or ()), len(limit_a or ()))
        while len(tally.sums) < width:
            tally.sums.append(0.0)
            tally.counts.append(0)
            tally.highest.append(None)
            tally.granted.append(None)
            tally.limit.append(None)
        for phase, value in enumerate(measured_a or ()):
            if value is not None:
                tally.sums[phase] += value
                tally.counts[phase] += 1
                seen = tally.highest[phase]
                tally.highest[phase] = value if seen is None else max(seen, value)
        for phase, value in enumerate(granted_a or ()):
            if value is not None:
                seen = tally.granted[phase]
                tally.granted[phase] = value if seen is None else max(seen, value)
        for phase, value in enumerate(limit_a or ()):
            if value is not None:
                seen = tally.limit[phase]
                tally.limit[phase] = value if seen is None else min(seen, value)
        if binding is not None:
            tally.bindings[binding] += 1

    def _finish(self) -> tuple[Rollup, ...]:
        tallies, self._tallies = self._tallies, {}
        if self._minute is None:
            return ()
        minute = self._minute
        return tuple(
            Rollup(
                minute_utc=minute,
                kind=kind,
                subject=subject,
                measured_mean_a=tuple(s / n if n else None for s, n in zip(t.sums, t.counts, strict=True)),
                measured_max_a=tuple(t.highest),
                granted_a=tuple(t.granted),
                limit_a=tuple(t.limit),
                binding=t.bindings.most_common(1)[0][0] if t.bindings else None,
            )
            for (kind, subject), t in tallies.items()
        )
