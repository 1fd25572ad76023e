"""The charging-profile store of a simulated station, as OCPP says a station keeps it. Pure: time is an argument.

Both OCPP versions' profiles become one ``Profile``. Inside a purpose the highest stack level that applies now
prevails; TxProfile replaces TxDefaultProfile; of what is left the lowest rate counts (OCPP 1.6 §3.13.2, 2.0.1 K01).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

MAX, TX_DEFAULT, TX = "Max", "TxDefault", "Tx"

PURPOSES = {
    "ChargePointMaxProfile": MAX,
    "ChargingStationMaxProfile": MAX,
    "ChargingStationExternalConstraints": MAX,
    "TxDefaultProfile": TX_DEFAULT,
    "TxProfile": TX,
}
HIGHEST_STACK_LEVEL = 99


@dataclass(frozen=True, slots=True)
class Profile:
    """One installed profile. Times are seconds of UTC (epoch).

    Attributes:
        profile_id: The CSMS's.
        evse_id: 0 is the whole station.
        stack_level: Higher prevails inside a purpose.
        purpose: ``Max``, ``TxDefault`` or ``Tx``.
        kind: ``Absolute``, ``Relative`` or ``Recurring``.
        unit: ``A`` per phase or ``W``.
        periods: Start in s since the schedule's start, limit, phases that a W limit is spread over.
        start_utc_s: Start of an absolute or recurring schedule; ``None``: when it was installed.
        duration_s: The schedule ends after this; ``None``: it stays.
        valid_from_utc_s: Not before.
        valid_to_utc_s: Not after.
        every_s: Recurring: a day or a week.
        transaction_id: Tx: the transaction it is for.
        raw: As it was received, for reports.
    """

    profile_id: int
    evse_id: int
    stack_level: int
    purpose: str
    kind: str
    unit: str
    periods: tuple[tuple[float, float, int], ...]
    start_utc_s: float | None = None
    duration_s: float | None = None
    valid_from_utc_s: float | None = None
    valid_to_utc_s: float | None = None
    every_s: float | None = None
    transaction_id: str | None = None
    raw: Mapping[str, Any] | None = None

    def since_start_s(self, utc_s: float, transaction_start_utc_s: float | None) -> float | None:
        """How far its schedule is now; ``None`` where the profile does not apply now."""
        if self.valid_from_utc_s is not None and utc_s < self.valid_from_utc_s:
            return None
        if self.valid_to_utc_s is not None and utc_s >= self.valid_to_utc_s:
            return None
        start_s = transaction_start_utc_s if self.kind == "Relative" else self.start_utc_s
        if start_s is None or utc_s < start_s:
            return None
        since_s = utc_s - start_s
        if self.every_s is not None:
            since_s %= self.every_s
        if self.duration_s is not None and since_s >= self.duration_s:
            return None
        return since_s if since_s >= self.periods[0][0] else None

    def limit_a(
        self, utc_s: float, transaction_start_utc_s: float | None, voltage_v: float, phases: int
    ) -> float | None:
        """Amps per phase now; ``None`` where it does not apply now."""
        since_s = self.since_start_s(utc_s, transaction_start_utc_s)
        if since_s is None:
            return None
        _, limit, over = [period for period in self.periods if period[0] <= since_s][-1]
        return limit if self.unit == "A" else limit / (voltage_v * min(over, phases))

    def edges(self, transaction_start_utc_s: float | None, until_utc_s: float) -> list[float]:
        """Times at which its limit may change, up to a time."""
        start_s = transaction_start_utc_s if self.kind == "Relative" else self.start_utc_s
        found = [t for t in (self.valid_from_utc_s, self.valid_to_utc_s) if t is not None]
        if start_s is None:
            return found
        offsets = [period[0] for period in self.periods] + ([self.duration_s] if self.duration_s is not None else [])
        rounds = int((until_utc_s - start_s) // self.every_s) + 1 if self.every_s else 1
        every_s = self.every_s or 0.0
        return found + [start_s + n * every_s + offset for n in range(max(1, rounds)) for offset in [0.0, *offsets]]


def parse_utc_s(text: str | None) -> float | None:
    """An OCPP date-time as seconds of UTC; without a zone it is UTC."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def parse_profile(evse_id: int, data: Mapping[str, Any], now_utc_s: float) -> Profile:
    """A profile as either version writes it (``csChargingProfiles`` or ``chargingProfile``).

    Raises:
        KeyError, ValueError: It lacks something or makes no sense.
    """
    schedule = data["chargingSchedule"]
    if isinstance(schedule, list):  # OCPP 2.0.1: one to three schedules, the station follows one
        schedule = schedule[0]
    periods = tuple(
        (float(p["startPeriod"]), float(p["limit"]), int(p.get("numberPhases", 3)))
        for p in schedule["chargingSchedulePeriod"]
    )
    if not periods or any(b[0] <= a[0] for a, b in pairwise(periods)):
        raise ValueError("periods must rise")
    recurrency = {"Daily": 86_400.0, "Weekly": 604_800.0}
    start_utc_s = parse_utc_s(schedule.get("startSchedule"))
    kind = str(data["chargingProfileKind"])
    every_s = recurrency[data.get("recurrencyKind", "Daily")] if kind == "Recurring" else None
    identity = data["chargingProfileId"] if "chargingProfileId" in data else data["id"]
    return Profile(
        profile_id=int(identity),
        evse_id=evse_id,
        stack_level=int(data["stackLevel"]),
        purpose=PURPOSES[data["chargingProfilePurpose"]],
        kind=kind,
        unit=str(schedule["chargingRateUnit"]),
        periods=periods,
        start_utc_s=now_utc_s if start_utc_s is None else start_utc_s,
        duration_s=None if schedule.get("duration") is None else float(schedule["duration"]),
        valid_from_utc_s=parse_utc_s(data.get("validFrom")),
        valid_to_utc_s=parse_utc_s(data.get("validTo")),
        every_s=every_s,
        transaction_id=None if data.get("transactionId") is None else str(data["transactionId"]),
        raw=dict(data),
    )


