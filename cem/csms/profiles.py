"""The virtual profile store of one station: what the cloud set, what it is told back, and what it limits now.

The cloud's profiles live here and never reach the station (mode B); the station gets the lower of their composite and
our own limit. Rules: OCPP 2.0.1 Part 2 K01.FR.*, 3.2-3.5 of the smart charging chapter; OCPP 1.6 section 3.13.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

MAX_PROFILES = 200
_REPEAT = {"Daily": timedelta(days=1), "Weekly": timedelta(days=7)}
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
MAX = "max"
TX_DEFAULT = "tx_default"
TX = "tx"


@dataclass(frozen=True, slots=True)
class Period:
    """From ``start_s`` into the schedule: a limit in the schedule's unit; ``None`` where it sets no limit."""

    start_s: float
    limit: float | None
    phases: int = 3


@dataclass(frozen=True, slots=True)
class Schedule:
    """One charging schedule. ``unit`` is ``A`` (per phase) or ``W`` (total)."""

    unit: str
    periods: tuple[Period, ...]
    start: datetime | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """One charging profile of the cloud.

    Attributes:
        evse: 0 is the whole station.
        purpose: ``max``, ``tx_default`` or ``tx``.
        kind: ``Absolute``, ``Recurring`` or ``Relative``.
        raw: As the cloud wrote it, for reports.
        received: When it came; a Relative schedule without a transaction counts from it.
    """

    profile_id: int
    evse: int
    purpose: str
    stack_level: int
    kind: str
    schedule: Schedule
    raw: Mapping[str, Any]
    recurrency: str | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    transaction_id: str | None = None
    received: datetime = LONG_AGO


@dataclass(frozen=True, slots=True)
class Clear:
    """ClearChargingProfile: an id, or criteria that must all match; none of them: everything."""

    profile_id: int | None = None
    evse: int | None = None
    purpose: str | None = None
    stack_level: int | None = None

    def matches(self, profile: Profile) -> bool:
        """Whether it clears this profile; an id alone decides (1.6 section 5.2, 2.0.1 K10.FR.03)."""
        if self.profile_id is not None:
            return profile.profile_id == self.profile_id
        return (
            (self.evse is None or profile.evse == self.evse)
            and (self.purpose is None or profile.purpose == self.purpose)
            and (self.stack_level is None or profile.stack_level == self.stack_level)
        )


@dataclass(frozen=True, slots=True)
class CompositeAsked:
    """GetCompositeSchedule."""

    evse: int
    duration_s: int
    unit: str


@dataclass(frozen=True, slots=True)
class Step:
    """One period of a composite schedule, seconds from its start."""

    start_s: int
    limit: float


@dataclass(frozen=True, slots=True)
class Running:
    """The transaction at an EVSE, as far as profiles care."""

    transaction_id: str | None
    started: datetime


