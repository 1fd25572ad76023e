"""OPC UA limits against a real asyncua server: values, life, and the server's own deaths."""

import asyncio
import logging
import time

import pytest

import adapters
from adapters.opcua import OpcUaLimitAdapter
from cem.config.models import ExternalLimit
from cem.errors import DeviceMisconfigured, DeviceUnavailable
from tests.adapters.broker import free_port
from tests.adapters.dso_server import URI, DsoProcess
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
    return adapters.create("opcua_limit", ExternalLimit.model_validate(limit), CLOCK, news)


def signal(adapter):
    return adapter.signals().get("dso")


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
    monkeypatch.setattr("adapters.opcua.session.READ_TIMEOUT_S", 1.0)


@pytest.fixture
def dso(process):
    """The shared server: 20 kW, not enabled, heart beating."""
    for command in ("limit 20", "enabled 0", "beat 1"):
        process.tell(command)
    return process


async def heard(adapter):
    await until(lambda: signal(adapter) and signal(adapter).value is not None, 8)
    return signal(adapter)


async def test_limit_flag_and_heartbeat(dso):
    told = []
    dso.tell("beat 0")
    adapter = make(dso.port, news=lambda: told.append(time.monotonic()))
    async with running(adapter):
        await heard(adapter)
        assert signal(adapter).value == 20_000  # 20 kW
        await until(lambda: signal(adapter).active is False)
        written = signal(adapter).written_s
        await asyncio.sleep(0.6)
        assert signal(adapter).alive_s is None  # a counter that stands still is no life
        assert signal(adapter).written_s == written  # read again is not written again
        asked = time.monotonic()
        dso.tell("limit 11")
        dso.tell("enabled 1")
        took = await until(lambda: signal(adapter).value == 11_000 and signal(adapter).active)
        assert took < 2.0
        assert any(moment >= asked for moment in told)
        assert signal(adapter).written_s > written
        dso.tell("beat 1")
        await until(lambda: signal(adapter).alive_s is not None)
        dso.tell("beat 0")
        await asyncio.sleep(0.3)
        alive = signal(adapter).alive_s
        await asyncio.sleep(0.6)
        assert signal(adapter).alive_s == alive


async def test_written_anew_with_the_same_value(dso):
    adapter = make(dso.port)
    async with running(adapter):
        written = (await heard(adapter)).written_s
        dso.tell("limit 20")
        await until(lambda: signal(adapter).written_s > written)


async def test_a_node_may_name_its_namespace_by_uri(dso):
    adapter = make(dso.port, {"limit": f"nsu={URI};s=Limit"}, uri=None)
    async with running(adapter):
        assert (await heard(adapter)).value == 20_000
    with pytest.raises(DeviceMisconfigured, match="no node 'nsu=urn:wrong;s=Limit'"):
        await asyncio.wait_for(make(dso.port, {"limit": "nsu=urn:wrong;s=Limit"}).run(), 6)


async def test_without_a_heartbeat_a_successful_read_is_life(dso):
    adapter = make(dso.port, {"limit": "s=Limit"})
    async with running(adapter):
        await until(lambda: signal(adapter) and signal(adapter).alive_s, 8)
        assert signal(adapter).active is True
        first = signal(adapter).alive_s
        await until(lambda: signal(adapter).alive_s > first, 3)
        dso.tell("bad")
        await until(lambda: signal(adapter).value is None)
        assert "BadSensorFailure" in signal(adapter).problem
        silent = signal(adapter).alive_s
        await asyncio.sleep(0.6)
        assert signal(adapter).alive_s == silent


async def test_nonsense_is_no_value_and_told_once(dso, caplog):
    """D5."""
    adapter = make(dso.port)
    async with running(adapter):
        await heard(adapter)
        for nonsense in ("nan", "-5", "inf"):
            dso.tell(f"limit {nonsense}")
            await until(lambda text=nonsense: text in (signal(adapter).problem or "").replace("-5.0", "-5"))
            assert signal(adapter).value is None
        assert "dso" in adapter.problems()
        dso.tell("limit 0")
        await until(lambda: signal(adapter).value == 0)  # 0 W is a limit
        assert signal(adapter).problem is None
    assert len([r for r in caplog.records if "no limit" in r.getMessage()]) == 1


async def test_refused_first_connect_then_the_server_comes(dso):
    port = free_port()
    with pytest.raises(DeviceUnavailable, match="cannot be reached"):
        await asyncio.wait_for(make(port).run(), 5)
    adapter = make(port)
    async with running(adapter):
        await asyncio.sleep(0.3)
        assert adapter.signals() == {}
        async with FaultProxy(dso.port, port):
            await heard(adapter)


async def test_killed_and_restarted_with_another_namespace_index(caplog):
    server = DsoProcess()
    adapter = make(server.port, IDS)
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
                server = await asyncio.to_thread(DsoProcess, server.port, before=3)
                await until(lambda: signal(adapter).alive_s > killed + 0.5, 12)
    finally:
        server.kill()
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING and "opcua dso" in r.getMessage()]) == 1


async def test_frozen_is_noticed_within_5_s_and_thaws(dso, caplog, monkeypatch):
    monkeypatch.setattr("adapters.opcua.session.READ_EVERY_S", 1.0)
    monkeypatch.setattr("adapters.opcua.session.READ_TIMEOUT_S", 2.0)
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
                    proxy.delays_s.append(2.0)
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
        assert worst < 0.8


async def test_cancelled_it_ends_at_once(dso):
    for delay in (0.0, 0.01, 0.05, 0.3):
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
