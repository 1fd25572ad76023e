"""One station, our controller and its clouds in one process, under every fault at once; ``histories`` is the judge.

The controller is the real ``StationLink`` with its session; sockets, the disk and time are models. The disk has an
fsync: what was not synced when the controller dies is gone. The controller dies at named points (``CRASH_POINTS``).
"""

import itertools
import json
import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import adapters.ocpp.link as link_module
from adapters.ocpp.link import StationLink
from cem.core.site import Evse
from cem.csms.actions import PRIMARY
from cem.csms.facts import start_key
from cem.csms.moment import Now
from cem.csms.options import Options
from cem.csms.pace import HARD_FACTOR, Room, Shared
from cem.csms.records import IdMap, JournalEntry, kept_key
from cem.csms.session import StationSession
from cem.csms.v16 import V16
from cem.errors import CemError
from tests.csms.histories import check
from tests.csms.rig import boot_payload, good_answer
from tests.fakes import MemoryStore

CRASH_POINTS = ("before_sync", "after_sync", "before_answer", "after_answer", "before_up", "after_up")
START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
RETRY_S = 35.0
OBSERVER = "refund"


class Crash(BaseException):
    """The controller is killed here."""


class Disk(MemoryStore):
    """What is synced survives; what is only written is gone when the controller dies."""

    full = False

    def __init__(self, world):
        super().__init__()
        self.world = world
        self.unsynced = []

    async def commit(self, records):
        if self.full:
            raise CemError("disk is full")
        self.unsynced += records
        self.world.point("before_sync")
        self.sync()
        self.world.point("after_sync")

    def sync(self):
        self.records += self.unsynced
        self.unsynced.clear()

    def power_cut(self):
        self.world.dropped += len(self.unsynced)
        self.unsynced.clear()


class Uplink:
    """Stands for ``UpstreamLink``: a connection to the model cloud."""

    def __init__(self, cloud, station_id, subprotocol, *, opened, closed, frame, **_):
        self.cloud, self.subprotocol = cloud, subprotocol
        self.opened, self.closed, self.frame = opened, closed, frame
        self.connected = False
        cloud.uplink = self

    async def run(self):
        """Never run here."""

    def send(self, text):
        if self.connected:
            self.cloud.world.point("before_up")
            self.cloud.receive(text)
            self.cloud.world.point("after_up")


class Tasks:
    """Takes an uplink's task; its end is the connection's end."""

    def create_task(self, coroutine):
        uplink = coroutine.cr_frame.f_locals.get("self")
        coroutine.close()
        return SimpleNamespace(cancel=lambda: uplink.cloud.cut(uplink))


@dataclass
class Message:
    """One transaction message of the station; ``key`` is its own time, which stands nowhere else."""

    key: str
    kind: str
    tx: int
    evse: int
    connector: int
    payload: dict
    message_id: str = ""
    sent_s: float | None = None


