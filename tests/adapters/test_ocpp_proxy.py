"""Stations and a cloud made with an independent library, our proxy between them, all over real websockets."""

import asyncio

import pytest
from ocpp.v16 import call as call16
from ocpp.v201 import call as call201

from tests.adapters.ocpp_peers import Station16, Station21, Station201, cloud, local_csms, running, station, until

KINDS = [Station16, Station201, Station21]


def profile(kind, amps):
    schedule = {"charging_rate_unit": "A", "charging_schedule_period": [{"start_period": 0, "limit": amps}]}
    schedule["start_schedule"] = "2020-01-01T00:00:00Z"
    common = {"stack_level": 0, "charging_profile_purpose": "TxDefaultProfile", "charging_profile_kind": "Absolute"}
    if kind is Station16:
        body = {"charging_profile_id": 1, "charging_schedule": schedule, **common}
        return call16.SetChargingProfile(connector_id=1, cs_charging_profiles=body)
    body = {"id": 1, "charging_schedule": [{"id": 1, **schedule}], **common}
    return call201.SetChargingProfile(evse_id=1, charging_profile=body)


def starts(sky, kind):
    if kind is Station16:
        return sky.count("StartTransaction")
    return sky.count("TransactionEvent", event_type="Started")


def stops(sky, kind):
    if kind is Station16:
        return sky.count("StopTransaction")
    return sky.count("TransactionEvent", event_type="Ended")


@pytest.mark.parametrize("kind", KINDS)
async def test_c7_a_session_through_to_the_cloud_at_the_lower_of_both_limits(kind):
    async with cloud() as sky, local_csms(upstream=sky.url) as local, station(kind, local.address) as peer:
        assert await peer.boot() == "Accepted"
        assert sky.count("BootNotification") == 1
        local.apply(S1=16.0)
        answer = await sky.peers["S1"].call(profile(kind, 10.0))
        assert answer.status == "Accepted"
        assert local.state("S1/1").cloud_limit_a == 10.0
        await peer.start()
        await until(lambda: peer.seen.has("TxProfile", 10.0))
        await sky.peers["S1"].call(profile(kind, 25.0))
        await until(lambda: peer.seen.has("TxProfile", 16.0))
        await peer.stop()
        assert (starts(sky, kind), stops(sky, kind)) == (1, 1)
        assert {amps for _, _, amps in peer.seen.limits} == {6.0, 10.0, 16.0}  # nothing of the cloud's came through
        assert [s.kind for s in local.store.sessions()] == ["start", "stop"]


@pytest.mark.parametrize("kind", KINDS)
async def test_c1_c4_a_session_during_an_outage_reaches_the_cloud_once(kind):
    async with (
        cloud() as sky,
        local_csms(upstream=sky.url, offline_authorization="accept") as local,
        station(kind, local.address) as peer,
    ):
        await peer.boot()
        await sky.stop()
        await until(lambda: "csms_lost" in local.codes())
        local.apply(S1=12.0)
        await peer.start(meter=100)
        await until(lambda: peer.seen.has("TxProfile", 12.0))  # held all the same
        await peer.meter(11.0, 11.0, 11.0)
        assert local.state("S1/1").measured_a == (11.0, 11.0, 11.0)
        await peer.stop(meter=900)
        before = len(sky.book.messages)
        await sky.start()
        await until(lambda: stops(sky, kind) == 1, 12)
        await until(lambda: "csms_back" in local.codes())
        assert starts(sky, kind) == 1
        replayed = [action for _, action, _ in sky.book.messages[before:] if action != "StatusNotification"]
        if kind is Station16:
            assert replayed == ["StartTransaction", "MeterValues", "StopTransaction"]
            given = sky.messages("StartTransaction")[0]["given"]
            assert peer.transaction != given
            assert sky.messages("StopTransaction")[0]["transaction_id"] == given
            assert sky.messages("StopTransaction")[0]["meter_stop"] == 900
        else:
            events = sky.messages("TransactionEvent")
            assert [e["event_type"] for e in events] == ["Started", "Updated", "Ended"]
            assert all(e["offline"] for e in events)
        assert local.codes().count("csms_lost") == 1
        assert local.codes().count("station_offline") == 0  # on_csms_loss: keep


