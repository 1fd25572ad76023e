"""Bytes become a life of two stations with their CSMSs: frames good, odd and broken on every leg, and time.

``play`` raises where a session does, where it says what is no OCPP-J frame, where one station's frames leave a trace at
the other, or where something grows beyond its bound. Used by hypothesis in every run and by atheris in ``make fuzz``.
"""

import copy
import gc
import itertools
import json
from collections import deque
from datetime import UTC, datetime, timedelta
from types import CellType, ModuleType

from cem.core.site import Evse
from cem.csms.actions import PRIMARY, Persist, SendDown, SendUp
from cem.csms.frames import parse
from cem.csms.moment import Now
from cem.csms.options import Options
from cem.csms.pace import Room, Shared
from cem.csms.session import StationSession
from cem.csms.versions import DIALECTS

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
OBSERVER = "refund"
ROOM = 20
MOST = 10_000
"""Things that two sessions may hold between them, whatever is said; each of their queues and memories is far smaller."""

CONTAINERS = (dict, list, tuple, set, frozenset, deque)
LEAVES = (type, str, bytes, int, float, ModuleType, CellType)

STAMP = "2026-11-22T10:00:00Z"
SAMPLES = [{"timestamp": STAMP, "sampledValue": [{"value": "16,0", "measurand": "Current.Import", "phase": "L1"}]}]
SCHEDULE = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 9.0}], "duration": 60}
PROFILE_16 = {
    "chargingProfileId": 1, "stackLevel": 1, "chargingProfilePurpose": "TxProfile", "chargingProfileKind": "Relative",
    "chargingSchedule": SCHEDULE, "transactionId": 1,
}  # fmt: skip
PROFILE_2 = {
    "id": 1, "stackLevel": 1, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute",
    "chargingSchedule": [{"id": 1, "startSchedule": STAMP, **SCHEDULE}], "transactionId": "tx",
}  # fmt: skip
TOKEN = {"idToken": "T", "type": "ISO14443"}
STATION_SAYS = [
    ("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M", "reason": "PowerUp",
                          "chargingStation": {"vendorName": "V", "model": "M"}}),
    ("Heartbeat", {}),
    ("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Charging", "evseId": 1,
                            "connectorStatus": "Occupied", "timestamp": STAMP}),
    ("Authorize", {"idTag": "T", "idToken": TOKEN}),
    ("StartTransaction", {"connectorId": 1, "idTag": "T", "meterStart": 1, "timestamp": STAMP}),
    ("MeterValues", {"connectorId": 1, "evseId": 1, "transactionId": 1, "meterValue": SAMPLES}),
    ("StopTransaction", {"transactionId": 1, "meterStop": 9, "timestamp": STAMP, "idTag": "T"}),
    ("TransactionEvent", {"eventType": "Started", "timestamp": STAMP, "triggerReason": "Authorized", "seqNo": 0,
                          "transactionInfo": {"transactionId": "tx", "chargingState": "Charging"},
                          "evse": {"id": 1, "connectorId": 1}, "idToken": TOKEN, "meterValue": SAMPLES}),
    ("TransactionEvent", {"eventType": "Updated", "timestamp": STAMP, "triggerReason": "ChargingStateChanged",
                          "seqNo": 1, "transactionInfo": {"transactionId": "tx"}, "meterValue": SAMPLES}),
    ("TransactionEvent", {"eventType": "Ended", "timestamp": STAMP, "triggerReason": "RemoteStop", "seqNo": 2,
                          "transactionInfo": {"transactionId": "tx", "stoppedReason": "Local"}}),
    ("SecurityEventNotification", {"type": "StartupOfTheDevice", "timestamp": STAMP}),
    ("NotifyEVChargingNeeds", {"evseId": 1, "chargingNeeds": {"requestedEnergyTransfer": "AC_three_phase"}}),
    ("DataTransfer", {"vendorId": "v"}),
    ("SignCertificate", {"csr": "x"}),
    ("Nonsense", {}),
]  # fmt: skip
CLOUD_SAYS = [
    ("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": PROFILE_16, "evseId": 1,
                            "chargingProfile": PROFILE_2}),
    ("ClearChargingProfile", {"id": 1, "chargingProfileId": 1, "chargingProfileCriteria": {"stackLevel": 1}}),
    ("GetCompositeSchedule", {"connectorId": 1, "evseId": 1, "duration": 600, "chargingRateUnit": "W"}),
    ("GetChargingProfiles", {"requestId": 1, "chargingProfile": {"stackLevel": 1}}),
    ("RemoteStartTransaction", {"idTag": "T", "connectorId": 1, "chargingProfile": PROFILE_16}),
    ("RequestStartTransaction", {"idToken": TOKEN, "remoteStartId": 1, "evseId": 1, "chargingProfile": PROFILE_2}),
    ("RemoteStopTransaction", {"transactionId": 1}),
    ("RequestStopTransaction", {"transactionId": "tx"}),
    ("GetTransactionStatus", {"transactionId": "tx"}),
    ("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "60"}),
    ("GetConfiguration", {"key": ["MeterValueSampleInterval"]}),
    ("SetVariables", {"setVariableData": [{"component": {"name": "SampledDataCtrlr"},
                                           "variable": {"name": "TxUpdatedInterval"}, "attributeValue": "60"}]}),
    ("GetVariables", {"getVariableData": [{"component": {"name": "X"}, "variable": {"name": "Y"}}]}),
    ("SendLocalList", {"listVersion": 1, "updateType": "Full",
                       "localAuthorizationList": [{"idTag": "T", "idTagInfo": {"status": "Accepted"}}]}),
    ("CustomerInformation", {"requestId": 1, "report": False, "clear": True, "idToken": TOKEN}),
    ("Reset", {"type": "Soft"}),
    ("UpdateFirmware", {"location": "ftp://x/y", "retrieveDate": STAMP}),
    ("InstallCertificate", {"certificateType": "CSMSRootCertificate", "certificate": "x"}),
    ("SetNetworkProfile", {"configurationSlot": 1, "connectionData": {}}),
    ("UpdateDynamicSchedule", {"chargingProfileId": 1, "scheduleUpdate": {"limit": 7}}),
    ("TriggerMessage", {"requestedMessage": "Heartbeat"}),
    ("Nonsense", {}),
]  # fmt: skip
ANSWERS = [
    {}, {"status": "Accepted"}, {"status": "Rejected"}, {"transactionId": 1, "idTagInfo": {"status": "Accepted"}},
    {"transactionId": 2, "idTagInfo": {"status": "Blocked", "expiryDate": STAMP, "parentIdTag": "P"}},
    {"idTokenInfo": {"status": "Accepted", "cacheExpiryDateTime": STAMP, "groupIdToken": TOKEN}},
    {"status": "Accepted", "currentTime": STAMP, "interval": 1},
    {"setVariableResult": [{"attributeStatus": "Accepted", "component": {"name": "X"}, "variable": {"name": "Y"}}]},
    {"getVariableResult": [{"attributeStatus": "Accepted", "attributeValue": "1", "component": {"name": "X"},
                            "variable": {"name": "TxUpdatedInterval"}}]},
    {"configurationKey": [{"key": "MeterValueSampleInterval", "readonly": False, "value": "10"}]},
]  # fmt: skip
ODD = [
    None, True, False, 0, 1, 2, -1, 7, 10**6, 2**31, 2**63, -(2**64), 1.5, 1e308, -0.0, "", "1", "16,0", "tx", "T", "NaN",
    "L1", "W", "A", "x" * 300, "\u0000", "\ud7ff\U0001f50c", STAMP, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00",
    "Started", "Ended", "Accepted", "Invalid", "TxProfile", "ChargingStationMaxProfile", "Dynamic", "Recurring", "Daily",
    [], {}, [[]], [None], [{}], [1, "a"], {"a": {"b": []}}, {"customData": {"vendorId": "v"}},
]  # fmt: skip


