"""Profiles end to end (mode A), where an operator insists that its own reach the station.

The station holds a permanent maximum at its fallback (stack level 0) under our live one, which expires. The cloud's TxProfiles
and TxDefaultProfiles go to the station as they are; what would get past our maximum, or in its place, stays here: its own
maximum is folded into ours, local generation would be added on top. Its Clear goes on by single ids, never unqualified.
(An expired maximum would let the cloud's TxProfile win over a default of ours; a TxProfile of ours would override the
cloud's instead of taking the minimum.)
"""

from collections.abc import Callable
from functools import partial

from cem.csms.dialect import SAFE_PROFILE_ID, Ask, Dialect
from cem.csms.frames import Frame, Kind, call, error, result, with_value
from cem.csms.ids import Ids
from cem.csms.keeper import Keeper
from cem.csms.lane import Done, Lane, Priority, Waiting
from cem.csms.moment import Now
from cem.csms.parsing import member, whole
from cem.csms.profiles import PRIORITY, TX, TX_DEFAULT, Profile, Refusal
from cem.csms.smart_charging import SmartCharging

RESERVED = range(SAFE_PROFILE_ID, SAFE_PROFILE_ID + 200_000)
"""Ids of our own profiles at the station."""
ANSWER_S = 25.0


class EndToEnd:
    """Takes the cloud's profiles to one station and back.

    Args:
        smart: The books of what the cloud set.
        keeper: Our own limits there.
        lane: The way down.
        new_id: Makes message ids.
    """

    def __init__(self, smart: SmartCharging, keeper: Keeper, lane: Lane, new_id: Callable[[], str]) -> None:
        self._smart = smart
        self._keeper = keeper
        self._lane = lane
        self._new_id = new_id

    def judge(self, frame: Frame, dialect: Dialect, ids: Ids, now: Now) -> Refusal | bool:
        """Whether a command goes to the station (``True``), is answered from the books (``False``), or is refused."""
        start = dialect.start_profile(frame.action, frame.payload)
        if start is not None and whole(member(start.raw, dialect.rules.id_key)) in RESERVED:
            return Refusal("InvalidProfile", "this id is reserved")
        if frame.action != "SetChargingProfile":
            return False
        profile = self._smart.read(frame.payload, dialect, ids, now)
        if isinstance(profile, Refusal):
            return profile
        if profile.profile_id in RESERVED:
            return Refusal("InvalidProfile", "this id is reserved")
        if profile.kind == "Dynamic" or profile.purpose == PRIORITY:
            return Refusal("UnsupportedParam", "dynamic and priority profiles are not served end to end")
        if not _goes_down(profile):
            return False
        return self._smart.profiles.would_refuse(profile, dialect.rules) or True

    def replaces(self, frame: Frame, dialect: Dialect, ids: Ids, reply: Callable[[str], None], now: Now) -> bool:
        """Whether a profile that is kept here takes the id of one at the station, which is cleared there before it counts."""
        profile = self.judge(frame, dialect, ids, now) is False and self._smart.read(frame.payload, dialect, ids, now)
        if not isinstance(profile, Profile) or self._smart.profiles.would_refuse(profile, dialect.rules) is not None:
            return False
        if not self._smart.profiles.find(lambda old: old.profile_id == profile.profile_id and _goes_down(old)):
            return False

        def done(answer: Frame | None, _now: Now) -> None:
            if answer is None or answer.kind is not Kind.RESULT:
                reply(error(frame.message_id, "GenericError", "station is silent"))
                return
            for hold in self._keeper.holds.values():
                hold.again()  # as after any other Clear
            reply(result(frame.message_id, dialect.profile_status(self._smart.install(profile, dialect))))

        self._ask(dialect.clear_profile(profile.profile_id), done)
        return True

    def text(self, frame: Frame, dialect: Dialect, ids: Ids) -> str:
        """A profile for the station: as the cloud wrote it, but for a mapped transaction id (1.6)."""
        key = dialect.rules.set_key
        raw = frame.payload.get(key)
        named = member(raw, "transactionId")
        if named is None or not isinstance(raw, dict) or ids.local_id(str(named)) == str(named):
            return frame.text
        return with_value(frame.text, key, {**raw, "transactionId": dialect.wire_id(ids.local_id(str(named)))})

    def answered(self, frame: Frame, dialect: Dialect, ids: Ids, answer: Frame | None, now: Now) -> None:
        """The station answered a profile of the cloud: what it took goes into the books."""
        if answer is None or answer.kind is not Kind.RESULT or answer.payload.get("status") != "Accepted":
            return
        profile = self._smart.read(frame.payload, dialect, ids, now)
        if isinstance(profile, Profile):
            self._smart.install(profile, dialect)

    def clear(self, frame: Frame, dialect: Dialect, reply: Callable[[str], None]) -> None:
        """The cloud's Clear, by the ids of what it set itself; answered once the station has answered each."""
        clear = dialect.clear_profiles(frame.payload)
        found = self._smart.profiles.find(clear.matches)
        virtual = [p for p in found if not _goes_down(p)]
        waiting = {p.profile_id for p in found if _goes_down(p)}
        self._smart.forget({p.profile_id for p in virtual})
        cleared, silent = len(virtual), 0
        if not waiting:
            reply(result(frame.message_id, {"status": "Accepted" if cleared else "Unknown"}))
            return

        def done(profile_id: int, answer: Frame | None, _now: Now) -> None:
            nonlocal cleared, silent
            waiting.discard(profile_id)
            if answer is not None and answer.kind is Kind.RESULT:  # Unknown: it has lost it by itself
                cleared += 1
                self._smart.forget({profile_id})
            else:
                silent += 1
            if not waiting:
                for hold in self._keeper.holds.values():
                    hold.again()  # whatever it really cleared, ours is in place again
                if cleared or not silent:
                    reply(result(frame.message_id, {"status": "Accepted"}))
                else:
                    reply(error(frame.message_id, "GenericError", "station is silent"))

        for profile_id in sorted(waiting):
            self._ask(dialect.clear_profile(profile_id), partial(done, profile_id))

    def _ask(self, ask: Ask, done: Done) -> None:
        message_id = self._new_id()
        self._lane.push(Waiting(message_id, call(message_id, *ask), Priority.TELEMETRY, ANSWER_S, done))


def _goes_down(profile: Profile) -> bool:
    return profile.purpose in {TX, TX_DEFAULT}
