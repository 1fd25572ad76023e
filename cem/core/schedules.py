"""Limits by the clock: 15-minute blocks, daily or on some days of the week, in the site's own time zone.

A block is a stretch of the wall clock. On the night a clock goes forward a block in the lost hour does not happen; on
the night it goes back a block in the doubled hour holds both times. A limit only lowers power, so this is the safe side.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from cem.core.limits import Limit, LimitKind, Origin
from cem.core.units import PerPhase

BLOCK_MIN = 15
DAY_MIN = 24 * 60
EVERY_DAY = frozenset(range(7))

_TIME = re.compile(r"([01]\d|2[0-4]):(00|15|30|45)")


@dataclass(frozen=True, slots=True)
class ScheduledLimit:
    """A limit that holds at certain times.

    Attributes:
        limit_id: Shown as the source of what it binds.
        zone_id: Where.
        kind: What it binds.
        value_w: Total over the phases; ``None`` where it is in A.
        value_a: Per phase.
        days: Days on which a block begins, Monday is 0.
        from_min: Minutes after midnight at which the block begins.
        to_min: At which it ends; not above ``from_min``: on the next day.
    """

    limit_id: str
    zone_id: str
    kind: LimitKind
    value_w: float | None = None
    value_a: float | None = None
    days: frozenset[int] = EVERY_DAY
    from_min: int = 0
    to_min: int = DAY_MIN

    def holds(self, local: datetime) -> bool:
        """Whether it holds at this moment of the site's clock."""
        minute = 60 * local.hour + local.minute
        if self.from_min < self.to_min:
            return local.weekday() in self.days and self.from_min <= minute < self.to_min
        began_yesterday = minute < self.to_min and (local.weekday() - 1) % 7 in self.days
        return began_yesterday or (minute >= self.from_min and local.weekday() in self.days)

    def ends(self, local: datetime) -> datetime:
        """The end of the block that holds now, by the wall clock."""
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        over_night = self.to_min <= self.from_min <= 60 * local.hour + local.minute
        day = midnight + timedelta(days=1) if over_night or self.to_min == DAY_MIN else midnight
        return day + timedelta(minutes=self.to_min % DAY_MIN)


def minutes_of(text: str) -> int | None:
    """Minutes after midnight of ``HH:MM`` at the edge of a 15-minute block, to ``24:00``; ``None`` for all else."""
    match = _TIME.fullmatch(text)
    minutes = 60 * int(match[1]) + int(match[2]) if match else DAY_MIN + 1
    return minutes if minutes <= DAY_MIN else None


def in_force(schedules: Iterable[ScheduledLimit], zone: tzinfo, utc: datetime, now_s: float) -> tuple[Limit, ...]:
    """The limits of the blocks that hold now.

    Args:
        schedules: All there are.
        zone: The site's clock.
        utc: Aware.
        now_s: The same moment, monotonic.
    """
    local = utc.astimezone(zone)
    return tuple(
        Limit(
            one.kind,
            one.zone_id,
            one.limit_id,
            value_w=one.value_w,
            value_a=None if one.value_a is None else PerPhase.same(one.value_a),
            until_s=now_s + (one.ends(local).astimezone(UTC) - utc).total_seconds(),
            origin=Origin.SCHEDULE,
        )
        for one in schedules
        if one.holds(local)
    )
