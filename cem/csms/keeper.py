"""Keeping one station's limits: clears what is foreign, installs the safe default, sends and refreshes live limits."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from cem.core.site import Evse
from cem.core.units import LOWEST_V
from cem.csms.actions import Action, Emit, News, Persist, SendDown
from cem.csms.dialect import Ask, Dialect, Live
from cem.csms.frames import Frame, Kind, call
from cem.csms.hold import TRIES, Hold
from cem.csms.idle_proof import IdleProof
from cem.csms.ladder import END_TO_END, LADDER, SITE, Purpose, Rung
from cem.csms.lane import Lane, Priority, Waiting
from cem.csms.moment import Now
from cem.csms.personality import Quirk
from cem.csms.picture import Picture
from cem.csms.records import Grant
from cem.csms.study import Study

LIMIT_TIMEOUT_S = 10.0
DEFAULT_WAYS = (("A", False), ("A", False), ("A", True), ("W", False))
"""Unit, and whether Absolute, of the safe default, in the order of trying."""
DEFAULT_RETRY_S = 30.0
BACKDATE_S = 60.0
"""A live limit's schedule starts this long ago, so that a station whose clock is a little slow obeys it at once."""


class Keeper:
    """The limits of one station's EVSEs.

    Args:
        station_id: For messages to people.
        evses: As built.
        duration_s: Life of a live limit.
        refresh_s: A live limit is sent anew after this.
        lane: The way down to the station.
        picture: Transactions and the station's clock.
        out: Where actions go.
        new_id: Makes message ids.
        proven: Called once the safe default is known to be in place, or known to be refused.
        quirks: Publicly known of models.
        may_stop: Ending a transaction that follows no limit is allowed.
        end_to_end: The cloud's own profiles reach the station: hold it by its maximum alone.

    Attributes:
        cleared: All profiles were cleared when the station was accepted last: it was new to us.
    """

    def __init__(
        self,
        station_id: str,
        evses: Sequence[Evse],
        duration_s: float,
        refresh_s: float,
        lane: Lane,
        picture: Picture,
        out: list[Action],
        new_id: Callable[[], str],
        proven: Callable[[bool], None],
        quirks: Sequence[Quirk] = (),
        *,
        end_to_end: bool = False,
        may_stop: bool = False,
    ) -> None:
        self._station_id = station_id
        self._end_to_end = end_to_end
        self._lane = lane
        self._picture = picture
        self._out = out
        self._new_id = new_id
        self._proven = proven
        self._dialect: Dialect | None = None
        self._clear: deque[Ask] = deque()
        self.cleared = False
        self._default_try_s: dict[int, float] = {}
        self._default_tries: dict[int, int] = {}
        self._default_refused: set[int] = set()
        # A maximum of the station binds all its EVSEs together, so it can stand for one EVSE's limit only where there is one.
        several = [r for r in LADDER if r.purpose is not Purpose.STATION_MAX]
        ladder: Sequence[Rung] = END_TO_END if end_to_end else LADDER if len(evses) == 1 else several
        if [e.number for e in evses] == [0]:
            ladder, self._end_to_end = SITE, True
        self.holds = {e.number: Hold(e, duration_s, refresh_s, ladder) for e in evses}
        self._order: dict[int, None] = dict.fromkeys(self.holds)
        self.study = Study(station_id, self.holds, picture, lane, out, new_id, quirks, may_stop=may_stop)
        self._idle_proof = IdleProof(self.holds, picture, lane, self.study)

    def restore(self, grants: Mapping[str, Grant], *, safe_default: bool, now: Now) -> None:
        """Takes over what was on disk when we started."""
        for hold in self.holds.values():
            hold.restore(grants.get(hold.evse.evse_id), safe_default=safe_default, now=now)

    def connected(self, now: Now) -> None:
        """A new connection; nothing is sent before ``accepted``."""
        self._dialect = None
        for hold in self.holds.values():
            hold.connected(now.s)

    def accepted(self, dialect: Dialect, identity: tuple[str, str, str], now: Now) -> None:
        """The station, of this vendor, model and firmware, may be commanded: clear, install the default, then hold."""
        self._dialect = dialect
        self.study.accepted(identity, dialect, now)
        self.cleared = not all(h.default_known for h in self.holds.values())
        # A known station keeps its profiles over a reconnect; clearing would free a running transaction for a moment.
        self._clear = deque(dialect.clear_foreign() if self.cleared else ())
        self._default_try_s = dict.fromkeys(self.holds, now.s)
        self._default_tries = dict.fromkeys(self.holds, 0)

    def distrust(self) -> None:
        """The station would not fall back to what we installed."""
        for hold in self.holds.values():
            hold.default_known = False
        self._proven(False)

    def closed(self) -> None:
        """The connection is gone."""
        self._dialect = None
        self._idle_proof.interrupted()

    def set_limit(self, evse: int, amps: float, now: Now, phases: int = 0) -> None:
        """Control's setpoint for one EVSE, and the phases to charge on where it can switch."""
        hold = self.holds.get(evse)
        if hold is None:
            return
        hold.set_phases(phases)
        if hold.set_limit(amps, now.s):
            self._order.pop(evse)
            self._order[evse] = None

    def look(self, now: Now) -> None:
        """Compares what is measured with what was commanded."""
        self.study.look(self._dialect, now)
        self._idle_proof.look(self._dialect, now)
        for number, hold in self.holds.items():
            live = self._picture.evses[number]
            if hold.acked is None or live.current_a is None or live.measured_s is None:
                continue
            if hold.charges_on(live.current_a, live.measured_s):
                self._not_switched(hold, "is measured on more")

    def set_cloud(self, evse: int, amps: float | None) -> bool:
        """The cloud's composite for one EVSE; returns whether it changed."""
        return self.holds[evse].set_cloud(amps)

    def started(self, evse: int) -> None:
        """S5: an EVSE began or resumed; its limit is sent again."""
        self.holds[evse].again()
        self._idle_proof.interrupted()

    def ended(self, evse: int, now: Now) -> None:
        """No transaction there any more."""
        hold = self.holds[evse]
        self.study.ended(evse, now)
        hold.transaction_ended()
        grant = hold.released()
        if grant is not None:
            self._out.append(Persist((grant,)))

    def fault(self, evse: int) -> str | None:
        """Why this EVSE cannot be held, for people."""
        if self.holds[evse].fault is not None:
            return self.holds[evse].fault
        if evse in self._default_refused:
            return "refuses a default charging profile, so nothing holds it if we die"
        return None

    def in_force_a(self, evse: int, now_s: float, *, charging: bool, online: bool) -> float:
        """The most that may be in force there, see ``core.state.EvseState``.

        S1: of a station that was not seen to fall back by itself nothing is believed once its limit has ended, and
        nothing at all of one that does not keep its limits, while we cannot tell it anything.
        """
        hold, own = self.holds[evse], self.study.personality
        if not online and not own.keeps:
            return hold.evse.max_a
        ended = charging and hold.acked is not None and now_s >= hold.acked.sure_s
        believed = own.without_us is None or (online and not ended)
        return hold.in_force_a(now_s, charging=charging, falls_back=believed)

    def send_next(self, now: Now) -> bool:
        """Sends at most one CALL that holding needs; returns whether it did."""
        dialect = self._dialect
        if dialect is None or not self._lane.free_for_limit(now.s, urgent=True):
            return False
        if self._clear:
            self._send(self._clear.popleft(), now, lambda _answer, _now: None)
            return True
        for number, hold in self.holds.items():
            if not hold.default_sure and now.s >= self._default_try_s[number]:
                self._send_default(dialect, number, now)
                return True
        waiting = self._next_live(now)
        if waiting is None or not self._lane.free_for_limit(now.s, urgent=self.holds[waiting].urgent):
            return False
        self._send_live(dialect, waiting, now)
        return True

    def _next_live(self, now: Now) -> int | None:
        """What is urgent before what is not, and so cuts before raises (I3), else in the order in which control spoke."""
        best, best_rank = None, (True, True)
        for number in self._order:
            hold = self.holds[number]
            if not hold.wants(now.s) or self._picture.transactions.at(number) is None:
                continue
            rank = (not hold.urgent, (hold.target_a or 0.0) > (hold.confirmed_a(now.s) or 0.0))
            if best is None or rank < best_rank:
                best, best_rank = number, rank
        return best

    def _send(self, ask: Ask, now: Now, done: Callable[[Frame | None, Now], None], *, durable: bool = False) -> None:
        message_id = self._new_id()
        waiting = Waiting(message_id, call(message_id, *ask), Priority.LIMIT, LIMIT_TIMEOUT_S, done)
        self._out.append(SendDown(self._lane.send(waiting, now.s), durable=durable))

    def _send_default(self, dialect: Dialect, number: int, now: Now) -> None:
        hold = self.holds[number]
        self._default_try_s[number] = now.s + DEFAULT_RETRY_S
        ways = [("A", True)] * TRIES if self._end_to_end else DEFAULT_WAYS
        unit, absolute = ways[self._default_tries[number]]
        amps = hold.evse.fallback_a
        amount = amps if unit == "A" else amps * LOWEST_V  # all of it on one phase

        def done(answer: Frame | None, now: Now) -> None:
            if answer is None:
                self._default_try_s[number] = now.s  # the connection may be busy; ask again at once
                return
            if answer.kind is Kind.RESULT and dialect.limit_status(answer.payload) == "Accepted":
                hold.default_accepted()
                self._default_refused.discard(number)
                if all(h.default_sure for h in self.holds.values()):
                    self._proven(True)
            elif self._default_tries[number] + 1 < len(ways):
                self._default_tries[number] += 1
                self._default_try_s[number] = now.s
            else:
                self._default_tries[number] = 0
                self._default_try_s[number] = now.s + DEFAULT_RETRY_S
                hold.default_known = False
                self.study.default_refused()
                if number not in self._default_refused:
                    self._default_refused.add(number)
                    self._refused(hold, _said(answer, dialect))
                self._proven(False)
            self._out.append(News())

        ask = dialect.safe_default(number, amount, unit=unit, maximum=self._end_to_end, absolute=absolute)
        self._send(ask, now, done)

    def _send_live(self, dialect: Dialect, number: int, now: Now) -> None:
        hold = self.holds[number]
        transaction = self._picture.transactions.at(number)
        target = hold.target_a
        if transaction is None or target is None:
            return
        grant = hold.grant_needed(target, now)
        if grant is not None:  # on disk before the raise is on the wire; a cut waits for no disk that is broken
            self._out.append(Persist((grant,)))
        cuts = target < (hold.confirmed_a(now.s) or 0.0)
        sent = hold.sending(target, now.s)
        backdate_s = 0.0 if sent.rung.relative or sent.rung.dynamic else BACKDATE_S
        start = now.utc + timedelta(seconds=self._picture.clock.ahead_s - backdate_s)
        amount = target if sent.rung.unit == "A" else hold.watts(target)
        life_s = int(hold.life_s + backdate_s)
        # Said to be for one phase, power is as much current on each of three: no less than on one, and safe on all.
        phases = sent.phases if sent.rung.unit == "A" or sent.phases is not None else hold.car_phases or 1
        own = self.study.personality
        ends_offline = dialect.version == "2.1" and sent.whole and not own.no_offline_limit
        offline_s = int(hold.life_s) if ends_offline else None
        live = Live(sent.rung, number, amount, transaction.local_id, start, life_s, phases, offline_s, sent.whole)

        def done(answer: Frame | None, now: Now) -> None:
            if answer is None:
                hold.unanswered()
            elif answer.kind is Kind.RESULT and dialect.limit_status(answer.payload) == "Accepted":
                recovered = hold.fault is not None
                if sent.rung.purpose is Purpose.TX and self._picture.transactions.at(number) is not transaction:
                    hold.transaction_ended()  # it was for a transaction that is over
                else:
                    hold.accepted(sent, now.s)
                    self.study.took(number, sent, dialect, now)
                if recovered:
                    text = f"{self._station_id} EVSE {number} takes limits again"
                    self._out.append(Emit("limit_accepted", text, {"evse": hold.evse.evse_id}))
            elif offline_s is not None and not own.no_offline_limit and own.way is None:
                own.no_offline_limit = True  # 2.1: perhaps it is that member alone
                hold.withdrawn(sent)
            else:
                never = answer.kind is not Kind.RESULT or dialect.limit_status(answer.payload) == "NotSupported"
                switched = not hold.phases_refused
                if hold.rejected(sent, now.s, never=never):
                    self._refused(hold, _said(answer, dialect))
                self.study.refused(hold, sent)
                if switched and hold.phases_refused:
                    self._not_switched(hold, f"refuses it ({_said(answer, dialect)})")
            self._out.append(News())

        self._send(dialect.live_limit(live), now, done, durable=grant is not None and not cuts)

    def _not_switched(self, hold: Hold, why: str) -> None:
        text = (
            f"{self._station_id} EVSE {hold.evse.number} was to charge on one phase and {why}; it counts on all of them from "
            "now on. Take phase_switching out of the site file, or switch it on at the station"
        )
        self._out += [Emit("phases_not_switched", text, {"evse": hold.evse.evse_id}), News()]

    def _refused(self, hold: Hold, said: str) -> None:
        text = (
            f"{self._station_id} EVSE {hold.evse.number} refuses charging profiles ({said}); its maximum of "
            f"{hold.evse.max_a:g} A is reserved. Check that smart charging is switched on at the station"
        )
        self._out.append(Emit("limit_refused", text, {"evse": hold.evse.evse_id, "said": said}))


def _said(answer: Frame, dialect: Dialect) -> str:
    return dialect.limit_status(answer.payload) if answer.kind is Kind.RESULT else answer.code
