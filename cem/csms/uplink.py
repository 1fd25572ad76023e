"""One station's leg to one upstream CSMS: what waits for it, what it still has to hear, and whether it is there."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cem.csms.actions import PRIMARY, Action, CloseUpstream, Emit, OpenUpstream, SendUp
from cem.csms.dialect import Ask
from cem.csms.frames import Frame, Kind, call, payload_text
from cem.csms.ids import Ids
from cem.csms.journal import Journal
from cem.csms.lane import Done, Lane, Priority, Waiting
from cem.csms.moment import Now
from cem.csms.pace import Shared
from cem.csms.records import IdMap, JournalEntry
from cem.csms.teller import REPLAY_TIMEOUT_S, Teller
from cem.csms.thinning import thin

DIAL_GRACE_S = 5.0
"""A station that has just connected waits this long for its uplink before we answer ourselves."""
AUTHORIZE_S = 8.0
MOST_STATUSES = 100
ANSWER_S = 20.0
"""A station is answered within this, before its own time-out (commonly 30 s)."""


class State(Enum):
    """Where the uplink stands."""

    NONE = "none"
    DIALING = "dialing"
    UP = "up"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Leg:
    """One upstream CSMS of a station.

    Attributes:
        upstream_id: As in the site file, under which the ledger keeps what it has to hear.
        name: What actions call it; ``PRIMARY`` for the one that decides.
        replays_boot: It hears the station's last boot at each new connection.
        allowed: An observer's commands that reach the station; the primary's all do.
    """

    upstream_id: str
    name: str = PRIMARY
    allowed: frozenset[str] = frozenset()
    replays_boot: bool = False

    @property
    def observes(self) -> bool:
        """It sees everything and decides nothing."""
        return self.name != PRIMARY


class Uplink:
    """The way up of one station to one CSMS.

    Args:
        station_id: For messages to people.
        leg: Which CSMS.
        running: Transactions in progress.
        out: Where actions go.
        new_id: Makes message ids.
        shared: Room and pace, shared by all stations.
        token_rejected: Called with a transaction whose token the primary rejects after it began without asking.
    """

    def __init__(
        self,
        station_id: str,
        leg: Leg,
        running: Collection[str],
        out: list[Action],
        new_id: Callable[[], str],
        shared: Shared,
        token_rejected: Callable[[str, Now], None],
    ) -> None:
        self._station_id = station_id
        self.leg = leg
        self._out = out
        self._new_id = new_id
        self.state = State.NONE
        self.lane = Lane()
        self.ids = Ids(station_id, leg.upstream_id, running, out)
        self.journal = Journal(station_id, leg.upstream_id, shared.room, out)
        self._teller = Teller(
            station_id, leg.upstream_id, self.lane, self.journal, self.ids, shared.pace(leg.upstream_id), out,
            None if leg.observes else token_rejected,
        )  # fmt: skip
        self._version: str | None = None
        self._station_version: str | None = None
        self._dialing_since_s = 0.0
        self._latest: dict[object, Frame] = {}
        self._untold: set[object] = set()
        self._boot: Frame | None = None
        self._last_boot: Frame | None = None
        self._booting = self._settled = self._boot_due = False

    # -- the connection ---------------------------------------------------------------------------------------------

    def restore(self, entries: Sequence[JournalEntry], maps: Sequence[IdMap]) -> None:
        """Takes over what this CSMS had not heard when we stopped, and under which ids it knows transactions."""
        self.ids.restore(maps)
        self.journal.restore([entry for entry in entries if entry.upstream_id == self.leg.upstream_id])

    def wanted(self, station_version: str | None, now: Now) -> None:
        """Keeps a connection, in the version of what is to be told first; the station's own (``None``: gone) is next."""
        self._station_version = station_version
        self._dial(now)

    def _dial(self, now: Now) -> None:
        version = self.journal.version() or self._station_version
        if version is None:
            return
        if self._version not in {None, version}:
            self.closed_for_good(now)
        self._version = version
        if self.state is not State.UP:
            self.state = State.DIALING
            self._dialing_since_s = now.s
        self._out.append(OpenUpstream(f"ocpp{version}", self.leg.name))

    @property
    def usable(self) -> bool:
        """Whether a message of the station should be sent up rather than answered here."""
        there = self.state is State.UP or self.state is State.DIALING
        return there and self._version == self._station_version

    @property
    def busy(self) -> bool:
        """Whether the CSMS still has something to hear."""
        return len(self.journal) > 0 or self.lane.holds(Priority.TRANSACTION)

    def opened(self, now: Now) -> None:
        """The CSMS is there: it hears of a boot it never answered and of the latest statuses, then of the rest."""
        self.state = State.UP
        if self.usable:
            self._boot_due = self.leg.replays_boot and self._boot is None and not self._booting
            self._replay_boot()
            if self._boot is not None:
                self._again(self._boot, Priority.LIMIT, self._boot_answered)
            for key in sorted(self._untold, key=str):
                self._again(self._latest[key], Priority.STATUS, lambda _answer, _now: None)
            self._untold.clear()
        self.journal.hurry(now.s)

    def away(self, now: Now) -> None:
        """The CSMS is not there: whoever waits for it is answered here."""
        self.state = State.AWAY
        self._untold = set(self._latest)
        for waiting in self.lane.drain():
            waiting.done(None, now)

    def refused_version(self, now: Now) -> None:
        """The CSMS is there but no longer speaks the version of what it should hear first."""
        version = self._version
        if version is None or version == self._station_version:
            return
        why = f"OCPP {version} is no longer taken"
        count = self.journal.park(lambda entry: entry.record.ocpp_version == version, why, whole=False)
        if count:
            text = (
                f"{self.leg.upstream_id} no longer takes OCPP {version}, in which {count} messages of {self._station_id} "
                "wait for it; they are kept (cem queue export)"
            )
            self._out.append(Emit("queue_version_refused", text))
        self._dial(now)

    def closed_for_good(self, now: Now) -> None:
        """Nobody needs the uplink any more, or not in this version."""
        if self.state is not State.NONE:
            self._out.append(CloseUpstream(self.leg.name))
        self.away(now)
        self.state = State.NONE
        self._version = None

    # -- what the station says --------------------------------------------------------------------------------------

    def relay(self, frame: Frame, text: str, priority: Priority, now_s: float, done: Done) -> Waiting | None:
        """Sends a CALL of the station up; ``done`` is always called. ``None`` where there is no room."""
        timeout_s = AUTHORIZE_S if frame.action == "Authorize" else ANSWER_S
        waiting = Waiting(frame.message_id, text, priority, timeout_s, done, foreign=True, deadline_s=now_s + timeout_s)
        return waiting if self.lane.push(waiting) else None

    def tell(self, ask: Ask, done: Done = lambda _answer, _now: None) -> None:
        """A message of ours in the station's name."""
        message_id = self._new_id()
        self.lane.push(Waiting(message_id, call(message_id, *ask), Priority.STATUS, ANSWER_S, done))

    def remember_status(self, key: object, frame: Frame, *, told: bool) -> None:
        """The latest status of a connector, and whether the CSMS has it."""
        if key not in self._latest and len(self._latest) >= MOST_STATUSES:
            return  # no station has so many connectors (I11)
        self._latest[key] = frame
        if told:
            self._untold.discard(key)
        else:
            self._untold.add(key)

    def remember_boot(self, frame: Frame | None) -> None:
        """A boot that this CSMS has not answered; ``None`` once it has answered one."""
        self._boot = frame

    def booted(self, frame: Frame) -> None:
        """The station boots: this CSMS hears of it, and is told the same again where it wants to be."""
        self._last_boot = frame if self.leg.replays_boot else None
        self._booting, self._boot_due = True, False

    def settle(self, *, settled: bool) -> None:
        """Whether the station is accepted, with a boot or without; one that has just come may still boot itself."""
        self._settled, self._booting = settled, False
        self._replay_boot()

    def _replay_boot(self) -> None:
        if self._boot_due and self._settled and self._last_boot is not None and self.state is State.UP:
            self._boot_due = False
            self._again(self._last_boot, Priority.LIMIT, self._boot_answered)

    def hold_back(self, frame: Frame, kind: str, local_id: str, version: str, now: Now, *, sent: bool) -> None:
        """Journals a message that the station has been, or will be, told is taken.

        Args:
            frame: The station's CALL.
            kind: As in ``JournalEntry``.
            local_id: Its transaction.
            version: The station's OCPP version.
            now: Both clocks.
            sent: It went out while it happened.
        """
        entry = self.journal.add(
            JournalEntry(
                self._station_id, self.leg.upstream_id, 0, frame.message_id, frame.action, frame.text, kind, local_id,
                version, frame.fingerprint, now.utc, live=sent, thin=thin(kind, frame.text, frame.payload),
            )
        )  # fmt: skip
        if sent and not self.leg.observes:  # a slow CSMS may still answer; a new connection does not wait for that
            entry.sent = True
            entry.not_before_s = now.s + REPLAY_TIMEOUT_S

    def taken(self, frame: Frame) -> None:
        """The CSMS or the journal has this message: a repeat of the station must not reach the CSMS again (I6)."""
        self.journal.remember(frame.fingerprint)

    def repeats(self, frame: Frame) -> bool:
        """Whether a message with this very content was taken before."""
        return self.journal.remembers(frame.fingerprint)

    def _again(self, frame: Frame, priority: Priority, done: Done) -> None:
        """The station's own words once more, under an id of ours."""
        message_id = self._new_id()
        text = f'[2,"{message_id}","{frame.action}",{payload_text(frame)}]'
        self.lane.push(Waiting(message_id, text, priority, ANSWER_S, done))

    def _boot_answered(self, answer: Frame | None, _now: Now) -> None:
        if answer is None:
            return
        self._boot = None
        status = str(answer.payload.get("status")) if answer.kind is Kind.RESULT else answer.code
        if status != "Accepted":
            text = f"{self.leg.upstream_id} answers {self._station_id}'s boot with {status}; it goes on charging here"
            self._out.append(Emit("cloud_rejects_station", text))

    # -- by time ----------------------------------------------------------------------------------------------------

    def overdue(self, now: Now) -> None:
        """Answers in place of a CSMS that takes too long (C9), or does not come up."""
        if self.state is State.DIALING and now.s - self._dialing_since_s >= DIAL_GRACE_S:
            self.away(now)
        if not len(self.lane):
            return  # nearly always
        late = self.lane.overdue(now.s)
        if any(w.foreign and w.priority is Priority.TRANSACTION for w in late):
            late += self.lane.take(Priority.TRANSACTION)  # what came after it must not overtake it (I6)
        for waiting in late:
            waiting.done(None, now)

    def send_next(self, now: Now) -> bool:
        """Sends at most one message up; returns whether it did."""
        if self.state is not State.UP:
            return False
        journaled = self.journal.entries
        if not journaled and not self.lane.queued and self._version == self._station_version:
            return False  # nearly always
        version = journaled[0].record.ocpp_version if journaled else self._station_version
        if version != self._version and not len(self.lane):
            self._dial(now)
            return False
        text = self.lane.next(now.s)
        durable = text is None
        if text is None and journaled:
            text = self._teller.next(self._version, now)
        if text is None:
            return False
        self._out.append(SendUp(text, self.leg.name, durable=durable))
        return True

    # -- the journal ------------------------------------------------------------------------------------------------

    def late(self, frame: Frame, now: Now) -> None:
        """An answer that nobody waits for any more; to a journaled message it counts all the same."""
        self._teller.late(frame, now)

    def held_here(self, text: str, now: Now) -> None:
        """This text did not leave."""
        self._teller.held_here(text, now)

    def set_aside(self, seq: int | None) -> JournalEntry | None:
        """By the operator's command: the first message that waits, or this one; gives it."""
        return self._teller.set_aside(seq)

    def status(self) -> dict[str, Any]:
        """For the API."""
        first = self._teller.first(there=self.state is State.UP)
        return {"upstream": self.leg.upstream_id, "state": self.state.value, **self.journal.status(), "first": first}
