"""OPC UA limits against a real asyncua server: values, life, and the server's own deaths."""

import asyncio
import logging
import time

import pytest
from asyncua import ua

import adapters
from adapters.opcua import OpcUaLimitAdapter
from cem.config.models import ExternalLimit
from cem.errors import DeviceMisconfigured, DeviceUnavailable
from tests.adapters.broker import free_port
from tests.adapters.dso_server import URI, DsoProcess, DsoServer
from tests.adapters.fault_proxy import FaultProxy
from tests.adapters.field import CLOCK, running, until

PATHS = {"limit": "Objects/DSO/ImportLimit", "enabled": "Objects/DSO/Enabled", "heartbeat": "Objects/DSO/Heartbeat"}
IDS = {"limit": "s=Limit", "enabled": "i=7", "heartbeat": "s=Beat"}


def make(port, nodes=PATHS, *, unit="kW", uri=URI, news=lambda: None) -> OpcUaLimitAdapter:
    limit = {
        "id": "dso",
        "connection": {
            "kind": "opcua",
            "endpoint": f"opc.tcp://127.0.0.1:{port}/dso",
            "namespace_uri": uri,
            "publishing_interval_s": 0.1,
        },
        "nodes": nodes,
        "unit": unit,
        "failsafe_w": 4200,
    }
    return adapters.create("opcua", ExternalLimit.model_validate(limit), CLOCK, news)


def signal(adapter):
    return adapter.signals().get("dso")


@pytest.fixture(scope="module")
def dso():
    process = DsoProcess()
    yield process
    process.kill()


@pytest.mark.parametrize(("nodes", "before"), [(PATHS, 0), (IDS, 3)])
async def test_limit_flag_and_heartbeat_wherever_the_namespace_stands(nodes, before):
    told = []
    async with DsoServer(before=before) as server:
        adapter = make(server.port, nodes, news=lambda: told.append(time.monotonic()))
        async with running(adapter):
            await until(lambda: signal(adapter) and signal(adapter).value is not None)
            assert signal(adapter).value == 20_000  # 20 kW
            await until(lambda: signal(adapter).active is False)
            assert signal(adapter).alive_s is None  # a counter that stands still is no life
            written = signal(adapter).written_s
            await server.limit.write_value(11.0)
            await server.enabled.write_value(True)
            asked = time.monotonic()
            took = await until(lambda: signal(adapter).value == 11_000 and signal(adapter).active)
            assert took < 1.0
            assert any(moment >= asked for moment in told)
            assert signal(adapter).written_s > written
            await server.beat(1)
            await until(lambda: signal(adapter).alive_s is not None)
            alive = signal(adapter).alive_s
            await asyncio.sleep(1.3)
            assert signal(adapter).alive_s == alive
            await server.beat(2)
            await until(lambda: signal(adapter).alive_s > alive)


async def test_written_anew_with_the_same_value():
    async with DsoServer() as server:
        adapter = make(server.port)
        async with running(adapter):
            await until(lambda: signal(adapter) and signal(adapter).value is not None)
            written = signal(adapter).written_s
            await asyncio.sleep(1.2)
            assert signal(adapter).written_s == written  # read again is not written again
            await server.limit.write_value(20.0)
            await until(lambda: signal(adapter).written_s > written)


async def test_without_a_heartbeat_a_successful_read_is_life():
    async with DsoServer() as server:
        adapter = make(server.port, {"limit": "s=Limit"})
        async with running(adapter):
            await until(lambda: signal(adapter) and signal(adapter).alive_s)
            assert signal(adapter).active is True
            first = signal(adapter).alive_s
            await until(lambda: signal(adapter).alive_s > first, 3)


@pytest.mark.parametrize("nonsense", [float("nan"), -5.0, float("inf")])
async def test_nonsense_is_no_value_and_told_once(nonsense, caplog):
    """D5."""
    async with DsoServer() as server:
        adapter = make(server.port)
        async with running(adapter):
            await until(lambda: signal(adapter) and signal(adapter).value is not None)
            await server.limit.write_value(nonsense)
            await until(lambda: signal(adapter).value is None)
            assert "which is no limit" in signal(adapter).problem
            assert "dso" in adapter.problems()
            await asyncio.sleep(1.2)
            await server.limit.write_value(0.0)
            await until(lambda: signal(adapter).value == 0)  # 0 W is a limit
            assert signal(adapter).problem is None
    assert len([r for r in caplog.records if "no limit" in r.getMessage()]) == 1


