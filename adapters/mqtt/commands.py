"""Commands by MQTT: one JSON object on ``BASE/evse/STATION/N/set``, read strictly, obeyed only while it is fresh.

Keys: ``mode``, ``target_kwh``, ``departure``, ``limit_a`` (what is left out stays as it is, ``null`` takes it back), and ``ts`` (when
it was sent) or ``ttl_s`` (for how long it is meant), or both. L10: what is too old or came as retained is not obeyed.
"""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cem.core.site import Mode
from cem.core.wish import Wish

MOST_BYTES = 4096
TTL_S = 30.0
LONGEST_TTL_S = 3600.0
CLOCKS_DIFFER_S = 5.0
"""A command from the future is refused: its sender's clock or ours is wrong, so its age is unknown."""

WISHES = ("mode", "target_kwh", "departure", "limit_a")
KEYS = (*WISHES, "ts", "ttl_s")
MOST_A = 1000


class NotObeyed(Exception):
    """Why a command is not obeyed, for its sender."""


def read_command(payload: bytes, current: Wish, utc: datetime) -> Wish:
    """The wish that a command makes of the current one.

    Args:
        payload: As it came.
        current: The wish in force.
        utc: Now.

    Raises:
        NotObeyed: It is malformed, incomplete or too old.
    """
    command = _parsed(payload)
    _check_age(command, utc)
    wish = current
    if "mode" in command:
        wish = replace(wish, mode=_mode(command["mode"]))
    if "target_kwh" in command:
        wish = replace(wish, target_wh=_target_wh(command["target_kwh"]), delivered_wh=0.0)
    if "limit_a" in command:
        wish = replace(wish, limit_a=_limit_a(command["limit_a"]))
    if "departure" in command:
        wish = replace(wish, departure_utc=_departure(command["departure"], utc))
    if wish.target_wh is None and wish.departure_utc is not None:
        if command.get("departure") is not None:
            raise NotObeyed("a departure needs a target_kwh: what is wanted by then")
        wish = replace(wish, departure_utc=None)
    return wish


def _parsed(payload: bytes) -> dict[str, Any]:
    if len(payload) > MOST_BYTES:
        raise NotObeyed(f"a command has at most {MOST_BYTES} bytes")
    try:
        command = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise NotObeyed('not JSON; wanted is, for example, {"mode": "surplus", "ttl_s": 30}') from error
    if not isinstance(command, dict):
        raise NotObeyed("wanted is a JSON object with some of the keys " + ", ".join(KEYS))
    unknown = sorted(set(command) - set(KEYS))
    if unknown:
        raise NotObeyed(f"unknown key {unknown[0][:40]!r}; there are {', '.join(KEYS)}")
    if not set(command) & set(WISHES):
        raise NotObeyed("it wishes nothing: give " + ", ".join(WISHES[:-1]) + " or " + WISHES[-1])
    return command


def _check_age(command: dict[str, Any], utc: datetime) -> None:
    ttl_s = command.get("ttl_s")
    if ttl_s is not None and (not _is_number(ttl_s) or not 0 < ttl_s <= LONGEST_TTL_S):
        raise NotObeyed(f"ttl_s is a number of seconds, above 0, at most {LONGEST_TTL_S:g}")
    if command.get("ts") is None:
        if ttl_s is None:
            raise NotObeyed("give ts (the time it was sent, as 2026-01-31T12:00:00Z) or ttl_s: old commands do harm")
        return
    age_s = (utc - _time("ts", command["ts"])).total_seconds()
    if age_s < -CLOCKS_DIFFER_S:
        raise NotObeyed(f"its ts is {-age_s:.0f} s ahead of this controller's clock; set both clocks")
    if age_s > (ttl_s or TTL_S):
        raise NotObeyed(f"it is {age_s:.0f} s old and was meant for {ttl_s or TTL_S:g} s")


def _mode(value: Any) -> Mode | None:
    if value is None:
        return None
    names = [mode.value for mode in Mode]
    if value not in names:
        raise NotObeyed(f"mode is one of {', '.join(names)}")
    return Mode(value)


def _target_wh(value: Any) -> float | None:
    if value is None or (_is_number(value) and value == 0):
        return None
    if not _is_number(value) or not 0 < value <= 1000:
        raise NotObeyed("target_kwh is a number from 0 (no target) to 1000")
    return float(value) * 1000


def _limit_a(value: Any) -> float | None:
    if value is None or (_is_number(value) and value == 0):
        return None
    # below the least that a car charges with (IEC 61851-1) it pauses: a limit is never rounded up
    if not _is_number(value) or not 0 < value <= MOST_A:
        raise NotObeyed(f"limit_a is 0 (no limit) or a number to {MOST_A}; below 6 A the car pauses")
    return float(value)


def _departure(value: Any, utc: datetime) -> datetime | None:
    if value is None:
        return None
    departure = _time("departure", value)
    if departure <= utc:
        raise NotObeyed("the departure is in the past")
    return departure


def _time(key: str, value: Any) -> datetime:
    try:
        if _is_number(value):
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
        time = datetime.fromisoformat(value)
    except (ValueError, TypeError, OverflowError):
        time = None
    if time is None or time.tzinfo is None:
        raise NotObeyed(f"{key} is a time with its zone, as 2026-01-31T12:00:00Z, or seconds since 1970")
    return time.astimezone(UTC)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
