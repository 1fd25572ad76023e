"""One station as its messages paint it: statuses, transactions, measured values; and the session records that follow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from cem.core.site import Evse
from cem.core.units import PerPhase
from cem.csms.actions import Action, Emit, News, Persist
from cem.csms.authorization import token_hash
from cem.csms.facts import MeterTold, NeedsTold, StatusTold, TransactionTold
from cem.csms.faults import Faults
from cem.csms.metering import Reading, SignedSample, read, signed_samples
from cem.csms.moment import Now, ocpp_time
from cem.csms.needs import EvNeeds
from cem.csms.parsing import words
from cem.csms.records import Kept, OpenSession, SessionUpdate, SignedValue
from cem.csms.reservations import Reservations
from cem.csms.station_clock import TOLERATED_S, StationClock
from cem.csms.transactions import ENDED, LOST, LOST_S, Transaction, Transactions

MOST_CONNECTORS = 20
RECORD_S = 60.0
"""A session's energy is recorded at most this often while it runs."""


@dataclass(slots=True)
class EvseLive:
    """What is known of one EVSE now."""

    evse: Evse
    status: str = ""
    plugged: dict[int, bool | None] = field(default_factory=dict)
    current_a: PerPhase | None = None
    measured_s: float | None = None
    needs: EvNeeds | None = None
    needs_from_wh: float | None = None
    departure_s: float | None = None

    @property
    def connected(self) -> bool | None:
        """A vehicle is plugged in, at any of the EVSE's connectors."""
        known = [p for p in self.plugged.values() if p is not None]
        return any(known) if known else None


