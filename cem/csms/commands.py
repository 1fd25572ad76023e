"""The cloud's commands: smart charging is answered here from the virtual store, everything else goes to the station."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson

from cem.core.site import Evse
from cem.csms.actions import Action, Persist
from cem.csms.dialect import Ask, Dialect, ProfilesAsked
from cem.csms.frames import Frame, result, with_value, without
from cem.csms.ids import Ids
from cem.csms.keeper import Keeper
from cem.csms.metering import instant, items
from cem.csms.moment import Now, ocpp_time
from cem.csms.parsing import whole, words
from cem.csms.picture import Picture
from cem.csms.profiles import CompositeAsked, Profile, ProfileStore, Running, Step
from cem.csms.records import Kept


class Commands:
    """One station's side of what the cloud may ask.

    Args:
        station_id: Identity.
        evses: As built.
        nominal_v: Converts between W and A as the standard does.
        keeper: Our own limits, for an honest composite schedule.
        picture: Transactions.
        journaled: Whether messages of a transaction, by the station's id, still wait for the cloud.
        out: Where actions go.
    """

    def __init__(
        self,
        station_id: str,
        evses: Sequence[Evse],
        nominal_v: float,
        keeper: Keeper,
        picture: Picture,
        journaled: Callable[[str | None], bool],
        out: list[Action],
    ) -> None:
        self._station_id = station_id
        self._evses = {e.number: e for e in evses}
        self._nominal_v = nominal_v
        self._keeper = keeper
        self._picture = picture
        self._journaled = journaled
        self._out = out
        self._for_start: dict[int, Profile] = {}
        self.profiles = ProfileStore({e.number: e.phases for e in evses}, nominal_v, self._running)

    def restore(self, kept: Any, dialect: Dialect) -> None:
        """Takes over the cloud's profiles that were kept over a restart; for the cloud they are still set."""
        profiles = []
        for item in items(kept):
            read = dialect.read_profile(item.get("raw"), whole(item.get("evse")) or 0)
            if read is not None:
                received = instant(item.get("received")) or read.received
                profiles.append(replace(read, transaction_id=words(item.get("transaction_id")), received=received))
        self.profiles.restore(profiles)

    def _keep(self) -> None:
        kept = [
            {"evse": p.evse, "raw": p.raw, "transaction_id": p.transaction_id, "received": ocpp_time(p.received)}
            for p in self.profiles.find(lambda _p: True)
        ]
        self._out.append(Persist((Kept(self._station_id, "profiles", orjson.dumps(kept).decode()),)))

    def _running(self, evse: int) -> Running | None:
        transaction = self._picture.transactions.at(evse)
        return None if transaction is None else Running(transaction.local_id, transaction.started)

    def _sharing(self) -> int:
        return sum(self._picture.transactions.at(number) is not None for number in self._evses)

    def limit_a(self, evse: int, now: Now) -> float | None:
        """What the cloud allows this EVSE now."""
        return self.profiles.limit_a(evse, now.utc, self._sharing()) if len(self.profiles) else None

    def started(self, evse: int) -> None:
        """A transaction began: a profile that came with the remote start now belongs to it."""
        profile = self._for_start.pop(evse, None) or self._for_start.pop(0, None)
        if profile is not None:
            self.profiles.set(replace(profile, evse=evse, transaction_id=None))
            self._keep()

    def ended(self, evse: int) -> None:
        """A transaction is over."""
        if self.profiles.transaction_ended(evse):
            self._keep()

    def answer(self, frame: Frame, dialect: Dialect, ids: Ids, now: Now) -> tuple[str, Sequence[Ask]] | None:
        """Our answer and what else to tell the cloud; ``None`` where the station itself must answer."""
        told: Sequence[Ask] = ()
        payload: dict[str, Any]
        match frame.action:
            case "SetChargingProfile":
                taken = self._set(dialect.set_profile(frame.payload), ids, now)
                payload = {"status": "Accepted" if taken else "Rejected"}
                self._keep()
            case "ClearChargingProfile":
                cleared = self.profiles.clear(dialect.clear_profiles(frame.payload))
                payload = {"status": "Accepted" if cleared else "Unknown"}
                self._keep()
            case "GetCompositeSchedule":
                asked = dialect.composite_asked(frame.payload)
                payload = self._composite(asked, dialect, now) if asked is not None else {"status": "Rejected"}
            case "GetChargingProfiles" if (query := dialect.profiles_asked(frame.payload)) is not None:
                found = self._find(query)
                payload = {"status": "Accepted" if found else "NoProfiles"}
                told = dialect.report_profiles(query, found)
            case "GetTransactionStatus" if self._journaled(dialect.stop_id(frame.action, frame.payload)):
                payload = {"messagesInQueue": True}
                named = dialect.stop_id(frame.action, frame.payload)
                if named is not None:
                    payload["ongoingIndicator"] = named in self._picture.transactions.open
            case _:
                return None
        return result(frame.message_id, payload), told

    def forward(self, frame: Frame, dialect: Dialect, ids: Ids, now: Now) -> str:
        """The text that goes to the station: unchanged, but for a mapped id or a profile that is kept here."""
        text = frame.text
        start = dialect.start_profile(frame.action, frame.payload)
        if start is not None:
            key, profile = start
            text = without(text, key)
            if profile is not None:
                self._for_start[profile.evse] = replace(profile, received=now.utc)
        named = dialect.stop_id(frame.action, frame.payload)
        if named is not None:
            local = ids.local_id(named)
            if local != named:
                text = with_value(text, "transactionId", dialect.wire_id(local))
        return text

    def _set(self, profile: Profile | None, ids: Ids, now: Now) -> bool:
        if profile is None:
            return False
        if profile.transaction_id is not None:
            local = ids.local_id(profile.transaction_id)
            profile = replace(profile, transaction_id=local)
        return self.profiles.set(replace(profile, received=now.utc))

    def _find(self, query: ProfilesAsked) -> list[Profile]:
        return self.profiles.find(
            lambda p: (
                (query.evse is None or p.evse == query.evse)
                and (not query.ids or p.profile_id in query.ids)
                and (query.purpose is None or p.purpose == query.purpose)
                and (query.stack_level is None or p.stack_level == query.stack_level)
            )
        )

    def _composite(self, asked: CompositeAsked, dialect: Dialect, now: Now) -> dict[str, Any]:
        """The truth: the lower of the cloud's own and ours (the station as a whole: the sum over its EVSEs)."""
        if asked.unit not in {"A", "W"} or (asked.evse != 0 and asked.evse not in self._evses):
            return {"status": "Rejected"}
        numbers = [asked.evse] if asked.evse else list(self._evses)
        per_evse = [self._steps(number, asked, now) for number in numbers]
        merged: list[Step] = []
        for at in sorted({step.start_s for steps in per_evse for step in steps}):
            total = sum(next(s.limit for s in reversed(steps) if s.start_s <= at) for steps in per_evse)
            if not merged or merged[-1].limit != total:
                merged.append(Step(at, total))
        return dialect.composite(asked, now.utc, merged)

    def _steps(self, number: int, asked: CompositeAsked, now: Now) -> Sequence[Step]:
        evse, hold = self._evses[number], self._keeper.holds[number]
        running = self._picture.transactions.at(number) is not None
        ours = hold.setpoint_a if running and hold.setpoint_a is not None else evse.fallback_a
        steps = self.profiles.composite(number, now.utc, asked.duration_s, min(ours, evse.max_a), self._sharing())
        factor = 1.0 if asked.unit == "A" else self._nominal_v * evse.phases
        return [Step(step.start_s, step.limit * factor) for step in steps]
