"""One station <-> its upstream CSMS: frames and times in, actions out. No socket, clock or task in here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cem.core.site import Evse
from cem.core.state import EvseState
from cem.csms.actions import Action, CloseStation, CloseUpstream, Emit, News, OpenUpstream, SendDown, SendUp
from cem.csms.authorization import Authorization, Policy
from cem.csms.commands import Commands
from cem.csms.desk import Desk
from cem.csms.dialect import Ask, Dialect
from cem.csms.facts import Booted
from cem.csms.frames import BadFrame, Frame, Kind, call, error, parse
from cem.csms.keeper import Keeper
from cem.csms.lane import Lane, Priority, Waiting
from cem.csms.moment import Now
from cem.csms.picture import Picture
from cem.csms.records import Grant, OpenSession, Registration
from cem.csms.uplink import State, Uplink
from cem.csms.v2 import V2
from cem.csms.v16 import V16
from cem.csms.waiting import describe

BOOT_GRACE_S = 3.0
"""A station that connects has this long to boot before it is taken as one that need not."""
CALL_TIMEOUT_S = 30.0
GARBAGE_LIMIT = 5
"""Unreadable frames in a row after which the connection is closed (S14)."""
DIALECTS: Mapping[str, Callable[[], Dialect]] = {
    "ocpp2.1": lambda: V2("2.1"),
    "ocpp2.0.1": lambda: V2("2.0.1"),
    "ocpp1.6": V16,
}
"""Subprotocols we speak; the station's order of preference decides."""


@dataclass(frozen=True, slots=True)
class Options:
    """How stations are served; see ``cem.config.models.Csms``."""

    upstream: bool = False
    offline_authorization: Policy = "known"
    on_csms_loss: str = "keep"
    profile_duration_s: float = 120
    profile_refresh_s: float = 40
    meter_interval_s: float = 10


