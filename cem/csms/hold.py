"""Holding one EVSE: what limit it should have, how it is asked for, and what may be in force there.

A live limit carries a duration and is refreshed; without refresh the station drops to its safe stack-0 default by
itself (dead-man). How a station takes limits is found by trying rungs of a ladder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf

from cem.core.site import Evse
from cem.core.units import LOWEST_V, PerPhase
from cem.csms.ladder import DEADBAND_A, LADDER, RAISE_PAUSE_S, SLOWER, Purpose, Rung, Sent
from cem.csms.moment import Now
from cem.csms.records import Grant

TRIES = 2
RETRY_S = 30.0
SLACK_S = 5.0
"""Both sides of an expiry count for this long: our clock, the station's and the wire are never in step."""
GRANT_MARGIN_S = 600.0
"""Grants are written to live this much longer than they do, so that a refresh needs no write (SD wear)."""
SETPOINT_LIFE_S = 30.0
"""A setpoint that control has not renewed for this long is refreshed no more: the dead-man covers us too."""
CONFIRM_S = 5.0
"""After a reconnect the station may have dropped its profiles; past this without a confirmation it counts so (S5)."""


SWITCH_S = 15.0
"""Contactors and the car's charger have this long to follow a switch of phases."""
IDLE_A = 1.0