class Station:
    """Keeps every transaction message until it is acknowledged, in order, over reboots.

    Attributes:
        window: So many messages may be on their way at once; more than one is against the rules, and happens.
    """

    def __init__(self, world):
        self.world = world
        self.made: list[Message] = []
        self.queue: list[Message] = []
        self.given: dict[int, object] = {}
        self.open: dict[int, int] = {}
        self.connectors: dict[int, int] = {}  # which one of an EVSE its transaction uses
        self.register = Counter({1: 1000, 2: 50_000, 3: 7_000_000})
        self.tx_count = 0
        self.ids = itertools.count(1)
        self.window = world.random.choice((1, 1, 3))
        self.inbox: list[str] = []
        self.socket = None
        self.sequence = Counter()

    def stamp(self):
        return (START + timedelta(milliseconds=next(self.ids), seconds=self.world.at_s)).isoformat()

    def make(self, kind, evse):
        self.register[evse] += self.world.random.randint(1, 900) if kind != "start" else 0
        if kind == "start":
            self.tx_count += 1
            self.open[evse] = self.tx_count
            self.connectors[evse] = 1 if self.world.version == "1.6" else self.world.random.choice((1, 2))
        connector = self.connectors[evse]
        tx, key, wh = self.open[evse], self.stamp(), self.register[evse]
        if self.world.version == "1.6":
            sample = [{"timestamp": key, "sampledValue": [{"value": str(wh)}]}]
            payload = {
                "start": {"connectorId": evse, "idTag": f"T{tx}", "meterStart": wh, "timestamp": key},
                "update": {"connectorId": evse, "transactionId": None, "meterValue": sample},
                "stop": {"transactionId": None, "meterStop": wh, "timestamp": key},
            }[kind]
        else:
            payload = {
                "eventType": {"start": "Started", "update": "Updated", "stop": "Ended"}[kind],
                "timestamp": key,
                "triggerReason": "MeterValuePeriodic" if kind == "update" else "RemoteStop",
                "seqNo": self.sequence[tx],
                "transactionInfo": {"transactionId": f"tx-{tx}"},
                "evse": {"id": evse, "connectorId": connector},
                "meterValue": [{"timestamp": key, "sampledValue": [{"value": wh}]}],
            }
            self.sequence[tx] += 1
        message = Message(key, kind, tx, evse, connector, payload)
        self.made.append(message)
        self.queue.append(message)
        if kind == "stop":
            del self.open[evse]

    def connect(self, boots=False):
        self.socket = SimpleNamespace(
            send=self.receive, close=self.closed, transport=SimpleNamespace(abort=lambda: None)
        )
        for message in self.queue:
            message.sent_s = None
        self.inbox.clear()
        self.world.link.opened(self.socket, f"ocpp{self.world.version}")
        if boots:
            self.boot()

    def receive(self, text):
        self.world.point("before_answer")
        self.inbox.append(text)
        self.world.point("after_answer")

    async def closed(self, *_):
        """We are shown out."""

    def disconnect(self):
        if self.socket is not None:
            self.socket = None
            self.world.link.closed()

    def say(self, action, payload, message_id):
        text = json.dumps([2, message_id, action, payload])
        self.world.link.do(lambda now: self.world.link.session.station_frame(text, now))

    def boot(self):
        self.say("BootNotification", boot_payload(self.world.version), f"b{next(self.ids)}")

    def turn(self):
        """Sends the first messages that are not acknowledged, again where an answer did not come."""
        actions = {"start": "StartTransaction", "update": "MeterValues", "stop": "StopTransaction"}
        for message in self.queue[: self.window]:
            if self.socket is None or (message.sent_s is not None and self.world.at_s - message.sent_s < RETRY_S):
                continue
            if message.payload.get("transactionId", 0) is None:
                if message.tx not in self.given:
                    return
                message.payload["transactionId"] = self.given[message.tx]
            if not message.message_id or self.world.random.random() < 0.5:
                message.message_id = f"m{next(self.ids)}"
            message.sent_s = self.world.at_s
            action = actions[message.kind] if self.world.version == "1.6" else "TransactionEvent"
            self.say(action, message.payload, message.message_id)

    def hear(self):
        """What came down."""
        while self.inbox:
            text = self.inbox.pop(0)
            message = json.loads(text)
            if message[0] == 2:
                answer = json.dumps([3, message[1], good_answer(message, self.world.version)])
                self.world.link.do(lambda now, answer=answer: self.world.link.session.station_frame(answer, now))
                continue
            told = next((m for m in self.queue if m.message_id == message[1]), None)
            if told is None:
                continue
            told.sent_s = self.world.at_s if message[0] == 4 else None
            if message[0] == 3:
                self.world.acknowledged(told)
                self.queue.remove(told)
                if told.kind == "start" and self.world.version == "1.6":
                    self.given[told.tx] = message[2]["transactionId"]


