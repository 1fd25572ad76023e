"""A tight zone with one odd station among well-behaved ones: plant, stations, the real sessions and the real control, in virtual time.

Nothing in between is imitated but the wire: frames go from the simulated stations to the sessions and back as text, a
quarter of a second late.
"""

import itertools
import json
from collections import deque
from datetime import UTC, datetime, timedelta
from functools import partial

from adapters.simulated.ev import EvType
from adapters.simulated.plant import Plant
from adapters.simulated.station_link import Refused
from adapters.simulated.station_v16 import Station16
from adapters.simulated.station_v201 import Station201
from cem.control import Control
from cem.core.engine import Plan
from cem.core.site import Evse, Meter, Protection, Site, Zone
from cem.core.state import Measurement
from cem.core.timings import Timings
from cem.core.units import PerPhase
from cem.csms.actions import Persist, SendDown
from cem.csms.moment import Now
from cem.csms.options import Options
from cem.csms.records import kept_key
from cem.csms.session import StationSession
from cem.simulate.judge import Judge
from tests.fakes import MemoryStore

STEP_S = 0.25
RATING_A = 63.0
START_UTC = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ODD, NEIGHBOURS = "ODD", ("N1", "N2", "N3", "N4")
CAR = EvType(phases=3, max_a=16.0, settle_s=3.0, draw=0.98, need_wh=1e6)
ODD_CAR = EvType(phases=3, max_a=32.0, settle_s=3.0, draw=0.98, need_wh=1e6)


class DirectLine:
    """A station's connection without a wire."""

    def __init__(self, site, station):
        self.site, self.station = site, station
        self.online = self.wired = self.booted = False
        self.heartbeat_s = 300.0
        self.queue, self.waiting_for, self.timers = deque(), {}, []
        self.back_s, self.ids = None, itertools.count(1)
        self.to_session, self.to_station = deque(), deque()
        self.calls = 0

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
            self.calls += 1
            try:
                reply = [3, frame[1], self.station.handle(frame[2], frame[3])]
            except Refused as error:
                reply = [4, frame[1], error.code, error.text, {}]
            except (KeyError, ValueError, TypeError, IndexError) as error:
                reply = [4, frame[1], "FormationViolation", repr(error), {}]
            self.to_session.append(json.dumps(reply))
        else:
            on_answer = self.waiting_for.pop(frame[1], None)
            if on_answer is not None and frame[0] == 3:
                on_answer(frame[2])


class TightSite:
    """One zone; ``ODD`` has the personality, the others are as the book says. All of OCPP 1.6, or all of 2.0.1."""

    def __init__(self, personality, *, version="1.6", fallback_a=6.0, rotation=None, min_a=6.0):
        evses = tuple(
            Evse(
                f"{s}/1",
                s,
                "main",
                1,
                fallback_a=fallback_a,
                rotation=rotation if s == ODD else (0, 1, 2),
                min_a=min_a if s == ODD else 6.0,
            )
            for s in (ODD, *NEIGHBOURS)
        )
        zone = Zone("main", None, Protection(RATING_A), meter_id="m", fallback_limit_a=30.0, uncontrolled_max_a=15.0)
        self.site = Site("tight", 230.0, 3, (zone,), evses, meters=(Meter("m"),))
        self.plant = Plant(self.site, households=False)
        self.judge = Judge(self.site, lambda _z: None, lambda _z: None)
        self.store, self.t_s, self.alive = MemoryStore(), 1000.0, True
        self.over_until_s, self.neighbours_as, self.possible_as = 0.0, 0.0, 0.0
        self.sessions, self.stations, self.events = {}, {}, []
        kind = Station16 if version == "1.6" else Station201
        for s in (ODD, *NEIGHBOURS):
            self.stations[s] = kind(
                s, "", [self.plant.points[f"{s}/1"]], utc_s=self.utc_s,
                personality=personality if s == ODD else None, now_s=lambda: self.t_s,
                line=lambda station: DirectLine(self, station),
            )  # fmt: skip
        self._start()

    def _start(self):
        ids = itertools.count(1)
        for s in self.stations:
            evses = [e for e in self.site.evses if e.station_id == s]
            session = StationSession(
                s, evses, 230.0, Options(), lambda: f"ours-{next(ids)}", self.store.next_transaction_id
            )
            session.restore(
                self.store.registrations().get(s), self.store.grants(), self.store.open_sessions(),
                lambda name, s=s: self.store.load_state(kept_key(s, name)), self.now,
            )  # fmt: skip
            self.sessions[s] = session
        self.control = Control(
            Plan.of(self.site, Timings(min_off_s=30.0)), self, (self,), self, (), self.store,
            lambda event: None, lambda cycle: None,
        )  # fmt: skip
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
        amps = self.plant.zone_current_a("main")
        return {"m": Measurement("m", self.t_s, current_a=amps, voltage_v=PerPhase.same(230.0))}

    def signals(self):
        return {}

    def problems(self):
        return {}

    def evse_states(self, now_s):
        return {s.evse_id: s for session in self.sessions.values() for s in session.evse_states(now_s)}

    def apply(self, now_s, setpoints_a, phases=None):
        for evse_id, amps in setpoints_a.items():
            who = evse_id.split("/")[0]
            self.take(who, partial(self.sessions[who].set_limit, 1, amps, phases=(phases or {}).get(evse_id, 0)))

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

    def plug(self, who, car=CAR):
        self.stations[who].plug(1, car, "TAG")

    def run(self, seconds):
        for turn in range(round(seconds / STEP_S)):
            self.t_s += STEP_S
            for station in self.stations.values():
                station.link.step()
                station.step()
            if self.alive and turn % 2 == 0:
                for who, session in self.sessions.items():
                    self.take(who, session.tick)
            if self.alive and turn % 4 == 0:
                self.control.step()
            self.plant.step(STEP_S)
            self._judge()

    def die(self):
        """The controller is gone for good."""
        for station in self.stations.values():
            station.link.cut()
        self.alive = False

    def _judge(self):
        amps = self.plant.zone_current_a("main")
        self.judge.watch(self.plant.t_s, STEP_S, self.plant.zone_current_a)
        if max(amps) > RATING_A + 0.05:
            self.over_until_s = self.t_s
        others = [self.plant.points[f"{n}/1"] for n in NEIGHBOURS]
        mine = sum(p.own_current_a.total for p in others)
        drawn = [sum(p.grid_current_a[phase] for p in others) for phase in range(3)]
        # an all-knowing controller gives the neighbours all that the rest leaves them at this very moment
        room = min(RATING_A - (amps[phase] - drawn[phase]) for phase in range(3))
        room = min(room, sum(p.ev.kind.max_a * p.ev.kind.draw for p in others if p.ev is not None))
        self.neighbours_as += mine * STEP_S
        self.possible_as += 3 * (room if room >= 6.0 else 0.0) * STEP_S
