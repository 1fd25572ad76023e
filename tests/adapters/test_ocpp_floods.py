"""Stations that flood, storm or pose as each other (S12, S13): the others are served all the same."""

import asyncio
import contextlib
import itertools
import json
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from adapters.ocpp.buckets import Bucket, Buckets, source
from adapters.ocpp.door import GUESS_BURST, STATION_BURST
from adapters.ocpp.reader import FRAME_BURST, FRAME_RATE
from cem.csms.twins import Twins
from tests.adapters.ocpp_peers import Station16, local_csms, station, until
from tests.adapters.test_ocpp_tls import PASSWORD, basic

LOOPBACK_2 = {"local_addr": ("127.0.0.2", 0)}


class Flooder:
    """Sends heartbeats as fast as the socket takes them."""

    def __init__(self):
        self.answered = 0

    async def run(self, address, seconds):
        async with connect(f"{address}/S1", subprotocols=["ocpp1.6"], proxy=None, max_queue=None) as socket:
            reading = asyncio.create_task(self._read(socket))
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(seconds):
                    for n in itertools.count():
                        await socket.send(json.dumps([2, f"{n}", "Heartbeat", {}]))
                        await asyncio.sleep(0)
            reading.cancel()
            socket.transport.abort()

    async def _read(self, socket):
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                self.answered += json.loads(message)[0] == 3


async def test_s13_a_flooding_station_is_slowed_and_another_is_served():
    async with local_csms(("S1", "S2")) as local:
        async with station(Station16, local.address, name="S2") as calm:
            assert await calm.boot() == "Accepted"
            flooder = Flooder()
            seconds, began_s = 4.0, time.monotonic()
            flood = asyncio.create_task(flooder.run(local.address, seconds))
            await asyncio.sleep(0.5)
            waits = []
            while not flood.done():
                began = time.monotonic()
                await calm.meter(1.0, 1.0, 1.0) if hasattr(calm, "transaction") else await calm.start()
                waits.append(time.monotonic() - began)
                await asyncio.sleep(0.1)
            await flood
        assert flooder.answered <= FRAME_BURST + (time.monotonic() - began_s) * FRAME_RATE
        assert flooder.answered >= FRAME_BURST  # it is slowed, not cut off
        assert max(waits) < 1.5, waits
        assert "station_flood" in local.codes()


async def test_s13_a_reconnect_storm_is_refused_and_another_station_comes_in():
    async with local_csms(("S1", "S2")) as local:
        refused = []
        for _ in range(int(STATION_BURST) + 20):
            try:
                async with connect(f"{local.address}/S1", subprotocols=["ocpp1.6"], proxy=None) as socket:
                    socket.transport.abort()
            except InvalidStatus as answer:
                refused.append((answer.response.status_code, answer.response.headers["Retry-After"]))
        assert len(refused) >= 15
        assert set(refused) == {(429, "30")}
        async with station(Station16, local.address, name="S2") as s2:  # the same address, another identity
            assert await s2.boot() == "Accepted"
        async with station(Station16, local.address, **LOOPBACK_2) as s1:  # the identity is not locked
            assert await s1.boot() == "Accepted"


async def test_s13_guessing_passwords_locks_nobody_out(tmp_path):
    from cem import access

    with access.changing(tmp_path) as content:
        content["credentials"]["S1"] = access.hashed(PASSWORD)
    async with local_csms(directory=tmp_path, security_profile=1) as local:
        began = time.monotonic()
        for n in range(int(GUESS_BURST) + 3):
            with pytest.raises(InvalidStatus) as refused:
                async with station(Station16, local.address, headers=basic("S1", f"guess-{n}"), **LOOPBACK_2):
                    pass
            assert refused.value.response.status_code == 401
        assert time.monotonic() - began < 10
        assert local.codes().count("station_unauthorized") == 1
        async with station(Station16, local.address, headers=basic("S1", PASSWORD)) as s1:
            assert await s1.boot() == "Accepted"


async def test_s12_two_stations_with_one_identity_are_both_uncontrolled_and_told():
    async with local_csms() as local, station(Station16, local.address) as first:
        assert await first.boot() == "Accepted"
        assert local.state("S1/1").fault is None
        for _ in range(3):
            async with connect(f"{local.address}/S1", subprotocols=["ocpp1.6"], proxy=None, **LOOPBACK_2) as second:
                with pytest.raises(ConnectionClosed):
                    await second.recv()
        await until(lambda: "station_twice" in local.codes())
        assert "two stations" in local.state("S1/1").fault
        assert local.codes().count("station_twice") == 1
        assert await first.boot() == "Accepted"  # it is still served


async def test_s12_two_stations_that_push_each_other_out_are_told():
    async with local_csms() as local:
        for n in range(4):
            options = LOOPBACK_2 if n % 2 else {}
            async with connect(f"{local.address}/S1", subprotocols=["ocpp1.6"], proxy=None, **options) as socket:
                await until(lambda: local.server._links["S1"].socket is not None)
                socket.transport.abort()
            await until(lambda: local.server._links["S1"].socket is None)
        assert "station_twice" in local.codes()


async def test_rejected_stations_do_not_wait(tmp_path):
    from cem import access

    async with local_csms(directory=tmp_path) as local:
        async with station(Station16, local.address, name="NEW") as new:
            assert await new.boot() == "Pending"
            with access.changing(tmp_path) as content:
                content["rejected"]["NEW"] = "2026-01-01T00:00:00+00:00"
            await until(lambda: local.server.status()["waiting_room"] == [], 15)
        with pytest.raises(InvalidStatus):
            async with station(Station16, local.address, name="NEW"):
                pass


def test_s12_signs_are_forgotten():
    twins = Twins()
    for at_s in (0.0, 200.0, 400.0):
        twins.refused(at_s)
    assert not twins.suspected(400.0)  # once in a while: a station with a slow line
    twins.refused(450.0)
    twins.refused(460.0)
    assert twins.suspected(460.0)
    assert not twins.suspected(761.0)
    moved = Twins()
    for address in ("a", "a", "b", "b"):
        moved.connected(address, 0.0)
    assert not moved.suspected(1.0)


def test_buckets():
    bucket = Bucket(2.0, 4.0, 0.0)
    assert [bucket.take(0.0) for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert not bucket.try_take(0.4)
    assert bucket.try_take(1.0)
    many = Buckets(1.0, 1.0)
    for n in range(10_000):
        many.of(n, 0.0)
    assert len(many._buckets) <= 4096
    assert source("::ffff:10.0.0.1") == source("10.0.0.1")
    assert source("2001:db8::1") == source("2001:db8::2") != source("2001:db8:0:1::1")
