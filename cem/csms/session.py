"""One station <-> its upstream CSMSs: frames and times in, actions out. No socket, clock or task in here."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from cem.core.site import Evse
from cem.core.state import EvseState
from cem.csms.actions import PRIMARY, Action, CloseStation, Emit, News, SendDown, SendUp, one_write
from cem.csms.authorization import NAME as LOCAL_LIST
from cem.csms.authorization import Authorization, token_hash
from cem.csms.clouds import Clouds, legs_of
from cem.csms.commands import Commands
from cem.csms.desk import Desk
from cem.csms.dialect import Ask, Dialect
from cem.csms.end_to_end import EndToEnd
from cem.csms.facts import Booted, ProfilesReported, ScheduleChosen
from cem.csms.filter import Filter
from cem.csms.frames import BadFrame, Frame, Kind, parse, result
from cem.csms.garbage import Garbage
from cem.csms.keeper import Keeper
from cem.csms.lane import Lane
from cem.csms.moment import Now
from cem.csms.onboarding import Onboarding
from cem.csms.options import Options
from cem.csms.outlook import evse_states
from cem.csms.pace import Shared
from cem.csms.personality import NAME as PERSONALITY
from cem.csms.picture import Picture
from cem.csms.records import Grant, IdMap, JournalEntry, OpenSession, Registration
from cem.csms.settings import NAME as SETTINGS
from cem.csms.settings import Settings
from cem.csms.smart_charging import NAME as PROFILES
from cem.csms.smart_charging import SmartCharging
from cem.csms.versions import DIALECTS, dialect_of
from cem.csms.waiting import describe, identity

BOOT_GRACE_S = 3.0
"""A station that connects has this long to boot before it is taken as one that need not."""


class StationSession:
    """One station of the site file, over all its connections.

    Args:
        station_id: Identity.
        evses: As built.
        nominal_v: Nominal phase voltage of the site.
        options: How it is served.
        new_id: Makes message ids (UUIDs).
        next_transaction_id: Makes transaction ids for 1.6, unique and persisted.
        shared: What the stations of a site share.
    """

    def __init__(
        self,
        station_id: str,
        evses: Sequence[Evse],
        nominal_v: float,
        options: Options,
        new_id: Callable[[], str],
        next_transaction_id: Callable[[], int],
        shared: Shared | None = None,
    ) -> None:
        self.station_id = station_id
        self._options = options
        self._new_id = new_id
        self._out: list[Action] = []
        self._down = Lane()
        self._dialect: Dialect | None = None
        self._opened_s: float | None = None
        self._accepted = False
        self._booting = False
        self._shown_online = False
        self._unfollowed = True
        self._stirred = self._limited = False
        self._garbage = Garbage(station_id, self._out)
        self.picture = Picture(station_id, evses, nominal_v, self._out, self._started, self._ended)
        self.keeper = Keeper(
            station_id, evses, options.profile_duration_s, options.profile_refresh_s,
            self._down, self.picture, self._out, new_id, self._proven, options.quirks,
            end_to_end=options.end_to_end, may_stop=options.stop_ignoring,
        )  # fmt: skip
        shared = shared or Shared()
        self._settings = Settings(
            station_id, options.meter_interval_s, self._out, drop=options.unwanted_samples == "drop"
        )
        self._onboarding = Onboarding(
            station_id,
            self.keeper,
            self.picture,
            self._down,
            self._out,
            new_id,
            self._settings,
            upstream=options.upstream,
        )
        self._authorization = Authorization(
            options.offline_authorization, standalone=not options.upstream, tags=options.tags,
            station_id=station_id, out=self._out, cache=shared.cache,
        )  # fmt: skip
        policy = Filter(station_id, options.allowed_hosts, self._settings, self._out)
        self.clouds = Clouds(
            station_id, legs_of(options), options.on_rejected, self.picture, self._down, self._out, new_id, shared,
            policy, self._authorization, self._settings,
        )  # fmt: skip
        self._desk = Desk(
            station_id, options.upstream, self.picture, self.clouds.primary, self.clouds.observers,
            self._authorization,
            self._out, next_transaction_id, lambda dialect, now: self._accept(dialect, now, booted=True),
            self._settings, signs=options.signs,
        )  # fmt: skip
        self.smart = SmartCharging(station_id, evses, nominal_v, self.keeper, self.picture, self._out)
        end_to_end = EndToEnd(self.smart, self.keeper, self._down, new_id) if options.end_to_end else None
        self.commands = Commands(self.smart, self.picture, self.clouds.holds, end_to_end)

    # -- life of the connections ------------------------------------------------------------------------------------

    def restore(
        self,
        registration: Registration | None,
        grants: Mapping[str, Grant],
        open_sessions: Sequence[OpenSession],
        remembered: Callable[[str], Any],
        now: Now,
        journal: Sequence[JournalEntry] = (),
        id_maps: Sequence[IdMap] = (),
    ) -> None:
        """Takes over what was on disk when we started; ``remembered`` gives back what was ``Kept`` by name."""
        self._desk.registration = registration
        self.keeper.study.restore(remembered(PERSONALITY))
        self.keeper.restore(grants, safe_default=registration is not None and registration.safe_default, now=now)
        self.picture.restore(open_sessions, remembered, now.s)
        self.clouds.restore(journal, id_maps, registration)
        self._settings.restore(remembered(SETTINGS))
        self._authorization.restore(remembered(LOCAL_LIST))
        if registration is not None and self._options.upstream:
            self._dialect = self.clouds.dialect = dialect_of(registration.ocpp_version)
            if self._dialect is not None:
                self.smart.restore(remembered(PROFILES), self._dialect, now)
        if self._options.upstream:
            self.clouds.wanted(None, now)  # the cloud is told even where the station never comes back

    def station_opened(self, subprotocol: str, now: Now) -> list[Action]:
        """The station is connected and authenticated."""
        self._dialect = self.clouds.dialect = DIALECTS[subprotocol]()
        self._opened_s, self._accepted, self._booting = now.s, False, False
        self._garbage.connected()
        self.clouds.came()
        self.picture.clock.disconnected()
        self.keeper.connected(now)
        if self._options.upstream:
            self.clouds.wanted(self._dialect.version, now)
        self._out.append(News())
        return self._flush(now)

    def station_closed(self, now: Now) -> list[Action]:
        """The station is gone; what the cloud still has to hear goes up first, then its uplink closes."""
        self._opened_s, self._accepted, self._booting = None, False, False
        self.clouds.station_here = False
        self.keeper.closed()
        self._onboarding.closed()
        for waiting in self._down.drain():
            waiting.done(None, now)
        if self._shown_online:
            self._shown_online = False
            text = f"{self.station_id} is offline; what it may still draw stays reserved"
            self._out += [Emit("station_offline", text), News()]
        self.clouds.release(now)
        self.clouds.wanted(None, now)
        return self._flush(now)

    def upstream_opened(self, now: Now, upstream: str = PRIMARY) -> list[Action]:
        """A CSMS accepted this station's uplink."""
        self.clouds.legs[upstream].opened(now)
        if upstream == PRIMARY:
            self.smart.uplink(now, up=True)
        return self._flush(now)

    def upstream_closed(self, now: Now, upstream: str = PRIMARY, *, refused_version: bool = False) -> list[Action]:
        """An uplink broke or could not be opened; ``refused_version``: the CSMS is there but does not speak it."""
        uplink = self.clouds.legs[upstream]
        uplink.away(now)
        if upstream == PRIMARY:
            self.smart.uplink(now, up=False)
        if refused_version:
            uplink.refused_version(now)
        close = self._options.on_csms_loss == "close" and upstream == PRIMARY
        if close and self._opened_s is not None:
            self._out.append(CloseStation(1001, "uplink lost"))  # OCPP 2.0.1 Part 4 section 6.3
        return self._flush(now)

    # -- frames -----------------------------------------------------------------------------------------------------

    def station_frame(self, text: str, now: Now) -> list[Action]:
        """A text frame of the station."""
        dialect = self._dialect
        if dialect is None or self._opened_s is None:
            return []
        try:
            frame = parse(text)
        except BadFrame as problem:
            self._garbage.frame(problem, dialect)
            return self._flush(now)
        self._garbage.readable()
        match frame.kind:
            case Kind.CALL:
                fact = dialect.read(frame.action, frame.payload)
                if isinstance(fact, Booted):
                    self._accepted, self._booting = False, True
                    self.picture.booted()
                    self.clouds.booted(frame)
                elif not self._accepted and not self._booting:
                    self._accept(dialect, now, booted=False)
                if isinstance(fact, ScheduleChosen):
                    self.smart.chosen(fact)
                if isinstance(fact, ProfilesReported) and self._onboarding.reported(fact, dialect):
                    self._out.append(SendDown(result(frame.message_id, {})))
                else:
                    self._desk.handle(frame, fact, dialect, now)
            case Kind.RESULT | Kind.ERROR:
                waiting = self._down.answered(frame.message_id)
                if waiting is not None:
                    waiting.done(frame, now)
                    self._unfollowed |= self._options.end_to_end  # it may have been about the cloud's own profiles
                self._stirred = True
            case Kind.SEND | Kind.RESULT_ERROR:
                for uplink in self.clouds.legs.values():
                    if uplink.usable:
                        self._out.append(SendUp(frame.text, uplink.leg.name))
        return self._flush(now, stirred=False)

    def upstream_frame(self, text: str, now: Now, upstream: str = PRIMARY) -> list[Action]:
        """A text frame of a CSMS."""
        if self.clouds.frame(text, upstream, self.commands, now):
            self._follow_cloud(now)
            self._stirred = True
        return self._flush(now, stirred=False)

    def forget(self, token: str, instead: str) -> None:
        """As if a token had never been seen; ``instead`` stands where something must. The disk is the store's business."""
        self._authorization.forget(token)
        self.picture.transactions.forget(token_hash(token), instead)
        self.clouds.forget(token, instead)

    def ask_station(self, ask: Ask, told: Callable[[Frame | None], None], now: Now) -> list[Action]:
        """A CALL of the operator; ``told`` is called with its answer."""
        self._onboarding.ask(ask, told)
        return self._flush(now)

    def retry_refused(self, now: Now, told: Callable[[int], None] = lambda _count: None) -> list[Action]:
        """Somebody asks for another try of what was set aside; ``told`` is called with how many messages that is."""
        told(self.clouds.retry(now))
        return self._flush(now)

    def set_aside(
        self, upstream_id: str | None, seq: int | None, told: Callable[[JournalEntry | None], None], now: Now
    ) -> list[Action]:
        """The operator takes one message out of a CSMS's queue; ``told`` is called with it. It stays on disk."""
        told(self.clouds.set_aside(upstream_id, seq))
        return self._flush(now)

    def _accept(self, dialect: Dialect, now: Now, *, booted: bool) -> None:
        """The station is served and held from now on."""
        if self._opened_s is None:
            return  # it left before its boot was answered
        self._accepted, self._booting, self._stirred = True, False, True
        self.clouds.settled()
        self.picture.stands(now)
        boot = self._desk.registration.boot if self._desk.registration is not None else {}
        self.keeper.accepted(dialect, identity(boot), now)
        known = self._desk.registration is not None and bool(self._desk.registration.boot)
        self._onboarding.accepted(dialect, booted=booted, known=known)
        if not self._shown_online:
            self._shown_online = True
            self._out.append(Emit("station_online", f"{self.station_id} is online (OCPP {dialect.version})"))
        self._out.append(News())

    # -- holding ----------------------------------------------------------------------------------------------------

    def set_limit(self, evse: int, amps: float, now: Now, phases: int = 0) -> list[Action]:
        """Control's setpoint for one EVSE, and the phases to charge on; 0: as it is."""
        self.keeper.set_limit(evse, amps, now, phases)
        return self._flush(now)

    def tick(self, now: Now) -> list[Action]:
        """Everything that happens by time alone; to be called once a second, and more often where something ``waits``."""
        if len(self._down):
            for waiting in self._down.overdue(now.s):
                waiting.done(None, now)
        self.clouds.tick(now)
        self.picture.tick(now)
        dialect = self._dialect
        waited_s = 0.0 if self._opened_s is None else now.s - self._opened_s
        if dialect is not None and not self._accepted and not self._booting and waited_s >= BOOT_GRACE_S:
            self._accept(dialect, now, booted=False)
        if len(self.smart.profiles):
            for profile_id in self.smart.pulls(now):
                self.clouds.primary.tell(
                    ("PullDynamicScheduleUpdate", {"chargingProfileId": profile_id}),
                    partial(self.smart.pulled, profile_id),
                )
        if self._limited or len(self.smart.profiles):
            self._follow_cloud(now)
        self.keeper.look(now)
        if self._opened_s is None:
            self.clouds.release(now)
        return self._flush(now)

    @property
    def waits(self) -> bool:
        """Something is on its way or queued, on any leg, so that time may soon change what is to be done."""
        return len(self._down) > 0 or self.clouds.waits

    def held_here(self, upstream: str, text: str, now: Now) -> list[Action]:
        """A text for a CSMS did not leave, because what it stands on could not be written."""
        self.clouds.legs[upstream].held_here(text, now)
        return self._flush(now)

    def persist_failed(self) -> None:
        """The last records are not on disk; what is on record is no longer known."""
        for hold in self.keeper.holds.values():
            hold.persisted = None

    def evse_states(self, now_s: float) -> list[EvseState]:
        """What control sees."""
        return evse_states(self.picture, self.keeper, now_s, self._options.meter_interval_s, online=self.online)

    def status(self) -> dict[str, Any]:
        """For the API."""
        boot = self._desk.registration.boot if self._desk.registration is not None else {}
        return {
            "id": self.station_id,
            "online": self.online,
            "ocpp_version": self._dialect.version if self._dialect is not None else None,
            **describe(boot),
            "queue_down": len(self._down),
            "only_our_profiles": self._onboarding.verified,
            "needs": self.picture.told_needs(),
            "personality": self.keeper.study.personality.record(),
            "faults": self.picture.faults.status(),
            "reservations": self.picture.reservations.status(),
            **self.clouds.status(),
        }

    @property
    def online(self) -> bool:
        """Connected and accepted."""
        return self._opened_s is not None and self._accepted

    # -- inside -----------------------------------------------------------------------------------------------------

    def _follow_cloud(self, now: Now) -> None:
        """Takes the cloud's composite limits of this instant over into what is held."""
        self._unfollowed = False
        limits = {number: self.smart.limit_a(number, now) for number in self.picture.evses}
        self._limited = any(amps is not None for amps in limits.values())
        changed = [self.keeper.set_cloud(number, amps) for number, amps in limits.items()]
        if any(changed):
            self._out.append(News())

    def _started(self, evse: int) -> None:
        self._unfollowed = self._stirred = True  # a limit of the whole station is shared anew
        self.smart.started(evse)
        self._onboarding.started(evse)
        self.keeper.started(evse)

    def _ended(self, evse: int, now: Now) -> None:
        self._unfollowed = self._stirred = True
        self.smart.ended(evse)
        self.keeper.ended(evse, now)

    def _proven(self, safe: bool) -> None:
        if self._dialect is not None:
            self._desk.proven(safe, self._dialect)
            if safe and self.keeper.cleared:
                self._onboarding.verify(self._dialect)

    def _flush(self, now: Now, *, stirred: bool = True) -> list[Action]:
        """Sends what may go now, and hands over what has gathered.

        Args:
            now: Both clocks.
            stirred: The station may have to be told something; most messages that only pass change nothing there.
        """
        if self._unfollowed:
            self._follow_cloud(now)
        if self._dialect is not None and (stirred or self._stirred or self._down.queued):
            self._stirred = False
            while self.keeper.send_next(now):
                pass
            while self._opened_s is not None and (text := self._down.next(now.s)) is not None:
                self._out.append(SendDown(text))
        self.clouds.send_next(now)
        if not self._out:
            return []
        actions = one_write(self._out)
        self._out.clear()
        return actions
