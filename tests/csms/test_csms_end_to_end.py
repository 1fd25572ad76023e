"""Profiles end to end: the cloud's reach the station, under a maximum of ours that nothing of the cloud's can lift or clear."""

import random

import pytest

from tests.csms.rig import Rig
from tests.csms.test_csms_proxy import joined, profile, start_up
from tests.csms.test_csms_smart_charging import ask, inner, remote_start
from tests.csms.two_masters import Match

MAX = {"1.6": "ChargePointMaxProfile", "2.0.1": "ChargingStationMaxProfile", "2.1": "ChargingStationMaxProfile"}


@pytest.fixture(params=["1.6", "2.0.1", "2.1"])
def rig(request):
    return joined(Rig(request.param, upstream=True, options={"end_to_end": True}))


def sent(messages):
    """(purpose, stack level, amps, duration) of each profile."""
    found = []
    for message in messages:
        if message[2] == "SetChargingProfile":
            raw = message[3].get("csChargingProfiles") or message[3]["chargingProfile"]
            schedule = raw["chargingSchedule"]
            schedule = schedule[0] if isinstance(schedule, list) else schedule
            amps = schedule["chargingSchedulePeriod"][0]["limit"]
            found.append((raw["chargingProfilePurpose"], raw["stackLevel"], amps, schedule.get("duration")))
    return found


def clear(rig, **criteria):
    if rig.version == "1.6":
        return criteria
    if "id" in criteria:
        return {"chargingProfileId": criteria["id"]}
    return {"chargingProfileCriteria": criteria} if criteria else {}


def test_the_station_is_held_by_its_maximum_alone_over_a_permanent_one_at_its_fallback():
    for version, word in MAX.items():
        rig = Rig(version, options={"end_to_end": True})
        rig.open()
        rig.boot()
        assert sent(rig.obey()) == [(word, 0, 6.0, None)]
        rig.set_limit(16.0)
        rig.start()
        assert sent(rig.obey()) == [(word, 1, 16.0, 660)]
        rig.pass_time(30)
        assert sent(rig.obey()) == []
        rig.set_limit(20.0)
        assert sent(rig.obey()) == []  # a rise waits: each is a flash write
        rig.set_limit(10.0)
        assert sent(rig.obey()) == [(word, 1, 10.0, 660)]  # a cut never does
        rig.set_limit(20.0)
        rig.pass_time(61)
        assert sent(rig.obey()) == [(word, 1, 20.0, 660)]


def test_the_clouds_profile_reaches_the_station_word_for_word_and_its_answer_the_cloud(rig):
    start_up(rig)
    rig.obey()
    body = profile(rig.version, 10.0)
    rig.cloud(2, "p", "SetChargingProfile", body)
    assert rig.down[-1] == [2, "p", "SetChargingProfile", body]
    assert rig.state().cloud_limit_a is None  # not before the station has it
    rig.reply(rig.down[-1], {"status": "Accepted"})
    assert rig.up[-1] == [3, "p", {"status": "Accepted"}]
    rig.pass_time(0.5)
    assert rig.state().cloud_limit_a == 10.0
    rig.cloud(2, "p2", "SetChargingProfile", profile(rig.version, 7.0))
    rig.reply(next(m for m in rig.down if m[1] == "p2"), {"status": "Rejected"})
    rig.pass_time(0.5)
    assert rig.state().cloud_limit_a == 10.0


def test_the_clouds_maximum_is_folded_into_ours(rig):
    rig.set_limit(16.0)
    start_up(rig)
    rig.obey()
    told = ask(rig, "SetChargingProfile", profile(rig.version, 9.0, purpose=MAX[rig.version], evse=0, stack=50))
    assert told == {"status": "Accepted"}
    assert sent(rig.obey()) == [(MAX[rig.version], 1, 9.0, 660)]
    assert ask(rig, "ClearChargingProfile", clear(rig, id=1)) == {"status": "Accepted"}
    assert rig.calls_down("ClearChargingProfile") == []


