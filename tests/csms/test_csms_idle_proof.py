"""The dead-man of an idle station: found out by a limit below its fallback that is left to end, or left to its first transaction."""

import pytest

from adapters.simulated.personality import Personality
from tests.csms.rig import Rig, evse
from tests.csms.test_csms_study import boot, own, serve
from tests.csms.tight import NEIGHBOURS, ODD, ODD_CAR, TightSite

VERSIONS = ["1.6", "2.0.1", "2.1"]


class Idle(Rig):
    """Whose composite schedules are as told, one after the other; the last one stays."""

    def pass_by(self, seconds, told, takes=lambda _profile, _amps: True):
        left = list(told)
        for _ in range(seconds):
            self.pass_time(1)
            serve(self, takes, composite=lambda _: left.pop(0) if len(left) > 1 else left[0])

    def probes(self):
        """What was set at stack level 1 without a transaction."""
        found = []
        for message in self.down:
            body = message[3] if message[0] == 2 and message[2] == "SetChargingProfile" else {}
            profile = body.get("csChargingProfiles") or body.get("chargingProfile") or {}
            if profile.get("stackLevel") == 1:
                found.append(self.limits([message])[0][1:])
        return found


@pytest.fixture(params=VERSIONS)
def rig(request):
    rig = Idle(request.param)
    boot(rig)
    serve(rig)
    return rig


DEFAULT, LOW, OFF = [(0, 6)], [(0, 0), (25, 6)], [(0, 32)]


def test_one_that_ended_by_itself_proves_it_before_anybody_charges(rig):
    rig.pass_by(100, [DEFAULT, LOW, DEFAULT])
    assert own(rig)["dead_man"] is True
    assert "while it was idle" in own(rig)["dead_man_by"]
    assert own(rig)["without_us"] is None
    assert rig.probes() == [("TxDefaultProfile", 0)], "once, and below the fallback"
    assert own(rig.again()) == own(rig), "kept over a restart"


def test_above_six_amps_the_car_that_comes_in_between_need_not_pause():
    rig = Idle("2.0.1", evses=(evse(fallback_a=10.0),))
    boot(rig)
    serve(rig)
    rig.pass_by(100, [[(0, 10)], [(0, 6), (25, 10)], [(0, 10)]])
    assert rig.probes() == [("TxDefaultProfile", 6)]
    assert own(rig)["dead_man"] is True


@pytest.mark.parametrize(
    ("told", "takes", "probes", "why"),
    [
        ([OFF], True, 0, "tells 32 A, not its fallback"),  # as an idle station may
        ([[]], True, 0, "no schedule"),
        ([DEFAULT, DEFAULT], True, 1, "does not show its limits"),
        ([DEFAULT], False, 1, "takes no limit"),
    ],
)
def test_where_an_idle_station_does_not_tell_it_is_left_to_the_first_transaction(rig, told, takes, probes, why):
    rig.pass_by(300, told, lambda profile, _: takes or profile["stackLevel"] == 0)
    assert own(rig)["dead_man"] is None
    assert why in own(rig)["idle"]
    assert len(rig.probes()) == probes, "and not tried again and again"
    assert not [e for e in rig.emitted if e.code == "no_dead_man"]
    rig.start()
    rig.set_limit(16.0)
    serve(rig, composite=lambda _: [(0, 16), (110, 6)])
    assert own(rig)["dead_man"] is True


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ([DEFAULT, [(0, 0)], [(0, 0)]], "did not end"),
        ([DEFAULT, [(0, 0), (25, 32)]], "32 A after a limit"),
        ([DEFAULT, LOW, OFF], "32 A after a limit"),
    ],
)
def test_one_that_does_not_fall_back_is_found_out(rig, told, why):
    rig.pass_by(100, told)
    assert own(rig)["dead_man"] is False
    assert why in own(rig)["without_us"]
    assert [e.code for e in rig.emitted].count("no_dead_man") == 1


def test_a_fallback_that_is_lost_is_put_back_before_the_limit_ends():
    rig = Idle("1.6")
    boot(rig)
    serve(rig)
    before = len([m for m in rig.down if m[0] == 2 and m[2] == "SetChargingProfile"])
    rig.pass_by(40, [DEFAULT, [(0, 0), (25, 32)]])
    sent = rig.limits([m for m in rig.down if m[0] == 2 and m[2] == "SetChargingProfile"][before:])
    assert [limit[1:] for limit in sent] == [("TxDefaultProfile", 0), ("TxDefaultProfile", 6)]


@pytest.mark.parametrize("seconds", [29, 31, 50])
def test_a_transaction_that_comes_in_between_is_held_and_leaves_it_open(rig, seconds):
    rig.pass_by(seconds, [DEFAULT, LOW])
    rig.start()
    rig.set_limit(16.0)
    serve(rig, composite=lambda _: [(0, 16)])
    assert rig.limits(rig.down)[-1][1:] == ("TxProfile", 16)
    rig.pass_by(60, [[(0, 16)]])
    assert own(rig)["dead_man"] is None


def test_nothing_can_be_told_below_a_fallback_of_nothing():
    rig = Idle("1.6", evses=(evse(fallback_a=0.0),))
    boot(rig)
    serve(rig)
    rig.pass_by(200, [[(0, 0)]])
    assert rig.probes() == []


def test_it_waits_while_a_car_is_plugged_in(rig):
    if rig.version == "1.6":
        rig.call("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Preparing"})
    else:
        occupied = {"timestamp": rig.stamp(), "connectorStatus": "Occupied", "evseId": 1, "connectorId": 1}
        rig.call("StatusNotification", occupied)
    rig.pass_by(200, [DEFAULT, LOW, DEFAULT])
    assert rig.probes() == []


class Watched(TightSite):
    """Notes the most that the odd station would let a car have that came at any moment."""

    most_a = 0.0

    def stepped(self):
        super().stepped()
        station = self.stations[ODD]
        if station.store.profiles:  # before onboarding it has none
            began_s = self.utc_s()
            self.most_a = max(self.most_a, station.limit_a(station.connectors[1], began_s, began_s))


@pytest.mark.parametrize("version", ["1.6", "2.0.1"])
@pytest.mark.parametrize(
    ("personality", "proven"),
    [
        (Personality(idle_as_started=True), True),
        (Personality(), None),
        (Personality(idle_as_started=True, keeps_ended=True), False),
        (Personality(idle_as_started=True, one_default=True), False),
    ],
)
def test_simulated_stations_are_known_before_the_first_car_and_never_let_draw_more(personality, proven, version):
    site = Watched(personality, version=version, rotation=(0, 1, 2))
    site.run(120)
    known = site.sessions[ODD].keeper.study.personality
    assert known.dead_man is proven, known
    assert site.most_a <= 6.0
    site.plug(ODD, ODD_CAR)
    for neighbour in NEIGHBOURS:
        site.plug(neighbour)
    site.run(120)
    assert site.judge.tripped == {}
    assert site.plant.points[f"{ODD}/1"].own_current_a.l1 > 5.0, "it charges all the same"
    site.die()
    site.run(130)
    drawn_a = site.plant.points[f"{ODD}/1"].own_current_a.l1
    if site.sessions[ODD].keeper.study.personality.without_us is None:
        assert drawn_a <= 6.0
