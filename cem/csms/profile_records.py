"""Charging profiles as they are kept over a restart."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cem.csms.metering import instant
from cem.csms.moment import ocpp_time
from cem.csms.parsing import whole, words
from cem.csms.profile_reading import Rules, read_profile
from cem.csms.profiles import EPOCH, Profile, Refusal


def to_record(profile: Profile) -> dict[str, Any]:
    """What must survive a restart."""
    received = EPOCH + timedelta(microseconds=profile.received_us)
    return {
        "evse": profile.evse,
        "raw": profile.raw,
        "transaction_id": profile.transaction_id,
        "received": ocpp_time(received),
        "chosen": profile.chosen,
    }


def from_record(kept: Mapping[str, Any], rules: Rules) -> Profile | None:
    """The profile again; ``None`` where it cannot be read any more."""
    received = instant(kept.get("received")) or EPOCH
    profile = read_profile(kept.get("raw"), whole(kept.get("evse")) or 0, rules, received)
    if isinstance(profile, Refusal):
        return None
    chosen = min(whole(kept.get("chosen")) or 0, len(profile.schedules) - 1)
    return replace(profile, transaction_id=words(kept.get("transaction_id")), chosen=chosen)
