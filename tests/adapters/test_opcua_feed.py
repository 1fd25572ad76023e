"""Measured values by subscription, from a real asyncua server: changes at once, life in silence, and servers that will not."""

import asyncio
import time

import pytest

import adapters
from cem.config.models import Device
from cem.errors import DeviceUnavailable
from tests.adapters.dso_server import URI, DsoProcess
from tests.adapters.fault_proxy import FaultProxy
from tests.adapters.field import CLOCK, fresh, running, until

POWERS = {f"power_l{n}_w": {"node": f"Objects/Meter/L{n}"} for n in (1, 2, 3)}
NODES = POWERS | {"total_power_w": {"node": "Objects/Meter/Total"}}


def make(port, nodes=NODES, *, poll_s=8.0, connection=None, **more):
    at = {"kind": "opcua", "endpoint": f"opc.tcp://127.0.0.1:{port}/dso", "namespace_uri": URI,
          "publishing_interval_s": 0.2, **(connection or {})}  # fmt: skip
    section = {"id": "meter", "role": "grid_meter", "connection": at, "nodes": nodes, "poll_s": poll_s, **more}
    device = Device.model_validate(section)
    return adapters.create("opcua", device.connection, [device], CLOCK, lambda: None)


@pytest.fixture(scope="module")
def process():
    process = DsoProcess(before=1)
    yield process
    process.kill()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("cem.supervise.FIRST_PAUSE_S", 0.3)
    monkeypatch.setattr("cem.supervise.LONGEST_PAUSE_S", 0.6)
    monkeypatch.setattr("adapters.opcua.session.READ_EVERY_S", 0.3)


@pytest.fixture
def server(process):
    for name, watts in (("L1", 100), ("L2", 200), ("L3", 300), ("Total", 600)):
        process.tell(f"{name} {watts}")
    process.tell("subscriptions 100")
    return process


def power(adapter):
    return adapter.measurements()["meter"].total_power_w


def age_s(adapter):
    return time.monotonic() - adapter.measurements()["meter"].taken_s


async def told(server, adapter, watts):
    """How long a change of the total takes; the phases follow it."""
    for name, value in (("L1", watts - 500), ("L2", 200), ("L3", 300), ("Total", watts)):
        server.tell(f"{name} {value}")
    return await until(lambda: power(adapter) == watts, 6)


async def test_a_change_is_known_long_before_the_next_read(server, record_property):
    adapter = make(server.port)
    async with running(adapter):
        await fresh(adapter)
        took_s = [await told(server, adapter, watts) for watts in (1000, 2000, 3000)]
        record_property("change_s", max(took_s))
        print(f"OPC UA change known after {max(took_s):.2f} s, its device read every 8 s")
        assert max(took_s) < 1.5
        assert age_s(adapter) < 1.5
        assert adapter.measurements()["meter"].power_w == (2500, 200, 300)


async def test_what_does_not_change_stays_fresh_while_the_server_says_that_it_lives(server, record_property):
    adapter = make(server.port, poll_s=1.0)
    async with running(adapter):
        await fresh(adapter)
        worst_s = 0.0
        for _ in range(25):
            await asyncio.sleep(0.1)
            worst_s = max(worst_s, age_s(adapter))
        record_property("silent_age_s", worst_s)
        print(f"OPC UA value that does not change: at most {worst_s:.2f} s old")
        assert worst_s < 1.5
        server.freeze()
        try:
            before_s = adapter.measurements()["meter"].taken_s
            await asyncio.sleep(0.6)
            assert adapter.measurements()["meter"].taken_s < before_s + 0.5
            assert age_s(adapter) > 0.5  # nobody says so any more
        finally:
            server.thaw()


async def test_a_server_that_forgets_the_subscription_is_found_out(server, monkeypatch):
    monkeypatch.setattr("adapters.opcua.feed.SILENT_S", 0.8)
    adapter = make(server.port)
    async with running(adapter):
        await fresh(adapter)
        server.tell("forget")
        forgotten_s = time.monotonic()
        await asyncio.sleep(0.6)
        assert adapter.measurements()["meter"].taken_s < forgotten_s + 0.2  # it answers, but that proves nothing
        await fresh(adapter, timeout_s=8)
        assert await told(server, adapter, 4000) < 1.5


async def test_a_silent_subscription_is_named(server, monkeypatch):
    monkeypatch.setattr("adapters.opcua.feed.SILENT_S", 0.8)
    adapter = make(server.port)
    run = asyncio.create_task(adapter.run())
    await until(adapter.measurements)
    server.tell("forget")
    with pytest.raises(DeviceUnavailable, match="its subscription says nothing any more"):
        await asyncio.wait_for(run, 5)


async def test_a_lost_connection_is_called_so(server):
    async with FaultProxy(server.port) as proxy:
        adapter = make(proxy.port)
        run = asyncio.create_task(adapter.run())
        await until(adapter.measurements)
        proxy.drop()
        with pytest.raises(DeviceUnavailable, match="connection lost; check network and server"):
            await asyncio.wait_for(run, 5)


@pytest.mark.parametrize("why", ["refuses", "asked_not_to", "looks_too_seldom"])
async def test_a_device_that_cannot_be_watched_is_read(server, why):
    connection = {}
    match why:
        case "refuses":
            server.tell("subscriptions 0")
        case "asked_not_to":
            connection = {"subscribe": False}
        case "looks_too_seldom":
            server.tell("sampling 30")
    try:
        adapter = make(server.port, poll_s=0.3, connection=connection)
        async with running(adapter):
            await fresh(adapter)
            assert await told(server, adapter, 5000) < 1.5
            await asyncio.sleep(1.0)
            assert age_s(adapter) < 0.8
            assert adapter.problems() == {}
    finally:
        server.tell("sampling 0.2")


async def test_values_that_come_one_after_the_other_are_not_held_against_each_other(server, caplog):
    """M11 compares the phases with their total: of one moment only."""
    adapter = make(server.port, poll_s=2.0, connection={"publishing_interval_s": 1.0})
    async with running(adapter):
        await fresh(adapter)
        await told(server, adapter, 1000)
        for watts in (5000, 100, 7000):
            await asyncio.sleep(0.7)
            server.tell(f"L1 {watts}")  # 0.3 s before the server publishes, its total 0.3 s after that
            await asyncio.sleep(0.6)
            server.tell(f"Total {watts + 500}")
            await until(lambda watts=watts: power(adapter) == watts + 500)
        assert caplog.records == []
        server.tell("L1 100")  # and now it stays so
        await until(lambda: "phases sum to 600 W but its total reads 7500 W" in adapter.problems().get("meter", ""), 6)
