"""Anything at all on both legs: no crash, no growth, no trace of one station's frames at another."""

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.csms.fuzzing import MOST, held, play
from tests.csms.rig import Rig
from tests.csms.test_csms_proxy import VERSIONS, joined

EASY = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=150, deadline=None, suppress_health_check=EASY)
@given(st.binary(min_size=20, max_size=2000))
def test_no_frame_on_either_leg_breaks_a_session_or_touches_another(data):
    play(data)


@pytest.mark.parametrize("seed", range(3))
def test_i11_a_long_life_of_nonsense_holds_no_more_than_a_short_one(seed):
    data = random.Random(seed).randbytes(60_000)
    play(data, MOST)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_long_lives_of_nonsense():
    for seed in range(100, 1000):
        play(random.Random(seed).randbytes(40_000), MOST)


# -- what was found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [[], {}, None, 5, ["Outlet"]])
def test_members_of_another_type_than_they_should_be_break_nothing(odd):
    rig = joined(Rig("1.6", upstream=True))
    sample = {"value": "5", "measurand": "Current.Import", "location": odd, "context": odd, "phase": odd, "unit": odd}
    rig.text(json.dumps([2, "m", "MeterValues", {"connectorId": 1, "meterValue": [{"sampledValue": [sample]}]}]))
    assert rig.up[-1][1] == "m"
    rig.cloud(2, "i", "InstallCertificate", {"certificateType": odd, "certificate": "x"})
    refused = [m for m in rig.up if m[:2] == [3, "i"]]
    assert bool(refused) == (odd is not None)
    rig.cloud(2, "v", "CertificateSigned", {"certificateType": odd, "certificateChain": "x"})
    assert rig.up[-1][1] == "v"


def test_i11_statuses_of_connectors_that_are_not_there_are_not_remembered():
    sizes = []
    rig = joined(Rig("2.0.1", upstream=True))
    rig.cloud_closed()
    for count in range(1, 3001):
        status = {"timestamp": rig.stamp(), "connectorStatus": "Available", "evseId": count % 7, "connectorId": count}
        rig.text(json.dumps([2, f"s{count}", "StatusNotification", status]))
        rig.down.clear()
        if count % 1000 == 0:
            sizes.append(held(rig.session))
    assert sizes[2] < 1.2 * sizes[0] < 20_000, sizes


@pytest.mark.parametrize("version", VERSIONS)
def test_i11_messages_of_transactions_that_never_began_do_not_fill_the_disk(version):
    from cem.csms.pace import HARD_FACTOR, Room, Shared

    rig = joined(
        Rig(version, upstream=True, shared=Shared(Room(per_station=10)), options={"offline_authorization": "accept"})
    )
    rig.cloud_closed()
    answers = []
    for count in range(300):
        if version == "1.6":
            action, payload = "StopTransaction", {"transactionId": count, "meterStop": 1, "timestamp": rig.stamp()}
        else:
            action, payload = "TransactionEvent", {
                "eventType": "Updated", "timestamp": rig.stamp(), "triggerReason": "ChargingStateChanged", "seqNo": count,
                "transactionInfo": {"transactionId": f"t{count}"}, "evse": {"id": 9},
            }  # fmt: skip
        if count % 3 == 0:
            action, payload = "SecurityEventNotification", {"type": f"E{count}", "timestamp": rig.stamp()}
        rig.text(json.dumps([2, f"x{count}", action, payload]))
        answers.append(rig.down[-1][0])
    assert answers[:50] == [3] * 50
    assert answers[-1] == 4
    assert len(rig.session.clouds.primary.journal) <= 10 * (HARD_FACTOR + 1)
    assert [e.code for e in rig.emitted].count("queue_refuses") == 1
