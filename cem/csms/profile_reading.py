"""Charging profiles as they are written in each version, read tolerantly; what cannot be held is refused with a reason.

Unknown members are ignored and stay in ``Profile.raw``. The checks are those of a station: OCPP 2.0.1 and 2.1 Part 2 K01,
1.6 sections 3.13, 5.16 and 7.8 to 7.15. Only the store knows what else is set, so it makes the rest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cem.csms.metering import instant, items, number
from cem.csms.parsing import LONGEST_COMPOSITE_S, member, whole, words
from cem.csms.profiles import (
    DAY_US,
    EXTERNAL,
    GENERATION,
    MAX,
    PRIORITY,
    SECOND_US,
    TX,
    TX_DEFAULT,
    CompositeAsked,
    Period,
    Profile,
    Rate,
    Refusal,
    Schedule,
    to_us,
)

HIGHEST_STACK_LEVEL = 99
MOST_PERIODS = 1024
"""Of one schedule (2.x ChargingScheduleType)."""
_LONGEST_S = 100 * 366 * 86_400
_REPEAT_US = {"Daily": DAY_US, "Weekly": 7 * DAY_US}
_MODES = {
    "Idle", "ChargingOnly", "CentralSetpoint", "ExternalSetpoint", "ExternalLimits", "CentralFrequency",
    "LocalFrequency", "LocalLoadBalancing",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs between versions.

    Attributes:
        id_key: The name of a profile's id.
        set_key: The member of SetChargingProfile that carries the profile.
        purposes: Ours by the version's words.
        kinds: That exist.
        strict: The rules of 2.x, that a station refuses by; a 1.6 station makes the best of it.
        modes: Operation modes and setpoints exist (2.1).
    """

    id_key: str
    set_key: str
    purposes: Mapping[str, str]
    kinds: frozenset[str]
    strict: bool = True
    modes: bool = False

    def purpose(self, told: Any) -> str | None:
        """Of a criterion; ``None`` where there is none, and what no profile has where the word is not known."""
        return None if told is None else self.purposes.get(str(told), "unknown")


_KINDS = frozenset({"Absolute", "Recurring", "Relative"})
RULES_16 = Rules(
    "chargingProfileId",
    "csChargingProfiles",
    {"ChargePointMaxProfile": MAX, "TxDefaultProfile": TX_DEFAULT, "TxProfile": TX},
    _KINDS,
    strict=False,
)
_PURPOSES = {
    "ChargingStationMaxProfile": MAX,
    "TxDefaultProfile": TX_DEFAULT,
    "TxProfile": TX,
    "ChargingStationExternalConstraints": EXTERNAL,
}
RULES_201 = Rules("id", "chargingProfile", _PURPOSES, _KINDS)
RULES_21 = Rules(
    "id",
    "chargingProfile",
    {**_PURPOSES, "PriorityCharging": PRIORITY, "LocalGeneration": GENERATION},
    _KINDS | {"Dynamic"},
    modes=True,
)


