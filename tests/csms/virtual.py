"""A whole site in virtual time: plant, simulated stations, the real sessions and the real control.

Nothing in between is imitated but the wire: frames go from the simulated stations to the sessions and back as text, a step
of time late. Nothing waits for a disk.
"""

import itertools
import json
from collections import Counter, deque
from datetime import UTC, datetime, timedelta
from functools import partial

from adapters.simulated.plant import Plant
from adapters.simulated.station_link import Refused
from cem.control import Control
from cem.core.engine import Plan
from cem.core.state import Measurement
from cem.core.units import PerPhase
from cem.csms.actions import Persist, SendDown
from cem.csms.moment import Now
from cem.csms.options import Options
from cem.csms.records import kept_key
from cem.csms.session import StationSession
from tests.fakes import MemoryStore

START_UTC = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


class DirectLine:
    """A station's connection without a wire."""

    def __init__(self, site, station):
        self.site, self.station = site, station
        self.online = self.wired = self.booted = False
        self.heartbeat_s = 300.0
        self.queue, self.waiting_for, self.timers = deque(), {}, []
        self.back_s, self.ids = None, itertools.count(1)
        self.to_session, self.to_station = deque(), deque()
        self.calls = Counter()

    @property
    def waiting(self):
        return len(self.queue)

    def post(self, action, payload, *, keep=False, sample=False, on_answer=None):
        del sample
        if keep or self.online:
            self.queue.append((action, payload, keep, on_answer))

    def later(self, what, *arguments):
        self.timers.append((self.site.t_s + 0.05, what, arguments))

    def send_boot(self):
        self.post("BootNotification", self.station.boot_payload)

    def cut(self):
        if not self.wired:
            return
        self.wired, was_online, self.online = False, self.online, False
        self.queue = deque(item for item in self.queue if item[2])
        self.waiting_for.clear()
        self.to_session.clear()
        self.to_station.clear()
        if self.site.alive:
            self.site.take(self.station.station_id, self.site.sessions[self.station.station_id].station_closed)
        if was_online:
            self.station.connection_changed()

    def power_cycle(self):
        self.booted = self.booted and self.station.personality.boots_once
        self.cut()
        self.back_s = self.site.t_s + 5.0

    def restore(self):
        self.wired = True
        session = self.site.sessions[self.station.station_id]
        self.site.take(self.station.station_id, lambda now: session.station_opened(self.station.subprotocol, now))
        if self.booted:
            self.online = True
            self.station.connection_changed()
        else:
            self._call("BootNotification", self.station.boot_payload(), self._boot_answered)

    def _boot_answered(self, answer):
        self.booted = self.online = answer["status"] == "Accepted"
        self.station.connection_changed()

    async def run(self):
        raise AssertionError("virtual time has no tasks")

    def _call(self, action, payload, on_answer):
        message_id = f"{self.station.station_id}-{next(self.ids)}"
        self.waiting_for[message_id] = on_answer
        self.to_session.append(json.dumps([2, message_id, action, payload]))

    def step(self):
        """Delivers what was sent a step ago, both ways."""
        if self.back_s is not None and self.site.t_s >= self.back_s and self.site.alive:
            self.back_s = None
            self.restore()
        due = [timer for timer in self.timers if timer[0] <= self.site.t_s]
        self.timers = [timer for timer in self.timers if timer[0] > self.site.t_s]
        for _, what, arguments in due:
            what(*arguments)
        for _ in range(len(self.to_station)):
            if self.to_station:
                self._hear(json.loads(self.to_station.popleft()))
        for _ in range(len(self.to_session)):
            if self.to_session and self.site.alive:
                text = self.to_session.popleft()
                session = self.site.sessions[self.station.station_id]
                self.site.take(self.station.station_id, lambda now, s=session, t=text: s.station_frame(t, now))
        while self.queue and self.online and (self.station.personality.pipelines or not self.waiting_for):
            action, payload, _, on_answer = self.queue.popleft()
            body = payload()
            if body is not None:
                self._call(action, body, on_answer)

    def _hear(self, frame):
        if frame[0] == 2:
            self.calls[frame[2]] += 1
            try:
                answer = self.station.hear(frame[2], frame[3])
                if answer is None:
                    return
                reply = [3, frame[1], answer]
            except Refused as error:
                reply = [4, frame[1], error.code, error.text, {}]
            except (KeyError, ValueError, TypeError, IndexError) as error:
                reply = [4, frame[1], "FormationViolation", repr(error), {}]
            self.to_session.append(json.dumps(reply))
        else:
            on_answer = self.waiting_for.pop(frame[1], None)
            if on_answer is not None and frame[0] == 3:
                on_answer(frame[2])


