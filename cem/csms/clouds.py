"""Everything between one station's session and its upstream CSMSs: frames that come from them, and what they ask."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cem.csms.actions import PRIMARY, Action, Emit, Forget, Persist, SendDown, SendUp
from cem.csms.authorization import Authorization, OnRejected
from cem.csms.commands import Commands
from cem.csms.dialect import Dialect
from cem.csms.facts import start_key
from cem.csms.filter import Filter
from cem.csms.frames import BadFrame, Frame, Kind, call, error, parse
from cem.csms.lane import Lane, Priority, Waiting
from cem.csms.moment import Now
from cem.csms.observers import Observers
from cem.csms.options import Options
from cem.csms.pace import Shared
from cem.csms.parsing import member, words
from cem.csms.picture import Picture
from cem.csms.records import IdMap, JournalEntry, Noted, Registration
from cem.csms.settings import Settings
from cem.csms.uplink import Leg, State, Uplink
from cem.csms.versions import dialect_of

CALL_TIMEOUT_S = 30.0


def legs_of(options: Options) -> list[Leg]:
    """The CSMSs of a station: the one that decides, then those that observe."""
    again = options.replay_boot
    observers = (Leg(name, name, allow, name in again) for name, allow in options.observers.items())
    return [Leg(options.primary_id, replays_boot=PRIMARY in again), *observers]


class Clouds:
    """The upstream CSMSs of one station.

    Args:
        station_id: Identity.
        legs: The primary first.
        on_rejected: What becomes of a transaction whose token the primary rejects later (C6).
        picture: Transactions.
        down: The queue to the station.
        out: Where actions go.
        new_id: Makes message ids.
        shared: Room and pace.
        policy: What no CSMS may do.
        authorization: Learns the list that the station is sent.
        settings: Knows what the station does itself about a rejected token.

    Attributes:
        dialect: What the station speaks, or last spoke.
        station_here: It is connected.
    """

    def __init__(
        self,
        station_id: str,
        legs: Sequence[Leg],
        on_rejected: OnRejected,
        picture: Picture,
        down: Lane,
        out: list[Action],
        new_id: Callable[[], str],
        shared: Shared,
        policy: Filter,
        authorization: Authorization,
        settings: Settings,
    ) -> None:
        self._station_id = station_id
        self._on_rejected = on_rejected
        self._picture = picture
        self._down = down
        self._out = out
        self._new_id = new_id
        self._policy = policy
        self._authorization = authorization
        self._settings = settings
        self.dialect: Dialect | None = None
        self.station_here = False
        running = picture.transactions.open.keys()
        self.legs: Mapping[str, Uplink] = {
            leg.name: Uplink(station_id, leg, running, out, new_id, shared, self._token_rejected) for leg in legs
        }
        self.primary = self.legs[PRIMARY]
        self.observers = Observers([uplink for uplink in self.legs.values() if uplink.leg.observes])

    def booted(self, frame: Frame) -> None:
        """The station's latest boot."""
        for uplink in self.legs.values():
            uplink.booted(frame)

    def came(self) -> None:
        """The station is connected; it may boot yet."""
        self.station_here = True
        for uplink in self.legs.values():
            uplink.settle(settled=False)

    def settled(self) -> None:
        """The station is accepted, with a boot or without."""
        for uplink in self.legs.values():
            uplink.settle(settled=True)

    def restore(
        self, entries: Sequence[JournalEntry], maps: Sequence[IdMap], registration: Registration | None = None
    ) -> None:
        """Takes over what was on disk when we started: a start that is repeated is given the same id for ever."""
        wanted = any(uplink.leg.replays_boot for uplink in self.legs.values())
        if wanted and registration is not None and registration.boot:
            self.booted(parse(call("boot", "BootNotification", registration.boot)))
        for item in maps:
            if item.start_key:
                self._picture.transactions.remember_start(item.start_key, item.local_id)
        for entry in entries:
            dialect = dialect_of(entry.ocpp_version)
            if entry.kind == "start" and entry.state != "delivered" and dialect is not None:
                key = start_key(dialect.read(entry.action, parse(entry.text).payload))
                if key is not None:
                    self._picture.transactions.remember_start(key, entry.local_id)
        for uplink in self.legs.values():
            uplink.restore(entries, maps)
        known = {uplink.leg.upstream_id for uplink in self.legs.values()}
        strange = [e.upstream_id for e in entries if e.state != "delivered" and e.upstream_id not in known]
        for upstream_id in sorted(set(strange)):
            text = (
                f"{strange.count(upstream_id)} messages of {self._station_id} wait for upstream {upstream_id}, which the site "
                "file does not name any more; they are kept (cem queue export). Was it renamed?"
            )
            self._out.append(Emit("queue_orphaned", text, {"upstream": upstream_id}))

    def wanted(self, station_version: str | None, now: Now) -> None:
        """The station is here, or (``None``) gone: an uplink is kept while there is something to say on it."""
        for uplink in self.legs.values():
            if station_version is not None or uplink.busy:
                uplink.wanted(station_version, now)

    def release(self, now: Now) -> None:
        """A station that is gone needs no uplink once the CSMS has heard everything."""
        for uplink in self.legs.values():
            if not uplink.busy and uplink.state is not State.NONE:
                uplink.closed_for_good(now)

    def tick(self, now: Now) -> None:
        """What happens by time alone."""
        for uplink in self.legs.values():
            uplink.overdue(now)

    @property
    def waits(self) -> bool:
        """A CSMS has something to hear or to answer."""
        for uplink in self.legs.values():  # noqa: SIM110 - asked of each station several times a second: no generator
            if uplink.journal.entries or len(uplink.lane):
                return True
        return False

    def send_next(self, now: Now) -> None:
        """Sends what may go now."""
        for uplink in self.legs.values():
            while uplink.send_next(now):
                pass

    def frame(self, text: str, leg: str, commands: Commands, now: Now) -> bool:
        """A text frame of a CSMS; whether it was a command that we answered, so that limits may have changed."""
        uplink = self.legs.get(leg)
        if uplink is None:
            return False
        try:
            frame = parse(text)
        except BadFrame as problem:
            if problem.message_id is not None and self.dialect is not None:
                self._up(leg, error(problem.message_id, self.dialect.bad_format, str(problem)))
            return False
        match frame.kind:
            case Kind.CALL:
                return self._command(frame, uplink, commands, now)
            case Kind.RESULT | Kind.ERROR:
                waiting = uplink.lane.answered(frame.message_id)
                if waiting is not None:
                    waiting.done(frame, now)
                else:
                    uplink.late(frame, now)
            case Kind.SEND | Kind.RESULT_ERROR if not uplink.leg.observes and self._policy.send(frame):
                self._out.append(SendDown(frame.text))
            case _:
                pass
        return False

    def _up(self, leg: str, text: str, *, durable: bool = False) -> None:
        self._out.append(SendUp(text, leg, durable=durable))

    def _command(self, frame: Frame, uplink: Uplink, commands: Commands, now: Now) -> bool:
        leg, dialect = uplink.leg, self.dialect
        if leg.observes and frame.action not in leg.allowed:
            self._up(leg.name, error(frame.message_id, "SecurityError", "this CSMS only observes this station"))
            return False
        if dialect is None:
            self._up(leg.name, error(frame.message_id, "GenericError", "station is not connected"))
            return False
        refused = self._policy.answer(frame, now)
        if refused is not None:
            self._up(leg.name, refused)
            return False
        self._customer(frame, dialect)
        if commands.deferred(frame, dialect, uplink.ids, lambda text: self._up(leg.name, text, durable=True), now):
            return True
        answered = commands.answer(frame, dialect, uplink.ids, now)
        if answered is not None:
            text, told = answered
            self._up(leg.name, text, durable=True)
            for ask in told:
                uplink.tell(ask)
            return True

        def done(answer: Frame | None, now: Now) -> None:
            commands.answered(frame, dialect, uplink.ids, answer, now)
            silent = error(frame.message_id, "GenericError", "station is silent")
            if answer is not None and not leg.observes:
                self._authorization.observed(frame, answer)
            text = self._policy.returned(frame, answer) if answer is not None else silent
            self._up(leg.name, text)

        text = self._policy.forward(frame, commands.forward(frame, dialect, uplink.ids))
        waiting = Waiting(frame.message_id, text, Priority.TELEMETRY, CALL_TIMEOUT_S, done, foreign=True)
        waiting.deadline_s = now.s + CALL_TIMEOUT_S
        if not self.station_here or self._down.waits_for(frame.message_id) or not self._down.push(waiting):
            commands.answered(frame, dialect, uplink.ids, None, now)
            self._up(leg.name, error(frame.message_id, "GenericError", "station is not connected or busy"))
        return False

    def _customer(self, frame: Frame, dialect: Dialect) -> None:
        """Clearing a customer's data (OCPP 2.0.1 N10) reaches what is kept here as well, whatever the station says."""
        if frame.action != "CustomerInformation" or frame.payload.get("clear") is not True or dialect.version == "1.6":
            return
        named = member(frame.payload.get("idToken"), "idToken"), frame.payload.get("customerIdentifier")
        self._out.extend(Forget(token) for token in named if words(token) is not None)

    def _token_rejected(self, local_id: str, now: Now) -> None:
        """C6: the primary rejects the token of a transaction that began without asking it."""
        transaction = self._picture.transactions.open.get(local_id)
        by_station = self._on_rejected == "station" and self._settings.stops_on_invalid is True
        stop = transaction is not None and (self._on_rejected == "stop" or by_station)
        then = "it is stopped" if stop else "it may finish" if transaction is not None else "it is over already"
        text = (
            f"The cloud rejects the token of {self._station_id}'s transaction {local_id} that began without it; {then}"
        )
        self._out.append(Persist((Noted(self._station_id, now.utc, "token_rejected_later", text),)))
        self._out.append(Emit("token_rejected_later", text))
        dialect = self.dialect
        if stop and dialect is not None:
            message_id = self._new_id()
            text = call(message_id, *dialect.remote_stop(local_id))
            waiting = Waiting(message_id, text, Priority.TRANSACTION, CALL_TIMEOUT_S, lambda _answer, _now: None)
            self._down.push(waiting)

    def holds(self, local_id: str | None) -> bool:
        """Whether messages of a transaction, by the station's id, still wait for the primary."""
        return self.primary.journal.holds(local_id) or self.primary.lane.holds(Priority.TRANSACTION)

    def retry(self, now: Now) -> int:
        """Another try for everything that was refused; how many messages that is."""
        count = sum(uplink.journal.retry() for uplink in self.legs.values())
        if count and self.dialect is not None:
            self.wanted(self.dialect.version if self.station_here else None, now)
        return count

    def forget(self, token: str, instead: str) -> None:
        """Another token stands where this one stood in what waits."""
        for uplink in self.legs.values():
            uplink.journal.forget(token, instead)

    def set_aside(self, upstream_id: str | None, seq: int | None) -> JournalEntry | None:
        """By the operator's command: the first message that waits for a CSMS (``None``: for any), or this one; gives it."""
        for uplink in self.legs.values():
            if upstream_id in {None, uplink.leg.upstream_id} and (found := uplink.set_aside(seq)) is not None:
                return found
        return None

    def status(self) -> dict[str, Any]:
        """For the API."""
        return {
            "upstream": self.primary.state is State.UP,
            "queue_up": len(self.primary.lane),
            "journal": len(self.primary.journal),
            "queues": [
                uplink.status()
                for uplink in self.legs.values()
                if uplink.state is not State.NONE or uplink.busy or uplink.journal.parked
            ],
        }
