"""C1, C4 in virtual time: a day without the cloud, then everything told within the hour and nobody live made to wait."""

import heapq
import itertools
import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from cem.core.site import Evse
from cem.csms.actions import SendDown, SendUp
from cem.csms.moment import Now
from cem.csms.options import Options
from cem.csms.pace import REPLAY_PER_S, SITE_ROOM, Room, Shared
from cem.csms.session import StationSession
from tests.csms.rig import boot_payload, good_answer

START = datetime(2026, 11, 22, tzinfo=UTC)
DAY_S, HOUR_S, CLOUD_S = 86_400.0, 3600.0, 0.05
SESSIONS, SESSION_S, SAMPLE_S = 8, 5400.0, 60.0
FULL = 1000


class Peer:
    """A station, its session, and what the cloud heard of it."""

    def __init__(self, number, shared, ids):
        self.name = f"S{number}"
        self.version = ("1.6", "2.0.1")[number % 2]
        self.shift_s = number % 60
        evse = Evse(f"{self.name}/1", self.name, "z", 1, max_a=32.0, fallback_a=6.0, phases=3)
        options = Options(upstream=True, offline_authorization="accept")
        self.session = StationSession(
            self.name, [evse], 230.0, options, lambda: f"o{next(ids)}", lambda: next(ids), shared
        )
        self.asked = {}  # live CALLs that are not answered yet: when
        self.answers = {}
        self.waits_s = []
        self.heard = []
        self.expected = []
        self.samples = []
        self.count = 0
        self.given = 0

    def say(self, action, payload, now, *, live=False):
        self.count += 1
        message_id = f"m{self.count}"
        if live:
            self.asked[message_id] = now.s
        text = json.dumps([2, message_id, action, payload])
        return message_id, self.session.station_frame(text, now)


