"""The maximum that a CSMS sets for the site as a whole, by charging profiles at EVSE 0 of the site's own station.

Profiles hold without contact too, until their own end: that is what a CSMS has its durations and stack levels for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any

from cem.csms.composite import Place, Stretch, composite, lower, whole_steps
from cem.csms.dialect import Ask, Dialect
from cem.csms.metering import items
from cem.csms.moment import Now
from cem.csms.parsing import whole
from cem.csms.profile_records import from_record, to_record
from cem.csms.profile_store import LEAD_US, ProfileStore
from cem.csms.profiles import MAX, SECOND_US, Profile, Rate, Refusal, to_us


@dataclass(frozen=True, slots=True)
class SiteMaximum:
    """What the site may draw now: A on each phase, or W in all."""

    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class OtherLimit:
    """A limit that somebody else sets for the site now.

    Attributes:
        source: OCPP's word for who: ``SO`` (the grid operator) or ``EMS`` (the site itself).
        value: In ``unit``: A on each phase, or W in all.
        unit: ``A`` or ``W``.
    """

    source: str
    value: float
    unit: str


class SiteLimit:
    """The profiles of the site's own station.

    Args:
        dialect: Of the version it speaks.
        nominal_v: Converts between W and A where the standard says so.
        phases: Of the grid connection.
        built: Limits that never change: the main fuse, the contract.
    """

    def __init__(self, dialect: Dialect, nominal_v: float, phases: int, built: Sequence[OtherLimit]) -> None:
        self._dialect = dialect
        self._nominal_v = nominal_v
        self._phases = phases
        self._built = built
        self._store = ProfileStore({}, nominal_v, lambda _evse: None)

    def restore(self, kept: Any, now: Now) -> None:
        """Takes over what was kept over a restart."""
        read = [from_record(item, self._dialect.rules) for item in items(kept)]
        self._store.restore([profile for profile in read if profile is not None])
        self._store.offline(now.utc)

    def records(self) -> list[Mapping[str, Any]]:
        """What must survive a restart."""
        return [to_record(profile) for profile in self._store.find()]

    def contact(self, now: Now, *, up: bool) -> bool:
        """The CSMS is there, or away; whether profiles were lost for good by that (2.1)."""
        if up:
            return self._store.online(now.utc)
        self._store.offline(now.utc)
        return False

    # -- commands ---------------------------------------------------------------------------------------------------

    def set(self, payload: Mapping[str, Any], now: Now) -> Refusal | None:
        """SetChargingProfile."""
        profile = self._dialect.set_profile(payload, now.utc)
        if isinstance(profile, Refusal):
            return profile
        if profile.purpose != MAX:
            return Refusal("InvalidProfile", "a site without EVSEs takes a maximum alone")
        return self._store.set(profile, self._dialect.rules)

    def clear(self, payload: Mapping[str, Any]) -> bool:
        """ClearChargingProfile; whether anything was cleared."""
        return self._store.clear(self._dialect.clear_profiles(payload))

    def update(self, payload: Mapping[str, Any], now: Now) -> Refusal | None:
        """UpdateDynamicSchedule (2.1)."""
        profile_id = whole(payload.get("chargingProfileId"))
        if profile_id is None:
            return Refusal("MissingParam", "it does not say which profile")
        return self._store.update(profile_id, payload.get("scheduleUpdate"), now.utc)

    def report(self, payload: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[Ask]] | None:
        """GetChargingProfiles: the answer, and the reports that follow; ``None`` where it cannot be read."""
        query = self._dialect.profiles_asked(payload)
        if query is None:
            return None
        found = self._store.find(query.selects)
        return {"status": "Accepted" if found else "NoProfiles"}, self._dialect.report_profiles(query, found)

    def composite(self, payload: Mapping[str, Any], others: Sequence[OtherLimit], now: Now) -> dict[str, Any]:
        """GetCompositeSchedule: the lower of what is set here and what others, and the fuse, leave."""
        asked = self._dialect.composite_asked(payload)
        if isinstance(asked, Refusal):
            return self._dialect.profile_status(asked)
        if asked.evse != 0:
            return self._dialect.profile_status(Refusal("UnknownEvse", "the site as a whole is EVSE 0"))
        start = now.utc.replace(microsecond=0)
        begin = to_us(start)
        stretches = composite(
            self._store.find(), self._place(), begin, begin + asked.duration_s * SECOND_US, asked.unit
        )
        most = min(self._in(other.value, other.unit, asked.unit) for other in (*self._built, *others))
        return self._dialect.composite(asked, start, whole_steps(stretches, begin, (most,), asked.unit))

    def in_amps(self, other: OtherLimit) -> float:
        """To compare limits of both units."""
        return self._in(other.value, other.unit, "A")

    def _in(self, value: float, unit: str, wanted: str) -> float:
        factor = self._nominal_v * self._phases
        return value if unit == wanted else value * factor if wanted == "W" else value / factor

    # -- what holds -------------------------------------------------------------------------------------------------

    def now(self, utc: datetime) -> SiteMaximum | None:
        """The maximum of this moment, a step down a little early; in the unit of the profile that leads."""
        profiles = self._store.find()
        if not profiles:
            return None
        at = to_us(utc)
        unit = self._leading_unit(profiles, at)
        found = [s.limit for s in self._near(profiles, at, unit) if s.limit is not None]
        if not found:
            return None
        rate: Rate = reduce(lambda a, b: lower(a, b, unit), found)
        return SiteMaximum(sum(rate) if unit == "W" and len(rate) == 3 else min(rate), unit)

    def _leading_unit(self, profiles: Sequence[Profile], at: int) -> str:
        """In the unit of the highest profile that says something now; W is never turned into A for control."""
        for profile in sorted(profiles, key=lambda p: p.stack_level, reverse=True):
            if any(s.limit is not None for s in self._near([profile], at, profile.schedule.unit)):
                return profile.schedule.unit
        return "A"

    def _near(self, profiles: Sequence[Profile], at: int, unit: str) -> list[Stretch]:
        return composite(profiles, self._place(), at, at + LEAD_US, unit)

    def _place(self) -> Place:
        return Place(0, self._phases, self._nominal_v, offline_us=self._store.offline_us)