async def test_bad_status_is_no_value():
    async with DsoServer() as server:
        adapter = make(server.port)
        async with running(adapter):
            await until(lambda: signal(adapter) and signal(adapter).value is not None)
            bad = ua.DataValue(ua.Variant(20.0, ua.VariantType.Double), ua.StatusCode(ua.StatusCodes.BadSensorFailure))
            await server.limit.write_value(bad)
            await until(lambda: signal(adapter).value is None)
            assert "BadSensorFailure" in signal(adapter).problem


async def test_refused_first_connect_then_the_server_comes():
    port = free_port()
    with pytest.raises(DeviceUnavailable, match="cannot be reached"):
        await asyncio.wait_for(make(port).run(), 5)
    adapter = make(port)
    async with running(adapter):
        await asyncio.sleep(0.3)
        assert adapter.signals() == {}
        async with DsoServer(port):
            await until(lambda: signal(adapter) and signal(adapter).value == 20_000, 8)


async def test_killed_and_restarted(caplog):
    server = DsoProcess()
    adapter = make(server.port)
    try:
        with caplog.at_level(logging.WARNING):
            async with running(adapter):
                await until(lambda: signal(adapter) and signal(adapter).alive_s)
                server.kill()
                killed = time.monotonic()
                await until(lambda: caplog.records, 5)
                kept = signal(adapter)
                assert kept.value == 20_000
                assert kept.alive_s <= killed + 0.2
                server = DsoProcess(server.port)
                await until(lambda: signal(adapter).alive_s > killed + 0.5, 12)
    finally:
        server.kill()
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING and "opcua dso" in r.getMessage()]) == 1


async def test_frozen_is_noticed_within_5_s_and_thaws(dso, caplog):
    adapter = make(dso.port)
    async with running(adapter):
        await until(lambda: signal(adapter) and signal(adapter).alive_s)
        dso.freeze()
        frozen = time.monotonic()
        try:
            await until(lambda: any("opcua dso" in r.getMessage() for r in caplog.records), 5)
        finally:
            dso.thaw()
        assert signal(adapter).alive_s <= frozen + 0.2
        await until(lambda: signal(adapter).alive_s > frozen + 1, 12)


async def test_reset_truncated_and_late_answers_end_the_run_and_it_comes_back(dso):
    async with FaultProxy(dso.port) as proxy:
        for fault in ("reset", "truncate", "late"):
            adapter = make(proxy.port)
            run = asyncio.create_task(adapter.run())
            await until(lambda adapter=adapter: signal(adapter) and signal(adapter).alive_s)
            match fault:
                case "reset":
                    proxy.drop()
                case "truncate":
                    proxy.truncate = 10
                case "late":
                    proxy.delays_s.append(3.0)
            with pytest.raises(DeviceUnavailable):
                await asyncio.wait_for(run, 6)
            proxy.delays_s.clear()


async def test_a_black_hole_ends_in_time_and_delays_nobody(dso):
    async with FaultProxy(dso.port) as proxy:
        proxy.black_hole = True
        run = asyncio.create_task(make(proxy.port).run())
        worst = 0.0
        started = time.monotonic()
        while not run.done():
            before = time.monotonic()
            await asyncio.sleep(0.02)
            worst = max(worst, time.monotonic() - before)
            assert before - started < 10
        with pytest.raises(DeviceUnavailable):
            await run
        assert worst < 0.3


async def test_cancelled_it_ends_at_once(dso):
    for delay in (0.0, 0.01, 0.05, 0.3, 0.9):
        task = asyncio.create_task(make(dso.port).run())
        await asyncio.sleep(delay)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=2.5)
        assert done
        assert task.cancelled()


async def test_a_wrong_namespace_or_node_is_said_in_the_installers_words(dso):
    with pytest.raises(DeviceMisconfigured, match=r"no namespace 'urn:wrong'; it has .*urn:test:dso"):
        await asyncio.wait_for(make(dso.port, uri="urn:wrong").run(), 6)
    with pytest.raises(DeviceMisconfigured, match="no node 'Objects/DSO/Wrong'"):
        await asyncio.wait_for(make(dso.port, {"limit": "Objects/DSO/Wrong"}).run(), 6)
