"""A station session with nothing around it: frames in, what it sends out; time is moved by hand."""

import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cem.core.site import Evse
from cem.csms.actions import PRIMARY, Action, Emit, News, Persist, SendDown, SendUp
from cem.csms.moment import Now
from cem.csms.options import Options
from cem.csms.pace import Shared
from cem.csms.records import Record, SessionUpdate, kept_key
from cem.csms.session import StationSession
from tests.fakes import MemoryStore

START_UTC = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def evse(number=1, **kwargs):
    values = {"max_a": 32.0, "fallback_a": 6.0, "phases": 3} | kwargs
    return Evse(evse_id=f"S1/{number}", station_id="S1", zone_id="z", number=number, **values)


@dataclass
class Rig:
    version: str = "1.6"
    upstream: bool = False
    evses: tuple = (evse(),)
    options: dict = field(default_factory=dict)
    store: MemoryStore = field(default_factory=MemoryStore)
    at_s: float = 100.0
    shared: Shared = field(default_factory=Shared)

    def __post_init__(self):
        ids = itertools.count(1)
        self.down: list = []  # messages to the station, parsed
        self.down_text: list[str] = []
        self.up: list = []
        self.up_text: list[str] = []
        self.seen: dict[str, list] = {}  # what each observer was sent
        self.seen_text: dict[str, list[str]] = {}
        self.actions: list[Action] = []
        self.all_actions: list[Action] = []
        self.emitted: list[Emit] = []
        self.records: list[Record] = self.store.records
        self.asked = itertools.count(1)
        self.session = StationSession(
            "S1", self.evses, 230.0, Options(upstream=self.upstream, **self.options),
            lambda: f"ours-{next(ids)}", self.store.next_transaction_id, self.shared,
        )  # fmt: skip
        self.shared.cache.restore(self.store.tokens())
        self.session.restore(
            self.store.registrations().get("S1"),
            self.store.grants(),
            self.store.open_sessions(),
            lambda name: self.store.load_state(kept_key("S1", name)),
            self.now,
            self.store.journal().get("S1", ()),
            self.store.id_maps().get("S1", ()),
        )

    @property
    def now(self):
        return Now(self.at_s, START_UTC + timedelta(seconds=self.at_s))

    def take(self, actions):
        self.actions = list(actions)
        self.all_actions += actions
        for action in actions:
            match action:
                case SendDown(text):
                    self.down.append(json.loads(text))
                    self.down_text.append(text)
                case SendUp(text, upstream) if upstream != PRIMARY:
                    self.seen.setdefault(upstream, []).append(json.loads(text))
                    self.seen_text.setdefault(upstream, []).append(text)
                case SendUp(text):
                    self.up.append(json.loads(text))
                    self.up_text.append(text)
                case Persist(records):
                    self.records += records
                case Emit():
                    self.emitted.append(action)
                case _:
                    pass
        return self.actions

    def open(self):
        return self.take(self.session.station_opened(f"ocpp{self.version}", self.now))

    def close(self):
        return self.take(self.session.station_closed(self.now))

    def text(self, text):
        return self.take(self.session.station_frame(text, self.now))

    def cloud_text(self, text, who=PRIMARY):
        return self.take(self.session.upstream_frame(text, self.now, who))

    def cloud(self, *message, who=PRIMARY):
        return self.cloud_text(json.dumps(message), who)

    def cloud_opened(self, who=PRIMARY):
        return self.take(self.session.upstream_opened(self.now, who))

    def cloud_closed(self, who=PRIMARY, **more):
        return self.take(self.session.upstream_closed(self.now, who, **more))

    def again(self, seconds=20, **changes):
        """The controller dies and starts again on the same disk."""
        same = {"upstream": self.upstream, "evses": self.evses, "options": self.options, "store": self.store}
        return Rig(**({"version": self.version, "at_s": self.at_s + seconds} | same | changes))

    def call(self, action, payload, message_id=None):
        """The station calls; gives our answer's payload, or ``None`` where none came yet."""
        message_id = message_id or f"st-{next(self.asked)}"
        self.text(json.dumps([2, message_id, action, payload]))
        return next((m[2] for m in reversed(self.down) if m[0] == 3 and m[1] == message_id), None)

    def pass_time(self, seconds, *, step=0.5, keep_setpoints=True):
        """Ticks through; control renews its setpoints meanwhile, as it does every second."""
        end = self.at_s + seconds
        while self.at_s < end:
            self.at_s = min(self.at_s + step, end)
            if keep_setpoints:
                for number, hold in self.session.keeper.holds.items():
                    if hold.setpoint_a is not None:
                        self.take(self.session.set_limit(number, hold.setpoint_a, self.now))
            self.take(self.session.tick(self.now))

    def calls_down(self, action=None):
        """CALLs to the station that are not answered yet."""
        return [m for m in self.down if m[0] == 2 and m[1] not in self.answered and action in {None, m[2]}]

    answered: set = field(default_factory=set)

    def reply(self, message, payload):
        self.answered.add(message[1])
        return self.take(self.session.station_frame(json.dumps([3, message[1], payload]), self.now))

    def obey(self, limit=50):
        """Answers every CALL to the station as a good one would, until none is left; gives them."""
        done = []
        while self.calls_down() and limit:
            limit -= 1
            message = self.calls_down()[0]
            done.append(message)
            self.reply(message, good_answer(message, self.version))
        return done

    def boot(self):
        return self.call("BootNotification", boot_payload(self.version))

    def limits(self, messages):
        """(EVSE, purpose, amps) of each SetChargingProfile among these messages."""
        found = []
        for message in messages:
            if message[0] == 2 and message[2] == "SetChargingProfile":
                body = message[3]
                profile = body.get("csChargingProfiles") or body["chargingProfile"]
                schedule = profile["chargingSchedule"]
                schedule = schedule[0] if isinstance(schedule, list) else schedule
                amps = schedule["chargingSchedulePeriod"][0]["limit"]
                found.append((body.get("connectorId", body.get("evseId")), profile["chargingProfilePurpose"], amps))
        return found

    def set_limit(self, amps, number=1):
        return self.take(self.session.set_limit(number, amps, self.now))

    def state(self, number=1):
        return self.session.evse_states(self.at_s)[list(self.session.picture.evses).index(number)]

    def sessions(self):
        return [r for r in self.records if isinstance(r, SessionUpdate)]

    @property
    def news(self):
        return any(isinstance(a, News) for a in self.actions)

    # what a station does, in either version

    def start(self, token="TAG", evse_number=1, meter=1000, tx="tx-1"):
        """A transaction begins; gives the station's id for it."""
        if self.version == "1.6":
            self.call("StatusNotification", {"connectorId": evse_number, "errorCode": "NoError", "status": "Preparing"})
            payload = {"connectorId": evse_number, "idTag": token, "meterStart": meter, "timestamp": self.stamp()}
            answer = self.call("StartTransaction", payload)
            return None if answer is None else answer["transactionId"]
        payload = {
            "eventType": "Started", "timestamp": self.stamp(), "triggerReason": "Authorized", "seqNo": 0,
            "transactionInfo": {"transactionId": tx, "chargingState": "Charging"},
            "evse": {"id": evse_number, "connectorId": 1}, "idToken": {"idToken": token, "type": "ISO14443"},
        }  # fmt: skip
        self.call("TransactionEvent", payload)
        return tx

    def stop(self, tx, meter=5000):
        if self.version == "1.6":
            return self.call(
                "StopTransaction", {"transactionId": tx, "meterStop": meter, "timestamp": self.stamp(), "idTag": "TAG"}
            )
        return self.call("TransactionEvent", {
            "eventType": "Ended", "timestamp": self.stamp(), "triggerReason": "StopAuthorized", "seqNo": 9,
            "transactionInfo": {"transactionId": tx, "stoppedReason": "Local"},
            "meterValue": [{"timestamp": self.stamp(), "sampledValue": [{"value": meter}]}],
        })  # fmt: skip

    def stamp(self):
        return self.now.utc.isoformat().replace("+00:00", "Z")


def boot_payload(version):
    if version == "1.6":
        return {"chargePointVendor": "V", "chargePointModel": "M"}
    return {"reason": "PowerUp", "chargingStation": {"vendorName": "V", "model": "M"}}


def good_answer(message, version):
    if message[2] == "SetVariables":
        return {"setVariableResult": [
            {"attributeStatus": "Accepted", "component": d["component"], "variable": d["variable"]}
            for d in message[3]["setVariableData"]
        ]}  # fmt: skip
    return {"status": "Accepted"}
