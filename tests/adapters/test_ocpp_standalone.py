"""Stations made with an independent library against the real server, without a cloud."""

import asyncio
import base64
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from adapters.ocpp.server import identity
from tests.adapters.ocpp_peers import Station16, Station21, Station201, free_port, local_csms, station, until

KINDS = [Station16, Station201, Station21]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_station_boots_charges_and_is_held(kind):
    async with local_csms() as local, station(kind, local.address) as peer:
        assert await peer.boot() == "Accepted"
        await until(lambda: peer.seen.has("TxDefaultProfile", 6.0))
        await until(lambda: local.state("S1/1").in_force_a == 6.0)
        local.apply(S1=16.0)
        await peer.start()
        await until(lambda: peer.seen.has("TxProfile", 16.0))
        await peer.meter(15.5, 15.4, 15.3)
        state = local.state("S1/1")
        assert (state.online, state.charging, state.connected) == (True, True, True)
        assert state.measured_a == (15.5, 15.4, 15.3)
        await until(lambda: local.state("S1/1").confirmed_a == 16.0)
        local.apply(S1=8.0)
        await until(lambda: local.state("S1/1").in_force_a == 8.0)
        assert peer.seen.limits[-1] == (1, "TxProfile", 8.0)
        await peer.stop()
        assert not local.state("S1/1").charging
        assert local.state("S1/1").in_force_a == 6.0
        assert [s.kind for s in local.store.sessions()] == ["start", "stop"]
        assert local.store.sessions()[-1].meter_wh == 900
        assert peer.seen.configured
        assert local.server.status()["stations"][0]["vendor"] == "V"
    assert local.news


@pytest.mark.parametrize("kind", KINDS)
async def test_a_limit_is_on_the_wire_well_within_two_seconds(kind):
    async with local_csms() as local, station(kind, local.address) as peer:
        await peer.boot()
        local.apply(S1=16.0)
        await peer.start()
        await until(lambda: peer.seen.has("TxProfile", 16.0))
        loop = asyncio.get_running_loop()
        began = loop.time()
        local.apply(S1=7.0)
        await until(lambda: peer.seen.has("TxProfile", 7.0), 2.0)
        assert loop.time() - began < 2.0


async def test_l1_controller_restarts_and_the_session_goes_on():
    port = free_port()
    async with local_csms(port=port) as local, station(Station16, local.address) as peer:
        await peer.boot()
        local.apply(S1=16.0)
        answer = await peer.start()
        await until(lambda: local.state("S1/1").confirmed_a == 16.0)
        store = local.store
    async with local_csms(store=store, port=port) as local:
        assert (
            local.state("S1/1").in_force_a == 32.0
        )  # it was never seen to fall back by itself, so nothing is believed of it
        local.apply(S1=10.0)
        async with station(Station16, local.address) as peer:
            await until(lambda: peer.seen.has("TxProfile", 10.0))  # without a boot
            peer.transaction = answer.transaction_id
            await peer.stop()
        assert len({s.session_id for s in store.sessions()}) == 1
        assert store.open_sessions() == []


async def test_s15_an_unknown_station_waits_without_rights():
    async with local_csms() as local, station(Station16, local.address, "stranger") as peer:
        assert await peer.boot() == "Pending"
        await peer.ws.send(json.dumps([2, "9", "StartTransaction", {}]))
        await until(lambda: local.server.status()["waiting_room"])
        assert local.server.status()["waiting_room"][0]["vendor"] == "V"
        assert list(local.server.evse_states(0.0)) == ["S1/1"]
        assert local.store.records == []
        assert local.codes() == ["station_unknown"]


async def test_s15_everything_but_a_boot_is_refused_in_the_waiting_room():
    async with local_csms() as local, connect(f"{local.address}/x", subprotocols=["ocpp1.6"], proxy=None) as ws:
        await ws.send('[2,"1","StartTransaction",{"connectorId":1}]')
        assert json.loads(await ws.recv())[:3] == [4, "1", "SecurityError"]


async def test_the_waiting_room_is_bounded_and_can_be_off():
    async with local_csms() as local:
        sockets = [await connect(f"{local.address}/u{i}", subprotocols=["ocpp1.6"], proxy=None) for i in range(50)]
        await until(lambda: len(local.server.status()["waiting_room"]) == 50)
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{local.address}/u50", subprotocols=["ocpp1.6"], proxy=None)
        assert refused.value.response.status_code == 404
        await asyncio.gather(*(ws.close() for ws in sockets))
    async with local_csms(waiting_room=False) as local:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{local.address}/u1", subprotocols=["ocpp1.6"], proxy=None)
        assert refused.value.response.status_code == 404


async def test_s15_wrong_subprotocol_completes_the_handshake_and_closes():
    async with local_csms() as local:
        for _ in range(2):
            ws = await connect(f"{local.address}/S1", subprotocols=["ocpp1.5"], proxy=None)
            assert ws.subprotocol is None
            with pytest.raises(ConnectionClosed):
                await ws.recv()
        assert local.codes() == ["station_subprotocol"]  # told once