class Fleet:
    """All stations of a site under one clock."""

    def __init__(self, stations):
        ids = itertools.count(1)
        scale = stations / FULL
        self.shared = Shared(Room(per_site=int(SITE_ROOM * scale), stations=stations), REPLAY_PER_S * scale)
        self.peers = [Peer(n, self.shared, ids) for n in range(stations)]
        self.events = []
        self.order = itertools.count()
        self.now_s = 0.0

    @property
    def now(self):
        return Now(self.now_s, START + timedelta(seconds=self.now_s))

    def at(self, when_s, what, *args):
        heapq.heappush(self.events, (when_s, next(self.order), what, args))

    def until(self, end_s):
        while self.events and self.events[0][0] <= end_s:
            self.now_s, _, what, args = heapq.heappop(self.events)
            what(*args)
        self.now_s = end_s

    def take(self, peer, actions):
        for action in actions:
            if isinstance(action, SendDown):
                message = json.loads(action.text)
                if message[0] == 2:
                    answer = json.dumps([3, message[1], good_answer(message, peer.version)])
                    self.take(peer, peer.session.station_frame(answer, self.now))
                else:
                    peer.answers[message[1]] = message[2]
                    if message[1] in peer.asked:
                        peer.waits_s.append(self.now_s - peer.asked.pop(message[1]))
            elif isinstance(action, SendUp):
                self.cloud(peer, json.loads(action.text))

    def cloud(self, peer, message):
        if message[0] != 2:
            return
        _, message_id, action, payload = message
        answer = {}
        if action in {"StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"}:
            peer.heard.append((action, payload))
            if action == "StartTransaction":
                peer.given += 1
                answer = {"transactionId": 10**6 + peer.given, "idTagInfo": {"status": "Accepted"}}
        elif action == "Authorize":
            info = {"status": "Accepted"}
            answer = {"idTagInfo": info} if peer.version == "1.6" else {"idTokenInfo": info}
        elif action in {"Heartbeat", "BootNotification"}:
            answer = {"currentTime": "2026-11-23T00:00:00Z", "status": "Accepted", "interval": 300}
        text = json.dumps([3, message_id, answer])
        self.at(self.now_s + CLOUD_S, lambda: self.take(peer, peer.session.upstream_frame(text, self.now)))

    # what stations do

    def transaction(self, peer, number, length_s):
        """Start, a sample a minute, stop."""
        stamp, wh, tx = self.now.utc.isoformat(), 1000 * number, f"tx{number}"
        if peer.version == "1.6":
            payload = {"connectorId": 1, "idTag": "T", "meterStart": wh, "timestamp": stamp}
            message_id, actions = peer.say("StartTransaction", payload, self.now)
            self.take(peer, actions)
            # Live it is the cloud that answers, a moment later.
            self.at(self.now_s + 1.0, self.go_on, peer, number, length_s, message_id)
        else:
            self.take(peer, peer.say("TransactionEvent", event("Started", stamp, tx, 0, wh), self.now)[1])
            self.at(self.now_s + 1.0, self.go_on, peer, number, length_s, None)
        peer.expected.append(("start", number, wh))

    def go_on(self, peer, number, length_s, message_id):
        tx = f"tx{number}" if message_id is None else peer.answers[message_id]["transactionId"]
        samples = int(length_s // SAMPLE_S) - 1
        for sample in range(1, samples + 1):
            self.at(self.now_s + sample * SAMPLE_S, self.sample, peer, tx, sample, 1000 * number + sample)
        peer.samples.append((1000 * number + 1, 1000 * number + samples))
        self.at(self.now_s + length_s, self.stop, peer, tx, number, samples + 1)

    def sample(self, peer, tx, sequence, wh):
        stamp = self.now.utc.isoformat()
        if peer.version == "1.6":
            values = [{"timestamp": stamp, "sampledValue": [{"value": str(wh)}]}]
            payload = {"connectorId": 1, "transactionId": tx, "meterValue": values}
            self.take(peer, peer.say("MeterValues", payload, self.now)[1])
        else:
            self.take(peer, peer.say("TransactionEvent", event("Updated", stamp, tx, sequence, wh), self.now)[1])

    def stop(self, peer, tx, number, sequence):
        stamp, wh = self.now.utc.isoformat(), 1000 * number + 900
        if peer.version == "1.6":
            payload = {"transactionId": tx, "meterStop": wh, "timestamp": stamp}
            self.take(peer, peer.say("StopTransaction", payload, self.now)[1])
        else:
            self.take(peer, peer.say("TransactionEvent", event("Ended", stamp, tx, sequence, wh), self.now)[1])
        peer.expected.append(("stop", number, wh))

    def tick(self, every_s):
        first = int(self.now_s) % len(self.peers)
        for peer in self.peers[first:] + self.peers[:first]:
            self.take(peer, peer.session.tick(self.now))
        self.at(self.now_s + every_s(self.now_s), self.tick, every_s)

    def live(self, peer, number):
        token = {"idTag": "T"} if peer.version == "1.6" else {"idToken": {"idToken": "T", "type": "ISO14443"}}
        action, payload = ("Authorize", token) if number % 3 == 0 else ("Heartbeat", {})
        self.take(peer, peer.say(action, payload, self.now, live=True)[1])
        self.at(self.now_s + 60.0, self.live, peer, number + 1)


def event(kind, stamp, tx, sequence, wh):
    return {
        "eventType": kind, "timestamp": stamp, "seqNo": sequence, "transactionInfo": {"transactionId": tx},
        "triggerReason": "MeterValuePeriodic" if kind == "Updated" else "CablePluggedIn",
        "evse": {"id": 1, "connectorId": 1},
        "meterValue": [{"timestamp": stamp, "sampledValue": [{"value": wh}]}],
    }  # fmt: skip


def a_day_without_the_cloud(stations):
    """Gives the fleet after the hour in which the cloud was back, and when its queues were empty."""
    fleet = Fleet(stations)
    for peer in fleet.peers:
        fleet.take(peer, peer.session.station_opened(f"ocpp{peer.version}", fleet.now))
        fleet.take(peer, peer.session.upstream_closed(fleet.now))
        fleet.take(peer, peer.say("BootNotification", boot_payload(peer.version), fleet.now)[1])
        for number in range(SESSIONS):
            begins_s = 60 + peer.shift_s + number * (SESSION_S + 1800)
            fleet.at(begins_s, fleet.transaction, peer, number, SESSION_S)
    fleet.at(1.0, fleet.tick, lambda now_s: 600.0 if now_s < DAY_S - 600 else 0.5)
    fleet.until(DAY_S)
    waited = sum(len(peer.session.clouds.primary.journal) for peer in fleet.peers)
    for peer in fleet.peers:
        fleet.take(peer, peer.session.upstream_opened(fleet.now))
        fleet.at(DAY_S + peer.shift_s, fleet.live, peer, 0)
        fleet.at(DAY_S + 300 + 30 * peer.shift_s, fleet.transaction, peer, SESSIONS, 600.0)
    empty_s = None
    while fleet.now_s < DAY_S + HOUR_S:
        fleet.until(fleet.now_s + 10.0)
        if empty_s is None and not any(len(peer.session.clouds.primary.journal) for peer in fleet.peers):
            empty_s = fleet.now_s - DAY_S
    return fleet, waited, empty_s


def check(fleet, waited, empty_s):
    room = fleet.shared.room
    assert 0.8 * room.per_site <= waited <= 1.1 * room.per_site, "the queue is full, and bounded"
    assert empty_s is not None, "not told within the hour"
    assert empty_s < HOUR_S
    assert room.used == 0
    waits_s = [w for peer in fleet.peers for w in peer.waits_s]
    assert len(waits_s) > 55 * len(fleet.peers)
    assert max(waits_s) < 2.0, "a live message waited"
    assert not [a for peer in fleet.peers for a in peer.asked.values() if fleet.now_s - a > 2.0]
    for peer in fleet.peers:
        told = [e for e in map(boiled_down, peer.heard) if e[0] != "update"]
        assert [wh for _, wh in told] == [wh for _, _, wh in peer.expected]
        samples = [e[1] for e in map(boiled_down, peer.heard) if e[0] == "update"]
        assert samples == sorted(set(samples))
        for first, last in peer.samples:
            assert {first, last} <= set(samples)
    return Counter(kind for peer in fleet.peers for kind, _ in map(boiled_down, peer.heard))


def boiled_down(message):
    action, payload = message
    if action == "StartTransaction":
        return "start", payload["meterStart"]
    if action == "StopTransaction":
        return "stop", payload["meterStop"]
    wh = int(payload["meterValue"][0]["sampledValue"][0]["value"])
    kind = payload.get("eventType", "Updated")
    return {"Started": "start", "Ended": "stop", "Updated": "update"}[kind], wh


def test_c1_c4_a_day_without_the_cloud_is_told_within_an_hour_and_nobody_live_waits():
    check(*a_day_without_the_cloud(16))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_c1_c4_a_day_of_a_thousand_stations():
    fleet, waited, empty_s = a_day_without_the_cloud(FULL)
    counts = check(fleet, waited, empty_s)
    waits_s = sorted(w for peer in fleet.peers for w in peer.waits_s)
    print(
        f"{waited} messages waited, told in {empty_s:.0f} s; live p99 {waits_s[len(waits_s) * 99 // 100]:.2f} s; {counts}"
    )
