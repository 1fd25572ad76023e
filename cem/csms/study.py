"""Getting to know one station: what it says it can, what it does with limits, and whether it drops them by itself.

``Accepted`` is not obeyed: what is commanded is compared with what is measured. A station that does not follow is asked
again, then by every other way, then to pause, and where the site file allows it its transaction is ended (fault S4). What
it draws meanwhile is control's business: it counts what is measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import orjson

from cem.csms.actions import Action, Emit, News, Persist
from cem.csms.dialect import Ask, Dialect
from cem.csms.frames import Frame, Kind, call
from cem.csms.hold import SLACK_S, Hold
from cem.csms.ladder import DYNAMIC, Sent
from cem.csms.lane import Done, Lane, Priority, Waiting
from cem.csms.moment import Now
from cem.csms.personality import NAME, Personality, Quirk, begun, restored
from cem.csms.picture import Picture
from cem.csms.records import Kept
from cem.csms.settings import settings_in

ASK_TIMEOUT_S = 30.0
OBEYS_WITHIN_A = 1.0
PATIENCE_S = 20.0
"""A station that still draws more than its limit after this does not follow it (S4)."""
HEEDS_A = 1.0
"""One whose draw fell by so much since it was looked at last is on its way."""
GIVES_UP_S = 600.0
"""After everything was tried in vain it is tried again this much later; a pause asked for lasts as long."""
TRIES = 3
SAME_A = 0.1
LOSES_WITHIN_S = 15.0
ZERO_ENDS_S = 15.0
SETTLES_S = 5.0


@dataclass(slots=True)
class Watch:
    """One EVSE under observation.

    Attributes:
        limit_a: The limit that stands.
        since_s: Since when, or since when patience is counted anew.
        cut_s: When it last fell; ``None`` once the draw has followed, or for a rise.
        drawn_a: The draw when it was looked at last.
        stage: How far the escalation has come; 0: it follows.
        followed: It has been seen to follow the limit that stands.
        looked_s: The newest measurement that was looked at.
        online_s: When its station came back last.
        resumed_s: When it last went on charging after a pause.
        zero_s: When it took a limit of 0; ``None`` where another stands.
        check_s: When to look whether it kept its profiles over a resume.
    """

    limit_a: float | None = None
    since_s: float = 0.0
    cut_s: float | None = None
    drawn_a: float = 0.0
    stage: int = 0
    followed: bool = False
    looked_s: float = 0.0
    online_s: float | None = None
    resumed_s: float | None = None
    zero_s: float | None = None
    check_s: float | None = None


class Study:
    """Learns one station's personality.

    Args:
        station_id: Identity.
        holds: Its EVSEs' limits.
        picture: What is measured.
        lane: The way down.
        out: Where actions go.
        new_id: Makes message ids.
        quirks: Publicly known of models.
        may_stop: Ending a transaction is allowed as the last resort.
    """

    def __init__(
        self,
        station_id: str,
        holds: Mapping[int, Hold],
        picture: Picture,
        lane: Lane,
        out: list[Action],
        new_id: Callable[[], str],
        quirks: Sequence[Quirk],
        *,
        may_stop: bool,
    ) -> None:
        self._station_id = station_id
        self._holds = holds
        self._picture = picture
        self._lane = lane
        self._out = out
        self._new_id = new_id
        self._quirks = quirks
        self._may_stop = may_stop
        self._ladders = {number: tuple(hold.ladder) for number, hold in holds.items()}
        self._watches = {number: Watch() for number in holds}
        self._asked: dict[int, int] = {}
        self.personality = Personality()

    # -- what it is ---------------------------------------------------------------------------------------------------

    def restore(self, kept: Any) -> None:
        """Takes over what was kept over a restart."""
        found = restored(kept)
        if found is not None:
            self.personality = found
            self._climb()

    def accepted(self, identity: tuple[str, str, str], dialect: Dialect, now: Now) -> None:
        """The station is served from now on."""
        if any(identity) and identity != self.personality.identity:
            self.personality = begun(identity, self._quirks)
            self._climb()
            self._keep()
        self._asked.clear()
        for watch in self._watches.values():
            watch.online_s = now.s
        self.ask(dialect.ask_capabilities(), self._capable)

    def _capable(self, answer: Frame | None, _now: Now) -> None:
        """What it says of itself; what is publicly known of it counts more, for that was seen."""
        if answer is None or answer.kind is not Kind.RESULT:
            return
        told = {name.lower(): value for name, value in settings_in(answer.payload)}
        own, before = self.personality, self.personality.record()
        level = told.get("chargeprofilemaxstacklevel", told.get("profilestacklevel", ""))
        if own.max_level is None and level.isdigit():
            own.max_level = int(level)
        units = told.get("chargingscheduleallowedchargingrateunit", told.get("rateunit", "")).lower()
        spoken = (("A", ("current", "a")), ("W", ("power", "w")))
        words = {word.strip() for word in units.split(",")}
        if not own.units:
            own.units = tuple(unit for unit, names in spoken if words & set(names))
        dynamic = told.get("supportsdynamicprofiles", "").lower() == "true"
        if dynamic and not own.dynamic:
            own.way = None  # there may be a better one
        own.dynamic = dynamic
        switching = [told[k] for k in ("connectorswitch3to1phasesupported", "phases3to1") if k in told]
        if switching:
            own.switches_phases = switching[0].lower() == "true"
            for hold in self._holds.values():
                hold.phases_refused = hold.phases_refused or not own.switches_phases
        if own.record() != before:
            self._climb()
            self._keep()

    def _climb(self) -> None:
        """What works comes first, where nothing is under way already."""
        for number, hold in self._holds.items():
            if hold.acked is None:
                hold.ladder, hold.rung = self.personality.order(self._ladders[number]), 0

    # -- what it does with limits -------------------------------------------------------------------------------------

    def refused(self, hold: Hold, sent: Sent) -> None:
        """It would not have this rung."""
        own = self.personality
        if hold.way != sent.rung and sent.rung.name not in own.bad:
            own.bad += (sent.rung.name,)
            own.way = None if own.way == sent.rung.name else own.way
            self._keep()

    def took(self, number: int, sent: Sent, dialect: Dialect, now: Now) -> None:
        """It accepted a limit."""
        own, watch, hold = self.personality, self._watches[number], self._holds[number]
        if watch.limit_a is None or sent.amps != watch.limit_a:
            cut = watch.limit_a is not None and sent.amps < watch.limit_a
            watch.cut_s = now.s if cut and watch.drawn_a > sent.amps + OBEYS_WITHIN_A else None
            if watch.limit_a == 0 and sent.amps > 0:
                watch.resumed_s, watch.check_s = now.s, now.s + SETTLES_S
            watch.zero_s = now.s if sent.amps == 0 else None
            watch.limit_a, watch.since_s, watch.followed = sent.amps, now.s, False
        if own.way is None:
            own.way = sent.rung.name
            self._keep()
            if sent.rung.unit == "W":
                text = (
                    f"{self._station_id} takes limits in W alone; they are for the lowest voltage, so it gives its cars a tenth "
                    f"less than they are granted, and its minimum of {hold.evse.min_a:g} A counts as so much more"
                )
                self._out.append(Emit("limits_in_watts", text, {"evse": hold.evse.evse_id}))
        provable = not sent.rung.replaces_default and sent.amps != hold.evse.fallback_a
        proven = own.dynamic_ends if sent.rung.dynamic else own.dead_man is True
        if not proven and provable and self._asked.get(number, 0) < TRIES:
            self._asked[number] = self._asked.get(number, 0) + 1
            self.ask(dialect.ask_composite(number), partial(self._composite, number, sent, dialect))
        elif own.dead_man is None and sent.rung.replaces_default and own.way == sent.rung.name:
            self.proven("it takes live limits only in the place of its default", safe=False)

    def _composite(self, number: int, sent: Sent, dialect: Dialect, answer: Frame | None, now: Now) -> None:
        """Its schedule must show the live limit now, and the fallback once that has ended (dead-man)."""
        hold, own = self._holds[number], self.personality
        if hold.acked is not sent:
            if sent.rung.dynamic:  # overtaken by its next value: that one is asked about
                self._asked.pop(number, None)
            return
        told = answer is not None and answer.kind is Kind.RESULT
        steps = dialect.composite_steps(answer.payload) if answer is not None and told else []
        ends_s = sent.until_s - now.s + SLACK_S
        shown = bool(steps) and steps[0][1] <= sent.amps + SAME_A and any(start_s > 0 for start_s, _ in steps)
        last = next((limit for start_s, limit in reversed(steps) if start_s <= ends_s), inf)
        lets_go = last <= hold.evse.fallback_a + SAME_A
        if sent.rung.dynamic and not own.dynamic_ends:
            if not (shown and lets_go):
                self._not_dynamic(number)
                return
            own.dynamic_ends = True
            self._keep()
        if not steps:
            return
        if own.dead_man:
            if not lets_go:
                self._lost(hold, "resume")
        elif not shown:
            if own.dead_man is None:
                own.dead_man_by = "its composite schedule does not show its limits"
                self._keep()
        elif lets_go:
            self.proven("its composite schedule shows the fallback after the limit", safe=True)
        elif own.dead_man is None:
            self.proven(f"its composite schedule shows {last:g} A after the limit", safe=False)

    def _not_dynamic(self, number: int) -> None:
        """Nothing showed that a dynamic profile ends there: the other ways have a dead-man that can be proven."""
        own, hold = self.personality, self._holds[number]
        if DYNAMIC.name not in own.bad:  # another EVSE may have shown it already
            own.bad += (DYNAMIC.name,)
        own.way = None
        self._asked.pop(number, None)
        hold.rung = min(hold.rung + 1, len(hold.ladder) - 1)
        hold.again()
        self._climb()
        self._keep()

    def _lost(self, hold: Hold, when: str) -> None:
        """It has lost its limit, and perhaps its default: both are sent again."""
        hold.again()
        hold.default_sure = False
        if when and when not in self.personality.loses:
            self.personality.loses += (when,)
            self._keep()

    def seen_idle(self, what: str) -> None:
        """What came of looking at it while idle, where that proved nothing."""
        self.personality.idle = what
        self._keep()

    def proven(self, how: str, *, safe: bool) -> None:
        """Whether it falls back by itself."""
        self.personality.dead_man, self.personality.dead_man_by = safe, how
        if not safe:
            text = (
                f"{self._station_id} has no dead-man ({how}): if this controller dies it may draw its maximum, which cem "
                "check counts from now on"
            )
            self._out.append(Emit("no_dead_man", text, {"how": how}))
        self._keep()

    def default_refused(self) -> None:
        """It will not have a default profile: nothing holds it when a live limit ends."""
        if self.personality.dead_man is not False:
            self.proven("it refuses a default charging profile", safe=False)

    def ended(self, number: int, now: Now) -> None:
        """Its transaction is over."""
        watch, own = self._watches[number], self.personality
        if watch.zero_s is not None and now.s - watch.zero_s < ZERO_ENDS_S and not own.zero_ends:
            own.zero_ends = True
            text = (
                f"{self._station_id} ended a transaction when it was asked to pause; it may need a new start each time"
            )
            self._out.append(Emit("pause_ends_transaction", text))
            self._keep()
        self._watches[number] = Watch(online_s=watch.online_s)

    def look(self, dialect: Dialect | None, now: Now) -> None:
        """Compares what is measured with what was commanded."""
        for number, hold in self._holds.items():
            live, watch = self._picture.evses[number], self._watches[number]
            if watch.check_s is not None and now.s >= watch.check_s and dialect is not None:
                watch.check_s = None
                if hold.acked is not None and self.personality.dead_man:
                    self.ask(dialect.ask_composite(number), partial(self._composite, number, hold.acked, dialect))
            if live.current_a is None or live.measured_s is None or live.measured_s <= watch.looked_s:
                continue
            if hold.acked is None or watch.limit_a is None or self._picture.transactions.at(number) is None:
                continue
            watch.looked_s, drawn_a = live.measured_s, max(live.current_a)
            used = sum(a > OBEYS_WITHIN_A for a in live.current_a)
            if used and watch.followed:
                hold.car_phases = used
            if drawn_a > watch.limit_a + OBEYS_WITHIN_A:
                if number == 0:
                    continue  # what else a site below draws heeds no limit; no other way of asking would help
                self._over(number, hold, watch, drawn_a, dialect, now)
            elif live.measured_s > watch.since_s:
                self._follows(hold, watch, live.measured_s)
            watch.drawn_a = drawn_a

    def _follows(self, hold: Hold, watch: Watch, measured_s: float) -> None:
        own = self.personality
        if watch.cut_s is not None and not watch.followed:
            took_s = measured_s - watch.cut_s
            if own.reaction_s is None or took_s > own.reaction_s + 1:
                own.reaction_s = round(took_s, 1)
                self._keep()
        if watch.stage > 0 and hold.acked is not None and own.way != hold.acked.rung.name:
            own.way = hold.acked.rung.name
            self._keep()
        if watch.stage > 1:
            text = f"{self._station_id} EVSE {hold.evse.number} follows its limits again"
            self._out.append(Emit("limit_followed", text, {"evse": hold.evse.evse_id}))
        watch.followed, watch.stage = True, 0

    def _over(self, number: int, hold: Hold, watch: Watch, drawn_a: float, dialect: Dialect | None, now: Now) -> None:
        own = self.personality
        if watch.followed:  # it had followed this very limit, and has lost it
            watch.followed, watch.since_s = False, now.s
            when = "reconnect" if now.s - (watch.online_s or -1e9) < LOSES_WITHIN_S else ""
            self._lost(hold, "resume" if now.s - (watch.resumed_s or -1e9) < LOSES_WITHIN_S else when)
            return
        if now.s - watch.since_s < max(PATIENCE_S, own.reaction_s or 0.0):
            return
        if drawn_a < watch.drawn_a - HEEDS_A:
            return
        watch.stage += 1
        watch.since_s = now.s
        hold.again()
        ways = len(hold.ladder)
        if watch.stage == 1:
            return
        if watch.stage == 2:
            own.ignores = True
            text = (
                f"{self._station_id} EVSE {hold.evse.number} draws {drawn_a:.1f} A where it accepted {watch.limit_a:g} A; other "
                "ways of asking are tried. Check that smart charging is switched on at the station"
            )
            self._out += [Emit("limit_ignored", text, {"evse": hold.evse.evse_id, "drawn_a": drawn_a}), News()]
            self._keep()
        if watch.stage <= ways:
            hold.rung = (hold.rung + 1) % ways
        elif watch.stage == ways + 1:
            hold.pause_until_s = now.s + GIVES_UP_S
        else:
            watch.stage, watch.since_s = 1, now.s + GIVES_UP_S
            transaction = self._picture.transactions.at(number)
            if self._may_stop and dialect is not None and transaction is not None:
                self.ask(dialect.remote_stop(transaction.local_id))
                text = f"{self._station_id} EVSE {number} does not follow any limit; its transaction was ended"
                self._out.append(Emit("transaction_stopped", text, {"evse": hold.evse.evse_id}))

    # -- inside -------------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        text = orjson.dumps(self.personality.record()).decode()
        self._out.append(Persist((Kept(self._station_id, NAME, text),)))

    def ask(self, ask: Ask, done: Done = lambda _answer, _now: None) -> None:
        """A question of ours, which waits for everything else."""
        message_id = self._new_id()
        self._lane.push(Waiting(message_id, call(message_id, *ask), Priority.BULK, ASK_TIMEOUT_S, done))
