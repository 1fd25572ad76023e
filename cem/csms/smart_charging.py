"""The cloud's smart charging for one station: answered from the profile store, in the station's place.

What the cloud set is what it is told back; our own limits are in no report, and in every composite schedule.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from typing import Any

import orjson

from cem.core.site import Evse
from cem.csms.actions import Action, Persist
from cem.csms.authorization import token_hash
from cem.csms.composite import plus, whole_steps
from cem.csms.dialect import Ask, Dialect
from cem.csms.facts import ScheduleChosen
from cem.csms.frames import Frame, Kind, result
from cem.csms.ids import Ids
from cem.csms.keeper import Keeper
from cem.csms.metering import items
from cem.csms.moment import Now
from cem.csms.parsing import member, whole, words
from cem.csms.picture import Picture
from cem.csms.profile_reading import Rules, read_profile
from cem.csms.profile_records import from_record, to_record
from cem.csms.profile_store import ProfileStore
from cem.csms.profiles import SECOND_US, TX, Clear, CompositeAsked, Profile, Rate, Refusal, Running, Step, to_us
from cem.csms.records import Kept

NAME = "profiles"
START_LIFE_S = 900.0
"""A profile that came with a remote start waits this long for its transaction."""
MOST_STARTING = 20


@dataclass(frozen=True, slots=True)
class Starting:
    """A profile that came with a remote start and waits for its transaction; ``token``: hashed."""

    profile: Profile
    message_id: str
    token: str | None
    remote_start_id: int | None


class SmartCharging:
    """One station's charging profiles towards the cloud.

    Args:
        station_id: Identity.
        evses: As built.
        nominal_v: Converts between W and A as the standard does.
        keeper: Our own limits, for an honest composite schedule.
        picture: Transactions.
        out: Where actions go.
    """

    def __init__(
        self,
        station_id: str,
        evses: Sequence[Evse],
        nominal_v: float,
        keeper: Keeper,
        picture: Picture,
        out: list[Action],
    ) -> None:
        self._station_id = station_id
        self._evses = {e.number: e for e in evses}
        self._nominal_v = nominal_v
        self._keeper = keeper
        self._picture = picture
        self._out = out
        self._rules: Rules | None = None
        self._starting: list[Starting] = []
        self._pulled_s: dict[int, float] = {}
        self.profiles = ProfileStore({e.number: e.phases for e in evses}, nominal_v, self._running)

    # -- kept over a restart ----------------------------------------------------------------------------------------

    def restore(self, kept: Any, dialect: Dialect, now: Now) -> None:
        """Takes over what was kept over a restart; for the cloud it is still set."""
        self._rules = dialect.rules
        # up to 0.1 it was the list of profiles alone
        listed = items(kept if isinstance(kept, list) else member(kept, "profiles"))
        self.profiles.restore([p for item in listed if (p := from_record(item, dialect.rules)) is not None])
        for item in items(member(kept, "starting")):
            profile = from_record(item, dialect.rules)
            if profile is not None:
                token, remote_id = words(item.get("token")), whole(item.get("remote_start_id"))
                self._starting.append(Starting(profile, str(item.get("message_id")), token, remote_id))
        self.profiles.offline(now.utc)

    def _keep(self) -> None:
        kept = {
            "profiles": [to_record(p) for p in self.profiles.find()],
            "starting": [
                to_record(s.profile)
                | {"message_id": s.message_id, "token": s.token, "remote_start_id": s.remote_start_id}
                for s in self._starting
            ],
        }
        self._out.append(Persist((Kept(self._station_id, NAME, orjson.dumps(kept).decode()),)))

    # -- what goes on at the station --------------------------------------------------------------------------------

    def _running(self, evse: int) -> Running | None:
        transaction = self._picture.transactions.at(evse)
        if transaction is None:
            return None
        # its start is told by the station's clock (S17), which may show a year that no date can be reckoned from
        return Running(
            transaction.local_id, to_us(transaction.started) - round(self._picture.clock.ahead_s * SECOND_US)
        )

    def _sharing(self) -> int:
        return sum(self._picture.transactions.at(number) is not None for number in self._evses)

    def limit_a(self, evse: int, now: Now) -> float | None:
        """What the cloud allows this EVSE now, and for the next moment."""
        if not len(self.profiles):
            return None
        return self.profiles.limit_a(self.profiles.place(evse, self._sharing()), now.utc)

    def started(self, evse: int) -> None:
        """A transaction goes on: a profile that came with its remote start now belongs to it."""
        transaction, running = self._picture.transactions.at(evse), self._running(evse)
        if transaction is None or running is None or not self._starting or self._rules is None:
            return
        for starting in self._starting:
            if running.started_us - starting.profile.received_us > START_LIFE_S * SECOND_US:
                continue
            remote_id = transaction.remote_start_id
            by_id = remote_id is not None and remote_id == starting.remote_start_id
            by_token = (
                remote_id is None
                and starting.profile.evse in {0, evse}
                and starting.token == transaction.token
                and starting.token is not None
            )
            if by_id or by_token:
                raw = starting.profile.raw
                if self._rules.strict:
                    raw = {**raw, "transactionId": transaction.local_id}  # as a station reports it
                profile = replace(starting.profile, evse=evse, transaction_id=transaction.local_id, raw=raw)
                self._starting.remove(starting)
                self.profiles.set(profile, self._rules)
                self._keep()
                return

    def ended(self, evse: int) -> None:
        """A transaction is over."""
        if self.profiles.transaction_ended(evse):
            self._keep()

    def chosen(self, fact: ScheduleChosen) -> None:
        """The car chose one of the schedules of its TxProfile."""
        self.profiles.choose(fact.evse, fact.schedule_id)
        self._keep()

    def uplink(self, now: Now, *, up: bool) -> None:
        """The cloud is there, or away."""
        if not up:
            self.profiles.offline(now.utc)
        elif self.profiles.online(now.utc):
            self._keep()

    # -- commands ---------------------------------------------------------------------------------------------------

    def answer(self, frame: Frame, dialect: Dialect, ids: Ids, now: Now) -> tuple[str, Sequence[Ask]] | None:
        """Our answer and what else to tell the cloud; ``None`` for what is not smart charging."""
        told: Sequence[Ask] = ()
        payload: dict[str, Any]
        self._rules = dialect.rules
        match frame.action:
            case "SetChargingProfile":
                payload = dialect.profile_status(self._set(frame.payload, dialect, ids, now))
            case "ClearChargingProfile":
                cleared = self.profiles.clear(dialect.clear_profiles(frame.payload))
                payload = {"status": "Accepted" if cleared else "Unknown"}
                if cleared:
                    self._keep()
            case "GetCompositeSchedule":
                payload = self._composite(dialect.composite_asked(frame.payload), dialect, now)
            case "GetChargingProfiles" if (query := dialect.profiles_asked(frame.payload)) is not None:
                found = self.profiles.find(query.selects)
                payload = {"status": "Accepted" if found else "NoProfiles"}
                told = dialect.report_profiles(query, found)
            case "UpdateDynamicSchedule" if dialect.rules.modes:
                payload = dialect.profile_status(self._update(frame.payload, now))
            case "UsePriorityCharging" if dialect.rules.modes:
                payload = {"status": self._prioritize(frame.payload)}
            case _:
                return self._remote_start(frame, dialect, now)
        return result(frame.message_id, payload), told

    def _set(self, payload: Mapping[str, Any], dialect: Dialect, ids: Ids, now: Now) -> Refusal | None:
        profile = self.read(payload, dialect, ids, now)
        return profile if isinstance(profile, Refusal) else self.install(profile, dialect)

    def read(self, payload: Mapping[str, Any], dialect: Dialect, ids: Ids, now: Now) -> Profile | Refusal:
        """The profile of a SetChargingProfile, with the transaction as the station knows it."""
        profile = dialect.set_profile(payload, now.utc)
        if isinstance(profile, Profile) and profile.transaction_id is not None:
            profile = replace(profile, transaction_id=ids.local_id(profile.transaction_id))
        return profile

    def install(self, profile: Profile, dialect: Dialect) -> Refusal | None:
        """Puts it into the books, or says why it must be refused."""
        refusal = self.profiles.set(profile, dialect.rules)
        if refusal is None:
            self._keep()
        return refusal

    def forget(self, profile_ids: Collection[int]) -> None:
        """These are cleared."""
        before = len(self.profiles)
        for number in profile_ids:
            self.profiles.clear(Clear(profile_id=number))
        if len(self.profiles) < before:
            self._keep()

    def _update(self, payload: Mapping[str, Any], now: Now) -> Refusal | None:
        profile_id = whole(payload.get("chargingProfileId"))
        if profile_id is None:
            return Refusal("MissingParam", "it does not say which profile")
        refusal = self.profiles.update(profile_id, payload.get("scheduleUpdate"), now.utc)
        if refusal is None:
            self._pulled_s[profile_id] = now.s
            self._keep()
        return refusal

    def _prioritize(self, payload: Mapping[str, Any]) -> str:
        transaction = self._picture.transactions.open.get(str(payload.get("transactionId")))
        if transaction is None:
            return "Rejected"
        taken = self.profiles.prioritize(transaction.evse, on=payload.get("activate") is True)
        return "Accepted" if taken else "NoProfile"

    # -- a profile inside a remote start ----------------------------------------------------------------------------

    def _remote_start(self, frame: Frame, dialect: Dialect, now: Now) -> tuple[str, Sequence[Ask]] | None:
        """Keeps the profile of a remote start, or refuses the start for it; else the command goes to the station."""
        start = dialect.start_profile(frame.action, frame.payload)
        if start is None:
            return None
        profile = read_profile(start.raw, start.evse, dialect.rules, now.utc)
        refusal = profile if isinstance(profile, Refusal) else None
        if isinstance(profile, Profile):
            refusal = self.profiles.fits(replace(profile, evse=start.evse or next(iter(self._evses))))
            if profile.purpose != TX or (profile.transaction_id is not None and dialect.rules.strict):
                # 1.6 section 5.11, 2.0.1 F01.FR.11: for the transaction to come, which has no id yet
                refusal = Refusal("InvalidProfile", "a start takes a TxProfile without transactionId")
        if refusal is not None or isinstance(profile, Refusal):
            return result(frame.message_id, dialect.profile_status(refusal)), ()
        token = None if start.token is None else token_hash(start.token)
        life_us = to_us(now.utc) - round(START_LIFE_S * SECOND_US)
        waiting = [s for s in self._starting if s.profile.received_us > life_us][-MOST_STARTING + 1 :]
        self._starting = [*waiting, Starting(profile, frame.message_id, token, start.remote_start_id)]
        self._keep()
        return None

    def start_answered(self, frame: Frame, answer: Frame | None) -> None:
        """The station answered a remote start, or did not: where it will not start, its profile is void."""
        taken = answer is not None and answer.kind is Kind.RESULT and answer.payload.get("status") == "Accepted"
        kept = [s for s in self._starting if taken or s.message_id != frame.message_id]
        if len(kept) < len(self._starting):
            self._starting = kept
            self._keep()

    # -- dynamic profiles -------------------------------------------------------------------------------------------

    def pulls(self, now: Now) -> list[int]:
        """The dynamic profiles for which the cloud is to be asked now (K28 ``dynUpdateInterval``)."""
        due = []
        for profile in self.profiles.find(lambda p: p.update_s is not None):
            last_s = self._pulled_s.setdefault(profile.profile_id, now.s)
            if profile.update_s is not None and now.s - last_s >= profile.update_s:
                self._pulled_s[profile.profile_id] = now.s
                due.append(profile.profile_id)
        return due

    def pulled(self, profile_id: int, answer: Frame | None, now: Now) -> None:
        """The cloud's answer to that."""
        if answer is not None and answer.kind is Kind.RESULT and answer.payload.get("status") == "Accepted":
            self._update({"chargingProfileId": profile_id, **answer.payload}, now)

    # -- the truth --------------------------------------------------------------------------------------------------

    def _composite(self, asked: CompositeAsked | Refusal, dialect: Dialect, now: Now) -> dict[str, Any]:
        """The lower of the cloud's own and ours; of the station as a whole: the sum over its EVSEs."""
        if isinstance(asked, Refusal):
            return dialect.profile_status(asked)
        if asked.evse != 0 and asked.evse not in self._evses:
            return dialect.profile_status(Refusal("UnknownEvse", "there is no such EVSE"))  # K08.FR.05
        start = now.utc.replace(microsecond=0)
        each = [self._steps(number, asked, start) for number in ([asked.evse] if asked.evse else self._evses)]
        return dialect.composite(asked, start, each[0] if len(each) == 1 else _sum(each, asked.unit))

    def _steps(self, number: int, asked: CompositeAsked, start: datetime) -> list[Step]:
        evse, hold = self._evses[number], self._keeper.holds[number]
        running = self._picture.transactions.at(number) is not None
        ours_a = hold.setpoint_a if running and hold.setpoint_a is not None else evse.fallback_a
        factor = 1.0 if asked.unit == "A" else self._nominal_v * evse.phases
        place = self.profiles.place(number, self._sharing())
        stretches = self.profiles.composite(place, to_us(start), asked.duration_s * SECOND_US, asked.unit)
        return whole_steps(stretches, to_us(start), (min(ours_a, evse.max_a) * factor,), asked.unit)


def _sum(each: Sequence[Sequence[Step]], unit: str) -> list[Step]:
    merged: list[Step] = []
    for at in sorted({step.start_s for steps in each for step in steps}):
        now: list[Rate] = [next(s.limit for s in reversed(steps) if s.start_s <= at) for steps in each]
        total = reduce(lambda a, b: plus(a, b, unit), now)
        if not merged or merged[-1].limit != total:
            merged.append(Step(at, total))
    return merged
