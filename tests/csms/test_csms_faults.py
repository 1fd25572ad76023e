"""What stations report as wrong with them, and what is reserved there: learned, bounded, and never a flood of messages."""

from datetime import timedelta

import pytest

from cem.csms.actions import Emit
from cem.csms.faults import MOST
from tests.csms.rig import Rig
from tests.csms.test_csms_proxy import joined


def served(version):
    rig = Rig(version)
    rig.open()
    rig.boot()
    rig.obey()
    return rig


def faults(rig):
    return [(one["evse"], one["code"]) for one in rig.session.status()["faults"]]


def told(actions):
    return [(a.code, a.data["evse"], a.data["said"]) for a in actions if isinstance(a, Emit) and "fault" in a.code]


def event(component, variable="Problem", evse=None, **more):
    where = {"name": component} if evse is None else {"name": component, "evse": {"id": evse}}
    return {"eventId": 1, "component": where, "variable": {"name": variable}, "actualValue": "true", **more}


def test_a_1_6_station_itself_and_each_of_its_connectors_have_their_own_faults():
    rig = served("1.6")
    rig.call("StatusNotification", {"connectorId": 0, "errorCode": "InternalError", "status": "Faulted"})
    rig.call("StatusNotification", {"connectorId": 1, "errorCode": "HighTemperature", "status": "Charging"})
    assert faults(rig) == [(None, "InternalError"), (1, "HighTemperature")]
    rig.call("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Faulted"})
    assert faults(rig) == [(None, "InternalError"), (1, "Faulted")]
    rig.call("StatusNotification", {"connectorId": 0, "errorCode": "NoError", "status": "Available"})
    rig.call("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Available"})
    assert faults(rig) == []


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
def test_events_of_2_x_come_and_go_by_component_and_variable(version):
    rig = served(version)
    events = [event("EVSE", evse=1, techCode="E1"), event("FanCtrlr"), event("EVSE", "Temperature", evse=1)]
    rig.call("NotifyEvent", {"generatedAt": rig.stamp(), "seqNo": 0, "eventData": events})
    assert faults(rig) == [(1, "E1"), (None, "Problem")], "a temperature alone is no fault"
    over = [event("EVSE", evse=1, cleared=True), event("FanCtrlr", actualValue="false")]
    rig.call("NotifyEvent", {"generatedAt": rig.stamp(), "seqNo": 1, "eventData": over})
    assert faults(rig) == []
    rig.call(
        "StatusNotification", {"timestamp": rig.stamp(), "connectorStatus": "Faulted", "evseId": 1, "connectorId": 1}
    )
    assert faults(rig) == [(1, "Faulted")]


@pytest.mark.parametrize("data", [None, 7, [None], [{}], [{"techCode": 5}], [{"variable": "x", "component": 3}]])
def test_events_that_cannot_be_read_say_nothing(data):
    rig = served("2.0.1")
    assert rig.call("NotifyEvent", {"generatedAt": rig.stamp(), "seqNo": 0, "eventData": data}) == {}
    assert faults(rig) == []


def test_a_loose_contact_does_not_fill_the_history_and_many_faults_not_the_memory():
    rig = served("2.0.1")
    emitted = []
    for number in range(500):
        more = {"techCode": "LooseContact"} if number % 2 == 0 else {"cleared": True}
        data = [event("EVSE", evse=1, **more)]
        rig.call("NotifyEvent", {"generatedAt": rig.stamp(), "seqNo": number, "eventData": data})
        emitted += told(rig.actions)
    assert emitted[:2] == [("station_fault", "S1/1", "LooseContact"), ("station_fault_over", "S1/1", "LooseContact")]
    assert len(emitted) <= 20
    many = [event(f"Part{number}", techCode="E") for number in range(10 * MOST)]
    rig.call("NotifyEvent", {"generatedAt": rig.stamp(), "seqNo": 0, "eventData": many})
    assert len(faults(rig)) == MOST


def test_a_reservation_holds_until_its_time_by_our_own_count():
    rig = joined(Rig("1.6", upstream=True))
    expiry = (rig.now.utc + timedelta(hours=1)).isoformat()
    rig.cloud(2, "r", "ReserveNow", {"connectorId": 0, "expiryDate": expiry, "idTag": "TAG", "reservationId": 5})
    (asked,) = rig.calls_down("ReserveNow")
    rig.reply(asked, {"status": "Accepted"})
    assert [(r["id"], r["evse"]) for r in rig.session.status()["reservations"]] == [(5, None)]
    rig.pass_time(3599, step=60)
    assert rig.session.status()["reservations"]
    rig.pass_time(2)
    assert rig.session.status()["reservations"] == []
