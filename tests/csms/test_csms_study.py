"""A station's personality: learned from what it says and does, kept, and used the next time."""

import pytest

from cem.csms.personality import Quirk
from tests.csms.rig import Rig, good_answer
from tests.csms.test_csms_phases import measured


@pytest.fixture(params=["1.6", "2.0.1", "2.1"])
def rig(request):
    return Rig(request.param)


def boot(rig, firmware="1.0"):
    told = {"chargePointVendor": "Acme", "chargePointModel": "Box", "firmwareVersion": firmware}
    if rig.version != "1.6":
        station = {"vendorName": "Acme", "model": "Box", "firmwareVersion": firmware}
        told = {"reason": "PowerUp", "chargingStation": station}
    rig.open()
    rig.call("BootNotification", told)


def own(rig):
    return rig.session.status()["personality"]


def serve(rig, takes=lambda _profile, _amps: True, composite=None, limit=60):
    """Answers what is asked; ``takes`` judges profiles, ``composite`` gives the steps of the schedule."""
    while rig.calls_down() and limit:
        limit -= 1
        message = rig.calls_down()[0]
        body = message[3]
        profile = body.get("csChargingProfiles") or body.get("chargingProfile")
        if message[2] == "SetChargingProfile":
            amps = rig.limits([message])[0][2]
            rig.reply(message, {"status": "Accepted" if takes(profile, amps) else "Rejected"})
        elif message[2] == "GetCompositeSchedule" and composite is not None:
            steps = [{"startPeriod": at, "limit": amps} for at, amps in composite(rig)]
            schedule = {"duration": 86400, "chargingRateUnit": "A", "chargingSchedulePeriod": steps}
            key = "chargingSchedule" if rig.version == "1.6" else "schedule"
            rig.reply(message, {"status": "Accepted", key: schedule})
        else:
            rig.reply(message, good_answer(message, rig.version))


def charging(rig, amps=16.0, **how):
    boot(rig)
    serve(rig, **how)
    tx = rig.start()
    rig.set_limit(amps)
    serve(rig, **how)
    return tx


@pytest.mark.parametrize(
    ("steps", "proven"),
    [
        ([(0, 16), (110, 6)], True),
        ([(0, 16), (110, 32)], False),
        ([(0, 16)], None),
        ([(0, 32), (110, 6)], None),
    ],
)
def test_the_dead_man_is_proven_by_the_stations_own_schedule(rig, steps, proven):
    charging(rig, composite=lambda _: steps)
    assert own(rig)["dead_man"] is proven, own(rig)
    assert [e.code for e in rig.emitted].count("no_dead_man") == (proven is False)
    assert own(rig.again()) == own(rig), "kept over a restart"


def test_a_station_that_refuses_a_default_has_no_dead_man(rig):
    boot(rig)
    serve(rig, takes=lambda profile, _: profile["chargingProfilePurpose"] != "TxDefaultProfile")
    assert own(rig)["dead_man"] is False
    assert rig.state().in_force_a == 32.0


def shows(steps):
    """A schedule that is its fallback until it has a limit."""
    return lambda rig: [(0, 6)] if rig.session.keeper.holds[1].acked is None else steps


@pytest.mark.parametrize(
    ("steps", "after_a"),
    [([(0, 16), (110, 6)], 6.0), ([(0, 16), (110, 32)], 32.0), ([(0, 16)], 32.0)],
)
def test_s1_offline_nothing_is_believed_of_a_station_that_was_not_seen_to_fall_back(rig, steps, after_a):
    charging(rig, composite=shows(steps))
    assert rig.state().in_force_a == 16.0
    rig.close()
    rig.pass_time(20, step=5)
    assert rig.state().in_force_a == 16.0, "its limit still lives; a broken line is no reason to pause others"
    rig.pass_time(120, step=5)
    assert rig.state().in_force_a == after_a
    again = rig.again()
    assert again.state().in_force_a == max(16.0, after_a), "its grant may still be in force"
    again.pass_time(1000, step=20)
    assert again.state().in_force_a == after_a


@pytest.mark.parametrize("how", [{"ignores": True}, {"loses": ("resume",)}])
def test_s1_offline_not_even_its_limit_is_believed_of_one_that_does_not_keep_it(rig, how):
    charging(rig, composite=shows([(0, 16), (110, 6)]))
    for name, value in how.items():
        setattr(rig.session.keeper.study.personality, name, value)
    assert rig.state().in_force_a == 16.0
    rig.close()
    assert rig.state().in_force_a == 32.0


def test_s16_a_station_that_answers_no_more_counts_with_its_maximum_once_its_limit_may_have_ended():
    for steps, after_a in (([(0, 16), (110, 6)], 16.0), ([(0, 16)], 32.0)):
        rig = Rig("1.6")
        charging(rig, composite=shows(steps))
        rig.pass_time(114, step=1)
        assert rig.state().in_force_a == 16.0
        rig.pass_time(2, step=1)
        assert rig.state().in_force_a == after_a, "what was asked since may be in force"


def unit_of(profile):
    schedule = profile["chargingSchedule"]
    return (schedule[0] if isinstance(schedule, list) else schedule)["chargingRateUnit"]