class Dice:
    """Decisions out of bytes; zeros once they are used up."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def __bool__(self):
        return self.at < len(self.data)

    def byte(self):
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def one_of(self, things):
        return things[self.byte() % len(things)]

    def text(self):
        length = self.byte()
        piece = self.data[self.at : self.at + length]
        self.at += length
        return piece.decode("utf-8", "replace")


class Station:
    """One station with its session and its CSMSs; nobody answers but by dice."""

    def __init__(self, name, version, shared, ids):
        self.name, self.version = name, version
        self.evses = [Evse(f"{name}/{n}", name, "z", n, max_a=32.0, fallback_a=6.0, phases=3) for n in (1, 2)]
        options = Options(
            upstream=True, offline_authorization="accept", on_rejected="stop",
            observers={OBSERVER: frozenset({"TriggerMessage", "GetTransactionStatus"})},
        )  # fmt: skip
        self.session = StationSession(
            name, self.evses, 230.0, options, lambda: f"{name}-{next(ids)}", lambda: next(ids), shared
        )
        self.asked = {"": [], OBSERVER: [], "station": []}

    def check(self, actions):
        """What the session does is well formed and concerns nobody else."""
        for action in actions:
            match action:
                case SendDown(text):
                    frame = parse(text)
                    if frame.kind.value == 2:
                        self.asked["station"] = [*self.asked["station"][-5:], frame.message_id]
                case SendUp(text, upstream):
                    frame = parse(text)
                    if frame.kind.value == 2:
                        self.asked[upstream] = [*self.asked[upstream][-5:], frame.message_id]
                case Persist(records):
                    for record in records:
                        evse = getattr(record, "evse_id", None) or f"{self.name}/"
                        owner = getattr(record, "station_id", None) or evse.split("/")[0]
                        assert owner == self.name, f"{self.name} writes a record of {owner}"
                case _:
                    pass


class Life:
    """Two stations under one clock."""

    def __init__(self, dice):
        self.dice = dice
        self.at_s = 100.0
        ids = itertools.count(1)
        self.shared = Shared(Room(per_station=ROOM, per_site=2 * ROOM, stations=2))
        versions = [name.removeprefix("ocpp") for name in DIALECTS]
        self.stations = [Station(name, dice.one_of(versions), self.shared, ids) for name in ("A", "B")]
        self.use(self.stations[1], self.stations[1].session.station_opened, f"ocpp{self.stations[1].version}")

    @property
    def now(self):
        return Now(self.at_s, START + timedelta(seconds=self.at_s))

    def use(self, station, step, *args, **more):
        """One step of one session; the other one notices nothing."""
        other = next(s for s in self.stations if s is not station)
        before = seen(other)
        station.check(step(*args, self.now, **more))
        assert seen(other) == before, f"what {station.name} was told is seen at {other.name}"

    def odd(self, value, depth=0):
        """The same with something else in it."""
        dice = self.dice
        if isinstance(value, dict) and value and depth < 6 and dice.byte() % 4:
            key = dice.one_of(sorted(value))
            changed = dict(value)
            what = dice.byte() % 8
            if what == 0:
                del changed[key]
            elif what == 1:
                changed[dice.text()[:40]] = dice.one_of(ODD)
            else:
                changed[key] = self.odd(value[key], depth + 1)
            return changed
        if isinstance(value, list) and value and depth < 6 and dice.byte() % 4:
            at = dice.byte() % len(value)
            return [*value[:at], self.odd(value[at], depth + 1), *value[at + 1 :]] * (1 + dice.byte() % 3)
        return dice.text() if dice.byte() % 8 == 0 else copy.deepcopy(dice.one_of(ODD))

    def frame(self, station, leg):
        """Something to say on a leg: what is usual there, maybe a little odd; or anything at all."""
        dice = self.dice
        how = dice.byte() % 16
        if how == 0:
            return dice.text()
        if how < 10:
            action, payload = dice.one_of(STATION_SAYS if leg == "station" else CLOUD_SAYS)
            message = [
                2,
                dice.one_of(["1", "2", "3", f"m{self.dice.at}", *station.asked["station"], ""]),
                action,
                payload,
            ]
        elif how < 14:
            message = [3, dice.one_of([*station.asked[leg], "1"]), dice.one_of(ANSWERS)]
        elif how == 14:
            message = [
                4,
                dice.one_of([*station.asked[leg], "1"]),
                dice.one_of(["NotSupported", "InternalError"]),
                "",
                {},
            ]
        else:
            message = [dice.one_of([5, 6]), dice.one_of(["1", "-1"]), "NotifyPeriodicEventStream", {}]
        while dice.byte() % 3 == 0 and dice:
            at = dice.byte() % len(message)
            if isinstance(message[at], dict):
                message[at] = self.odd(message[at])
            elif dice.byte() % 8 == 0:
                message[at] = dice.one_of(ODD)
        text = json.dumps(
            message, separators=dice.one_of([(",", ":"), (", ", ": ")]), ensure_ascii=dice.byte() % 2 == 0
        )
        if dice.byte() % 16 == 0:
            at = dice.byte() % (len(text) + 1)
            text = text[:at] + dice.text() + text[at + dice.byte() % 4 :]
        return text

    def step(self):
        """Something happens."""
        dice = self.dice
        station = self.stations[dice.byte() % 4 == 0]
        session = station.session
        what = dice.byte() % 32
        if what < 14:
            self.use(station, session.station_frame, self.frame(station, "station"))
        elif what < 22:
            self.cloud(station, PRIMARY)
        elif what < 24:
            self.cloud(station, OBSERVER)
        elif what < 26:
            self.at_s += dice.one_of((0.5, 5.0, 10.0, 30.0, 130.0, 4000.0))
            self.use(station, session.tick)
        elif what == 26:
            self.use(station, session.station_opened, f"ocpp{station.version}")
        elif what == 27:
            self.use(station, session.station_closed)
        elif what == 28:
            self.leg(station, session.upstream_opened)
        elif what == 29:
            self.leg(station, session.upstream_closed)
        elif what == 30:
            amps = dice.one_of((0.0, 6.0, 16.0, 32.0))
            self.use(station, lambda now: session.set_limit(dice.one_of((1, 2)), amps, now))
        else:
            self.use(station, session.retry_refused)

    def cloud(self, station, leg):
        text = self.frame(station, leg)
        self.use(station, lambda now: station.session.upstream_frame(text, now, leg))

    def leg(self, station, step):
        name = self.dice.one_of((PRIMARY, OBSERVER))
        self.use(station, lambda now: step(now, name))


def seen(station):
    """What of a station anybody can see; nothing in it moves by time alone."""
    session = station.session
    return repr((session.status(), session.evse_states(0.0)))


def held(root):
    """How much hangs on a session, entries of containers counted: what grows without bound shows here."""
    found, todo, count = {id(root)}, [root], 0
    while todo:
        thing = todo.pop()
        count += len(thing) if isinstance(thing, CONTAINERS) else 1
        for part in gc.get_referents(thing):
            if id(part) not in found and not isinstance(part, LEAVES) and not callable(part):
                found.add(id(part))
                todo.append(part)
    return count


def play(data, bound=None):
    """One life of so many bytes."""
    life = Life(Dice(data))
    while life.dice:
        life.step()
    if bound is not None:
        count = sum(held(station.session) for station in life.stations)
        assert count < bound, f"{count} things are held after {len(data)} bytes"
    return life
