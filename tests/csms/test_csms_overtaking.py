"""What a limit waits for where a station leaves another CALL unanswered."""

import pytest

from tests.csms.rig import Rig, evse
from tests.csms.test_csms_proxy import VERSIONS, joined, start_up


@pytest.fixture(params=VERSIONS)
def rig(request):
    return joined(Rig(request.param, upstream=True))


def sent(rig):
    return rig.limits(rig.calls_down())


def test_a_limit_overtakes_a_cloud_call_that_the_station_leaves_unanswered(rig):
    rig.set_limit(16.0)
    start_up(rig)
    rig.obey()
    rig.cloud(2, "c1", "GetDiagnostics", {})
    rig.set_limit(6.0)
    rig.pass_time(0.5)
    assert sent(rig) == []
    rig.pass_time(0.5)
    assert sent(rig) == [(1, "TxProfile", 6.0)]
    assert rig.state().in_force_a == 16.0  # reserved until it is confirmed
    rig.obey()
    assert rig.state().in_force_a == 6.0


def test_what_is_not_urgent_leaves_a_cloud_call_more_time(rig):
    rig.set_limit(10.0)
    start_up(rig)
    rig.obey()
    rig.cloud(2, "c1", "GetDiagnostics", {})
    rig.set_limit(16.0)
    rig.pass_time(4.5)
    assert sent(rig) == []
    rig.pass_time(0.5)
    assert sent(rig) == [(1, "TxProfile", 16.0)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_limit_overtakes_a_question_of_ours_that_the_station_leaves_unanswered(version):
    rig = Rig(version)
    rig.open()
    rig.boot()
    while (waiting := rig.calls_down())[0][2] in {"ClearChargingProfile", "SetChargingProfile"}:
        rig.reply(waiting[0], {"status": "Accepted"})
    assert len(waiting) == 1, "a setting that some stations do not know, and never answer"
    rig.set_limit(16.0)
    rig.start()
    rig.pass_time(0.5)
    assert sent(rig) == []
    rig.pass_time(0.5)
    assert sent(rig) == [(1, "TxProfile", 16.0)]
    rig.reply(rig.calls_down("SetChargingProfile")[0], {"status": "Accepted"})
    rig.set_limit(20.0)
    assert sent(rig) == [(1, "TxProfile", 20.0)], "what follows has nothing left to wait for"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cut_of_one_evse_does_not_wait_behind_a_refresh_of_another(version):
    rig = joined(Rig(version, upstream=True, evses=(evse(1), evse(2))))
    for number in (1, 2):
        if version == "1.6":
            started = {"connectorId": number, "idTag": "TAG", "meterStart": 0, "timestamp": rig.stamp()}
            rig.call("StartTransaction", started, f"start-{number}")
        else:
            rig.start(evse_number=number, tx=f"tx-{number}")
        rig.cloud(3, rig.up[-1][1], {"transactionId": 70 + number, "idTagInfo": {"status": "Accepted"}})
        rig.obey()
    rig.set_limit(16.0, 2)
    rig.obey()
    rig.pass_time(35)
    rig.obey()
    rig.set_limit(16.0, 1)
    rig.obey()
    rig.cloud(2, "c1", "GetDiagnostics", {})
    rig.pass_time(0.5)
    rig.session.keeper.holds[1].sent_s -= 60.0  # its refresh is overdue
    rig.set_limit(6.0, 2)
    rig.pass_time(1.5)
    assert sent(rig) == [(2, "TxProfile", 6.0)]
