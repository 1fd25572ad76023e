"""What both families of versions write alike of our charging schedules, and read back of a station's composite."""

from collections.abc import Sequence
from typing import Any

from cem.csms.dialect import LIVE_PROFILE_ID, SAFE_PROFILE_ID, Live
from cem.csms.metering import items, number
from cem.csms.moment import ocpp_time
from cem.csms.parsing import member
from cem.csms.profile_reading import tenths
from cem.csms.profiles import Step

ALWAYS = "2020-01-01T00:00:00Z"
"""The beginning of what has no end: before any clock of a station."""
LOOK_S = 86_400
"""How far a station's composite schedule is looked at."""


def steps_told(schedule: Any) -> Sequence[tuple[float, float]]:
    """When each limit of a composite schedule begins, and that limit in A; empty in another unit."""
    if member(schedule, "chargingRateUnit") != "A":
        return []
    told = [
        (number(p.get("startPeriod")), number(p.get("limit")))
        for p in items(member(schedule, "chargingSchedulePeriod"))
    ]
    return [(start_s, limit) for start_s, limit in told if start_s is not None and limit is not None]


def safe_schedule(amount: float, unit: str, kind: str) -> dict[str, Any]:
    """The schedule of a permanent limit: it has no end, and as a Relative one no beginning either."""
    period = {"startPeriod": 0, "limit": tenths(amount), **({"numberPhases": 1} if unit == "W" else {})}
    begins = {} if kind == "Relative" else {"startSchedule": ALWAYS}
    return {"chargingRateUnit": unit, "chargingSchedulePeriod": [period], **begins}


def live_schedule(live: Live) -> dict[str, Any]:
    """The schedule of a live limit, as all versions write it."""
    period: dict[str, Any] = {"startPeriod": 0, "limit": tenths(live.amount)}
    if live.phases is not None:
        period["numberPhases"] = live.phases
    begins = {} if live.rung.relative or live.rung.dynamic else {"startSchedule": ocpp_time(live.start)}
    return {
        "duration": live.life_s, **begins, "chargingRateUnit": live.rung.unit, "chargingSchedulePeriod": [period]
    }  # fmt: skip


def live_id(live: Live) -> int:
    """Its profile's id: where it takes the place of our default it is the same profile (2.x K01.FR.06)."""
    return (SAFE_PROFILE_ID if live.rung.replaces_default else LIVE_PROFILE_ID) + live.evse


def period_of(step: Step) -> dict[str, Any]:
    """One period of a composite schedule as it is written up to 2.0.1; three phases go without saying."""
    period: dict[str, Any] = {"startPeriod": step.start_s, "limit": tenths(step.limit[0])}
    return period if step.phases == 3 else {**period, "numberPhases": step.phases}
