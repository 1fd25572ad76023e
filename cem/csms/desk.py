"""Where a station's CALLs are handled: sent to the cloud, or answered here in its place, and learned from either way."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from cem.csms.actions import Action, Persist, SendDown, Sign
from cem.csms.authorization import Authorization
from cem.csms.dialect import Dialect, LocalAnswer
from cem.csms.facts import (
    Booted,
    Fact,
    FaultsTold,
    MeterTold,
    NeedsTold,
    ReservationOver,
    StatusTold,
    TokenAsked,
    TransactionTold,
    start_key,
)
from cem.csms.frames import Frame, Kind, answer_again, error, parse, result, with_value
from cem.csms.lane import Priority, Waiting
from cem.csms.moment import Now
from cem.csms.observers import Observers
from cem.csms.pace import Pace
from cem.csms.parsing import words
from cem.csms.picture import Picture
from cem.csms.records import Registration
from cem.csms.settings import Settings
from cem.csms.thinning import signed
from cem.csms.turned_away import TurnedAway
from cem.csms.uplink import Uplink

HEARTBEAT_S = 60
_LEG_CERTIFICATE = "ChargingStationCertificate"
MOST_REPEATS = 20


class Desk:
    """Handles one station's CALLs.

    Args:
        station_id: Identity.
        upstream: There is a cloud, even if it is away now.
        picture: What is learned goes here.
        uplink: The way to the cloud.
        observers: Other CSMSs that see everything.
        authorization: Who may charge while the cloud cannot be asked.
        out: Where actions go.
        next_transaction_id: Makes transaction ids for 1.6, unique and persisted.
        accept: Called when a boot was accepted, after its answer.
        settings: What the cloud believes to have set.
        signs: The site has a CA of its own for stations.
    """

    def __init__(
        self,
        station_id: str,
        upstream: bool,
        picture: Picture,
        uplink: Uplink,
        observers: Observers,
        authorization: Authorization,
        out: list[Action],
        next_transaction_id: Callable[[], int],
        accept: Callable[[Dialect, Now], None],
        settings: Settings,
        *,
        signs: bool = False,
    ) -> None:
        self._station_id = station_id
        self._upstream = upstream
        self._picture = picture
        self._uplink = uplink
        self._observers = observers
        self._authorization = authorization
        self._out = out
        self._next_transaction_id = next_transaction_id
        self._accept = accept
        self._settings = settings
        self._signs = signs
        self._signing = Pace(1 / 60, 3, 3)
        self._asked_again: dict[str, list[str]] = {}
        self._turned_away = TurnedAway()
        self.registration: Registration | None = None

    def handle(self, frame: Frame, fact: Fact | None, dialect: Dialect, now: Now) -> None:
        """One CALL; it is always answered, in the end."""
        if frame.action == "SignCertificate" and frame.payload.get("certificateType") in {None, _LEG_CERTIFICATE}:
            self._sign(frame, dialect, now)
            return
        key, kind = start_key(fact), journal_kind(frame, fact)
        told_id = fact.transaction_id if isinstance(fact, TransactionTold) else None
        if kind is not None:
            given = self._picture.transactions.answered_start(key) if key else told_id or ""
            if given is not None and (key is not None or (self._upstream and self._uplink.repeats(frame))):
                self._reply(frame, fact, dialect, now, given)  # a repeat: the cloud has it, or will get it from us
                return
            same = frame.fingerprint
            if same in self._asked_again:  # the cloud has still to answer the first
                if len(self._asked_again[same]) < MOST_REPEATS:
                    self._asked_again[same].append(frame.message_id)
                return
        else:
            self._observers.see(frame, fact, now)
        upward = self._settings.upward(frame, fact) if self._upstream else frame
        if upward is None:
            if kind is not None and told_id is not None:
                self._observers.keep(frame, kind, told_id, dialect, now)
            self._learn(fact, now)
            self._reply(frame, fact, dialect, now, told_id)
            return
        if upward is not frame and kind is not None and told_id is not None:
            self._observers.keep(
                frame, kind, told_id, dialect, now
            )  # whole: what was asked for concerns the cloud alone
        frame = upward
        if isinstance(fact, TransactionTold) and self._turned_away.hold_back(frame, fact, now.s):
            self._refuse(frame, fact, now)
            return
        # Order (C4); and what a cloud has refused to hear the start of stays together.
        waits = isinstance(fact, TransactionTold) and (
            len(self._uplink.journal) > 0 or self._uplink.journal.parks(told_id)
        )
        if not self._upstream or not self._uplink.usable or waits:
            self._answer(frame, fact, dialect, now)
            return
        if key is None:
            self._learn(fact, now)
        if isinstance(fact, StatusTold):
            self._uplink.remember_status((fact.evse, fact.connector), frame, told=True)
        self._turned_away.taken(frame)
        self._relay(frame, fact, kind, dialect, now)

    def _sign(self, frame: Frame, dialect: Dialect, now: Now) -> None:
        """The certificate of the station's leg is ours to give, by the site's own CA; contract certificates are the cloud's."""
        csr = words(frame.payload.get("csr"))
        signs = self._signs and csr is not None and self._signing.take(now.s)
        answer = dialect.answer(frame.action, frame.payload, LocalAnswer(now, HEARTBEAT_S, accepted=signs))
        self._out.append(SendDown(result(frame.message_id, answer)))
        if signs and csr is not None:
            self._out.append(Sign(csr))

    def _relay(self, frame: Frame, fact: Fact | None, kind: str | None, dialect: Dialect, now: Now) -> None:
        """Sends a CALL to the cloud; its answer is passed on, or given here where none comes."""
        relayed: list[Waiting] = []
        same = frame.fingerprint if kind is not None else None

        def done(answer: Frame | None, now: Now) -> None:
            before, sent = len(self._out), relayed.pop().sent_s is not None  # what refers to itself lives on as garbage
            if answer is None:
                self._answer(frame, fact, dialect, now, learned=True, sent=sent)
            else:
                self._observe(frame, fact, kind, answer, dialect, now)
            if same is not None and (repeats := self._asked_again.pop(same, None)):
                self._answer_repeats(frame.message_id, repeats, before)

        waiting = self._uplink.relay(frame, self._upwards(frame, fact, dialect), _priority(fact, kind), now.s, done)
        if waiting is None:
            self._answer(frame, fact, dialect, now)
            return
        relayed.append(waiting)
        if same is not None:
            self._asked_again[same] = []

    def _answer_repeats(self, message_id: str, repeats: Sequence[str], before: int) -> None:
        """A station that told the same again meanwhile has the same answer to that."""
        for action in self._out[before:]:
            if isinstance(action, SendDown) and (answer := parse(action.text)).message_id == message_id:
                for again in repeats:
                    if again != message_id and answer.kind is Kind.RESULT:
                        self._out.append(SendDown(answer_again(answer, again), durable=action.durable))

    def _upwards(self, frame: Frame, fact: Fact | None, dialect: Dialect) -> str:
        """The text for the cloud: unchanged, but for the id of a transaction it knows by another."""
        if isinstance(fact, TransactionTold) and fact.transaction_id is not None:
            cloud_id = self._uplink.ids.cloud_id(fact.transaction_id)
            if cloud_id != fact.transaction_id:
                return with_value(frame.text, "transactionId", dialect.wire_id(cloud_id))
        return frame.text

    def _observe(
        self, frame: Frame, fact: Fact | None, kind: str | None, answer: Frame, dialect: Dialect, now: Now
    ) -> None:
        """The cloud answered the station: learn from it, then pass it on as it is."""
        text = answer.text
        if answer.kind is not Kind.RESULT:
            self._out.append(SendDown(text))
            return
        token = fact.token if isinstance(fact, (TransactionTold, TokenAsked)) else None
        if token is not None and (good := dialect.token_accepted(answer.payload)) is not None:
            contract = fact.contract if isinstance(fact, TokenAsked) else None
            self._authorization.learn(token, now.utc, accepted=good, told=answer.payload, contract=contract)
        if isinstance(fact, Booted):
            self._uplink.remember_boot(None)
            if dialect.boot_status(answer.payload) == "Accepted":
                self._register(fact, dialect)
                self._out.append(SendDown(text))
                self._accept(dialect, now)
                return
        key = start_key(fact)
        local_id = fact.transaction_id if isinstance(fact, TransactionTold) else None
        if key is not None and isinstance(fact, TransactionTold):
            cloud_id = dialect.start_answer(answer.payload).transaction_id
            if cloud_id is not None:
                local_id = cloud_id if not self._in_use(cloud_id) else self._fresh_id()
                if local_id != cloud_id:
                    text = with_value(text, "transactionId", dialect.wire_id(local_id))
                self._uplink.ids.map(local_id, cloud_id, key)
                self._begin(fact, key, local_id, now)
        if kind is not None:
            self._uplink.taken(frame)
            if local_id is not None or kind == "event":
                self._observers.keep(frame, kind, local_id or "", dialect, now)
        self._out.append(SendDown(text, durable=kind is not None))

    def _in_use(self, transaction_id: str) -> bool:
        """Whether the station may still speak of a transaction by this id."""
        transactions = self._picture.transactions
        return (
            transaction_id in transactions.open
            or transaction_id in transactions.closed
            or self._uplink.ids.knows(transaction_id)
        )

    def _fresh_id(self) -> str:
        while self._in_use(fresh := str(self._next_transaction_id())):
            pass
        return fresh

    def _begin(self, fact: TransactionTold, key: str, local_id: str, now: Now) -> None:
        self._picture.transactions.remember_start(key, local_id)
        self._picture.transactions.given_again(local_id)
        self._learn(replace(fact, transaction_id=local_id), now)

    def _answer(
        self, frame: Frame, fact: Fact | None, dialect: Dialect, now: Now, *, learned: bool = False, sent: bool = False
    ) -> None:
        """Answers as the CSMS; where a cloud should have, what it must hear is journaled.

        Args:
            frame: The station's CALL.
            fact: What it says.
            dialect: Its version.
            now: Both clocks.
            learned: It was learned from when it came.
            sent: It went up before; only the answer is missing.
        """
        key, kind = start_key(fact), journal_kind(frame, fact)
        local_id = fact.transaction_id if isinstance(fact, TransactionTold) else None
        if self._upstream and kind is not None and self._uplink.journal.refuses(kind):
            self._refuse(frame, fact, now)
            return
        self._turned_away.taken(frame)
        if key is not None and isinstance(fact, TransactionTold):
            local_id = self._fresh_id()
            if not self._upstream:
                self._uplink.ids.map(local_id, local_id, key)  # so that a repeat after a restart is known
            self._begin(fact, key, local_id, now)
        elif not learned:
            self._learn(fact, now)
        if self._upstream:
            if kind is not None and (local_id is not None or kind == "event"):
                self._uplink.hold_back(frame, kind, local_id or "", dialect.version, now, sent=sent)
                self._observers.keep(frame, kind, local_id or "", dialect, now)
            elif isinstance(fact, StatusTold):
                self._uplink.remember_status((fact.evse, fact.connector), frame, told=False)
            elif isinstance(fact, Booted):
                self._uplink.remember_boot(frame)
        if isinstance(fact, Booted):
            self._register(fact, dialect)
        self._reply(frame, fact, dialect, now, local_id)
        if isinstance(fact, Booted):
            self._accept(dialect, now)

    def _refuse(self, frame: Frame, fact: Fact | None, now: Now) -> None:
        """No room to keep this: the station hears so and tries again, rather than that we lose it (I11)."""
        if isinstance(fact, TransactionTold):
            self._turned_away.refused(frame, fact, now.s)
        self._out.append(SendDown(error(frame.message_id, "InternalError", "no room to keep this message")))

    def _reply(self, frame: Frame, fact: Fact | None, dialect: Dialect, now: Now, local_id: str | None) -> None:
        """Our own answer as the CSMS."""
        token = fact.token if isinstance(fact, TokenAsked | TransactionTold) else None
        local = LocalAnswer(now, HEARTBEAT_S, transaction_id=local_id)
        # An empty token where one is needed is an unknown one; a 2.x start without says that none is needed (C01).
        if token is not None or frame.action in {"Authorize", "StartTransaction"}:
            contract = fact.contract if isinstance(fact, TokenAsked) else None
            verdict = self._authorization.decide(token, now.utc, contract)
            local = replace(local, token_ok=verdict.accepted, group=verdict.group, contract_ok=verdict.contract_ok)
        payload = dialect.answer(frame.action, frame.payload, local)
        if payload is None:
            text = error(frame.message_id, "NotImplemented", f"{frame.action} is not known here")
        else:
            text = result(frame.message_id, payload)
        self._out.append(SendDown(text, durable=journal_kind(frame, fact) is not None))

    def _learn(self, fact: Fact | None, now: Now) -> None:
        match fact:
            case StatusTold():
                self._picture.status(fact, now)
            case MeterTold():
                self._picture.meter(fact, now)
            case NeedsTold():
                self._picture.needs(fact, now)
            case TransactionTold():
                self._picture.transaction(fact, now)
            case FaultsTold():
                for fault in fact.faults:
                    self._picture.faults.told(fault, now)
            case ReservationOver():
                self._picture.reservations.over(fact.reservation_id)
            case _:
                pass

    def _register(self, fact: Booted, dialect: Dialect) -> None:
        proven = self.registration is not None and self.registration.safe_default
        self.registration = Registration(self._station_id, dialect.version, fact.boot, safe_default=proven)
        self._out.append(Persist((self.registration,)))

    def proven(self, safe: bool, dialect: Dialect) -> None:
        """The safe default is known to be in place, or to be refused."""
        if self.registration is None:
            self.registration = Registration(self._station_id, dialect.version, {})
        if self.registration is not None and self.registration.safe_default != safe:
            old = self.registration
            self.registration = Registration(old.station_id, old.ocpp_version, old.boot, safe_default=safe)
            self._out.append(Persist((self.registration,)))


def journal_kind(frame: Frame, fact: Fact | None) -> str | None:
    """What must reach every CSMS, as ``JournalEntry`` names it; ``None`` for what may be missed."""
    if isinstance(fact, TransactionTold):
        return fact.kind
    if frame.action == "SecurityEventNotification" or (frame.action == "MeterValues" and signed(frame.text)):
        return "event"
    return None


def _priority(fact: Fact | None, kind: str | None) -> Priority:
    if kind is not None:
        return Priority.TRANSACTION
    match fact:
        case Booted() | StatusTold() | TokenAsked():
            return Priority.STATUS
        case _:
            return Priority.TELEMETRY
