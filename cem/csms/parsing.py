"""Small tolerant readers of parsed JSON that both dialects share."""

from collections.abc import Callable, Mapping
from typing import Any

from cem.csms.metering import instant, items, number
from cem.csms.profiles import Period, Profile, Schedule

LONGEST_COMPOSITE_S = 7 * 86_400


def whole(value: Any) -> int | None:
    """A whole number; ``None`` for anything else."""
    parsed = number(value)
    return int(parsed) if parsed is not None and parsed == int(parsed) and abs(parsed) < 2**63 else None


def words(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def member(value: Any, key: str) -> Any:
    """``value[key]`` where value is an object that has it."""
    return value.get(key) if isinstance(value, Mapping) else None


def schedule(raw: Mapping[str, Any]) -> Schedule | None:
    """One charging schedule; ``None`` where it cannot be understood, which refuses the profile."""
    unit = raw.get("chargingRateUnit")
    periods = []
    for period in items(raw.get("chargingSchedulePeriod")):
        start_s, limit = number(period.get("startPeriod")), number(period.get("limit"))
        if start_s is None or start_s < 0 or (limit is not None and limit < 0) or (limit is None and "limit" in period):
            return None
        phases = whole(period.get("numberPhases"))
        periods.append(Period(start_s, limit, phases if phases in {1, 2, 3} else 3))
    if unit not in {"A", "W"} or not periods:
        return None
    duration_s = number(raw.get("duration"))
    periods.sort(key=lambda p: p.start_s)
    return Schedule(unit, tuple(periods), instant(raw.get("startSchedule")), duration_s)


def profile(
    raw: Any, evse: int, id_key: str, purposes: Mapping[str, str], one_schedule: Callable[[Any], Any]
) -> Profile | None:
    """One charging profile of the cloud; ``None`` where it cannot be understood or has a purpose we do not serve."""
    if not isinstance(raw, Mapping):
        return None
    profile_id, stack_level = whole(raw.get(id_key)), whole(raw.get("stackLevel"))
    purpose = purposes.get(str(raw.get("chargingProfilePurpose")))
    first = one_schedule(raw.get("chargingSchedule"))
    parsed = schedule(first) if isinstance(first, Mapping) else None
    kind = str(raw.get("chargingProfileKind"))
    known = kind in {"Absolute", "Recurring", "Relative"}
    if profile_id is None or stack_level is None or stack_level < 0 or purpose is None or parsed is None or not known:
        return None
    transaction = raw.get("transactionId")
    return Profile(
        profile_id=profile_id,
        evse=evse,
        purpose=purpose,
        stack_level=stack_level,
        kind=kind,
        schedule=parsed,
        raw=raw,
        recurrency=words(raw.get("recurrencyKind")),
        valid_from=instant(raw.get("validFrom")),
        valid_to=instant(raw.get("validTo")),
        transaction_id=None if transaction is None else str(transaction),
    )
