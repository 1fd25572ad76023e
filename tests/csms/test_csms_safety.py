"""The promise to control: an EVSE never may draw more than ``in_force_a`` says, whatever the station and the wire do."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.simulated.profiles import ProfileStore, parse_profile
from tests.csms.rig import Rig, boot_payload, good_answer

FALLBACK_A, MAX_A = 6.0, 32.0


class Strict:
    """A station that keeps profiles as the standard says; answers, and whether it obeys them, are chosen from outside."""

    def __init__(self, version):
        self.version = version
        self.rig = Rig(version)
        self.profiles = ProfileStore()
        self.transaction = None
        self.started_s = None
        self.count = 0

    @property
    def utc_s(self):
        return self.rig.now.utc.timestamp()

    @property
    def allowed_a(self):
        """What a car could draw now."""
        if self.transaction is None:
            return 0.0
        limit = self.profiles.limit_a(
            1, self.utc_s, transaction_id=str(self.transaction), transaction_start_utc_s=self.started_s
        )
        return MAX_A if limit is None else min(limit, MAX_A)

    def obey(self, message):
        body = message[3]
        if message[2] == "ClearChargingProfile":
            self.profiles.clear(lambda _p: True)
        elif message[2] == "SetChargingProfile":
            raw = body.get("csChargingProfiles") or body["chargingProfile"]
            evse = body.get("connectorId", body.get("evseId"))
            profile = parse_profile(evse, raw, self.utc_s)
            if profile.purpose == "Tx" and profile.transaction_id != str(self.transaction):
                return False
            return self.profiles.install(profile, same_place_replaces=self.version == "1.6")
        return True

    def answer(self, how):
        """Takes the oldest CALL: ``good``, ``refuse``, ``mute`` (obeys without an answer) or ``lost``."""
        calls = self.rig.calls_down()
        if not calls:
            return
        message = calls[0]
        if how == "lost":
            self.rig.answered.add(message[1])
        elif how == "mute":
            self.obey(message)
            self.rig.answered.add(message[1])
        elif how == "refuse" or not self.obey(message):
            self.rig.reply(message, {"status": "Rejected"})
        else:
            self.rig.reply(message, good_answer(message, self.version))

    def plug(self):
        if self.transaction is None and self.rig.session.online:
            self.count += 1
            answer = self.rig.start(tx=f"tx-{self.count}", meter=1000 + self.count)
            self.transaction, self.started_s = answer, self.utc_s
            assert answer is not None

    def unplug(self):
        if self.transaction is not None and self.rig.session.online:
            over, self.transaction = self.transaction, None
            self.profiles.clear(lambda p: p.purpose == "Tx")
            self.rig.stop(over)

    def connect(self, boots):
        self.rig.open()
        if boots:
            self.rig.text(json.dumps([2, "boot", "BootNotification", boot_payload(self.version)]))

    def restart_controller(self):
        """Killed and started again; the connection is gone, the station goes on."""
        self.rig = Rig(self.version, store=self.rig.store, at_s=self.rig.at_s)


STEPS = st.one_of(
    st.tuples(st.just("limit"), st.sampled_from([0.0, 6.0, 10.0, 16.5, 32.0])),
    st.tuples(st.just("answer"), st.sampled_from(["good"] * 4 + ["refuse", "mute", "lost"])),
    st.tuples(st.just("settle"), st.none()),
    st.tuples(st.just("time"), st.sampled_from([0.5, 3.0, 11.0, 41.0, 70.0, 200.0])),
    st.tuples(st.just("plug"), st.none()),
    st.tuples(st.just("unplug"), st.none()),
    st.tuples(st.just("drop"), st.booleans()),
    st.tuples(st.just("restart"), st.booleans()),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["1.6", "2.0.1"]), st.lists(STEPS, min_size=5, max_size=60))
def test_nothing_is_ever_allowed_beyond_what_control_is_told(version, steps):
    station = Strict(version)
    station.connect(boots=True)
    for step, value in steps:
        match step:
            case "limit":
                station.rig.set_limit(value)
            case "answer":
                station.answer(value)
            case "settle":
                for _ in range(30):
                    station.answer("good")
            case "time":
                # Answers that are on their way arrive while time passes; control renews its setpoints.
                station.rig.pass_time(value, step=1.0)
            case "plug":
                station.plug()
            case "unplug":
                station.unplug()
            case "drop":
                station.rig.close()
                station.connect(boots=value)
            case "restart":
                station.restart_controller()
                station.connect(boots=value)
        told = station.rig.state().in_force_a
        assert station.allowed_a <= told + 1e-6, (step, value, station.allowed_a, told)
