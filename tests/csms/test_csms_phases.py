"""Charging on one phase of three: through a pause, counted only once the station took it, and not where currents say otherwise."""

import pytest

from tests.csms.rig import Rig, evse


@pytest.fixture(params=["1.6", "2.0.1", "2.1"])
def rig(request):
    return Rig(request.param, evses=(evse(phase_switching=True),))


def begin(rig):
    rig.open()
    rig.boot()
    rig.obey()
    tx = rig.start()
    rig.obey()
    return tx


def told(rig):
    """(amps, numberPhases) of each live limit that waits for an answer."""
    found = []
    for message in rig.calls_down("SetChargingProfile"):
        profile = message[3].get("csChargingProfiles") or message[3]["chargingProfile"]
        schedule = profile["chargingSchedule"]
        period = (schedule[0] if isinstance(schedule, list) else schedule)["chargingSchedulePeriod"][0]
        found.append((period["limit"], period.get("numberPhases")))
    return found


def control(rig, amps, phases):
    rig.take(rig.session.set_limit(1, amps, rig.now, phases))


def measured(rig, *amps):
    samples = [
        {"value": str(a), "measurand": "Current.Import", "phase": f"L{p}", "unit": "A"} for p, a in enumerate(amps, 1)
    ]
    if rig.version != "1.6":
        samples = [{**s, "value": float(s["value"]), "unitOfMeasure": {"unit": "A"}} for s in samples]
        for s in samples:
            del s["unit"]
    key = "connectorId" if rig.version == "1.6" else "evseId"
    rig.call("MeterValues", {key: 1, "meterValue": [{"timestamp": rig.stamp(), "sampledValue": samples}]})


def switched_to_one(rig):
    control(rig, 16.0, 3)
    rig.obey()
    control(rig, 0.0, 3)
    rig.obey()
    control(rig, 0.0, 1)


def test_a_switch_goes_through_a_pause_and_counts_once_it_is_accepted(rig):
    begin(rig)
    assert rig.state().phases_in_force == 3
    control(rig, 16.0, 3)
    assert told(rig) == [(16.0, 3)]
    rig.obey()
    control(rig, 16.0, 1)  # not while current flows
    rig.pass_time(1, keep_setpoints=False)
    assert told(rig) == []
    control(rig, 0.0, 1)
    assert told(rig) == [(0.0, 3)], "first the pause"
    rig.obey(limit=1)
    assert told(rig) == [(0.0, 1)], "then the switch"
    assert rig.state().phases_in_force == 3, "not before the station took it"
    rig.obey()
    assert rig.state().phases_in_force == 1
    control(rig, 10.0, 1)
    assert told(rig) == [(10.0, 1)]
    rig.obey()
    control(rig, 0.0, 1)
    rig.obey()
    control(rig, 0.0, 3)
    assert told(rig) == [(0.0, 3)]
    rig.obey()
    assert rig.state().phases_in_force == 3


def test_a_refused_switch_costs_no_rung_and_is_not_asked_again(rig):
    begin(rig)
    switched_to_one(rig)
    rig.reply(rig.calls_down("SetChargingProfile")[0], {"status": "Rejected"})
    assert rig.state().phases_in_force is None
    assert [e.code for e in rig.emitted].count("phases_not_switched") == 1
    rig.obey()
    control(rig, 12.0, 1)
    assert told(rig) == [(12.0, None)]
    assert rig.limits(rig.calls_down("SetChargingProfile"))[0][1] == "TxProfile"
    rig.obey()
    assert rig.state().fault is None


def test_currents_on_more_phases_take_the_confirmation_back(rig):
    begin(rig)
    switched_to_one(rig)
    rig.obey()
    control(rig, 10.0, 1)
    rig.obey()
    measured(rig, 3.0, 3.0, 3.0)  # the last of before
    rig.pass_time(5)
    assert rig.state().phases_in_force == 1
    rig.pass_time(15, keep_setpoints=False)
    control(rig, 10.0, 1)
    measured(rig, 10.0, 0.0, 0.0)
    rig.pass_time(1, keep_setpoints=False)
    assert rig.state().phases_in_force == 1
    measured(rig, 10.0, 10.0, 10.0)
    rig.pass_time(1, keep_setpoints=False)
    assert rig.state().phases_in_force is None
    assert [e.code for e in rig.emitted].count("phases_not_switched") == 1


def test_what_ends_with_the_transaction_or_lapses_counts_no_more(rig):
    tx = begin(rig)
    switched_to_one(rig)
    rig.obey()
    assert rig.state().phases_in_force == 1
    rig.stop(tx)
    assert rig.state().phases_in_force is None
    rig.start(tx="tx-2", meter=7000)
    assert rig.state().phases_in_force == 3
    control(rig, 0.0, 1)
    rig.obey()
    control(rig, 0.0, 1)
    rig.obey()
    assert rig.state().phases_in_force == 1
    rig.at_s += 125  # nobody refreshed it: the safe default knows nothing of phases
    assert rig.state().phases_in_force == 3


def test_nothing_is_said_of_phases_where_the_evse_cannot_switch():
    rig = Rig("2.0.1")
    begin(rig)
    rig.set_limit(10.0)
    assert told(rig) == [(10.0, None)]
    rig.obey()
    assert rig.state().phases_in_force is None