class Cloud:
    """Takes what comes; gives every start a new id, for it knows no repeats.

    Attributes:
        heard: Key, payload and transaction id of each message of a transaction.
        destroyed: By message: how many acknowledgements the chaos destroyed.
        left_out: Messages that an observer may never hear.
        in_hand: Messages whose acknowledgement the controller has not put on disk yet.
    """

    def __init__(self, world, upstream_id, first_id):
        self.world = world
        self.upstream_id = upstream_id
        self.up = True
        self.slow_s = 0.0
        self.loses = 0.0
        self.ids = itertools.count(first_id)
        self.uplink: Uplink | None = None
        self.heard: list[tuple[str, dict, object]] = []
        self.answers: list[tuple[float, str, str | None]] = []
        self.destroyed: Counter = Counter()
        self.in_hand: list[str] = []
        self.left_out: set[str] = set()

    def cut(self, uplink):
        """This connection is gone, and with it every answer on its way."""
        if uplink is None or uplink is not self.uplink:
            return
        uplink.connected = False
        for _, _, key in self.answers:
            if key is not None:
                self.destroyed[key] += 1
        self.answers.clear()

    def leave(self, notice):
        """It hangs up; ``notice``: the controller learns of it even where nothing was connected."""
        self.up = False
        uplink = self.uplink
        was = uplink is not None and uplink.connected
        self.cut(uplink)
        if uplink is not None and (was or notice):
            uplink.closed("away", False)

    def controller_died(self):
        for key in self.in_hand:
            self.destroyed[key] += 1
        self.in_hand.clear()
        self.cut(self.uplink)
        self.uplink = None

    def receive(self, text):
        message = json.loads(text)
        if message[0] != 2:
            return
        _, message_id, action, payload = message
        answer, key = {}, None
        if action in {"StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"}:
            values = payload.get("meterValue") or [{}]
            key = payload.get("timestamp") or values[0].get("timestamp")
            given = next(self.ids) if action == "StartTransaction" else payload.get("transactionId")
            self.heard.append((key, payload, given))
            if action == "StartTransaction":
                answer = {"transactionId": given, "idTagInfo": {"status": "Accepted"}}
        elif action == "BootNotification":
            answer = {"status": "Accepted", "currentTime": "2026-11-22T10:00:00Z", "interval": 300}
        elif action == "Heartbeat":
            answer = {"currentTime": "2026-11-22T10:00:00Z"}
        if key is not None and self.world.random.random() < self.loses:
            self.destroyed[key] += 1
            return
        due_s = self.world.at_s + self.slow_s * self.world.random.random()
        self.answers.append((due_s, json.dumps([3, message_id, answer]), key))

    def turn(self):
        due = [a for a in self.answers if a[0] <= self.world.at_s]
        self.answers = [a for a in self.answers if a[0] > self.world.at_s]
        for _, text, key in due:
            if key is not None:
                self.in_hand.append(key)
            self.uplink.frame(text)
        return bool(due)