async def test_a_session_that_began_in_the_outage_goes_on_under_both_ids():
    async with (
        cloud() as sky,
        local_csms(upstream=sky.url, offline_authorization="accept") as local,
        station(Station16, local.address) as peer,
    ):
        await peer.boot()
        await sky.stop()
        await until(lambda: "csms_lost" in local.codes())
        await peer.start()
        await sky.start()
        await until(lambda: sky.count("StartTransaction") == 1, 12)
        given = sky.messages("StartTransaction")[0]["given"]
        answer = await sky.peers["S1"].call(call16.RemoteStopTransaction(transaction_id=given))
        assert answer.status == "Accepted"
        assert ("RemoteStopTransaction", peer.transaction) in peer.seen.other
        await peer.stop()
        assert sky.messages("StopTransaction")[0]["transaction_id"] == given


async def test_the_uplink_dies_while_a_call_is_on_its_way():
    async with cloud() as sky, local_csms(upstream=sky.url) as local, station(Station16, local.address) as peer:
        await peer.boot()
        stuck, release = asyncio.Event(), asyncio.Event()

        async def never(*_args, **_kwargs):
            stuck.set()
            await release.wait()

        sky.peers["S1"].route_message = never
        beat = asyncio.create_task(peer.call(call16.Heartbeat()))
        await asyncio.wait_for(stuck.wait(), 5)
        stopping = asyncio.create_task(sky.stop())
        assert (await asyncio.wait_for(beat, 5)).current_time
        release.set()
        await stopping


async def test_s15_an_unknown_station_never_reaches_the_cloud():
    async with cloud() as sky, local_csms(upstream=sky.url) as local:
        async with station(Station16, local.address, "stranger") as peer:
            assert await peer.boot() == "Pending"
            await asyncio.sleep(0.3)
        assert sky.peers == {}
        assert sky.book.messages == []


async def test_without_the_cloud_from_the_start_stations_are_accepted():
    async with local_csms(upstream="ws://127.0.0.1:1/cloud") as local, station(Station16, local.address) as peer:
        assert await peer.boot() == "Accepted"
        await until(lambda: peer.seen.has("TxDefaultProfile", 6.0))
        assert local.codes().count("csms_lost") == 1
        assert local.server.status()["upstream"]["lost"]


async def test_on_csms_loss_close_drops_the_station():
    async with (
        cloud() as sky,
        local_csms(upstream=sky.url, on_csms_loss="close") as local,
        station(Station16, local.address) as peer,
    ):
        await peer.boot()
        await sky.stop()
        await asyncio.wait_for(peer.ws.wait_closed(), 8)
        assert peer.ws.close_code == 1001


async def test_the_uplink_speaks_the_stations_subprotocol_and_closes_with_it():
    async with cloud() as sky, local_csms(("S1", "S2"), upstream=sky.url) as local:
        async with station(Station16, local.address) as one, station(Station201, local.address, "S2") as two:
            await asyncio.gather(one.boot(), two.boot())
            assert sky.peers["S1"]._connection.subprotocol == "ocpp1.6"
            assert sky.peers["S2"]._connection.subprotocol == "ocpp2.0.1"
            assert local.server.status()["upstream"]["uplinks"] == 2
        await asyncio.wait_for(sky.peers["S1"]._connection.wait_closed(), 5)
        await until(lambda: local.server.status()["upstream"]["uplinks"] == 0)
        assert "csms_lost" not in local.codes()


async def test_a_port_in_use_is_told_in_words():
    from cem.errors import DeviceMisconfigured

    async with local_csms() as local:
        with pytest.raises(DeviceMisconfigured, match=rf"127\.0\.0\.1:{local.server.port}.*csms\.listen"):
            async with local_csms(port=local.server.port):
                pass


async def test_l14_the_server_can_be_run_again():
    async with cloud() as sky, local_csms(upstream=sky.url) as local:
        async with station(Station16, local.address) as peer:
            await peer.boot()
            local.task.cancel()
            await asyncio.wait({local.task})
            await asyncio.wait_for(peer.ws.wait_closed(), 5)
        local.task = await running(local.server)
        async with station(Station16, local.address) as peer:
            assert await peer.boot() == "Accepted"
            await until(lambda: sky.count("BootNotification") == 2)
