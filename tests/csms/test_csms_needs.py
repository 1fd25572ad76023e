"""What a car asks for reaches control as the target of its session."""

from datetime import timedelta

import pytest

from cem.core.wish import Wish
from cem.csms.needs import read_needs
from tests.csms.rig import Rig, evse
from tests.csms.test_csms_proxy import joined, profile, start_up


@pytest.mark.parametrize(
    ("raw", "energy_wh", "soc", "max_a", "max_w"),
    [
        ({"acChargingParameters": {"energyAmount": 20000, "evMinCurrent": 6, "evMaxCurrent": 16, "evMaxVoltage": 400}}, 20000, None, 16, None),
        ({"dcChargingParameters": {"energyAmount": 30000, "stateOfCharge": 40, "evMaxPower": 150000}}, 30000, 40, None, 150000),
        ({"dcChargingParameters": {"evEnergyCapacity": 60000, "stateOfCharge": 40, "fullSoC": 90}}, 30000, 40, None, None),
        ({"dcChargingParameters": {"evEnergyCapacity": 60000, "stateOfCharge": 95, "fullSoC": 90}}, 0, 95, None, None),
        ({"v2xChargingParameters": {"evTargetEnergyRequest": 12000, "maxChargePower": 11000}}, 12000, None, None, 11000),
        ({"dcChargingParameters": {"stateOfCharge": 240, "energyAmount": -5, "evMaxPower": 5}}, None, None, None, 5),
    ],
)  # fmt: skip
def test_needs_are_read(raw, energy_wh, soc, max_a, max_w):
    needs = read_needs(raw)
    assert (needs.energy_wh, needs.soc_percent, needs.max_a, needs.max_w) == (energy_wh, soc, max_a, max_w)


@pytest.mark.parametrize("raw", [None, {}, [], {"acChargingParameters": 7}, {"departureTime": "later"}])
def test_needs_that_say_nothing_are_none(raw):
    assert read_needs(raw) is None


@pytest.mark.parametrize(
    ("raw", "efficiency", "car_phases", "most_a"),
    [
        ({"acChargingParameters": {"evMaxCurrent": 16}}, None, 3, 16),
        ({"dcChargingParameters": {"evMaxPower": 58_374}}, 0.94, None, 100.0),  # at 207 V, the lowest
        ({"v2xChargingParameters": {"maxChargePower": 7452}}, None, None, None),  # on how many phases?
        ({"v2xChargingParameters": {"maxChargePower": 7452}}, None, 1, 36.0),
        ({"v2xChargingParameters": {"maxChargePower": 7452}}, None, 3, 12.0),
        ({"departureTime": "2026-11-22T10:00:00Z"}, None, 3, None),
    ],
)
def test_what_a_car_takes_at_most_in_amps(raw, efficiency, car_phases, most_a):
    found = read_needs(raw).most_a(evse(efficiency=efficiency), car_phases)
    assert found == (most_a if most_a is None else pytest.approx(most_a))


def needs(rig, energy=20_000, hours=4):
    departure = (rig.now.utc + timedelta(hours=hours)).isoformat()
    ac = {"energyAmount": energy, "evMinCurrent": 6, "evMaxCurrent": 16, "evMaxVoltage": 400}
    body = {"requestedEnergyTransfer": "AC_three_phase", "departureTime": departure, "acChargingParameters": ac}
    return {"evseId": 1, "chargingNeeds": body}


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_what_a_car_needs_is_its_sessions_target_and_shrinks_as_it_charges(version):
    rig = Rig(version)
    rig.open()
    rig.boot()
    tx = rig.start()
    rig.set_limit(16.0)
    rig.obey()
    assert rig.call("NotifyEVChargingNeeds", needs(rig)) == {"status": "Accepted"}
    assert rig.limits(rig.calls_down()) == [(1, "TxProfile", 16.0)]  # the car waits for a profile
    state = rig.state()
    assert (state.needed_wh, state.departure_s, state.car_a) == (20_000, rig.at_s + 4 * 3600, 16)
    for register, left in ((1000, 20_000), (6000, 15_000), (40_000, 0)):
        value = [{"timestamp": rig.stamp(), "sampledValue": [{"value": register}]}]
        rig.call("TransactionEvent", {
            "eventType": "Updated", "timestamp": rig.stamp(), "triggerReason": "MeterValuePeriodic", "seqNo": 1,
            "transactionInfo": {"transactionId": tx}, "evse": {"id": 1}, "meterValue": value,
        })  # fmt: skip
        assert rig.state().needed_wh == left
    assert rig.session.status()["needs"][1]["max_a"] == 16
    wished = Wish(target_wh=5000).on(rig.state(), rig.at_s, rig.now.utc)
    assert wished.needed_wh == 5000  # what somebody asks for goes before what the car says
    rig.stop(tx)
    assert (rig.state().needed_wh, rig.state().departure_s, rig.state().car_a) == (None, None, None)


def test_needs_also_go_to_the_cloud_and_its_schedules_are_chosen_from():
    rig = joined(Rig("2.1", upstream=True))
    tx = start_up(rig)
    body = profile("2.1", 10.0, purpose="TxProfile", transactionId=tx)
    first = body["chargingProfile"]["chargingSchedule"][0]
    other = {**first, "id": 2, "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 14}]}
    body["chargingProfile"]["chargingSchedule"].append(other)
    rig.call("NotifyEVChargingNeeds", needs(rig), "n1")
    assert rig.up[-1][1:3] == ["n1", "NotifyEVChargingNeeds"]
    rig.cloud(3, "n1", {"status": "Processing"})
    assert rig.down[-1] == [3, "n1", {"status": "Processing"}]
    assert rig.state().needed_wh == 20_000
    rig.cloud(2, "p", "SetChargingProfile", body)
    assert rig.state().cloud_limit_a == 10.0
    chosen = {"timeBase": rig.stamp(), "evseId": 1, "selectedChargingScheduleId": 2, "chargingSchedule": other}
    rig.cloud(2, "a", "NotifyAllowedEnergyTransfer", {"transactionId": tx, "allowedEnergyTransfer": ["AC_three_phase"]})
    rig.obey()
    assert rig.session.status()["needs"][1]["allowed_transfer"] == ["AC_three_phase"]
    rig.call("NotifyEVChargingSchedule", chosen, "s1")
    rig.pass_time(0.5)
    assert rig.state().cloud_limit_a == 14.0