@dataclass
class World:
    """One round.

    Attributes:
        crashes: How often the controller died.
        dropped: How many records were written but not synced then.
    """

    seed: int
    version: str = ""
    at_s: float = 100.0
    utc_shift: timedelta = timedelta()
    crashes: int = 0
    dropped: int = 0
    crash_at: tuple[str, int] | None = None

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.version = self.version or self.random.choice(["1.6", "2.0.1", "2.1"])
        self.evses = tuple(range(1, self.random.randint(2, 3) + 1))
        self.disk, self.station = Disk(self), Station(self)
        self.clouds = {PRIMARY: Cloud(self, "cloud", 9001)}
        if self.random.random() < 0.5:
            self.clouds[OBSERVER] = Cloud(self, OBSERVER, 700_001)
        self.names = itertools.count(1)
        self.room = self.random.choice((2000, 2000, 5))
        self.start()

    # the controller

    def now(self):
        return Now(self.at_s, START + timedelta(seconds=self.at_s) + self.utc_shift)

    def start(self):
        evses = [Evse(f"S1/{n}", "S1", "z", n, max_a=32.0, fallback_a=6.0, phases=3) for n in self.evses]
        observers = {name: frozenset() for name in self.clouds if name != PRIMARY}
        options = Options(upstream=True, offline_authorization="accept", observers=observers)
        ids = self.names
        session = StationSession(
            "S1", evses, 230.0, options, lambda: f"ours-{next(ids)}", self.disk.next_transaction_id,
            Shared(Room(per_station=self.room)),
        )  # fmt: skip
        session.restore(
            self.disk.registrations().get("S1"), self.disk.grants(), self.disk.open_sessions(),
            lambda name: self.disk.load_state(kept_key("S1", name)), self.now(),
            self.disk.journal().get("S1", ()), self.disk.id_maps().get("S1", ()),
        )  # fmt: skip
        self.tasks = Tasks()
        nothing = lambda *_: None  # noqa: E731 - listeners that do not listen
        self.link = StationLink(session, self.clouds, self.disk, self.now, nothing, nothing, nothing, nothing)
        self.link._tasks = self.tasks  # it runs: what waits for no disk goes at once

    def point(self, name):
        """A place where the controller may die."""
        if self.crash_at is not None and self.crash_at[0] == name:
            left = self.crash_at[1] - 1
            self.crash_at = (name, left) if left else None
            if not left:
                raise Crash

    def crash(self):
        """Everything that is not synced is gone, and every connection."""
        self.crashes += 1
        self.crash_at = None
        self.disk.power_cut()
        for cloud in self.clouds.values():
            cloud.controller_died()
        self.lose_answer()
        self.station.socket = None
        self.start()

    def lose_answer(self):
        """What the station waits for will not come; where the ledger knows the message, its repeat is known too."""
        mine = [r for r in self.disk.records if getattr(r, "upstream_id", None) == "cloud"]
        texts = [r.text for r in mine if isinstance(r, JournalEntry)]
        starts = {r.start_key for r in mine if isinstance(r, IdMap)}
        for message in self.station.queue:
            is_start = self.version == "1.6" and message.kind == "start"
            start = start_key(V16().read("StartTransaction", message.payload)) if is_start else None
            known = start in starts or any(message.key in text for text in texts)
            if message.message_id and not known:
                self.clouds[PRIMARY].destroyed[message.key] += 1

    def alive(self, happens, *args):
        """Something happens; the controller may die of it."""
        try:
            happens(*args)
        except Crash:
            self.crash()

    async def settle(self):
        """Until nobody has anything to do at this instant; dies where it was told to."""
        try:
            for _ in range(200):
                while self.link._batches:
                    self.link._waits = True
                    await self.link._carry_out(self.link._batches.popleft(), self.tasks)
                self.link._waits = False
                if self.connect_clouds():
                    continue
                self.station.hear()
                self.station.turn()
                if self.link._batches or self.station.inbox:
                    continue
                turned = [cloud.turn() for cloud in self.clouds.values()]
                if not any(turned):
                    return
        except Crash:
            self.crash()

    def connect_clouds(self):
        """Whether a cloud has taken an uplink that was dialed."""
        dialed = [link for link, _ in self.link._uplinks.values()]
        new = False
        for cloud in self.clouds.values():
            if not self.link._unwritten:
                cloud.in_hand.clear()
            uplink = cloud.uplink
            if uplink in dialed and not uplink.connected and cloud.up:
                uplink.connected = new = True
                uplink.opened()
        return new

    async def pass_time(self, seconds, step=1.0):
        end = self.at_s + seconds
        while self.at_s < end:
            self.at_s = min(end, self.at_s + step)
            self.alive(self.link.rewrite)
            self.alive(self.link.do, self.link.session.tick)
            await self.settle()

    # what the station may be told

    def acknowledged(self, message):
        """I5: on disk here, or known to each cloud, before the station is told that it is taken."""
        for cloud in self.clouds.values():
            kept = any(
                isinstance(r, JournalEntry) and r.upstream_id == cloud.upstream_id and message.key in r.text
                for r in self.disk.records
            )
            told = any(key == message.key for key, _, _ in cloud.heard)
            left_out = not kept and not told and self.may_leave_out(cloud, message)
            if left_out:
                cloud.left_out.add(message.key)
            assert kept or told or left_out, f"acknowledged, but nowhere for {cloud.upstream_id}: {message}"

    def may_leave_out(self, cloud, message):
        """I11: an observer whose queue is beyond its bounds is told no more, in 1.6 not of the rest of a transaction either."""
        if cloud.upstream_id != OBSERVER:
            return False
        journal = self.link.session.clouds.legs[OBSERVER].journal
        started = {m.key for m in self.station.made if m.tx == message.tx and m.kind == "start"}
        unknown = self.version == "1.6" and started & cloud.left_out
        return unknown or len(journal) + len(journal.parked) >= HARD_FACTOR * self.room

    # the play

    async def step(self):
        dice = self.random.random()
        station, cloud = self.station, self.random.choice(list(self.clouds.values()))
        if dice < 0.34:
            for _ in range(self.random.randint(1, station.window)):
                evse = self.random.choice(self.evses)
                if evse not in station.open:
                    station.make("start", evse)
                else:
                    station.make(self.random.choice(("update", "update", "stop")), evse)
        elif dice < 0.44:
            if cloud.up:
                self.alive(cloud.leave, self.random.random() < 0.5)
            else:
                cloud.up = True
        elif dice < 0.48:
            cloud.slow_s = self.random.choice((0.0, 5.0, 15.0, 60.0))
        elif dice < 0.53:
            cloud.loses = self.random.choice((0.0, 0.3, 1.0))
        elif dice < 0.62:
            if station.socket is not None:
                self.alive(station.disconnect)
            else:
                self.alive(station.connect, self.random.random() < 0.6)
        elif dice < 0.66:
            self.disk.full = not self.disk.full
        elif dice < 0.69:
            self.utc_shift += self.random.choice((timedelta(hours=1), timedelta(hours=-1), timedelta(days=3650)))
            if abs(self.utc_shift) > timedelta(days=7000):
                self.utc_shift = timedelta()
        elif dice < 0.80:
            self.crash_at = (self.random.choice(CRASH_POINTS), self.random.randint(1, 3))
        elif dice < 0.83:
            self.crash()
        elif station.socket is not None:
            self.alive(station.say, "Heartbeat", {}, f"h{next(station.ids)}")
        if station.socket is None and self.random.random() < 0.7:
            self.alive(station.connect, self.random.random() < 0.5)
        await self.settle()
        await self.pass_time(self.random.choice((0.5, 2.0, 10.0, 40.0, 90.0)), step=5.0)

    async def plain(self):
        """A transaction that begins with the cloud, goes on without it and ends as it comes back."""
        for number, kind in enumerate(("start", "update", "update", "update", "stop", "start")):
            if self.station.socket is None:
                self.alive(self.station.connect)
            if number == 1:
                self.alive(self.clouds[PRIMARY].leave, True)
            self.clouds[PRIMARY].up = self.clouds[PRIMARY].up or number == 4
            self.station.make(kind, 1)
            await self.settle()
            await self.pass_time(70.0, step=5.0)

    async def heal(self):
        """All is well again; given time, everything is told."""
        self.crash_at = None
        self.disk.full = False
        for cloud in self.clouds.values():
            cloud.up, cloud.slow_s, cloud.loses = True, 0.0, 0.0
        for evse in list(self.station.open):
            self.station.make("stop", evse)
        for _ in range(400):
            if self.station.socket is None:
                self.station.connect(boots=True)
            await self.settle()
            await self.pass_time(10.0, step=2.0)
            legs = self.link.session.clouds.legs.values()
            if self.station.queue or any(leg.busy for leg in legs):
                continue
            if not any(leg.journal.parked for leg in legs):
                return
            self.alive(self.link.do, self.link.session.retry_refused)
        raise AssertionError(f"seed {self.seed}: not everything was told: {self.link.session.status()}")


async def play(seed, steps=30, version="", crash_at=None):
    """One round; gives the world for what it has counted.

    Args:
        seed: Decides everything.
        steps: How long the chaos lasts; 0 for one plain transaction, half of it without the cloud.
        version: The station's; left out: any.
        crash_at: Dies at this point when it is passed for the n-th time.
    """
    before = link_module.UpstreamLink, link_module.put
    link_module.UpstreamLink, link_module.put = Uplink, lambda socket, text: socket.send(text)
    try:
        world = World(seed, version)
        world.crash_at = crash_at
        world.alive(world.station.connect, True)
        await world.settle()
        for _ in range(steps):
            await world.step()
        if not steps:
            await world.plain()
        await world.heal()
        check(world)
        return world
    finally:
        link_module.UpstreamLink, link_module.put = before