def test_the_way_that_works_is_kept_and_comes_first(rig):
    watts = []

    def takes(profile, amount):
        if unit_of(profile) == "W" and profile["chargingProfilePurpose"] == "TxProfile":
            watts.append(amount)
        return unit_of(profile) == "W"

    charging(rig, 20.0, takes=takes)
    assert own(rig)["way"] == "tx/0/W"
    assert watts == [20 * 207.0], "the lowest voltage, all of it on one phase"
    assert rig.state().fault is None
    assert rig.state().confirmed_a == 20.0
    after = rig.again()
    boot(after)
    serve(after, takes=takes)
    after.set_limit(16.0)
    first = after.calls_down("SetChargingProfile")[0][3]
    assert unit_of(first.get("csChargingProfiles") or first["chargingProfile"]) == "W"
    changed = rig.again()
    boot(changed, firmware="2.0")
    assert own(changed)["way"] is None, "another firmware is another station"


def test_a_car_seen_on_three_phases_gets_its_power_in_watts(rig):
    charging(rig, 20.0, takes=lambda profile, _: unit_of(profile) == "W")
    rig.pass_time(5)
    serve(rig)
    measured(rig, 6.0, 6.0, 6.0)
    rig.pass_time(1)
    measured(rig, 6.0, 6.0, 6.0)
    rig.pass_time(1)
    rig.set_limit(19.0)
    assert rig.limits(rig.calls_down("SetChargingProfile"))[0][2] == 19 * 207.0 * 3


def test_what_is_publicly_known_of_a_model_is_where_learning_begins():
    known = Quirk(
        "acme*", "box*", ("https://example.org/1",), rungs=("tx/",), max_level=0, units=("A",), zero_ends=True
    )
    rig = Rig("1.6", options={"quirks": (known, Quirk("other", "*", ()))})
    charging(rig)
    assert own(rig)["way"] == "station_max/0/A"
    assert own(rig)["zero_ends"] is True


def test_s4_a_station_that_ignores_its_limit_is_asked_in_other_ways_and_may_be_stopped():
    for may_stop in (False, True):
        rig = Rig("1.6", options={"stop_ignoring": may_stop})
        charging(rig, 10.0)
        asked = set()
        for _ in range(80):
            measured(rig, 20.0, 20.0, 20.0)
            rig.pass_time(5)
            for message in rig.calls_down("SetChargingProfile"):
                asked |= {limit[1:] for limit in rig.limits([message])}
            serve(rig)
            stops = [m for m in rig.down if m[0] == 2 and m[2] == "RemoteStopTransaction"]
            if stops:
                break
        assert {("TxDefaultProfile", 10.0), ("ChargePointMaxProfile", 10.0), ("TxProfile", 2070.0)} <= asked
        assert any(amps == 0.0 for _, amps in asked), "at last it is asked to pause"
        assert bool(stops) is may_stop
        assert [e.code for e in rig.emitted].count("limit_ignored") == 1
        assert own(rig)["ignores"] is True


def test_s4_the_way_that_is_followed_is_kept():
    rig = Rig("1.6")
    charging(rig, 10.0)
    for _ in range(30):
        followed = rig.session.keeper.holds[1].way.name == "tx_default/1/A"
        drawn = 10.0 if followed else 20.0
        measured(rig, drawn, drawn, drawn)
        rig.pass_time(5)
        serve(rig)
    assert own(rig)["way"] == "tx_default/1/A"
    assert "limit_followed" in [e.code for e in rig.emitted]


def test_s5_what_a_station_loses_is_sent_again_at_once_and_noted(rig):
    charging(rig, 10.0)
    measured(rig, 10.0, 10.0, 10.0)
    rig.pass_time(1)
    rig.set_limit(0.0)
    serve(rig)
    rig.pass_time(3)
    measured(rig, 0.0, 0.0, 0.0)
    rig.pass_time(3)
    rig.set_limit(8.0)
    serve(rig)
    rig.pass_time(2)
    measured(rig, 8.0, 8.0, 8.0)
    rig.pass_time(2)
    measured(rig, 16.0, 16.0, 16.0)
    rig.pass_time(0.5)
    assert rig.limits(rig.calls_down("SetChargingProfile"))[0][2] == 8.0
    assert own(rig)["loses"] == ("resume",)


def test_a_pause_that_ends_the_transaction_is_noted(rig):
    tx = charging(rig, 10.0)
    rig.set_limit(0.0)
    serve(rig)
    rig.pass_time(3)
    rig.stop(tx)
    assert own(rig)["zero_ends"] is True


def test_a_default_in_the_place_of_which_limits_go_is_put_back(rig):
    """A station of a single TxDefaultProfile: nothing is left when a limit ends, and the next car must not find that."""

    def takes(profile, _):
        return profile["chargingProfilePurpose"] == "TxDefaultProfile" and profile["stackLevel"] == 0

    tx = charging(rig, 10.0, takes=takes)
    assert own(rig)["way"] == "tx_default/0/A"
    assert own(rig)["dead_man"] is False
    assert rig.state().in_force_a == 10.0
    rig.at_s += 700
    assert rig.state().in_force_a == 32.0, "its limit has ended and there is no default under it"
    rig.stop(tx)
    assert ("TxDefaultProfile", 6.0) in [limit[1:] for limit in rig.limits(rig.calls_down("SetChargingProfile"))]
    serve(rig, takes=takes)
    assert rig.state().in_force_a == 6.0