class ProfileStore:
    """Every profile that a station holds; it survives a lost connection.

    Args:
        one_default: It keeps a single TxDefaultProfile of an EVSE, against the book.
        keeps_ended: A schedule has no end, against the book.
    """

    def __init__(self, *, one_default: bool = False, keeps_ended: bool = False) -> None:
        self.profiles: list[Profile] = []
        self._one_default, self._keeps_ended = one_default, keeps_ended

    def install(self, profile: Profile, *, same_place_replaces: bool) -> bool:
        """Installs one; the same id is always replaced.

        Args:
            profile: The new one.
            same_place_replaces: OCPP 1.6: same stack level and purpose at the same EVSE is replaced; in 2.0.1 such a
                profile with another id is refused (K01.FR.06).

        Returns:
            Whether it was accepted.
        """
        if not 0 <= profile.stack_level <= HIGHEST_STACK_LEVEL:
            return False
        others = [p for p in self.profiles if p.profile_id != profile.profile_id]
        if self._keeps_ended:
            profile = replace(profile, duration_s=None)
        if self._one_default and profile.purpose == TX_DEFAULT:
            others = [p for p in others if (p.purpose, p.evse_id) != (TX_DEFAULT, profile.evse_id)]

        def same_place(p: Profile) -> bool:
            place = (p.evse_id, p.purpose, p.stack_level, p.transaction_id)
            return place == (profile.evse_id, profile.purpose, profile.stack_level, profile.transaction_id)

        if any(same_place(p) for p in others):
            if not same_place_replaces:
                return False
            others = [p for p in others if not same_place(p)]
        self.profiles = [*others, profile]
        return True

    def clear(self, matches: Callable[[Profile], bool]) -> int:
        """Removes what matches; returns how many."""
        before = len(self.profiles)
        self.profiles = [p for p in self.profiles if not matches(p)]
        return before - len(self.profiles)

    def limit_a(
        self,
        evse_id: int,
        utc_s: float,
        *,
        transaction_id: str | None = None,
        transaction_start_utc_s: float | None = None,
        voltage_v: float = 230.0,
        phases: int = 3,
        sharing: int = 1,
    ) -> float | None:
        """Amps per phase that one EVSE may draw now by its profiles; ``None`` where none applies.

        A Max profile binds the whole station: ``sharing`` EVSEs take equal parts of it.
        """
        best: dict[str, tuple[int, int, float]] = {}
        for profile in self.profiles:
            if profile.evse_id not in {0, evse_id}:
                continue
            if profile.purpose == TX and (
                transaction_start_utc_s is None or profile.transaction_id not in {None, transaction_id}
            ):
                continue
            limit_a = profile.limit_a(utc_s, transaction_start_utc_s, voltage_v, phases)
            if limit_a is None:
                continue
            if profile.purpose == MAX and profile.evse_id == 0:
                limit_a /= sharing
            rank = (profile.stack_level, profile.evse_id, limit_a)  # an EVSE's own before the station's
            best[profile.purpose] = max(best.get(profile.purpose, rank), rank)
        if TX in best:
            best.pop(TX_DEFAULT, None)
        return min((limit for _, _, limit in best.values()), default=None)

    def schedule(
        self, utc_s: float, duration_s: float, limit_at: Callable[[float], float], transaction_start_utc_s: float | None
    ) -> list[tuple[float, float]]:
        """The composite schedule: (seconds from now, amps), neighbours merged.

        Args:
            utc_s: Now.
            duration_s: How far.
            limit_at: The EVSE's limit at a time.
            transaction_start_utc_s: Of the running transaction.
        """
        end_s = utc_s + duration_s
        edges = {t for p in self.profiles for t in p.edges(transaction_start_utc_s, end_s) if utc_s < t < end_s}
        periods: list[tuple[float, float]] = []
        for time_s in sorted({utc_s, *edges}):
            limit_a = limit_at(time_s)
            if not periods or periods[-1][1] != limit_a:
                periods.append((time_s - utc_s, limit_a))
        return periods