class _Unfit(Exception):
    """A station could not hold this."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.refusal = Refusal(code, text)


def tenths(rate: float) -> float:
    """A limit as 1.6 carries it: one decimal, rounded down (section 7.11)."""
    return math.floor(rate * 10 + 1e-6) / 10


def read_profile(raw: Any, evse: int | None, rules: Rules, received: datetime) -> Profile | Refusal:
    """One charging profile.

    Args:
        raw: As it came.
        evse: Where it is to be set; ``None`` where that is not said.
        rules: Of the version.
        received: UTC.

    Returns:
        The profile, or why no station could hold it.
    """
    if evse is None:
        return Refusal("MissingParam", "it does not say where")
    try:
        return _profile(raw, evse, rules, to_us(received))
    except _Unfit as unfit:
        return unfit.refusal


def _profile(raw: Any, evse: int, rules: Rules, received_us: int) -> Profile:
    if not isinstance(raw, Mapping):
        raise _Unfit("InvalidProfile", "it is no object")
    profile_id, stack_level = whole(raw.get(rules.id_key)), whole(raw.get("stackLevel"))
    purpose = rules.purposes.get(str(raw.get("chargingProfilePurpose")))
    kind = str(raw.get("chargingProfileKind"))
    if profile_id is None:
        raise _Unfit("InvalidProfile", "it has no id")
    if stack_level is None or not 0 <= stack_level <= HIGHEST_STACK_LEVEL:
        raise _Unfit("InvalidStackLevel", f"stack levels go from 0 to {HIGHEST_STACK_LEVEL}")
    if purpose is None:
        raise _Unfit("InvalidProfile", "there is no such purpose")
    if kind not in rules.kinds:
        raise _Unfit("InvalidProfile", "there is no such kind")
    repeat_us = _REPEAT_US.get(str(raw.get("recurrencyKind")))
    if kind == "Recurring" and repeat_us is None:
        raise _Unfit("InvalidProfile", "a recurring profile needs its recurrencyKind")
    schedules = _schedules(raw.get("chargingSchedule"), kind, rules)
    if purpose == MAX and kind == "Relative" and rules.strict:
        raise _Unfit("InvalidProfile", "a maximum of the station cannot be relative")  # K01.FR.38
    if len(schedules) > 1 and purpose != TX:
        raise _Unfit("InvalidSchedule", "only a TxProfile may have several schedules")
    valid_from, valid_to = _time(raw.get("validFrom")), _time(raw.get("validTo"))
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        raise _Unfit("InvalidProfile", "it ends before it begins")
    transaction = raw.get("transactionId")
    offline_s = number(raw.get("maxOfflineDuration")) if rules.modes else None
    return Profile(
        profile_id=profile_id,
        evse=evse,
        purpose=purpose,
        stack_level=stack_level,
        kind=kind,
        schedules=schedules,
        raw=raw,
        received_us=received_us,
        repeat_us=repeat_us if kind == "Recurring" else None,
        valid_from_us=valid_from,
        valid_to_us=valid_to,
        transaction_id=None if transaction is None else str(transaction),
        offline_us=None if offline_s is None else _us(offline_s, "maxOfflineDuration"),
        offline_ends=rules.modes and raw.get("invalidAfterOfflineDuration") is True,
        update_s=(number(raw.get("dynUpdateInterval")) or None) if kind == "Dynamic" else None,
    )


def _schedules(raw: Any, kind: str, rules: Rules) -> tuple[Schedule, ...]:
    listed = list(items(raw)) if rules.strict else [raw] if isinstance(raw, Mapping) else []
    if not 1 <= len(listed) <= 3 or (rules.strict and len(listed) != len(raw)):
        raise _Unfit("InvalidSchedule", "it needs one schedule, three at most")
    if kind == "Dynamic" and len(listed) > 1:
        raise _Unfit("InvalidSchedule", "a dynamic profile has one schedule")
    return tuple(_schedule(one, kind, rules) for one in listed)


def _schedule(raw: Mapping[str, Any], kind: str, rules: Rules) -> Schedule:
    unit = words(raw.get("chargingRateUnit"))
    if unit is None or unit not in {"A", "W"}:
        raise _Unfit("UnsupportedRateUnit", "the unit must be A or W")  # K01.FR.26
    if raw.get("useLocalTime") is True or raw.get("limitAtSoC") is not None or number(raw.get("randomizedDelay")):
        # announced by SupportsUseLocalTime, SupportsLimitAtSoC and SupportsRandomizedDelay (2.1 SmartChargingCtrlr)
        raise _Unfit("UnsupportedParam", "useLocalTime, limitAtSoC and randomizedDelay are not served")
    listed = raw.get("chargingSchedulePeriod")
    if not isinstance(listed, list) or not listed or len(list(items(listed))) != len(listed):
        raise _Unfit("InvalidSchedule", "it has no periods")
    if len(listed) > MOST_PERIODS:
        raise _Unfit("TooManyElements", f"a schedule has {MOST_PERIODS} periods at most")
    periods = [_period(one, rules) for one in listed]
    starts = [p.start_us for p in periods]
    if rules.strict and (starts[0] != 0 or starts != sorted(starts)):
        raise _Unfit("InvalidSchedule", "periods begin at 0 and rise")  # K01.FR.31, K01.FR.35
    if len(set(starts)) < len(starts):
        raise _Unfit("InvalidSchedule", "two periods begin at the same time")
    if kind == "Dynamic" and len(periods) > 1:
        raise _Unfit("InvalidSchedule", "a dynamic profile has one period")  # 2.1 K28
    start_us = _time(raw.get("startSchedule"))
    if kind == "Relative":
        if start_us is not None and rules.strict:
            raise _Unfit("InvalidSchedule", "a relative profile has no startSchedule")  # K01.FR.41
        start_us = None
    elif kind == "Dynamic":
        start_us = None  # it counts from its last update (2.1 K28.FR.13)
    elif start_us is None and (kind == "Recurring" or (kind == "Absolute" and rules.strict)):
        raise _Unfit("InvalidSchedule", f"{kind} needs startSchedule")  # K01.FR.40
    duration_s = number(raw.get("duration"))
    if raw.get("duration") is not None and (duration_s is None or duration_s <= 0):
        raise _Unfit("InvalidSchedule", "the duration must be above 0")
    return Schedule(
        unit=unit,
        periods=tuple(sorted(periods, key=lambda p: p.start_us)),
        start_us=start_us,
        duration_us=None if duration_s is None else _us(duration_s, "duration"),
        min_rate=number(raw.get("minChargingRate")),
        schedule_id=whole(raw.get("id")),
    )


def _period(raw: Mapping[str, Any], rules: Rules) -> Period:
    start_s = number(raw.get("startPeriod"))
    if start_s is None or start_s < 0:
        raise _Unfit("InvalidSchedule", "a period needs its startPeriod")
    limit, mode = _rate(raw, "limit"), "ChargingOnly"
    if rules.modes:
        mode = words(raw.get("operationMode")) or mode
        if mode not in _MODES:
            raise _Unfit("InvalidSchedule", "there is no such operationMode")
    elif limit is not None:
        limit = limit[:1]  # per phase since 2.1
    if limit is None and mode in {"ChargingOnly", "CentralFrequency"}:
        raise _Unfit("InvalidSchedule", "a period needs its limit")
    if limit is not None and min(limit) < 0 and not rules.modes:
        raise _Unfit("InvalidSchedule", "a limit cannot be negative")
    if limit is not None and not rules.strict:
        limit = tuple(tenths(value) for value in limit)
    phases, phase_to_use = whole(raw.get("numberPhases")), whole(raw.get("phaseToUse"))
    if phase_to_use is not None and (phases != 1 or phase_to_use not in {1, 2, 3}):
        raise _Unfit("InvalidSchedule", "phaseToUse goes with numberPhases 1")  # K01.FR.19
    return Period(
        start_us=_us(start_s, "startPeriod"),
        limit=limit,
        phases=phases if phases in {1, 2, 3} else 3,  # K01.FR.49
        phase_to_use=phase_to_use,
        mode=mode,
        setpoint=_rate(raw, "setpoint") if rules.modes else None,
        discharge=_rate(raw, "dischargeLimit") if rules.modes else None,
        sleep=rules.modes and raw.get("evseSleep") is True,
    )


def _rate(raw: Mapping[str, Any], name: str) -> Rate | None:
    """One number, or one for each phase where L2 and L3 are told (2.1)."""
    told = [raw.get(key) for key in (name, f"{name}_L2", f"{name}_L3")]
    values = [number(value) for value in told]
    if any(value is None and raw_value is not None for value, raw_value in zip(values, told, strict=True)):
        raise _Unfit("InvalidSchedule", f"{name} must be a number")
    first, second, third = values
    if first is None:
        return None
    if second is None and third is None:
        return (first,)
    return first, first if second is None else second, first if third is None else third


def updated(period: Period, raw: Any) -> Period | None:
    """A dynamic profile's only period with what an update says (2.1 K28); ``None`` where that cannot be understood."""
    if not isinstance(raw, Mapping):
        return None
    try:
        limit, setpoint, discharge = (_rate(raw, name) for name in ("limit", "setpoint", "dischargeLimit"))
    except _Unfit:
        return None
    return Period(
        0,
        period.limit if limit is None else limit,
        period.phases,
        period.phase_to_use,
        period.mode,
        period.setpoint if setpoint is None else setpoint,
        period.discharge if discharge is None else discharge,
        period.sleep,
    )


def read_composite(payload: Mapping[str, Any], evse_key: str) -> CompositeAsked | Refusal:
    """GetCompositeSchedule, or why nobody could answer it."""
    evse, duration = whole(payload.get(evse_key)), whole(payload.get("duration"))
    unit = str(payload.get("chargingRateUnit", "A"))
    if evse is None or duration is None or duration <= 0:
        return Refusal("MissingParam", "it needs an EVSE and a duration")
    if unit not in {"A", "W"}:
        return Refusal("UnsupportedRateUnit", "the unit must be A or W")  # K08.FR.07
    return CompositeAsked(evse, min(duration, LONGEST_COMPOSITE_S), unit)


def chosen(told: Any) -> int | None:
    """The schedule that a car has chosen (NotifyEVChargingSchedule)."""
    return whole(member(told, "selectedChargingScheduleId"))


def _time(value: Any) -> int | None:
    at = instant(value)
    if at is None and value is not None:
        raise _Unfit("InvalidProfile", "a time cannot be read")
    return None if at is None else to_us(at)


def _us(seconds: float, name: str) -> int:
    if not 0 <= seconds <= _LONGEST_S:
        raise _Unfit("InvalidSchedule", f"{name} is out of range")
    return round(seconds * SECOND_US)
