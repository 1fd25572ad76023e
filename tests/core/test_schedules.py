"""Limits by the clock."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from cem.core.limits import LimitKind, Origin
from cem.core.schedules import DAY_MIN, ScheduledLimit, in_force, minutes_of
from cem.core.units import PerPhase

BERLIN = ZoneInfo("Europe/Berlin")


def limit(from_min, to_min, days=range(7)):
    return ScheduledLimit(
        "evening", "site", LimitKind.IMPORT, value_w=5000.0, days=frozenset(days), from_min=from_min, to_min=to_min
    )


def holds(one, text, zone=BERLIN):
    utc = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return bool(in_force([one], zone, utc, 100.0))


def ends_after_s(one, text):
    utc = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return in_force([one], BERLIN, utc, 100.0)[0].until_s - 100.0


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("00:00", 0), ("07:15", 435), ("23:45", 1425), ("24:00", 1440), ("24:15", None), ("7:00", None), ("07:10", None)],
)
def test_times_are_edges_of_quarters(text, minutes):
    assert minutes_of(text) == minutes


def test_daily_block_in_local_time_summer_and_winter():
    evening = limit(17 * 60, 20 * 60)
    assert not holds(evening, "2026-07-01T14:59:59")
    assert holds(evening, "2026-07-01T15:00:00")  # UTC + 2
    assert not holds(evening, "2026-07-01T18:00:00")
    assert holds(evening, "2026-12-01T16:00:00")  # UTC + 1
    assert not holds(evening, "2026-12-01T15:59:59")


def test_weekly_block_over_midnight_belongs_to_the_day_it_begins():
    friday = limit(22 * 60, 6 * 60, days=[4])
    assert not holds(friday, "2026-11-20T04:00:00")  # Friday 05:00: began on Thursday
    assert holds(friday, "2026-11-20T21:30:00")  # Friday 22:30
    assert holds(friday, "2026-11-21T04:59:00")  # Saturday 05:59
    assert not holds(friday, "2026-11-21T05:00:00")
    assert not holds(friday, "2026-11-21T21:30:00")  # Saturday 22:30


def test_whole_day_and_the_same_time_twice():
    assert all(holds(limit(0, DAY_MIN), f"2026-11-20T{h:02}:00:00") for h in range(24))
    assert all(holds(limit(360, 360), f"2026-11-20T{h:02}:00:00") for h in range(24))


def test_the_lost_hour_has_no_block_and_the_doubled_hour_has_two():
    night = limit(2 * 60, 3 * 60)
    assert not any(holds(night, f"2026-03-29T0{h}:{m}:00") for h in range(4) for m in ("00", "30"))
    hours = [h for h in range(4) if holds(night, f"2026-10-25T0{h}:30:00")]
    assert hours == [0, 1]


def test_a_long_block_over_the_clock_change_ends_by_the_wall_clock():
    night = limit(22 * 60, 6 * 60)
    assert ends_after_s(night, "2026-03-28T21:00:00") == 7 * 3600  # 22:00 to 06:00, one hour lost
    assert ends_after_s(night, "2026-10-24T20:00:00") == 9 * 3600
    assert ends_after_s(limit(0, DAY_MIN), "2026-11-20T22:00:00") == 3600
    assert ends_after_s(night, "2026-11-20T04:00:00") == 3600


def test_what_it_becomes():
    utc = datetime(2026, 11, 20, 12, tzinfo=UTC)
    amps = ScheduledLimit("noon", "row", LimitKind.LOAD, value_a=16.0)
    (made,) = in_force([amps], UTC, utc, 0.0)
    assert (made.kind, made.zone_id, made.source, made.origin) == (LimitKind.LOAD, "row", "noon", Origin.SCHEDULE)
    assert (made.value_a, made.value_w) == (PerPhase.same(16.0), None)