def test_a_clear_goes_down_by_the_clouds_own_ids_only(rig):
    start_up(rig)
    rig.obey()
    for number, stack in ((3, 0), (4, 1)):
        rig.cloud(2, f"p{number}", "SetChargingProfile", profile(rig.version, 10.0, number=number, stack=stack))
        rig.obey()
    rig.cloud(2, "c", "ClearChargingProfile", clear(rig))
    assert [m for m in rig.up if m[1] == "c"] == []  # not before the station has answered
    key = "id" if rig.version == "1.6" else "chargingProfileId"
    cleared = [m[3] for m in rig.obey() if m[2] == "ClearChargingProfile"]
    assert cleared == [{key: 3}, {key: 4}]
    assert [m for m in rig.up if m[1] == "c"] == [[3, "c", {"status": "Accepted"}]]
    for ours in (900_000_001, 900_100_001):
        assert ask(rig, "ClearChargingProfile", clear(rig, id=ours)) == {"status": "Unknown"}
    assert rig.calls_down("ClearChargingProfile") == []


def test_a_maximum_that_takes_the_id_of_a_profile_at_the_station_has_that_cleared_there(rig):
    """It is kept here, so the station alone would go on with what the cloud has replaced."""
    rig.set_limit(16.0)
    start_up(rig)
    rig.obey()
    rig.cloud(2, "low", "SetChargingProfile", profile(rig.version, 12.0, number=3))
    rig.obey()
    maximum = profile(rig.version, 9.0, number=3, purpose=MAX[rig.version], evse=0, stack=5)
    rig.cloud(2, "max", "SetChargingProfile", maximum)
    [clear_it] = rig.calls_down("ClearChargingProfile")
    assert clear_it[3] == ({"id": 3} if rig.version == "1.6" else {"chargingProfileId": 3})
    assert [m for m in rig.up if m[1] == "max"] == []  # not before the station has answered
    rig.reply(clear_it, {"status": "Accepted"})
    assert [m for m in rig.up if m[1] == "max"] == [[3, "max", {"status": "Accepted"}]]
    assert rig.limits(rig.calls_down("SetChargingProfile"))[-1][1:] == (MAX[rig.version], 9.0)
    rig.obey()
    again = profile(rig.version, 8.0, number=3, purpose=MAX[rig.version], evse=0, stack=5)
    assert ask(rig, "SetChargingProfile", again) == {"status": "Accepted"}  # kept here already: nothing to clear
    assert rig.calls_down("ClearChargingProfile") == []


def test_a_maximum_is_not_taken_where_the_station_does_not_say_that_the_one_of_the_same_id_is_gone(rig):
    start_up(rig)
    rig.obey()
    rig.cloud(2, "low", "SetChargingProfile", profile(rig.version, 6.0, number=3))
    rig.obey()
    rig.cloud(2, "max", "SetChargingProfile", profile(rig.version, 9.0, number=3, purpose=MAX[rig.version], evse=0))
    rig.pass_time(40)
    [answer] = [m for m in rig.up if m[1] == "max"]
    assert answer[:3] == [4, "max", "GenericError"]
    assert rig.state().cloud_limit_a == 6.0


def test_what_could_take_the_place_of_ours_is_refused(rig):
    told = ask(rig, "SetChargingProfile", profile(rig.version, 32.0, number=900_000_001))
    assert told["status"] == "Rejected"
    remote_start(rig, {**inner(rig.version, 32.0), "id": 900_100_001, "chargingProfileId": 900_100_001})
    assert rig.up[-1][2]["status"] == "Rejected"
    if rig.version == "2.1":
        body = profile("2.1", 32.0, purpose="LocalGeneration", evse=0)
        assert ask(rig, "SetChargingProfile", body) == {"status": "Accepted"}  # kept here: it would be added to ours
        assert ask(rig, "SetChargingProfile", profile("2.1", 32.0, purpose="PriorityCharging"))["status"] == "Rejected"
    external = profile(rig.version, 32.0, purpose="ChargingStationExternalConstraints", evse=0)
    assert ask(rig, "SetChargingProfile", external)["status"] == "Rejected"
    assert rig.calls_down() == []


def test_a_start_takes_its_profile_along(rig):
    remote_start(rig, inner(rig.version, 7.0))
    assert rig.down[-1][3]["chargingProfile"] == inner(rig.version, 7.0)
    rig.reply(rig.down[-1], {"status": "Accepted"})


def test_the_lower_of_two_masters_holds_end_to_end(rig):
    match = Match(rig.version, random.Random(f"end to end {rig.version}"), end_to_end=True)
    for _ in range(250):
        match.step()
    assert match.checks > 500
