"""The profile store of one station: what the CSMS set, what it is told back, and what that limits at any time.

It does what a station's own store would (OCPP 2.0.1 Part 2 K01, K08 to K10; 1.6 section 3.13). Where stations are held for
the CSMS (mode B) it is the only one; the station itself never sees these profiles.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from typing import Any

from cem.csms.composite import Place, Stretch, composite
from cem.csms.profile_reading import Rules, updated
from cem.csms.profiles import (
    DAY_US,
    EXTERNAL,
    MAX,
    PRIORITY,
    SECOND_US,
    TX,
    TX_DEFAULT,
    Clear,
    Profile,
    Refusal,
    Running,
    to_us,
)

MOST_PROFILES = 200
MOST_PERIODS = 10_000
"""In all profiles of a station together (I11)."""
LEAD_US = 2 * SECOND_US
"""A step down is given out this much before its time, so that the station has it in time."""
_AHEAD_US = DAY_US


class ProfileStore:
    """The charging profiles of one station.

    Args:
        phases: Wired phases of each EVSE, by number.
        nominal_v: Converts between W and A as the standard does.
        running: Gives the transaction at an EVSE; ``None`` outside one.

    Attributes:
        offline_us: Since when the CSMS is away; ``None`` while it is there.
    """

    def __init__(self, phases: Mapping[int, int], nominal_v: float, running: Callable[[int], Running | None]) -> None:
        self._phases = phases
        self._nominal_v = nominal_v
        self._running = running
        self._profiles: tuple[Profile, ...] = ()
        self.offline_us: int | None = None
        self._prioritized: set[str] = set()
        self._ahead: dict[int, tuple[Place, int, int, list[Stretch]]] = {}

    def __len__(self) -> int:
        return len(self._profiles)

    # -- what is set ------------------------------------------------------------------------------------------------

    def set(self, profile: Profile, rules: Rules) -> Refusal | None:
        """Takes a profile, or says why it must be refused."""
        refusal = self.fits(profile)
        if refusal is not None:
            return refusal
        if profile.purpose == TX:
            running = self._running(profile.evse)
            if running is None:
                return Refusal("TxNotFound", "no transaction runs there")  # K01.FR.09, 1.6 section 5.16.2
            if profile.transaction_id is None and rules.strict:
                return Refusal("MissingParam", "a TxProfile needs its transactionId")  # K01.FR.03
            if profile.transaction_id not in {None, running.transaction_id}:
                return Refusal("UnknownTxId", "another transaction runs there")  # K01.FR.33
            profile = replace(profile, transaction_id=running.transaction_id)
        return self._install(profile, rules)

    def would_refuse(self, profile: Profile, rules: Rules) -> Refusal | None:
        """What ``set`` would say; nothing is taken."""
        before = self._profiles
        refusal = self.set(profile, rules)
        self._now(before)
        return refusal

    def fits(self, profile: Profile) -> Refusal | None:
        """Whether such a profile may be set at its EVSE at all."""
        if profile.evse != 0 and profile.evse not in self._phases:
            return Refusal("UnknownEvse", f"there is no EVSE {profile.evse}")  # K01.FR.28
        if profile.purpose == EXTERNAL:
            return Refusal("InvalidProfile", "external constraints are the site's own")  # K01.FR.22
        if profile.purpose == MAX and profile.evse != 0:
            return Refusal("InvalidProfile", "a maximum is the whole station's")  # 2.0.1 K 3.2, 1.6 section 3.13.1
        if profile.purpose == TX and profile.evse == 0:
            return Refusal("InvalidProfile", "a TxProfile belongs to one EVSE")  # K01.FR.16
        wired = self._phases.get(profile.evse, max(self._phases.values(), default=3))
        if any((p.phase_to_use or 1) > wired for s in profile.schedules for p in s.periods):
            return Refusal("InvalidSchedule", "phaseToUse is not wired")  # K01.FR.20
        return None

    def _install(self, profile: Profile, rules: Rules) -> Refusal | None:
        same_place = [p for p in self._profiles if self._same_place(profile, p)]
        if rules.strict:
            # K01.FR.05: the same id replaces; K01.FR.06, .39, .52, .53: another id at the same level is refused
            rivals = [p for p in same_place if p.profile_id != profile.profile_id]
            if profile.purpose == TX_DEFAULT:
                rivals += [p for p in self._profiles if self._same_default(profile, p)]
            if any(_overlap(profile, p) for p in rivals):
                return Refusal("DuplicateProfile", "another profile holds this stack level and purpose")
            same_place = []
        gone = {p.profile_id for p in same_place} | {profile.profile_id}  # 1.6 section 5.16.4
        kept = [p for p in self._profiles if p.profile_id not in gone or p.purpose == EXTERNAL]
        periods = sum(len(s.periods) for p in [*kept, profile] for s in p.schedules)
        if len(kept) >= MOST_PROFILES or periods > MOST_PERIODS:
            return Refusal("OutOfStorage", "there is no room for more profiles")
        self._now([*kept, profile])
        return None

    @staticmethod
    def _same_place(new: Profile, old: Profile) -> bool:
        return (new.evse, new.purpose, new.stack_level, new.transaction_id) == (
            old.evse, old.purpose, old.stack_level, old.transaction_id,
        )  # fmt: skip

    @staticmethod
    def _same_default(new: Profile, old: Profile) -> bool:
        """The default of the station and that of an EVSE at one level would both lead (K01.FR.52, .53)."""
        same = old.purpose == TX_DEFAULT and old.stack_level == new.stack_level and old.profile_id != new.profile_id
        return same and old.evse != new.evse and 0 in {old.evse, new.evse}

    def _now(self, profiles: Iterable[Profile]) -> bool:
        """These are set from now on; whether that is a change."""
        before, self._profiles = self._profiles, tuple(profiles)
        self._ahead.clear()
        return len(before) != len(self._profiles)

    def restore(self, profiles: Iterable[Profile]) -> None:
        """Takes over what was kept over a restart."""
        self._now(profiles)

    def clear(self, clear: Clear) -> bool:
        """Removes what matches; returns whether anything did."""
        return self._now(p for p in self._profiles if not clear.matches(p))

    def transaction_ended(self, evse: int) -> bool:
        """TxProfiles end with their transaction (K01.FR.37, 1.6 section 3.13.1); returns whether there were any."""
        self._prioritized &= {r.transaction_id for e in self._phases if (r := self._running(e)) is not None}
        return self._now(p for p in self._profiles if not (p.purpose == TX and p.evse == evse))

    def find(self, match: Callable[[Profile], bool] = lambda _p: True) -> list[Profile]:
        """For reports."""
        return [p for p in self._profiles if match(p)]

    # -- 2.1: dynamic profiles, the CSMS away, the car's choice -------------------------------------------------------

    def update(self, profile_id: int, raw: Any, at: datetime) -> Refusal | None:
        """New values for a dynamic profile (K28)."""
        old = next((p for p in self._profiles if p.profile_id == profile_id), None)
        if old is None or old.kind != "Dynamic":
            return Refusal("InvalidProfile", "there is no such dynamic profile")
        period = updated(old.schedule.periods[0], raw)
        if period is None:
            return Refusal("InvalidValue", "the update cannot be read")
        schedules = (replace(old.schedule, periods=(period,)),)
        new = replace(old, schedules=schedules, raw=_with_update(old.raw, raw, at), received_us=to_us(at))
        self._now(new if p is old else p for p in self._profiles)
        return None

    def prioritize(self, evse: int, *, on: bool) -> bool:
        """Priority charging for the transaction at an EVSE (K21, K22); ``False`` where no profile is set for it."""
        running = self._running(evse)
        if running is None or not any(p.purpose == PRIORITY and p.evse in {0, evse} for p in self._profiles):
            return False
        if on:
            self._prioritized.add(running.transaction_id)
        else:
            self._prioritized.discard(running.transaction_id)
        return True

    def choose(self, evse: int, schedule_id: int) -> None:
        """The car chose among the schedules of its TxProfile (K16)."""

        def one(profile: Profile) -> Profile:
            ids = [s.schedule_id for s in profile.schedules]
            if profile.purpose != TX or profile.evse != evse or schedule_id not in ids:
                return profile
            return replace(profile, chosen=ids.index(schedule_id))

        self._now([one(p) for p in self._profiles])

    def online(self, at: datetime) -> bool:
        """The CSMS is there again; returns whether profiles were lost for good (``invalidAfterOfflineDuration``)."""
        if self.offline_us is None:
            return False
        away_us, self.offline_us = to_us(at) - self.offline_us, None
        return self._now(
            p for p in self._profiles if not (p.offline_ends and p.offline_us is not None and away_us > p.offline_us)
        )

    def offline(self, at: datetime) -> None:
        """The CSMS is away."""
        if self.offline_us is None:
            self.offline_us = to_us(at)
            self._ahead.clear()

    # -- what it limits ---------------------------------------------------------------------------------------------

    def place(self, evse: int, sharing: int = 1) -> Place:
        """An EVSE as composites see it now."""
        running = self._running(evse)
        priority = running is not None and running.transaction_id in self._prioritized
        phases = self._phases.get(evse, 3)
        return Place(evse, phases, self._nominal_v, running, max(sharing, 1), priority, self.offline_us)

    def composite(self, place: Place, start_us: int, duration_us: int, unit: str) -> list[Stretch]:
        """What the CSMS allows an EVSE; see ``cem.csms.composite``."""
        return composite(self._profiles, place, start_us, start_us + duration_us, unit)

    def limit_a(self, place: Place, at: datetime) -> float | None:
        """The least per phase that is allowed now or in a moment; ``None`` where nothing limits.

        What the next day brings is laid out once, so that asking four times a second costs nothing.
        """
        at_us = to_us(at)
        known, begin, end, stretches = self._ahead.get(place.evse, (None, 0, 0, []))
        if known != place or not begin <= at_us < end - LEAD_US:
            begin, end = at_us, at_us + _AHEAD_US
            stretches = composite(self._profiles, place, begin, end, "A")
            self._ahead[place.evse] = place, begin, end, stretches
        while len(stretches) > 1 and stretches[1].start_us <= at_us:
            del stretches[0]
        near = takewhile(lambda s: s is stretches[0] or s.start_us <= at_us + LEAD_US, stretches)
        limits = [min(s.limit[: place.phases]) for s in near if s.limit is not None]
        return min(limits, default=None)


def _overlap(one: Profile, other: Profile) -> bool:
    """Whether both are valid at some time."""
    begins_first, ends_first = one.valid_from_us or 0, one.valid_to_us
    begins, ends = other.valid_from_us or 0, other.valid_to_us
    return (ends is None or begins_first < ends) and (ends_first is None or begins < ends_first)


def _with_update(raw: Mapping[str, Any], update: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """As the CSMS is told it back: with its own update in the period, and when that was."""
    schedule = raw["chargingSchedule"][0]
    values = {key: value for key, value in update.items() if key != "customData"}
    period = {**schedule["chargingSchedulePeriod"][0], **values}
    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**raw, "dynUpdateTime": stamp, "chargingSchedule": [{**schedule, "chargingSchedulePeriod": [period]}]}
