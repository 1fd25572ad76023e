"""What a station is asked when it is accepted: samples, its state, and whether profiles of others are still in it.

A foreign default profile at a higher stack level would take the place of ours when we are gone. All are cleared before
the first limit; here the station is asked whether they are (2.x K09; 1.6 by the composite schedule alone).
"""

from collections.abc import Callable, Sequence
from functools import partial

from cem.csms.actions import Action, Emit
from cem.csms.dialect import LIVE_PROFILE_ID, SAFE_PROFILE_ID, Ask, Dialect
from cem.csms.facts import ProfilesReported
from cem.csms.frames import Frame, Kind, call
from cem.csms.keeper import Keeper
from cem.csms.lane import Done, Lane, Priority, Waiting
from cem.csms.moment import Now
from cem.csms.picture import Picture
from cem.csms.settings import Settings

ASK_TIMEOUT_S = 30.0
REQUEST_ID = 900_000_001
"""Of our GetChargingProfiles; the cloud's own never reach the station."""
TRIES = 2
SLACK_A = 0.1


class Onboarding:
    """Asks one station.

    Args:
        station_id: Identity.
        keeper: What may be in force there.
        picture: Its EVSEs.
        lane: The way down.
        out: Where actions go.
        new_id: Makes message ids.
        settings: What samples control and the cloud want.
        upstream: There is a cloud, which is shown what the station had before us.

    Attributes:
        verified: It holds no profile but ours; ``None`` where it cannot tell, or was not asked.
    """

    def __init__(
        self,
        station_id: str,
        keeper: Keeper,
        picture: Picture,
        lane: Lane,
        out: list[Action],
        new_id: Callable[[], str],
        settings: Settings,
        *,
        upstream: bool,
    ) -> None:
        self._station_id = station_id
        self._keeper = keeper
        self._picture = picture
        self._lane = lane
        self._out = out
        self._new_id = new_id
        self._settings = settings
        self._upstream = upstream
        self._here = False
        self.verified: bool | None = None
        self._tries = 0
        self._awaits_report = False
        self._foreign: set[int] = set()
        self._unasked: dict[int, Dialect] = {}

    def accepted(self, dialect: Dialect, *, booted: bool, known: bool) -> None:
        """The station is served from now on.

        Args:
            dialect: Its version.
            booted: It told what it is, and will tell its state by itself.
            known: What it is is on record.
        """
        self._tries, self._awaits_report, self._here = 0, False, True
        if self._upstream:
            self._call(dialect.ask_settings(), partial(self._settings_told, dialect))
        else:
            self._ask_samples(dialect)
        if not booted:
            # It need not boot again after our restart, so what it would have told then is asked for.
            asks = [*dialect.ask_state(list(self._picture.evses))]
            if not known:
                asks.append(dialect.ask_boot())
            for ask in asks:
                self._ask(dialect, [ask])

    def closed(self) -> None:
        """The station is gone."""
        self._here = False

    def _settings_told(self, dialect: Dialect, answer: Frame | None, _now: Now) -> None:
        """What the station samples by itself is what the cloud will read back; then it is given ours as well."""
        self._settings.told(answer)
        if self._here:
            self._ask_samples(dialect)

    def _ask_samples(self, dialect: Dialect) -> None:
        for choices in dialect.ask_samples(self._settings.interval_s, self._settings.measurands):
            self._ask(dialect, choices)

    def _ask(self, dialect: Dialect, choices: Sequence[Ask]) -> None:
        """A CALL of ours whose refusal does no harm; where it is refused the next choice is tried."""

        def done(answer: Frame | None, _now: Now) -> None:
            refused = answer is not None and not (answer.kind is Kind.RESULT and dialect.accepted(answer.payload))
            if refused and len(choices) > 1:
                self._ask(dialect, choices[1:])

        self._call(choices[0], done)

    def ask(self, ask: Ask, told: Callable[[Frame | None], None]) -> None:
        """A CALL of the operator; ``told`` is called with its answer, ``None`` where none came."""
        self._call(ask, lambda answer, _now: told(answer))

    def _call(self, ask: Ask, done: Done = lambda _answer, _now: None) -> None:
        message_id = self._new_id()
        self._lane.push(Waiting(message_id, call(message_id, *ask), Priority.BULK, ASK_TIMEOUT_S, done))

    # -- profiles of others -----------------------------------------------------------------------------------------

    def verify(self, dialect: Dialect) -> None:
        """Foreign profiles were cleared and our default is in place: asks whether that is so."""
        self._tries += 1
        self._foreign.clear()
        ask = dialect.ask_profiles(REQUEST_ID)
        self._awaits_report = ask is not None
        if ask is None:
            self._ask_composites(dialect)
        else:
            self._call(ask, partial(self._told_whether, dialect))

    def _told_whether(self, dialect: Dialect, answer: Frame | None, _now: Now) -> None:
        status = None if answer is None or answer.kind is not Kind.RESULT else answer.payload.get("status")
        if status == "NoProfiles":
            self._awaits_report, self.verified = False, True
        elif status != "Accepted":
            self._awaits_report = False
            self._ask_composites(dialect)

    def _ask_composites(self, dialect: Dialect) -> None:
        """An idle station may tell its maximum, for a Relative default counts from a start: it is asked in a transaction."""
        self._unasked = dict.fromkeys(self._picture.evses, dialect)
        for evse in list(self._picture.evses):
            self.started(evse)

    def started(self, evse: int) -> None:
        """A transaction goes on."""
        if evse in self._unasked and self._picture.transactions.at(evse) is not None:
            dialect = self._unasked.pop(evse)
            self._call(dialect.ask_composite(evse), partial(self._composite, dialect, evse))

    def reported(self, fact: ProfilesReported, dialect: Dialect) -> bool:
        """A report of the station's profiles (2.x); whether we had asked for it."""
        if fact.request_id != REQUEST_ID:
            return False
        if not self._awaits_report:
            return True
        ours = {base + evse for base in (SAFE_PROFILE_ID, LIVE_PROFILE_ID) for evse in self._picture.evses}
        self._foreign |= set(fact.profile_ids) - ours
        if fact.more:
            return True
        self._awaits_report = False
        if not self._foreign:
            self.verified = True
        elif self._tries < TRIES:
            for profile_id in sorted(self._foreign):
                self._call(dialect.clear_profile(profile_id))
            self.verify(dialect)
        else:
            self._remain(f"profiles {', '.join(str(i) for i in sorted(self._foreign)[:5])}")
        return True

    def _composite(self, dialect: Dialect, evse: int, answer: Frame | None, now: Now) -> None:
        """Without a list of profiles: a composite schedule above what we set shows that there is another."""
        if answer is None or answer.kind is not Kind.RESULT or self.verified is False:
            return
        told = [limit for _, limit in dialect.composite_steps(answer.payload)]
        if not told:
            return
        charging = self._picture.transactions.at(evse) is not None
        most_a = max(
            self._keeper.holds[evse].in_force_a(now.s, charging=charging), self._keeper.holds[evse].evse.fallback_a
        )
        if max(told) <= most_a + SLACK_A:
            self.verified = True
        else:
            self._remain(f"a composite schedule of {max(told):g} A at EVSE {evse} where {most_a:g} A are set")

    def _remain(self, what: str) -> None:
        self.verified = False
        self._keeper.distrust()
        text = (
            f"{self._station_id} still holds charging profiles that are not ours ({what}); when we are gone they would take "
            "the place of its fallback, so its maximum is reserved. Reset its profiles at the station"
        )
        self._out.append(Emit("foreign_profiles", text))
