"""One station, our controller and the cloud in one process, under every fault at once; and the judge of what they saw.

The controller is the real ``StationLink`` with its session; sockets, the disk and time are models. The disk has an
fsync: what was not synced when the controller dies is gone. The controller dies at named points (``CRASH_POINTS``).
"""

import itertools
import json
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import adapters.ocpp.link as link_module
from adapters.ocpp.link import StationLink
from cem.core.site import Evse
from cem.csms.actions import PRIMARY
from cem.csms.facts import start_key
from cem.csms.moment import Now
from cem.csms.pace import Room, Shared
from cem.csms.records import IdMap, JournalEntry, JournalMark, kept_key
from cem.csms.session import Options, StationSession
from cem.csms.v16 import V16
from cem.errors import CemError
from tests.csms.rig import boot_payload, good_answer
from tests.fakes import MemoryStore

CRASH_POINTS = ("before_sync", "after_sync", "before_answer", "after_answer", "before_up", "after_up")
START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
RETRY_S = 35.0


class Crash(BaseException):
    """The controller is killed here."""


class Disk(MemoryStore):
    """What is synced survives; nothing else does."""

    full = False

    def __init__(self, world):
        super().__init__()
        self.world = world

    async def commit(self, records):
        self.world.point("before_sync")
        if self.full:
            raise CemError("disk is full")
        self.records += records
        self.world.point("after_sync")


class Uplink:
    """Stands for ``UpstreamLink``: a connection to the model cloud."""

    world = None  # the world that is running

    def __init__(self, upstream, station_id, subprotocol, *, opened, closed, frame, **_):
        self.subprotocol, self.opened, self.closed, self.frame = subprotocol, opened, closed, frame
        self.connected = False
        self.world.uplink = self

    async def run(self):
        """Never run here."""

    def send(self, text):
        if self.connected:
            self.world.point("before_up")
            self.world.cloud.receive(text, self)
            self.world.point("after_up")


class Tasks:
    """Takes the uplink's task; its end is the connection's end."""

    def __init__(self, world):
        self.world = world

    def create_task(self, coroutine):
        coroutine.close()
        uplink = self.world.uplink
        return SimpleNamespace(cancel=lambda: self.world.cut(uplink))


@dataclass
class Message:
    """One transaction message of the station; ``key`` is its own time, which stands nowhere else."""

    key: str
    kind: str
    tx: int
    evse: int
    payload: dict
    message_id: str = ""
    acknowledged: bool = False


class Station:
    """Keeps every transaction message until it is acknowledged, in order, over reboots."""

    def __init__(self, world):
        self.world = world
        self.made: list[Message] = []
        self.queue: list[Message] = []
        self.given: dict[int, object] = {}
        self.open: dict[int, int] = {}
        self.register = Counter({1: 1000, 2: 50_000})
        self.tx_count = 0
        self.ids = itertools.count(1)
        self.sent_s = None
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
                "evse": {"id": evse, "connectorId": 1},
                "meterValue": [{"timestamp": key, "sampledValue": [{"value": wh}]}],
            }
            self.sequence[tx] += 1
        message = Message(key, kind, tx, evse, payload)
        self.made.append(message)
        self.queue.append(message)
        if kind == "stop":
            del self.open[evse]

    def connect(self):
        self.socket = SimpleNamespace(
            send=self.receive, close=self.closed, transport=SimpleNamespace(abort=lambda: None)
        )
        self.sent_s = None
        self.inbox.clear()
        self.world.link.opened(self.socket, f"ocpp{self.world.version}")

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
        """Sends the first message that is not acknowledged, again where its answer did not come."""
        if self.socket is None or not self.queue:
            return
        if self.sent_s is not None and self.world.at_s - self.sent_s < RETRY_S:
            return
        head = self.queue[0]
        if not head.message_id or self.world.random.random() < 0.5:
            head.message_id = f"m{next(self.ids)}"
        if head.payload.get("transactionId", 0) is None:
            if head.tx not in self.given:
                return
            head.payload["transactionId"] = self.given[head.tx]
        self.sent_s = self.world.at_s
        actions = {"start": "StartTransaction", "update": "MeterValues", "stop": "StopTransaction"}
        self.say(
            actions[head.kind] if self.world.version == "1.6" else "TransactionEvent", head.payload, head.message_id
        )

    def hear(self):
        """What came down."""
        while self.inbox:
            text = self.inbox.pop(0)
            message = json.loads(text)
            if message[0] == 2:
                answer = json.dumps([3, message[1], good_answer(message, self.world.version)])
                self.world.link.do(lambda now, answer=answer: self.world.link.session.station_frame(answer, now))
            elif self.queue and message[1] == self.queue[0].message_id:
                head = self.queue[0]
                self.sent_s = self.world.at_s if message[0] == 4 else None
                if message[0] == 3:
                    self.world.acknowledged(head)
                    head.acknowledged = True
                    self.queue.pop(0)
                    if head.kind == "start" and self.world.version == "1.6":
                        self.given[head.tx] = message[2]["transactionId"]