class ProfileStore:
    """The cloud's profiles for one station.

    Args:
        phases: Wired phases of each EVSE, by number.
        nominal_v: Converts W to A as the standard does.
        running: Gives the transaction at an EVSE; ``None`` outside one.
    """

    def __init__(self, phases: Mapping[int, int], nominal_v: float, running: Callable[[int], Running | None]) -> None:
        self._phases = phases
        self._nominal_v = nominal_v
        self._running = running
        self._profiles: list[Profile] = []

    def __len__(self) -> int:
        return len(self._profiles)

    def set(self, profile: Profile) -> bool:
        """Takes a profile; ``False`` where it must be refused."""
        if profile.evse != 0 and profile.evse not in self._phases:
            return False
        if profile.purpose == MAX and profile.evse != 0:
            return False  # OCPP 2.0.1 K01.FR.33: a maximum is the whole station's
        if profile.purpose == TX:
            running = self._running(profile.evse)
            if running is None or profile.transaction_id not in {None, running.transaction_id}:
                return False  # K01.FR.03, K01.FR.33
            profile = replace(profile, transaction_id=running.transaction_id)
        kept = [p for p in self._profiles if not self._replaces(profile, p)]
        if len(kept) >= MAX_PROFILES:
            return False
        self._profiles = [*kept, profile]
        return True

    @staticmethod
    def _replaces(new: Profile, old: Profile) -> bool:
        """The same id, or the same level and purpose at the same EVSE (1.6 section 3.13.2, 2.0.1 K01.FR.05)."""
        return new.profile_id == old.profile_id or (
            new.evse == old.evse and new.purpose == old.purpose and new.stack_level == old.stack_level
        )

    def restore(self, profiles: Sequence[Profile]) -> None:
        """Takes over what was kept over a restart."""
        self._profiles = list(profiles)

    def clear(self, clear: Clear) -> bool:
        """Removes what matches; returns whether anything did."""
        kept = [p for p in self._profiles if not clear.matches(p)]
        removed = len(kept) < len(self._profiles)
        self._profiles = kept
        return removed

    def transaction_ended(self, evse: int) -> bool:
        """TxProfiles end with their transaction; returns whether there were any."""
        before = len(self._profiles)
        self._profiles = [p for p in self._profiles if not (p.purpose == TX and p.evse == evse)]
        return len(self._profiles) < before

    def find(self, match: Callable[[Profile], bool]) -> list[Profile]:
        """For reports."""
        return [p for p in self._profiles if match(p)]

    def limit_a(self, evse: int, at: datetime, sharing: int = 1) -> float | None:
        """The composite limit of one EVSE at one instant, A per phase; ``None`` where the cloud sets none.

        Args:
            evse: Its number.
            at: UTC.
            sharing: EVSEs among which a limit of the whole station is split; a share each can never exceed it.
        """
        transaction = self._winner((TX,), evse, at)
        limits = [transaction if transaction is not None else self._winner((TX_DEFAULT,), evse, at)]
        station = self._winner((MAX,), evse, at)
        if station is not None:
            limits.append(station / max(sharing, 1))
        known = [limit for limit in limits if limit is not None]
        return min(known) if known else None

    def composite(self, evse: int, start: datetime, duration_s: int, ours: float, sharing: int = 1) -> Sequence[Step]:
        """The lower of the cloud's composite and our limit, from ``start`` on, equal neighbours merged."""
        end = start + timedelta(seconds=duration_s)
        steps: list[Step] = []
        for at in sorted({start, *self._edges(evse, start, end)}):
            cloud = self.limit_a(evse, at, sharing)
            limit = ours if cloud is None else min(ours, cloud)
            if not steps or steps[-1].limit != limit:
                steps.append(Step(round((at - start).total_seconds()), limit))
        return steps

    def _winner(self, purposes: Iterable[str], evse: int, at: datetime) -> float | None:
        """The highest stack level with a period now decides; at equal levels the EVSE's own before the station's."""
        best: tuple[int, bool] | None = None
        limit: float | None = None
        for profile in self._profiles:
            if profile.purpose not in purposes or profile.evse not in {0, evse}:
                continue
            amps = self._amps(profile, evse, at)
            rank = (profile.stack_level, profile.evse == evse)
            if amps is not None and (best is None or rank > best):
                best, limit = rank, amps
        return limit

    def _amps(self, profile: Profile, evse: int, at: datetime) -> float | None:
        begin = self._begin(profile, evse, at)
        if begin is None or not self._valid(profile, at):
            return None
        offset_s = (at - begin).total_seconds()
        duration_s = profile.schedule.duration_s
        if offset_s < 0 or (duration_s is not None and offset_s >= duration_s):
            return None
        current = None
        for period in profile.schedule.periods:
            if period.start_s <= offset_s:
                current = period
        if current is None or current.limit is None:
            return None
        if profile.schedule.unit == "A":
            return current.limit
        return current.limit / (self._nominal_v * max(1, min(current.phases, self._phases.get(evse, 3))))

    @staticmethod
    def _valid(profile: Profile, at: datetime) -> bool:
        return (profile.valid_from is None or at >= profile.valid_from) and (
            profile.valid_to is None or at < profile.valid_to
        )

    def _begin(self, profile: Profile, evse: int, at: datetime) -> datetime | None:
        """When the schedule that covers ``at`` began; ``None`` where none does."""
        start = profile.schedule.start
        if profile.kind == "Relative":
            running = self._running(evse)
            if running is not None:
                return running.started
            return profile.received if profile.purpose == MAX else None
        if start is None:
            return profile.received if profile.kind == "Absolute" else None
        repeat = _REPEAT.get(profile.recurrency or "")
        if profile.kind == "Recurring" and repeat is not None and at >= start:
            return start + repeat * ((at - start) // repeat)
        return start

    def _edges(self, evse: int, start: datetime, end: datetime) -> Iterable[datetime]:
        """Every instant in (start, end) at which a profile's limit may change."""
        for profile in self._profiles:
            if profile.evse not in {0, evse}:
                continue
            edges = [profile.valid_from, profile.valid_to]
            repeat = _REPEAT.get(profile.recurrency or "") if profile.kind == "Recurring" else None
            begin = self._begin(profile, evse, start)
            while begin is not None and begin < end:
                edges += [begin, *(begin + timedelta(seconds=p.start_s) for p in profile.schedule.periods)]
                if profile.schedule.duration_s is not None:
                    edges.append(begin + timedelta(seconds=profile.schedule.duration_s))
                begin = begin + repeat if repeat is not None else None
            yield from (edge for edge in edges if edge is not None and start < edge < end)