@dataclass(slots=True)
class Hold:
    """One EVSE's limits. Amps per phase everywhere.

    Attributes:
        evse: As built.
        duration_s: Life of a live limit.
        refresh_s: It is sent anew after this.
        ladder: The ways to try.
        default_known: The station acknowledged its safe default at some time (also before our restart).
        default_sure: It did so since it last connected.
        suspect_s: Monotonic time from which a default that is not sure counts as dropped.
        acked: The live limit in force by the station's word.
        switched_s: When a limit with another number of phases than before was accepted.
        pending: Sent, not answered; or never answered and perhaps in force.
        whole: The next limit goes out as a whole profile.
        default_gone: A live limit took the place of the safe default, so nothing is left when it ends.
        phases_wanted: Phases that it should charge on; 0 where nobody said.
        phases_refused: It would not switch phases, or said that it did and did not.
        pause_until_s: It is asked to pause until then, because it follows nothing else.
        car_phases: Phases that its car was seen to use; ``None`` before.
    """

    evse: Evse
    duration_s: float
    refresh_s: float
    ladder: Sequence[Rung] = LADDER
    default_known: bool = False
    default_sure: bool = False
    suspect_s: float = 0.0
    setpoint_a: float | None = None
    setpoint_s: float = 0.0
    cloud_a: float | None = None
    acked: Sent | None = None
    confirmed_s: float | None = None
    switched_s: float | None = None
    sent_s: float | None = None
    pending: list[Sent] = field(default_factory=list)
    rung: int = 0
    tries: int = 0
    refused: str | None = None
    retry_s: float = 0.0
    due: bool = False
    whole: bool = True
    persisted: Grant | None = None
    default_gone: bool = False
    phases_wanted: int = 0
    phases_refused: bool = False
    pause_until_s: float = 0.0
    car_phases: int | None = None

    @property
    def target_a(self) -> float | None:
        """The lower of ours and the cloud's; ``None`` before control has spoken."""
        if self.setpoint_a is None:
            return None
        return self.setpoint_a if self.cloud_a is None else min(self.setpoint_a, self.cloud_a)

    @property
    def way(self) -> Rung:
        """The rung of the ladder that it is asked by now."""
        return self.ladder[self.rung]

    @property
    def urgent(self) -> bool:
        """The limit that should be sent now is a cut, or one that may be lost: no mere refresh, and no raise."""
        return self.due and (self.acked is None or (self.target_a or 0.0) <= self.acked.amps)

    @property
    def life_s(self) -> float:
        """Of a live limit on the present rung."""
        return self.duration_s * (SLOWER if self.way.flash else 1)

    def watts(self, amps: float) -> float:
        """What guards so many amps on a phase: at the lowest voltage, and until learned all of it on one phase."""
        return amps * LOWEST_V * (self.car_phases or 1)

    @property
    def fault(self) -> str | None:
        """Why the station cannot be held, for people."""
        return self.refused

    def restore(self, grant: Grant | None, *, safe_default: bool, now: Now) -> None:
        """Takes over what was on disk: a grant counts until its written end."""
        self.default_known = safe_default
        self.persisted = grant
        if grant is not None:
            left_s = (grant.expires_utc - now.utc).total_seconds()
            # A clock set back by years must not keep a grant for years (L8).
            left_s = min(left_s, SLOWER * self.duration_s + GRANT_MARGIN_S)
            if left_s > 0:
                self.pending = [Sent(grant.limit_a, self.way, now.s + left_s)]

    def connected(self, now_s: float) -> None:
        """A new connection: everything is to be confirmed again, and sent again (S5)."""
        self.default_sure = False
        self.suspect_s = now_s + CONFIRM_S
        self.sent_s = None
        self.again()

    def again(self) -> None:
        """Send the live limit anew, trying the ladder from its present rung."""
        self.due = self.whole = True
        self.tries = 0
        self.retry_s = 0.0

    def default_accepted(self) -> None:
        """The safe default is in place."""
        self.default_known = self.default_sure = True
        self.default_gone = False

    def set_phases(self, phases: int) -> None:
        """Phases to charge on, of an EVSE that can switch; 0: as it is."""
        self.phases_wanted = 0 if self.phases_refused else phases

    def _phases(self, amps: float) -> int | None:
        """What to say of phases with the next limit; another number than before goes through a pause."""
        if self.phases_wanted == 0:
            return None
        before = self.evse.phases if self.acked is None or self.acked.phases is None else self.acked.phases
        paused = amps == 0.0 and self.acked is not None and self.acked.amps == 0.0 and not self.pending
        return self.phases_wanted if paused or self.phases_wanted == before else before

    def phases_in_force(self, now_s: float) -> int | None:
        """Phases that it is confirmed to charge on; ``None`` where it cannot switch."""
        if not self.evse.phase_switching or self.phases_refused:
            return None
        live = self.acked is not None and now_s < self.acked.sure_s
        told = self.acked.phases if live and self.acked is not None else None
        return self.evse.phases if told is None else told

    def charges_on(self, current_a: PerPhase, measured_s: float) -> bool:
        """Takes in a measurement; whether it shows for the first time that a confirmed switch did not happen."""
        one = self.acked is not None and self.acked.phases == 1 and self.confirmed_s is not None
        if (
            self.phases_refused
            or not one
            or measured_s < (self.switched_s or 0.0) + SWITCH_S
            or max(current_a[1:]) <= IDLE_A
        ):
            return False
        self.phases_refused, self.phases_wanted = True, 0
        self.due = True
        return True

    def set_limit(self, amps: float, now_s: float) -> bool:
        """Control's setpoint; returns whether the target moved."""
        before = self.target_a
        self.setpoint_a, self.setpoint_s = (amps if now_s >= self.pause_until_s else 0.0), now_s
        return self._moved(before)

    def set_cloud(self, amps: float | None) -> bool:
        """The cloud's composite limit; returns whether it changed."""
        if amps == self.cloud_a:
            return False
        before = self.target_a
        self.cloud_a = amps
        self._moved(before)
        return True

    def _moved(self, before: float | None) -> bool:
        if self.target_a == before:
            return False
        self.due = True
        return True

    def transaction_ended(self) -> None:
        """A TxProfile ends with its transaction; other purposes live on to their own end."""
        self.pending = [p for p in self.pending if p.rung.purpose is not Purpose.TX]
        if self.acked is not None and self.acked.rung.purpose is Purpose.TX:
            self.acked = None
        self.due = False
        self.car_phases = None
        if self.default_gone:
            self.default_sure = False  # to be put back, or the next car finds no limit at all

    def wants(self, now_s: float) -> bool:
        """Whether a live limit should be sent now to a transaction in progress."""
        if self.setpoint_a is None:
            return False
        target, acked = self.target_a, self.acked
        if target is None or now_s < self.retry_s or now_s - self.setpoint_s > SETPOINT_LIFE_S:
            return False
        slower = SLOWER if self.way.flash else 1
        since_s = inf if self.sent_s is None else now_s - self.sent_s
        if since_s >= self.refresh_s * slower:
            return True
        if acked is not None and self._phases(target) != acked.phases and target == acked.amps == 0.0:
            return True
        if not self.due:
            return False
        rises = acked is not None and target > acked.amps
        if rises and acked is not None and self.way.flash:  # a wake-up is no small raise
            return since_s >= RAISE_PAUSE_S and (target - acked.amps >= DEADBAND_A or acked.amps < self.evse.min_a)
        return True

    def sending(self, amps: float, now_s: float) -> Sent:
        """Notes that a live limit goes out: from now on it may be in force."""
        phases = self._phases(amps)
        # An update keeps its profile alive by the book (K28.FR.13), so it may live that long; but nothing rests on it.
        update = self.acked if self._updates(phases, now_s) else None
        sure_s = now_s + self.life_s - SLACK_S if update is None else update.sure_s
        sent = Sent(amps, self.way, now_s + self.life_s + SLACK_S, sure_s, phases, whole=update is None)
        self.default_gone = self.default_gone or sent.rung.replaces_default
        # What was never answered may be in force for as long as it lives; bounded, the highest are kept (I11).
        alive = sorted((p for p in self.pending if p.until_s > now_s), key=lambda p: p.amps)[-8:]
        self.pending = [*alive, sent]
        if sent.whole:
            self.sent_s = now_s
        self.due = self.whole = False
        return sent

    def _updates(self, phases: int | None, now_s: float) -> bool:
        """A new value is enough: the dynamic profile is in force, and its refresh is not due."""
        acked, recent = self.acked, self.sent_s is not None and now_s - self.sent_s < self.refresh_s
        if acked is None or not recent or self.whole or self.pending:
            return False
        return acked.rung == self.way and acked.rung.dynamic and acked.phases == phases and now_s < acked.sure_s

    def accepted(self, sent: Sent, now_s: float) -> None:
        """The station took it: it replaces everything before it but profiles of another kind."""
        if self.acked is None or self.acked.phases != sent.phases:
            self.switched_s = now_s
        others = [*self.pending, *((self.acked,) if self.acked is not None else ())]
        self.pending = [p for p in others if p.rung != sent.rung and now_s < p.until_s]
        self.acked, self.confirmed_s = sent, now_s
        self.tries = 0
        self.refused = None

    def withdrawn(self, sent: Sent) -> None:
        """It was refused for how it was written: it goes out again in other words, which costs nothing."""
        if sent in self.pending:
            self.pending.remove(sent)
        self.due = True

    def rejected(self, sent: Sent, now_s: float, *, never: bool) -> bool:
        """The station refused it: try again, or the next rung; returns whether the ladder has come to its end.

        Args:
            sent: What was refused.
            now_s: Monotonic time.
            never: It does not know this at all; asking twice is useless.
        """
        if sent in self.pending:
            self.pending.remove(sent)
        if sent.phases not in {None, self.evse.phases, self.acked.phases if self.acked is not None else None}:
            self.phases_refused, self.phases_wanted, self.due = True, 0, True  # the switch is refused, not the limit
            return False
        self.tries += 1
        if never or self.tries >= TRIES:
            self.tries = 0
            self.rung += 1
        self.due = True
        if self.rung < len(self.ladder):
            return False
        self.rung = 0
        self.retry_s = now_s + RETRY_S
        first = self.refused is None
        self.refused = "refuses every kind of charging profile"
        return first

    def unanswered(self) -> None:
        """No answer came: it may or may not be in force; send again."""
        self.due = True

    def in_force_a(self, now_s: float, *, charging: bool, falls_back: bool = True) -> float:
        """The most that may be in force; ``falls_back``: its fallback is believed to be in force where nothing else is."""
        believed = falls_back and self.default_known and not self.default_gone
        lapsed = self.evse.fallback_a if believed else self.evse.max_a
        if not self.default_sure and now_s >= self.suspect_s > 0:
            lapsed = self.evse.max_a
        if self.refused is not None:
            return self.evse.max_a
        live = [p.amps for p in self.pending if now_s < p.until_s]
        if self.acked is not None and now_s < self.acked.until_s:
            live.append(self.acked.amps)
            if charging and self.default_sure and now_s < self.acked.sure_s:
                return max(live)  # it overrides the default for as long as it surely lives
        return max([lapsed, *live])

    def confirmed_a(self, now_s: float) -> float | None:
        """The live limit that the station acknowledged and that has not ended."""
        return self.acked.amps if self.acked is not None and now_s < self.acked.until_s else None

    def grant_needed(self, amps: float, now: Now) -> Grant | None:
        """What must be on disk before this limit is sent; ``None`` where what is there covers it.

        Below the fallback nothing is needed: after a restart the fallback counts anyway.
        """
        ends = now.utc + timedelta(seconds=self.life_s + SLACK_S)
        written = self.persisted
        if amps <= self.evse.fallback_a or (
            written is not None and amps <= written.limit_a and ends <= written.expires_utc
        ):
            return None
        return self._grant(amps, now, ends)

    def released(self) -> Grant | None:
        """What to write once nothing but the fallback is in force any more; ``None`` where the record says so already."""
        written = self.persisted
        if written is None or written.limit_a <= self.evse.fallback_a or self.pending or self.acked is not None:
            return None
        self.persisted = Grant(self.evse.evse_id, self.evse.fallback_a, written.expires_utc)
        return self.persisted

    def _grant(self, amps: float, now: Now, ends: datetime) -> Grant:
        alive = [p.amps for p in self.pending if now.s < p.until_s]
        if self.acked is not None and now.s < self.acked.until_s:
            alive.append(self.acked.amps)
        self.persisted = Grant(self.evse.evse_id, max([amps, *alive]), ends + timedelta(seconds=GRANT_MARGIN_S))
        return self.persisted