class Picture:
    """Learns from facts.

    Args:
        station_id: Identity.
        evses: As built.
        nominal_v: For powers where no voltage is told.
        out: Where actions go.
        started: Called when an EVSE begins to charge or must be sent its limit anew.
        ended: Called when a transaction is over.
    """

    def __init__(
        self,
        station_id: str,
        evses: Sequence[Evse],
        nominal_v: float,
        out: list[Action],
        started: Callable[[int], None],
        ended: Callable[[int, Now], None],
    ) -> None:
        self._station_id = station_id
        self._nominal_v = nominal_v
        self._out = out
        self._started = started
        self._ended = ended
        self.evses: Mapping[int, EvseLive] = {e.number: EvseLive(e) for e in evses}
        self.transactions = Transactions()
        self.clock = StationClock()
        self.faults = Faults(station_id, out)
        self.reservations = Reservations()

    def restore(self, open_sessions: Sequence[OpenSession], remembered: Callable[[str], Any], now_s: float) -> None:
        """Goes on with the transactions that were open when we stopped; ``remembered`` gives what was ``Kept``."""
        ended, lost = remembered(ENDED), remembered(LOST)
        self.transactions.ended.extend(filter(None, map(words, ended if isinstance(ended, list) else ())))
        numbers = {live.evse.evse_id: number for number, live in self.evses.items()}
        for session in sorted(open_sessions, key=lambda s: s.updated_utc):
            if session.station_id == self._station_id and session.evse_id in numbers:
                self.transactions.restore(session, numbers[session.evse_id], now_s)
        for one in lost if isinstance(lost, list) else ():
            if isinstance(one, Mapping) and one.get("evse") in self.evses:
                self.transactions.restore_lost(one, now_s)

    def booted(self) -> None:
        """The station started anew: what went on there may have ended with it (S18)."""
        self.faults.booted()
        for transaction in self.transactions.open.values():
            transaction.rebooted = True

    def tick(self, now: Now) -> None:
        """What happens by time alone: a transaction whose end is never told is closed in our own record (S18)."""
        self.reservations.tick(now)
        if not self.transactions.open:
            return
        for one in [t for t in self.transactions.open.values() if t.lost and now.s - t.lost_s >= LOST_S]:
            self._close(one, now)

    def stands(self, now: Now) -> None:
        """A site below always wants current: that is one transaction without an end, of which nobody is told."""
        if 0 in self.evses and self.transactions.at(0) is None:
            self.transactions.open[""] = Transaction("", 0, "", now.utc, now.s)

    def status(self, fact: StatusTold, now: Now) -> None:
        """A connector's status."""
        self.faults.told(fact.fault, now)  # also of the station as a whole
        live = self.evses.get(fact.evse)
        if live is None:
            return
        if fact.evse == 0:  # a site has no plug
            live.status = fact.status
            return
        if fact.at_utc is not None:
            self._clock_moved(self.clock.message(fact.at_utc, now))
        changed = live.status != fact.status
        live.status = fact.status
        if fact.connector in live.plugged or len(live.plugged) < MOST_CONNECTORS:
            live.plugged[fact.connector] = fact.connected
        transaction = self.transactions.at(fact.evse)
        if fact.connected is False and live.connected is False:
            live.current_a, live.measured_s = PerPhase.same(0.0), now.s
            live.needs, live.departure_s = None, None
            if transaction is not None:
                self._lose(transaction, fact, now)
            self._ended(fact.evse, now)
        elif fact.status == "Preparing" and transaction is not None and transaction.rebooted:
            self._lose(transaction, fact, now)  # 1.6: plugged in, and no transaction
            self._ended(fact.evse, now)
        elif changed and fact.status == "Charging" and transaction is not None:
            self._started(fact.evse)
        if changed:
            self._out.append(News())

    def needs(self, fact: NeedsTold, now: Now) -> None:
        """What the car needs, from now on; its station waits for a profile (K15), so the limit is sent again."""
        live, transaction = self.evses.get(fact.evse), self.transactions.at(fact.evse)
        if live is None:
            return
        live.needs, live.needs_from_wh, live.departure_s = fact.needs, None, None
        if transaction is not None:
            live.needs_from_wh = transaction.meter_wh
        if fact.needs.departure_utc is not None:
            left_s = (fact.needs.departure_utc - now.utc).total_seconds()
            live.departure_s = now.s + left_s - self.clock.ahead_s
        self._started(fact.evse)
        self._out.append(News())

    def told_needs(self) -> dict[int, dict[str, object]]:
        """What cars said that they need and what they may, by EVSE; for the API."""
        found = {}
        for number, live in self.evses.items():
            transaction = self.transactions.at(number)
            allowed = () if transaction is None else transaction.allowed_transfer
            if live.needs is not None or allowed:
                found[number] = {**(live.needs or EvNeeds()).status(), "allowed_transfer": list(allowed)}
        return found

    def needed_wh(self, number: int) -> float | None:
        """What the car still wants; ``None`` where it never said."""
        live, transaction = self.evses[number], self.transactions.at(number)
        if live.needs is None or live.needs.energy_wh is None:
            return None
        meter_wh = None if transaction is None else transaction.meter_wh
        if meter_wh is not None and live.needs_from_wh is None:
            live.needs_from_wh = meter_wh
        got_wh = 0.0 if meter_wh is None or live.needs_from_wh is None else meter_wh - live.needs_from_wh
        return max(0.0, live.needs.energy_wh - max(0.0, got_wh))

    def meter(self, fact: MeterTold, now: Now) -> None:
        """Measured values of an EVSE."""
        live = self.evses.get(fact.evse)
        if live is not None:
            reading = self._measured(live, fact.meter_values, now)
            running = self.transactions.at(fact.evse)
            if running is not None and reading.signed and fact.evse != 0:
                self._keep_signed(running, reading.signed, final=False)

    def _measured(self, live: EvseLive, meter_values: object, now: Now) -> Reading:
        reading = read(meter_values, live.evse.phases, self._nominal_v, inlet=live.evse.number == 0)
        if reading.current_a is not None:
            live.current_a, live.measured_s = reading.current_a, now.s
        if reading.periodic and reading.at_utc is not None:
            self._clock_moved(self.clock.periodic(reading.at_utc, now))
        return reading

    def _clock_moved(self, moved: bool) -> None:
        """Schedules that were written for another clock are sent again."""
        if moved:
            behind = "ahead" if self.clock.ahead_s > 0 else "behind"
            text = f"{self._station_id}'s clock is {abs(self.clock.ahead_s):.0f} s {behind}; its limits allow for it"
            if self.clock.ahead_s == 0:
                text = f"{self._station_id}'s clock is right"
            self._out.append(Emit("station_clock", text, {"ahead_s": self.clock.ahead_s}))
            for transaction in self.transactions.open.values():
                self._started(transaction.evse)

    def transaction(self, fact: TransactionTold, now: Now) -> Transaction | None:
        """A transaction began, went on or ended; its id is known."""
        self.reservations.over(fact.reservation_id)
        known = self._known(fact, now)
        number = fact.evse if known is None or fact.evse is not None else known.evse
        live = self.evses.get(number) if number is not None else None
        if live is None or fact.transaction_id is None:
            if known is None:
                return None
            live = self.evses[known.evse]
        if known is None:
            if fact.kind == "stop" or fact.transaction_id in self.transactions.ended:
                return None  # it is over, or nothing of it is known here; the cloud hears of it all the same
            known = self._begin(live, fact, now)
        elif known.lost and fact.kind == "update" and not fact.offline:
            known.lost = False
            self._keep_lost()
            self._started(known.evse)
        known.rebooted = False
        if fact.at_utc is not None and not fact.offline:
            self._clock_moved(self.clock.message(fact.at_utc, now))
        if fact.state is not None and fact.state != known.state and not known.lost:
            known.state = fact.state
            live.status = fact.state
            if fact.state == "Charging" and not fact.offline:
                self._started(known.evse)
            self._out.append(News())
        reading = Reading() if fact.meter_values is None else self._told(live, known, fact, now)
        energy = fact.meter_wh if fact.meter_wh is not None else reading.energy_wh
        first = known.meter_wh is None  # what the session's energy is counted from
        if energy is not None:
            known.meter_wh = energy
        if fact.token is not None and known.token is None:
            known.token = token_hash(fact.token)
        signed = reading.signed
        if fact.closing_values is not None:
            signed += signed_samples(fact.closing_values)
        if signed:
            self._keep_signed(known, signed, final=fact.kind == "stop")
        if fact.remote_start_id is not None and known.remote_start_id is None:
            known.remote_start_id = fact.remote_start_id
            self._started(known.evse)
        if fact.kind == "stop":
            self._finish(known, fact, now)
        elif fact.kind == "start":
            self._record(known, "start", fact.at_utc or now.utc, now)
        elif energy is not None and (first or now.s - known.recorded_s >= RECORD_S):
            known.recorded_s = now.s
            self._record(known, "meter", fact.at_utc or reading.at_utc or now.utc, now)
        return known

    def _known(self, fact: TransactionTold, now: Now) -> Transaction | None:
        """The transaction that a message is of; one that was closed without its station's word is open again by it."""
        local_id = fact.transaction_id or ""
        closed = self.transactions.closed.get(local_id)
        if closed is None:
            return self.transactions.open.get(local_id)
        if fact.kind == "stop" or (fact.kind == "update" and not fact.offline):
            self.transactions.take_up(closed)
            self._record(closed, "resume", fact.at_utc or now.utc, now)
        return closed

    def _lose(self, transaction: Transaction, fact: StatusTold, now: Now) -> None:
        """S18: only the station ends a transaction towards the cloud; for control nothing flows any more."""
        transaction.lost, transaction.lost_s, transaction.lost_utc = True, now.s, fact.at_utc or now.utc
        self._keep_lost()

    def _close(self, transaction: Transaction, now: Now) -> None:
        """Closes our own record of what its station does not go on with."""
        self.transactions.close(transaction)
        self._record(transaction, "stop", transaction.lost_utc or now.utc, now, "Lost")
        self._keep_lost()
        text = (
            f"{self._station_id} never told of the end of transaction {transaction.local_id}; its record here is closed "
            "as lost, until the station says otherwise"
        )
        self._out.append(Emit("transaction_lost", text, {"evse": self.evses[transaction.evse].evse.evse_id}))
        self._out.append(News())

    def _keep_lost(self) -> None:
        kept = orjson.dumps(self.transactions.lost()).decode()
        self._out.append(Persist((Kept(self._station_id, LOST, kept),)))

    def _keep_signed(self, transaction: Transaction, signed: Sequence[SignedSample], *, final: bool) -> None:
        kept = (SignedValue(transaction.session_id, at, orjson.dumps(s).decode(), final=final) for at, s in signed)
        self._out.append(Persist(tuple(kept)))

    def _told(self, live: EvseLive, transaction: Transaction, fact: TransactionTold, now: Now) -> Reading:
        if fact.offline or transaction.lost:  # values of yesterday say nothing of now
            return read(fact.meter_values, live.evse.phases, self._nominal_v)
        return self._measured(live, fact.meter_values, now)

    def _begin(self, live: EvseLive, fact: TransactionTold, now: Now) -> Transaction:
        number = live.evse.number
        for old in [t for t in self.transactions.open.values() if t.evse == number]:
            old.lost, old.lost_utc = True, old.lost_utc or fact.at_utc or now.utc  # another one takes its place
            self._close(old, now)
        started = fact.at_utc or now.utc
        local_id = fact.transaction_id or ""
        session_id = f"{self._station_id}:{local_id}:{ocpp_time(started)}"
        begun = Transaction(session_id, number, local_id, started, now.s, now.utc, recorded_s=now.s)
        self.transactions.open[local_id] = begun
        if fact.token is not None:
            begun.token = token_hash(fact.token)
        begun.remote_start_id = fact.remote_start_id
        if fact.kind != "start":
            text = f"{self._station_id} goes on with transaction {local_id} that is not on record here; recorded from now on"
            self._out.append(Emit("transaction_adopted", text))
            begun.meter_wh = fact.meter_wh
            self._record(begun, "start", started, now)
        self._started(number)
        self._out.append(News())
        return begun

    def _finish(self, transaction: Transaction, fact: TransactionTold, now: Now) -> None:
        self.transactions.end(transaction.local_id)
        ended = orjson.dumps(list(self.transactions.ended)).decode()
        self._out.append(Persist((Kept(self._station_id, ENDED, ended),)))
        if transaction.lost:
            self._keep_lost()
        self._record(transaction, "stop", fact.at_utc or now.utc, now, fact.reason)
        live = self.evses[transaction.evse]
        if self.transactions.at(transaction.evse) is None:
            live.current_a, live.measured_s = None, None
            live.needs, live.departure_s = None, None
            self._ended(transaction.evse, now)
        self._out.append(News())

    def _record(self, transaction: Transaction, kind: str, at: datetime, now: Now, reason: str | None = None) -> None:
        began = transaction.here_utc
        moved_s = 0.0 if began is None else (now.utc - began).total_seconds() - (now.s - transaction.started_s)
        update = SessionUpdate(
            session_id=transaction.session_id,
            station_id=self._station_id,
            evse_id=self.evses[transaction.evse].evse.evse_id,
            kind=kind,
            at_utc=at,
            transaction_id=transaction.local_id,
            meter_wh=transaction.meter_wh,
            token_hash=transaction.token,
            reason=reason,
            here_utc=now.utc,
            ahead_s=self.clock.ahead_s,
            moved_s=moved_s if abs(moved_s) > TOLERATED_S else 0.0,
        )
        self._out.append(Persist((update,)))