class StationSession:
    """One station of the site file, over all its connections.

    Args:
        station_id: Identity.
        evses: As built.
        nominal_v: Nominal phase voltage of the site.
        options: How it is served.
        new_id: Makes message ids (UUIDs).
        next_transaction_id: Makes transaction ids for 1.6, unique and persisted.
    """

    def __init__(
        self,
        station_id: str,
        evses: Sequence[Evse],
        nominal_v: float,
        options: Options,
        new_id: Callable[[], str],
        next_transaction_id: Callable[[], int],
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
        self._garbage = 0
        self._garbage_told = False
        self.picture = Picture(station_id, evses, nominal_v, self._out, self._started, self._ended)
        self.keeper = Keeper(
            station_id, evses, options.profile_duration_s, options.profile_refresh_s,
            self._down, self.picture, self._out, new_id, self._proven,
        )  # fmt: skip
        self.uplink = Uplink(station_id, self.picture.transactions, self._out, new_id)
        self._desk = Desk(
            station_id, options.upstream, self.picture, self.uplink,
            Authorization(options.offline_authorization, standalone=not options.upstream),
            self._out, next_transaction_id, lambda dialect, now: self._accept(dialect, now, booted=True),
        )  # fmt: skip
        self.commands = Commands(evses, nominal_v, self.keeper, self.picture, self._journaled, self._out)

    # -- life of the connections ------------------------------------------------------------------------------------

    def restore(
        self,
        registration: Registration | None,
        grants: Mapping[str, Grant],
        open_sessions: Sequence[OpenSession],
        remembered: Callable[[str], Any],
        now: Now,
    ) -> None:
        """Takes over what was on disk when we started; ``remembered`` gives back what ``Remember`` kept by name."""
        self._desk.registration = registration
        self.keeper.restore(grants, safe_default=registration is not None and registration.safe_default, now=now)
        self.picture.restore(open_sessions, now.s)
        if registration is not None and self._options.upstream and f"ocpp{registration.ocpp_version}" in DIALECTS:
            self._dialect = DIALECTS[f"ocpp{registration.ocpp_version}"]()
            self.commands.restore(remembered("profiles"), self._dialect)
            self.uplink.restore(remembered("uplink"))
            if self.uplink.busy:  # the cloud is told even where the station never comes back
                self.uplink.dialing(now.s)
                self._out.append(OpenUpstream(f"ocpp{registration.ocpp_version}"))

    def station_opened(self, subprotocol: str, now: Now) -> list[Action]:
        """The station is connected and authenticated."""
        if self._dialect is not None and f"ocpp{self._dialect.version}" != subprotocol and self._options.upstream:
            self.uplink.closed_for_good(now)
            self._out.append(CloseUpstream())
        self._dialect = DIALECTS[subprotocol]()
        self._opened_s, self._accepted, self._booting, self._garbage = now.s, False, False, 0
        self._garbage_told = False
        self.picture.clock.disconnected()
        self.keeper.connected(now)
        if self._options.upstream:
            self.uplink.dialing(now.s)
            self._out.append(OpenUpstream(subprotocol))
        self._out.append(News())
        return self._flush(now)

    def station_closed(self, now: Now) -> list[Action]:
        """The station is gone; what the cloud still has to hear goes up first, then its uplink closes."""
        self._opened_s, self._accepted, self._booting = None, False, False
        self.keeper.closed()
        for waiting in self._down.drain():
            waiting.done(None, now)
        if self._shown_online:
            self._shown_online = False
            text = f"{self.station_id} is offline; what it may still draw stays reserved"
            self._out += [Emit("station_offline", text), News()]
        self._release_uplink(now)
        return self._flush(now)

    def _release_uplink(self, now: Now) -> None:
        """A station that is gone needs no uplink once the cloud has heard everything."""
        if self._opened_s is None and self._options.upstream and self._dialect is not None and not self.uplink.busy:
            self.uplink.closed_for_good(now)
            self._out.append(CloseUpstream())

    def upstream_opened(self, now: Now) -> list[Action]:
        """The cloud accepted this station's uplink."""
        self.uplink.opened(now)
        return self._flush(now)

    def upstream_closed(self, now: Now) -> list[Action]:
        """The uplink broke or could not be opened."""
        self.uplink.away(now)
        if self._options.on_csms_loss == "close" and self._opened_s is not None:
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
            self._bad_frame(problem, dialect)
            return self._flush(now)
        self._garbage = 0
        match frame.kind:
            case Kind.CALL:
                fact = dialect.read(frame.action, frame.payload)
                if isinstance(fact, Booted):
                    self._accepted, self._booting = False, True
                elif not self._accepted and not self._booting:
                    self._accept(dialect, now, booted=False)
                self._desk.handle(frame, fact, dialect, now)
            case Kind.RESULT | Kind.ERROR:
                waiting = self._down.answered(frame.message_id)
                if waiting is not None:
                    waiting.done(frame, now)
            case Kind.SEND | Kind.RESULT_ERROR:
                if self.uplink.usable:
                    self._out.append(SendUp(frame.text))
        return self._flush(now)

    def _bad_frame(self, problem: BadFrame, dialect: Dialect) -> None:
        self._garbage += 1
        if not self._garbage_told:
            self._garbage_told = True
            self._out.append(Emit("bad_frame", f"{self.station_id} sent a frame that cannot be read: {problem}"))
        if self._garbage >= GARBAGE_LIMIT:
            self._out.append(CloseStation(1007, "unreadable frames"))
        elif problem.message_id is not None:
            self._out.append(SendDown(error(problem.message_id, dialect.bad_format, str(problem))))
        elif dialect.version != "1.6":
            self._out.append(SendDown(error("-1", "RpcFrameworkError", str(problem))))  # OCPP-J 2.0.1 4.2.3

    def upstream_frame(self, text: str, now: Now) -> list[Action]:
        """A text frame of the cloud."""
        dialect = self._dialect
        if dialect is None:
            return []
        try:
            frame = parse(text)
        except BadFrame as problem:
            if problem.message_id is not None:
                self._out.append(SendUp(error(problem.message_id, dialect.bad_format, str(problem))))
            return self._flush(now)
        match frame.kind:
            case Kind.CALL:
                self._cloud_call(frame, dialect, now)
            case Kind.RESULT | Kind.ERROR:
                waiting = self.uplink.lane.answered(frame.message_id)
                if waiting is not None:
                    waiting.done(frame, now)
                elif (entry := self.uplink.journal.find(frame.message_id)) is not None:
                    self.uplink.replayed(entry, frame, dialect, now)  # late, but it counts
            case Kind.SEND | Kind.RESULT_ERROR:
                self._out.append(SendDown(frame.text))
        return self._flush(now)

    def _cloud_call(self, frame: Frame, dialect: Dialect, now: Now) -> None:
        answered = self.commands.answer(frame, dialect, now)
        if answered is not None:
            text, told = answered
            self._out.append(SendUp(text))
            for ask in told:
                self.uplink.tell(ask)
            self._follow_cloud(now)
            return

        def done(answer: Frame | None, _now: Now) -> None:
            text = answer.text if answer is not None else error(frame.message_id, "GenericError", "station is silent")
            self._out.append(SendUp(text))

        text = self.commands.forward(frame, dialect, now)
        waiting = Waiting(frame.message_id, text, Priority.TELEMETRY, CALL_TIMEOUT_S, done, foreign=True)
        waiting.deadline_s = now.s + CALL_TIMEOUT_S
        if self._opened_s is None or self._down.waits_for(frame.message_id) or not self._down.push(waiting):
            self._out.append(SendUp(error(frame.message_id, "GenericError", "station is not connected or busy")))

    def _accept(self, dialect: Dialect, now: Now, *, booted: bool) -> None:
        """The station is served and held from now on."""
        if self._opened_s is None:
            return  # it left before its boot was answered
        self._accepted, self._booting = True, False
        self.keeper.accepted(dialect, now)
        for choices in dialect.ask_samples(int(self._options.meter_interval_s)):
            self._ask(dialect, choices)
        if not booted:
            # It need not boot again after our restart, so what it would have told then is asked for.
            asks = [*dialect.ask_state(list(self.picture.evses))]
            if self._desk.registration is None or not self._desk.registration.boot:
                asks.append(dialect.ask_boot())
            for ask in asks:
                self._ask(dialect, [ask])
        if not self._shown_online:
            self._shown_online = True
            self._out.append(Emit("station_online", f"{self.station_id} is online (OCPP {dialect.version})"))
        self._out.append(News())

    def _ask(self, dialect: Dialect, choices: Sequence[Ask]) -> None:
        """A CALL of ours whose refusal does no harm; where it is refused the next choice is tried."""
        message_id = self._new_id()

        def done(answer: Frame | None, _now: Now) -> None:
            refused = answer is not None and not (answer.kind is Kind.RESULT and dialect.accepted(answer.payload))
            if refused and len(choices) > 1:
                self._ask(dialect, choices[1:])

        text = call(message_id, *choices[0])
        self._down.push(Waiting(message_id, text, Priority.TELEMETRY, CALL_TIMEOUT_S, done))

    # -- holding ----------------------------------------------------------------------------------------------------

    def set_limit(self, evse: int, amps: float, now: Now) -> list[Action]:
        """Control's setpoint for one EVSE."""
        self.keeper.set_limit(evse, amps, now)
        return self._flush(now)

    def tick(self, now: Now) -> list[Action]:
        """Everything that happens by time alone; to be called about twice a second."""
        dialect = self._dialect
        if dialect is None:
            return []
        for waiting in self._down.overdue(now.s):
            waiting.done(None, now)
        self.uplink.overdue(now)
        waited_s = 0.0 if self._opened_s is None else now.s - self._opened_s
        if not self._accepted and not self._booting and waited_s >= BOOT_GRACE_S:
            self._accept(dialect, now, booted=False)
        self._follow_cloud(now)
        if self._opened_s is None and self.uplink.state is not State.NONE:
            self._release_uplink(now)
        return self._flush(now)

    def persist_failed(self) -> None:
        """The last records are not on disk; what is on record is no longer known."""
        for hold in self.keeper.holds.values():
            hold.persisted = None

    def evse_states(self, now_s: float) -> list[EvseState]:
        """What control sees."""
        return [self._evse_state(number, now_s) for number in self.picture.evses]

    def _evse_state(self, number: int, now_s: float) -> EvseState:
        live, hold = self.picture.evses[number], self.keeper.holds[number]
        transaction = self.picture.transactions.at(number)
        charging = transaction is not None
        return EvseState(
            evse_id=live.evse.evse_id,
            online=self.online,
            connected=True if charging else live.connected,
            charging=charging,
            in_force_a=hold.in_force_a(now_s, charging=charging),
            confirmed_a=hold.confirmed_a(now_s),
            confirmed_s=hold.confirmed_s,
            measured_a=live.current_a,
            measured_s=live.measured_s,
            report_interval_s=self._options.meter_interval_s,
            cloud_limit_a=hold.cloud_a,
            since_s=transaction.started_s if transaction is not None else None,
            status=live.status,
            fault=self.keeper.fault(number),
        )

    def status(self) -> dict[str, Any]:
        """For the API."""
        boot = self._desk.registration.boot if self._desk.registration is not None else {}
        return {
            "id": self.station_id,
            "online": self.online,
            "ocpp_version": self._dialect.version if self._dialect is not None else None,
            **describe(boot),
            "upstream": self.uplink.state is State.UP,
            "queue_down": len(self._down),
            "queue_up": len(self.uplink.lane),
            "journal": len(self.uplink.journal),
        }

    @property
    def online(self) -> bool:
        """Connected and accepted."""
        return self._opened_s is not None and self._accepted

    # -- inside -----------------------------------------------------------------------------------------------------

    def _follow_cloud(self, now: Now) -> None:
        """Takes the cloud's composite limits of this instant over into what is held."""
        changed = [self.keeper.set_cloud(number, self.commands.limit_a(number, now)) for number in self.picture.evses]
        if any(changed):
            self._out.append(News())

    def _started(self, evse: int) -> None:
        self.commands.started(evse)
        self.keeper.started(evse)

    def _ended(self, evse: int) -> None:
        self.commands.ended(evse)
        self.keeper.ended(evse)

    def _journaled(self, transaction_id: str | None) -> bool:
        return any(transaction_id in {None, entry.local_id} for entry in self.uplink.journal.entries)

    def _proven(self, safe: bool) -> None:
        if self._dialect is not None:
            self._desk.proven(safe, self._dialect)

    def _flush(self, now: Now) -> list[Action]:
        """Sends what may go now, and hands over what has gathered."""
        dialect = self._dialect
        if dialect is not None:
            while self.keeper.send_next(now):
                pass
            while self._opened_s is not None and (text := self._down.next(now.s)) is not None:
                self._out.append(SendDown(text))
            while self.uplink.send_next(dialect, now):
                pass
        actions = self._out.copy()
        self._out.clear()
        return actions