class VirtualSite:
    """Stations of a site as built, each of the kind that ``kind_of`` gives for its id.

    Attributes:
        alive: The controller lives.
        step_s: Of time.
    """

    def __init__(self, site, kind_of, timings, *, personalities=None, step_s=0.25, plant=None, options=None):
        self.site, self.step_s, self.timings = site, step_s, timings
        self.options = options or Options()
        self.plant = plant or Plant(site, households=False)
        self.store, self.t_s, self.alive = MemoryStore(), 1000.0, True
        self.sessions, self.stations, self.events = {}, {}, []
        for who in dict.fromkeys(evse.station_id for evse in site.evses):
            points = [self.plant.points[e.evse_id] for e in site.evses if e.station_id == who]
            self.stations[who] = kind_of(who)(
                who, "", points, utc_s=self.utc_s, personality=(personalities or {}).get(who), now_s=lambda: self.t_s,
                line=lambda station: DirectLine(self, station),
            )  # fmt: skip
        self._start()

    def _start(self):
        ids = itertools.count(1)
        for who in self.stations:
            evses = [e for e in self.site.evses if e.station_id == who]
            session = StationSession(
                who, evses, 230.0, self.options, lambda: f"ours-{next(ids)}", self.store.next_transaction_id
            )
            session.restore(
                self.store.registrations().get(who), self.store.grants(), self.store.open_sessions(),
                lambda name, who=who: self.store.load_state(kept_key(who, name)), self.now,
            )  # fmt: skip
            self.sessions[who] = session
        self.control = Control(
            Plan.of(self.site, self.timings),
            self,
            (self,),
            self,
            (),
            self.store,
            lambda event: None,
            lambda cycle: None,
        )
        for station in self.stations.values():
            station.link.restore()

    # what control and sessions need

    @property
    def now(self):
        return Now(self.t_s, START_UTC + timedelta(seconds=self.t_s))

    def utc_s(self):
        return self.now.utc.timestamp()

    def monotonic_s(self):
        return self.t_s

    def utc(self):
        return self.now.utc

    def measurements(self):
        volts = PerPhase.same(230.0)
        return {
            zone.meter_id: Measurement(
                zone.meter_id, self.t_s, current_a=self.plant.zone_current_a(zone.zone_id), voltage_v=volts
            )
            for zone in self.site.zones
            if zone.meter_id is not None
        }

    def signals(self):
        return {}

    def problems(self):
        return {}

    def evse_states(self, now_s):
        return {s.evse_id: s for session in self.sessions.values() for s in session.evse_states(now_s)}

    def apply(self, now_s, setpoints_a, phases=None):
        for evse_id, amps in setpoints_a.items():
            who, number = evse_id.split("/")
            limit = partial(self.sessions[who].set_limit, int(number), amps, phases=(phases or {}).get(evse_id, 0))
            self.take(who, limit)

    def take(self, who, step):
        for action in step(self.now):
            match action:
                case SendDown(text):
                    self.stations[who].link.to_station.append(text)
                case Persist(records):
                    self.store.records += records
                case _ if hasattr(action, "code"):
                    self.events.append((round(self.t_s - 1000, 1), who, action.code))
                case _:
                    pass

    # what happens

    def run(self, seconds, control_s=1.0):
        every = round(control_s / self.step_s)
        ticks = max(1, round(0.5 / self.step_s))
        for turn in range(round(seconds / self.step_s)):
            self.t_s += self.step_s
            for station in self.stations.values():
                station.link.step()
                station.step()
            if self.alive and turn % ticks == 0:
                for who, session in self.sessions.items():
                    self.take(who, session.tick)
            if self.alive and turn % every == 0:
                self.control.step()
            self.plant.step(self.step_s)
            self.stepped()

    def stepped(self):
        """After each step of time."""

    def die(self):
        """The controller is gone for good."""
        for station in self.stations.values():
            station.link.cut()
        self.alive = False