@pytest.mark.parametrize(("kind", "version"), [(Station16, "1.6"), (Station201, "2.0.1"), (Station21, "2.1")])
async def test_a_station_that_names_no_subprotocol_is_served_in_the_version_that_the_site_file_says(kind, version):
    keys = {"S1": {"assume_subprotocol": f"ocpp{version}"}}
    async with local_csms(("S1", "S2"), keys=keys) as local:
        ws = await connect(f"{local.address}/S1", proxy=None)
        assert ws.subprotocol is None
        peer = kind("S1", ws)
        task = asyncio.create_task(peer.start_reading())
        assert await peer.boot() == "Accepted"
        [one, _] = local.server.status()["stations"]
        assert (one["online"], one["ocpp_version"]) == (True, version)
        await ws.close()
        await asyncio.gather(task, return_exceptions=True)
        for who, named in (("S1", ["ocpp1.5"]), ("S2", None)):  # names another; has no such key
            ws = await connect(f"{local.address}/{who}", subprotocols=named, proxy=None)
            with pytest.raises(ConnectionClosed) as closed:
                await ws.recv()
            assert closed.value.rcvd.code == 1002
        assert local.codes().count("station_subprotocol") == 2


@pytest.mark.parametrize(("stated", "by_default"), [(None, 0), (0, 0), (1, 1)])
async def test_the_security_profile_that_is_demanded_is_told_of_each_station(stated, by_default):
    keys = {"S2": {"security_profile": 3}}
    passwords = {"S1": "secret-secret-16"}
    async with local_csms(("S1", "S2", "S3"), keys=keys, passwords=passwords, security_profile=stated) as local:
        told = {s["id"]: s["security_profile"] for s in local.server.status()["stations"]}
        assert told == {"S1": 1 if stated is None else stated, "S2": 3, "S3": by_default}


async def test_the_stations_order_of_subprotocols_decides():
    async with local_csms() as local:
        wanted = ["ocpp9", "ocpp2.0.1", "ocpp1.6"]
        async with connect(f"{local.address}/S1", subprotocols=wanted, proxy=None) as ws:
            assert ws.subprotocol == "ocpp2.0.1"


async def test_passwords_are_asked_for():
    def basic(who, password):
        return {"Authorization": "Basic " + base64.b64encode(f"{who}:{password}".encode()).decode()}

    async with local_csms(passwords={"S1": "secret-secret-16"}) as local:
        for headers in ({}, basic("S1", "wrong"), basic("S2", "secret-secret-16"), {"Authorization": "Basic %%%"}):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"{local.address}/S1", subprotocols=["ocpp1.6"], proxy=None, additional_headers=headers)
            assert refused.value.response.status_code == 401
        assert local.codes() == ["station_unauthorized"]
        assert "secret" not in repr(local.events)
        async with station(Station16, local.address, headers=basic("S1", "secret-secret-16")) as peer:
            assert await peer.boot() == "Accepted"


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\x00binary", 1003), ("x" * (1 << 20) + "y", 1009)],
)
async def test_s14_frames_that_cannot_be_taken_close_the_connection(frame, code):
    async with local_csms() as local:
        ws = await connect(f"{local.address}/S1", subprotocols=["ocpp1.6"], proxy=None, compression=None)
        await ws.send(frame)
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd.code == code
        await until(lambda: local.codes().count("bad_frame") == 1)
        async with station(Station16, local.address) as peer:
            assert await peer.boot() == "Accepted"


async def test_s14_bad_utf8_and_deep_json():
    async with local_csms() as local:
        ws = await connect(f"{local.address}/S1", subprotocols=["ocpp1.6"], proxy=None)
        await ws.send(b'[2,"1","Heart\xff\xfe"]', text=True)
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd.code == 1007
        ws = await connect(f"{local.address}/S1", subprotocols=["ocpp1.6"], proxy=None)
        for _ in range(5):
            await ws.send('[2,"1","X",' + "[" * 3000 + "]" * 3000 + "]")
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd.code == 1007


async def test_s11_a_living_first_connection_is_kept():
    async with local_csms() as local, station(Station16, local.address) as peer:
        await peer.boot()
        second = await connect(f"{local.address}/S1", subprotocols=["ocpp1.6"], proxy=None)
        with pytest.raises(ConnectionClosed) as closed:
            await second.recv()
        assert closed.value.rcvd.code == 1008
        assert await peer.boot() == "Accepted"
        assert "station_duplicate" in local.codes()


async def test_s11_a_dead_first_connection_is_replaced():
    async with local_csms() as local:
        first = await connect(f"{local.address}/S1", subprotocols=["ocpp1.6"], proxy=None)
        await first.send('[2,"1","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]')
        await until(lambda: local.state("S1/1").online)
        first.transport.pause_reading()  # a half-open connection: nothing comes back any more
        async with station(Station16, local.address) as peer:
            assert await peer.boot() == "Accepted"
        first.transport.abort()


async def test_i5_a_transaction_is_not_acknowledged_when_it_cannot_be_written():
    """I5."""
    async with local_csms() as local, station(Station16, local.address) as peer:
        await peer.boot()
        await until(lambda: local.state("S1/1").in_force_a == 6.0)
        local.store.broken = True
        peer._response_timeout = 0.5
        with pytest.raises(TimeoutError):
            await peer.start()
        assert "records_unwritable" in local.codes()
        local.store.broken = False
        peer._response_timeout = 10
        assert (await peer.start()).transaction_id


def test_identity_is_the_last_part_of_the_path():
    assert identity("/ocpp/S1") == "S1"
    assert identity("//ocpp//S1//") == "S1"
    assert identity("/a/b/c/S%201?token=x") == "S 1"
    assert identity("/") == ""


async def test_a_station_without_any_subprotocol_is_refused():
    async with local_csms() as local:
        ws = await connect(f"{local.address}/S1", proxy=None)
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd.code == 1002
