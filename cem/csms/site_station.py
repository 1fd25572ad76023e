"""Our own identity towards a CSMS: a station without EVSEs, by which it can address the site as a whole.

Frames and times in, actions out, as ``StationSession``; but here we are the station.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from cem.csms import site_model, site_voice
from cem.csms.actions import Action, Emit, News, Persist, SendUp
from cem.csms.dialect import Ask, Dialect
from cem.csms.frames import BadFrame, Frame, Kind, call, error, parse, result
from cem.csms.lane import Done, Lane, Priority, Waiting
from cem.csms.metering import number
from cem.csms.moment import Now, ocpp_time
from cem.csms.parsing import member, whole
from cem.csms.profiles import Refusal
from cem.csms.records import Kept
from cem.csms.site_limit import OtherLimit, SiteLimit
from cem.csms.site_model import Settings
from cem.csms.site_picture import SiteTold
from cem.csms.site_refusals import refusal

NAME = "site"
ANSWER_S = 30.0
BOOT_RETRY_S, SHORTEST_RETRY_S = 60.0, 5.0
LOOSER_S = 10.0
"""A limit that rises bit by bit is told again at most this often; one that falls at once."""


class SiteStation:
    """The site's own station.

    Args:
        identity: Under which it dials.
        dialect: Of the version it speaks.
        limit: The CSMS's profiles for the site.
        about: Vendor, model and firmware version.
        new_id: Makes message ids.
        heartbeat_most_s: Heartbeats are never further apart: they show that the CSMS lives.
        meter_s: Between meter values, until the CSMS sets otherwise.

    Attributes:
        commanded: The CSMS has set or cleared a limit, now or before a restart.
    """

    def __init__(
        self,
        identity: str,
        dialect: Dialect,
        limit: SiteLimit,
        about: Mapping[str, str],
        new_id: Callable[[], str],
        *,
        heartbeat_most_s: float,
        meter_s: float,
    ) -> None:
        self.identity = identity
        self.limit = limit
        self.commanded = False
        self._dialect = dialect
        self._version = dialect.version
        self._about = about
        self._new_id = new_id
        self._heartbeat_most_s = heartbeat_most_s
        self._settings = Settings(heartbeat_s=heartbeat_most_s, meter_s=meter_s)
        self._lane = Lane()
        self._out: list[Action] = []
        self._told = SiteTold()
        self._here = False
        self._booted = False
        self._boot_s: float | None = None
        self._heartbeat_s = 0.0
        self._meter_s = 0.0
        self._notified: dict[str, tuple[OtherLimit, float]] = {}
        self._transfers = True

    # -- life of the connection -------------------------------------------------------------------------------------

    def restore(self, kept: Any, now: Now) -> None:
        """Takes over what was kept over a restart."""
        self.commanded = member(kept, "commanded") is True
        self.limit.restore(member(kept, "profiles"), now)
        for name, value in (member(kept, "settings") or {}).items():
            if name in asdict(self._settings) and number(value) is not None:
                setattr(self._settings, name, number(value))

    def opened(self, now: Now) -> list[Action]:
        """The CSMS accepted the connection."""
        self._here, self._transfers = True, True
        self._heartbeat_s = self._meter_s = now.s
        if self._booted:  # B01: a boot is told after a boot, not after a lost connection
            self._ask(("Heartbeat", {}), Priority.STATUS, self._heard)
        else:
            self._boot(now)
        if self.limit.contact(now, up=True):
            self._keep()
        return self._flush(now)

    def closed(self, now: Now) -> list[Action]:
        """The connection is gone."""
        self._here = False
        for waiting in self._lane.drain():
            waiting.done(None, now)
        self.limit.contact(now, up=False)
        return self._flush(now)

    def tick(self, now: Now, told: SiteTold) -> list[Action]:
        """What happens by time, and by what the site does."""
        self._told = told
        for waiting in self._lane.overdue(now.s):
            waiting.done(None, now)
        if self._here and not self._booted and self._boot_s is not None and now.s >= self._boot_s:
            self._boot(now)
        if self._here and self._booted:
            if now.s - self._heartbeat_s >= self.heartbeat_s:
                self._heartbeat_s = now.s
                self._ask(("Heartbeat", {}), Priority.STATUS, self._heard)
            if self._settings.meter_s and now.s - self._meter_s >= self._settings.meter_s:
                self._meter_s = now.s
                self._measured(now)
            self._notify(now)
        return self._flush(now)

    @property
    def heartbeat_s(self) -> float:
        """Between two heartbeats."""
        return min(self._settings.heartbeat_s, self._heartbeat_most_s)

    @property
    def accepted(self) -> bool:
        """The CSMS knows us."""
        return self._here and self._booted

    def _boot(self, now: Now) -> None:
        self._boot_s = now.s + BOOT_RETRY_S

        def done(answer: Frame | None, now: Now) -> None:
            if answer is None or answer.kind is not Kind.RESULT:
                return
            wait_s = number(answer.payload.get("interval"))
            said = str(answer.payload.get("status"))
            if said != "Accepted":
                self._boot_s = now.s + max(wait_s or BOOT_RETRY_S, SHORTEST_RETRY_S)
                return
            self._booted, self._boot_s = True, None
            if wait_s:
                self._settings.heartbeat_s = wait_s
            ask = site_voice.status(self._version, now.utc)
            if ask is not None:
                self._ask(ask, Priority.STATUS)
            self._measured(now)

        self._ask(site_voice.boot(self._version, self._about), Priority.STATUS, done)

    def _heard(self, answer: Frame | None, _now: Now) -> None:
        """A heartbeat that a CSMS refuses comes from one that does not know us: it is told who we are."""
        if answer is not None and answer.kind is Kind.ERROR:
            self._booted, self._boot_s = False, 0.0

    def _measured(self, now: Now) -> bool:
        amps = self._told.measured_a
        ask = None if amps is None else site_voice.meter_values(self._version, now.utc, amps)
        if ask is not None:
            self._ask(ask, Priority.TELEMETRY)
        return ask is not None

    def _ask(self, ask: Ask, priority: Priority, done: Done = lambda _answer, _now: None) -> None:
        message_id = self._new_id()
        self._lane.push(Waiting(message_id, call(message_id, *ask), priority, ANSWER_S, done))

    def _flush(self, now: Now) -> list[Action]:
        while self._here and (text := self._lane.next(now.s)) is not None:
            self._out.append(SendUp(text))
        actions = list(self._out)
        self._out.clear()
        return actions

    def _keep(self) -> None:
        kept = {"commanded": self.commanded, "profiles": self.limit.records(), "settings": asdict(self._settings)}
        self._out.append(Persist((Kept(self.identity, NAME, orjson.dumps(kept).decode()),)))

    # -- limits of others -------------------------------------------------------------------------------------------

    def _notify(self, now: Now) -> None:
        """Tells what limits the site beside the CSMS, where it changes enough (2.x K12, K13)."""
        strictest: dict[str, OtherLimit] = {}
        for other in self._told.others:
            known = strictest.get(other.source)
            if known is None or self.limit.in_amps(other) < self.limit.in_amps(known):
                strictest[other.source] = other
        for source, other in strictest.items():
            if self._matters(other, now):
                self._notified[source] = other, now.s
                self._tell_limit(source, site_voice.limited(self._version, now.utc, other))
        for source in [s for s in self._notified if s not in strictest]:
            before = self._notified.pop(source)
            self._tell_limit(source, site_voice.released(self._version, source), before)

    def _matters(self, other: OtherLimit, now: Now) -> bool:
        before, at_s = self._notified.get(other.source, (None, 0.0))
        if before is None or before.unit != other.unit:
            return True
        change = abs(other.value - before.value)
        rises = other.value > before.value
        least = max(before.value, 0.1) * self._settings.significance_percent / 100
        return change > least and (not rises or now.s - at_s >= LOOSER_S)

    def _tell_limit(self, source: str, ask: Ask, gone: tuple[OtherLimit, float] | None = None) -> None:
        if not self._transfers:
            return

        def done(answer: Frame | None, _now: Now) -> None:
            if answer is None and gone is not None:
                self._notified.setdefault(source, gone)  # nobody heard that it is gone
            elif answer is None:
                self._notified.pop(source, None)
            elif ask[0] == "DataTransfer":  # 1.6: a CSMS that does not know ours is not asked again
                self._transfers = answer.kind is Kind.RESULT and answer.payload.get("status") == "Accepted"

        self._ask(ask, Priority.LIMIT, done)

    # -- what the CSMS says -----------------------------------------------------------------------------------------

    def frame(self, text: str, now: Now) -> list[Action]:
        """A text frame of the CSMS."""
        try:
            frame = parse(text)
        except BadFrame as problem:
            if problem.message_id is not None:
                self._out.append(SendUp(error(problem.message_id, self._dialect.bad_format, str(problem))))
            return self._flush(now)
        if frame.kind is Kind.CALL:
            self._command(frame, now)
        elif frame.kind in {Kind.RESULT, Kind.ERROR}:
            waiting = self._lane.answered(frame.message_id)
            if waiting is not None:
                waiting.done(frame, now)
        return self._flush(now)

    def _command(self, frame: Frame, now: Now) -> None:
        payload, told = frame.payload, list[Ask]()
        answer: Mapping[str, Any] | str
        match frame.action:
            case "SetChargingProfile":
                answer = self._limited(self.limit.set(payload, now))
            case "UpdateDynamicSchedule" if self._dialect.rules.modes:
                answer = self._limited(self.limit.update(payload, now))
            case "ClearChargingProfile":
                cleared = self.limit.clear(payload)
                answer = {"status": "Accepted" if cleared else "Unknown"}
                if cleared:
                    self._commanded()
            case "GetCompositeSchedule":
                answer = self.limit.composite(payload, self._told.others, now)
            case "GetChargingProfiles" if (report := self.limit.report(payload)) is not None:
                answer, asks = report
                told += asks
            case "TriggerMessage":
                answer = {"status": self._trigger(payload, now)}
            case "GetConfiguration" if self._version == "1.6":
                answer = site_model.get_configuration(site_model.keys_16(self._settings, self._told), payload)
            case "ChangeConfiguration" if self._version == "1.6":
                known = site_model.keys_16(self._settings, self._told)
                answer = {"status": site_model.change_configuration(known, self._settings, payload)}
                self._keep()
            case "GetVariables" | "SetVariables" | "GetBaseReport" | "GetReport" if self._version != "1.6":
                answer, asks = self._variables(frame.action, payload, now)
                told += asks
            case _:
                answer = refusal(self._version, frame.action)
        if isinstance(answer, str):
            text = error(frame.message_id, answer, f"{frame.action[:50]} is not served by the station of a site")
        else:
            text = result(frame.message_id, answer)
        # What is to hold is on disk before it is acknowledged (D3).
        self._out.append(SendUp(text, durable=True))
        for ask in told:
            self._ask(ask, Priority.BULK)

    def _limited(self, refused: Refusal | None) -> dict[str, Any]:
        if refused is None:
            self._commanded()
        else:
            text = f"{self.identity}: a limit for the site was refused: {refused.text} ({refused.code})"
            self._out.append(Emit("site_limit_refused", text))
        return self._dialect.profile_status(refused)

    def _commanded(self) -> None:
        """What it set has changed."""
        self.commanded = True
        self._keep()
        self._out.append(News())

    def _trigger(self, payload: Mapping[str, Any], now: Now) -> str:
        """The message is told after the answer: it waits in the lane until then."""
        match payload.get("requestedMessage"):
            case "BootNotification":
                self._ask(site_voice.boot(self._version, self._about, "Triggered"), Priority.STATUS)
            case "Heartbeat":
                self._ask(("Heartbeat", {}), Priority.STATUS)
            case "MeterValues":
                return "Accepted" if self._measured(now) else "Rejected"
            case "StatusNotification" if (ask := site_voice.status(self._version, now.utc)) is not None:
                self._ask(ask, Priority.STATUS)
            case _:
                return "NotImplemented"
        return "Accepted"

    def _variables(
        self, action: str, payload: Mapping[str, Any], now: Now
    ) -> tuple[dict[str, Any] | str, Sequence[Ask]]:
        model = site_model.variables(self._settings, self._told, self.identity, self._about)
        if action == "GetVariables":
            results = site_model.get_variables(model, payload)
            return ({"getVariableResult": results} if results else self._dialect.bad_format), ()
        if action == "SetVariables":
            results = site_model.set_variables(model, self._settings, payload)
            self._keep()
            return ({"setVariableResult": results} if results else self._dialect.bad_format), ()
        request_id = whole(payload.get("requestId"))
        if request_id is None:
            return self._dialect.bad_format, ()
        if action == "GetReport":
            found = site_model.select(model, payload)
            if not found:
                return {"status": "EmptyResultSet"}, ()
        elif payload.get("reportBase") == "SummaryInventory":
            found = site_model.select(model, {"componentVariable": [{"component": {"name": "LocalController"}}]})
        elif payload.get("reportBase") in {"FullInventory", "ConfigurationInventory"}:
            full = payload.get("reportBase") == "FullInventory"
            found = [variable for variable in model if full or variable.writable or not variable.readable]
        else:
            return {"status": "NotSupported"}, ()
        pages = site_model.reports(found, request_id, ocpp_time(now.utc))
        return {"status": "Accepted"}, [("NotifyReport", page) for page in pages]