class Cloud:
    """Takes what comes; gives every start a new id, for it knows no repeats."""

    def __init__(self, world):
        self.world = world
        self.up = True
        self.slow_s = 0.0
        self.loses = 0.0
        self.ids = itertools.count(9001)
        self.heard: list[tuple[str, dict, object]] = []  # key, payload, id given
        self.answers: list[tuple[float, Uplink, str, str | None]] = []

    def receive(self, text, uplink):
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
            self.world.destroyed[key] += 1
            return
        due_s = self.world.at_s + self.slow_s * self.world.random.random()
        self.answers.append((due_s, uplink, json.dumps([3, message_id, answer]), key))

    def turn(self):
        due = [a for a in self.answers if a[0] <= self.world.at_s]
        self.answers = [a for a in self.answers if a[0] > self.world.at_s]
        for _, uplink, text, key in due:
            if key is not None:
                self.world.in_hand.append(key)
            uplink.frame(text)
        return bool(due)


@dataclass
class World:
    """One round.

    Attributes:
        destroyed: By message: how many acknowledgements the chaos destroyed.
        in_hand: Messages whose acknowledgement by the cloud the controller has not put on disk yet.
    """

    seed: int
    version: str = ""
    at_s: float = 100.0
    utc_shift: timedelta = timedelta()
    destroyed: Counter = field(default_factory=Counter)
    in_hand: list[str] = field(default_factory=list)
    crashes: int = 0
    crash_at: tuple[str, int] | None = None
    uplink: Uplink | None = None

    def __post_init__(self):
        self.random = random.Random(self.seed)
        self.version = self.version or self.random.choice(["1.6", "2.0.1", "2.1"])
        self.disk, self.station, self.cloud = Disk(self), Station(self), Cloud(self)
        self.names = itertools.count(1)
        self.room = self.random.choice((2000, 2000, 5))
        Uplink.world = self
        self.start()

    # the controller

    def now(self):
        return Now(self.at_s, START + timedelta(seconds=self.at_s) + self.utc_shift)

    def start(self):
        evses = [Evse(f"S1/{n}", "S1", "z", n, max_a=32.0, fallback_a=6.0, phases=3) for n in (1, 2)]
        options = Options(upstream=True, offline_authorization="accept")
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
        self.tasks = Tasks(self)
        nothing = lambda *_: None  # noqa: E731 - three listeners that do not listen
        self.link = StationLink(session, {PRIMARY: SimpleNamespace()}, self.disk, self.now, nothing, nothing, nothing)

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
        for key in self.in_hand:
            self.destroyed[key] += 1
        self.in_hand.clear()
        self.cut(self.uplink)
        self.uplink = None
        self.lose_answer()
        self.station.socket = None
        self.start()

    def lose_answer(self):
        """What the station waits for will not come; where the ledger knows the message, its repeat is known too."""
        if not self.station.queue or not self.station.queue[0].message_id:
            return
        head = self.station.queue[0]
        start = start_key(V16().read("StartTransaction", head.payload)) if head.kind == "start" else None
        for record in self.disk.records:
            if isinstance(record, JournalEntry) and head.key in record.text:
                return
            if isinstance(record, IdMap) and start is not None and record.start_key == start:
                return
        self.destroyed[head.key] += 1

    def cut(self, uplink):
        if uplink is not None:
            uplink.connected = False
            for _, _, _, key in [a for a in self.cloud.answers if a[1] is uplink]:
                if key is not None:
                    self.destroyed[key] += 1
            self.cloud.answers = [a for a in self.cloud.answers if a[1] is not uplink]

    async def settle(self):
        """Until nobody has anything to do at this instant; dies where it was told to."""
        try:
            for _ in range(200):
                while self.link._batches:
                    await self.link._carry_out(self.link._batches.popleft(), self.tasks)
                if not self.link._unwritten:
                    self.in_hand.clear()
                uplink = self.uplink
                if uplink is not None and not uplink.connected and self.cloud.up and self.dialed(uplink):
                    uplink.connected = True
                    uplink.opened()
                    continue
                self.station.hear()
                self.station.turn()
                if self.link._batches:
                    continue
                if not self.cloud.turn():
                    return
        except Crash:
            self.crash()

    def dialed(self, uplink):
        return any(link is uplink for link, _ in self.link._uplinks.values())

    async def pass_time(self, seconds, step=1.0):
        end = self.at_s + seconds
        while self.at_s < end:
            self.at_s = min(end, self.at_s + step)
            self.link.rewrite()
            self.link.do(self.link.session.tick)
            await self.settle()

    # what the station may be told

    def acknowledged(self, message):
        """I5: on disk here, or known to the cloud, before the station is told that it is taken."""
        on_disk = any(isinstance(r, JournalEntry) and message.key in r.text for r in self.disk.records)
        assert on_disk or any(key == message.key for key, _, _ in self.cloud.heard), f"{message} is nowhere"

    # the play

    async def step(self):
        dice = self.random.random()
        station, cloud = self.station, self.cloud
        if dice < 0.34:
            evse = self.random.choice((1, 2))
            if evse not in station.open:
                station.make("start", evse)
            else:
                station.make(self.random.choice(("update", "update", "stop")), evse)
        elif dice < 0.44:
            cloud.up = not cloud.up
            if not cloud.up and self.uplink is not None:
                uplink = self.uplink
                was = uplink.connected
                self.cut(uplink)
                if was or self.random.random() < 0.5:
                    uplink.closed("away", False)
        elif dice < 0.48:
            cloud.slow_s = self.random.choice((0.0, 5.0, 15.0))
        elif dice < 0.53:
            cloud.loses = self.random.choice((0.0, 0.3, 1.0))
        elif dice < 0.62:
            if station.socket is not None:
                station.disconnect()
            else:
                station.connect()
                if self.random.random() < 0.6:
                    station.boot()
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
            station.say("Heartbeat", {}, f"h{next(station.ids)}")
        if station.socket is None and self.random.random() < 0.7:
            station.connect()
            if self.random.random() < 0.5:
                station.boot()
        await self.settle()
        await self.pass_time(self.random.choice((0.5, 2.0, 10.0, 40.0, 90.0)), step=5.0)

    async def plain(self):
        """A transaction that begins with the cloud, goes on without it and ends as it comes back."""
        for number, kind in enumerate(("start", "update", "update", "update", "stop", "start")):
            if self.station.socket is None:
                self.station.connect()
            if number == 1:
                self.cloud.up = False
                uplink = self.uplink
                self.cut(uplink)
                if uplink is not None:
                    uplink.closed("away", False)
            self.cloud.up = self.cloud.up or number == 4
            self.station.make(kind, 1)
            await self.settle()
            await self.pass_time(70.0, step=5.0)

    async def heal(self):
        """All is well again; given time, everything is told."""
        self.crash_at = None
        self.cloud.up, self.cloud.slow_s, self.cloud.loses, self.disk.full = True, 0.0, 0.0, False
        for evse in list(self.station.open):
            self.station.make("stop", evse)
        for _ in range(400):
            if self.station.socket is None:
                self.station.connect()
                self.station.boot()
            await self.settle()
            await self.pass_time(10.0, step=2.0)
            if not self.station.queue and not self.link.session.clouds.primary.busy:
                return
        raise AssertionError(f"seed {self.seed}: not everything was told: {self.link.session.status()}")

    def judge(self):
        """The histories of the station, the ledger and the cloud, against each other."""
        made = {message.key: message for message in self.station.made}
        heard = Counter(key for key, _, _ in self.cloud.heard)
        entries = {e.seq: e.text for e in self.disk.records if isinstance(e, JournalEntry)}
        thinned = [entries[m.seq] for m in self.disk.records if isinstance(m, JournalMark) and m.state == "dropped"]
        for message in self.station.made:
            kept = heard[message.key] or any(message.key in text for text in thinned)
            assert kept, f"lost: {message}"
        by_tx = defaultdict(list)
        for message in self.station.made:
            by_tx[message.tx].append(message)
        for messages in by_tx.values():
            samples = [m for m in messages if m.kind == "update"]
            due = [m for m in messages if m.kind != "update"] + samples[:1] + samples[-1:]
            lost = [m for m in due if not heard[m.key]]
            assert not lost, f"lost: {lost}"
        for key, times in heard.items():
            assert times <= 1 + self.destroyed[key], f"{times} times, {self.destroyed[key]} destroyed: {made[key]}"
        self.judge_order(made)
        self.judge_energy(made)
        states = Counter(e.state for e in self.disk.journal().get("S1", ()))
        assert set(states) <= {"delivered"}, states

    def judge_order(self, made):
        first: dict[int, list[str]] = defaultdict(list)
        for key, _, _ in self.cloud.heard:
            if key not in first[made[key].evse]:
                first[made[key].evse].append(key)
        for keys in first.values():
            assert keys == sorted(keys), f"out of order: {keys}"

    def judge_energy(self, made):
        begun, total = {}, 0
        ended = {}
        for key, payload, given in self.cloud.heard:
            message = made[key]
            if self.version == "1.6":
                if message.kind == "start":
                    begun[given] = message
                    continue
                assert begun[given].tx == message.tx, "told under another transaction's id"
                said = {k: v for k, v in payload.items() if k != "transactionId"}
                assert said == {k: v for k, v in message.payload.items() if k != "transactionId"}
                if message.kind == "stop":
                    ended[message.tx] = message.payload["meterStop"] - begun[given].payload["meterStart"]
            else:
                assert {k: v for k, v in payload.items() if k != "offline"} == message.payload
                value = payload["meterValue"][0]["sampledValue"][0]["value"]
                if message.kind == "start":
                    begun[message.tx] = value
                elif message.kind == "stop":
                    ended[message.tx] = value - begun[message.tx]
        for message in self.station.made:
            wh = self.wh(message)
            total += {"start": -wh, "stop": wh}.get(message.kind, 0)
        assert sum(ended.values()) == total

    def wh(self, message):
        if self.version != "1.6":
            return message.payload["meterValue"][0]["sampledValue"][0]["value"]
        return message.payload.get("meterStart") or message.payload.get("meterStop") or 0


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
        world.station.connect()
        world.station.boot()
        await world.settle()
        for _ in range(steps):
            await world.step()
        if not steps:
            await world.plain()
        await world.heal()
        world.judge()
        return world
    finally:
        link_module.UpstreamLink, link_module.put = before
