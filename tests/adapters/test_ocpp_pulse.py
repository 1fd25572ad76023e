"""Signs of life: who answers pings stays, who reads nothing is cut off, on either leg."""

import asyncio
import contextlib

import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from adapters.ocpp import server as server_module
from adapters.ocpp.pulse import Pulse
from tests.adapters.ocpp_peers import Station16, local_csms, station, until
from tests.adapters.test_ocpp_store_forward import deaf_cloud


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(server_module, "PING_STATIONS_S", 1)
    monkeypatch.setattr(server_module, "PING_CLOUDS_S", 1)


async def test_a_station_that_reads_nothing_is_cut_off_and_one_that_is_only_quiet_stays(quick):
    async with (
        local_csms(("S1", "S2")) as local,
        station(Station16, local.address, "S1") as quiet,
        station(Station16, local.address, "S2") as dead,
    ):
        await quiet.boot()
        await dead.boot()
        dead.ws.transport.pause_reading()
        await until(lambda: [s["online"] for s in local.server.status()["stations"]] == [True, False], 15)
        dead.ws.transport.resume_reading()
        await dead.ws.wait_closed()
        assert await quiet.boot() == "Accepted"


DETECT_S = 30.0
"""S1: within this time a station that is gone counts as offline."""


async def test_s1_a_dead_station_is_offline_within_thirty_seconds():
    """At the worst moment, right after it answered a ping, and with the times of the product."""
    async with local_csms() as local, station(Station16, local.address, ping_interval=None) as dead:
        await dead.boot()
        pings, take = asyncio.Event(), dead.ws.protocol.recv_frame

        def seen(frame):
            take(frame)
            if frame.opcode == 9:  # answered by now
                pings.set()

        dead.ws.protocol.recv_frame = seen
        async with asyncio.timeout(DETECT_S):
            await pings.wait()
        dead.ws.transport.pause_reading()
        began_s = asyncio.get_running_loop().time()
        await until(lambda: not local.server.status()["stations"][0]["online"], DETECT_S)
        assert asyncio.get_running_loop().time() - began_s < DETECT_S
        dead.ws.transport.resume_reading()
        await dead.ws.wait_closed()


async def test_a_station_that_speaks_but_answers_no_ping_stays(quick):
    async with local_csms() as local, station(Station16, local.address) as peer:
        await peer.boot()
        peer.ws.protocol.send_frame, real = (
            lambda frame: None if frame.opcode == 10 else real(frame),
            peer.ws.protocol.send_frame,
        )
        for _ in range(8):
            assert await peer.boot() == "Accepted"
            await asyncio.sleep(0.5)
        assert local.codes().count("station_offline") == 0


async def test_a_cloud_that_reads_nothing_is_dialed_anew(quick):
    connections = []

    async def talk(ws):
        connections.append(ws)
        if len(connections) == 1:
            ws.transport.pause_reading()
        with contextlib.suppress(ConnectionClosed):
            await ws.wait_closed()

    async with serve(talk, "127.0.0.1", 0, subprotocols=["ocpp1.6"], close_timeout=0.5) as cloud:
        address = f"ws://127.0.0.1:{cloud.sockets[0].getsockname()[1]}"
        async with local_csms(upstream=address) as local, station(Station16, local.address):
            await until(lambda: len(connections) == 2, 20)
            assert "csms_lost" in local.codes()
            connections[0].transport.abort()


async def test_what_is_watched_no_more_is_asked_no_more(quick):
    pulse, asked = Pulse(1), []

    class Connection:
        def beat(self):
            asked.append(self)

    one, other = Connection(), Connection()
    task = asyncio.create_task(pulse.run())
    with pulse.watches(one):
        with pulse.watches(other):
            await until(lambda: asked.count(one) == asked.count(other) > 0)
        before = asked.count(other)
        await until(lambda: asked.count(one) > before + 1)
        assert asked.count(other) == before
    task.cancel()


async def test_both_legs_live_on_pings_alone(quick):
    async with (
        deaf_cloud(lambda _message: False) as (address, told),
        local_csms(upstream=address) as local,
        station(Station16, local.address) as peer,
    ):
        await peer.boot()
        await asyncio.sleep(4)
        assert await peer.boot() == "Accepted"
        assert [m[2] for m in told].count("BootNotification") == 2
        assert "csms_lost" not in local.codes()
