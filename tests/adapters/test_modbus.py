"""Modbus against a real pymodbus server: values and signs, and the five failure drills."""

import asyncio
import logging
import socket
import time

import pytest

import adapters
from adapters.modbus.adapter import ModbusAdapter
from adapters.modbus.maps import known_models, load_map
from cem.clock import SystemClock
from cem.config.models import Device
from cem.errors import DeviceMisconfigured, DeviceUnavailable
from tests.adapters.fault_proxy import FaultProxy
from tests.adapters.field import fresh, running, until
from tests.adapters.modbus_server import Server, ServerProcess, device
from tests.adapters.sunspec_image import battery_124, chain, common, inverter_103, meter_203, meter_213, words

CLOCK = SystemClock()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("cem.supervise.FIRST_PAUSE_S", 0.3)
    monkeypatch.setattr("cem.supervise.LONGEST_PAUSE_S", 0.6)
    monkeypatch.setattr("adapters.modbus.unit.FIRST_PAUSE_S", 0.3)


def make_device(port, *, name="meter", model="sunspec_meter", unit=1, role="grid_meter", poll_s=0.1, **more):
    connection = {"kind": "modbus_tcp", "host": "127.0.0.1", "port": port, "unit_id": unit, "timeout_s": 0.4}
    return Device.model_validate(
        {"id": name, "role": role, "connection": connection, "model": model, "poll_s": poll_s, **more}
    )


def make(*devices, news=lambda: None) -> ModbusAdapter:
    return adapters.create("modbus_tcp", devices[0].connection, devices, CLOCK, news)


async def one(*devices):
    adapter = make(*devices)
    async with running(adapter):
        for dev in devices:
            await fresh(adapter, dev.id)
    return adapter.measurements()


@pytest.mark.parametrize("base", [40_000, 50_000, 0])
async def test_sunspec_meter_by_the_standards_layout(base):
    async with Server(device(1, {base: chain(common(), meter_203())})) as server:
        found = (await one(make_device(server.port)))["meter"]
    # 500, 300, 50 x 10^-2 A; phase B exports (-680 W), its current is a magnitude (M7)
    assert found.current_a == pytest.approx((5.00, -3.00, 0.50))
    assert found.power_w == pytest.approx((1150, -680, 110))
    assert found.total_power_w == pytest.approx(580)
    assert found.voltage_v == pytest.approx((230.1, 229.9, 231.0))
    assert found.energy_wh == pytest.approx(567_890)


async def test_sunspec_float_meter():
    async with Server(device(1, {40_000: chain(common(), meter_213())})) as server:
        found = (await one(make_device(server.port)))["meter"]
    assert found.current_a == pytest.approx((10, 11, 12))
    assert found.power_w == pytest.approx((2250, 2500, 2650))
    assert found.total_power_w == pytest.approx(7400)
    assert found.energy_wh == pytest.approx(98_765)


async def test_pv_production_is_negative():
    async with Server(device(1, {40_000: chain(common(), inverter_103())})) as server:
        found = (await one(make_device(server.port, name="pv", model="sunspec_inverter", role="pv")))["pv"]
    assert found.total_power_w == pytest.approx(-6900)
    assert found.current_a == pytest.approx((-10, -10, -10))
    assert found.energy_wh is None


async def test_battery_charge_is_positive_and_state_of_charge_is_read():
    charging = inverter_103()
    charging[14] = 0x10000 - 230  # W = -2300 W: into the battery
    async with Server(device(1, {40_000: chain(common(), charging, battery_124())})) as server:
        found = (await one(make_device(server.port, name="bat", model="sunspec_battery", role="battery")))["bat"]
    assert found.soc_percent == pytest.approx(62.5)
    assert found.total_power_w == pytest.approx(2300)
    assert found.current_a == pytest.approx((10, 10, 10))


def sdm630_image():
    """Input registers of the maker's table: address 0 V1, 6 I1, 12 P1, 52 total W, 70 Hz, 72 kWh import."""
    image = words("f", 0.0) * 40
    for address, value in (
        (0, 230.0), (2, 231.0), (4, 232.0), (6, 5.0), (8, 6.0), (10, 7.0),
        (12, 1150.0), (14, -1386.0), (16, 1624.0), (52, 1388.0), (70, 50.0), (72, 12.5),
    ):  # fmt: skip
        image[address : address + 2] = words("f", value)
    return image


async def test_plain_register_map_signs_by_power_and_grid_phases():
    async with Server(device(1, {0: sdm630_image()})) as server:
        dev = make_device(server.port, model="eastron_sdm630", phase_order="L2L3L1")
        found = (await one(dev))["meter"]
    assert found.current_a == pytest.approx((7, 5, -6))  # terminal 1 is on L2, 2 on L3, 3 on L1
    assert found.voltage_v == pytest.approx((232, 230, 231))
    assert found.energy_wh == pytest.approx(12_500)


async def test_the_sample_map_as_its_text_says():
    image = [2301, 2299, 2310, 500, 0x10000 - 300, 50]  # 0.1 V, 0.01 A
    image += [*words("i", 1150), *words("i", -690), *words("i", 110), *words("i", 570)]  # W
    image += [4998, 0, *words("I", 123_456)]  # 0.01 Hz, unused, Wh
    async with Server(device(1, {0: image})) as server:
        found = (await one(make_device(server.port, model="generic_meter")))["meter"]
    assert found.voltage_v == pytest.approx((230.1, 229.9, 231.0))
    assert found.current_a == pytest.approx((5, -3, 0.5))
    assert found.power_w == pytest.approx((1150, -690, 110))
    assert found.total_power_w == pytest.approx(570)
    assert found.energy_wh == 123_456


async def test_inverted_meter():
    async with Server(device(1, {0: sdm630_image()})) as server:
        found = (await one(make_device(server.port, model="eastron_sdm630", invert=True)))["meter"]
    assert found.current_a == pytest.approx((-5, 6, -7))
    assert found.total_power_w == pytest.approx(-1388)
    assert found.energy_wh is None


async def test_a_sample_with_a_sentinel_or_nan_is_missing_and_told_once(caplog, monkeypatch):
    """M4: the sample is missing at once, the last good one stays and ages."""
    monkeypatch.setattr("adapters.trouble.SETTLED_S", 0.3)
    async with Server(device(1, {40_000: chain(common(), meter_203())})) as server:
        adapter = make(make_device(server.port))
        with caplog.at_level(logging.WARNING):
            async with running(adapter):
                good = await fresh(adapter)
                place = 40_000 + 2 + 68 + 4  # AphB
                await server.set(1, place, [0x8000])
                await until(lambda: "meter" in adapter.problems())
                kept = adapter.measurements()["meter"]
                await asyncio.sleep(0.6)
                assert adapter.measurements()["meter"] is kept
                assert kept.current_a == good.current_a
                await server.set(1, place, [300])
                await asyncio.sleep(0.5)
                await fresh(adapter)
    assert adapter.problems() == {}
    assert len([r for r in caplog.records if "not available" in r.getMessage()]) == 1
    assert len([r for r in caplog.records if "good values again" in r.getMessage()]) == 1


async def test_refused_first_connect_does_not_raise_and_heals():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    adapter = make(make_device(port))
    async with running(adapter):
        await asyncio.sleep(0.3)
        assert adapter.measurements() == {}
        assert "no connection" in adapter.problems()["meter"]
        async with Server(device(1, {40_000: chain(common(), meter_203())}), port=port):
            await fresh(adapter, timeout_s=4)


async def test_peer_killed_and_restarted(caplog):
    image = chain(common(), meter_203())
    server = ServerProcess(40_000, image)
    adapter = make(make_device(server.port))
    try:
        async with running(adapter):
            before = await fresh(adapter)
            server.kill()
            await asyncio.sleep(0.7)
            kept = adapter.measurements()["meter"]
            assert kept.taken_s < time.monotonic() - 0.5  # age tells
            assert kept.current_a == before.current_a
            server = ServerProcess(40_000, image, server.port)
            await fresh(adapter, timeout_s=6)
    finally:
        server.kill()
    assert len([r for r in caplog.records if "no connection" in r.getMessage()]) == 1


async def test_peer_frozen_and_thawed(caplog):
    server = ServerProcess(40_000, chain(common(), meter_203()))
    adapter = make(make_device(server.port))
    try:
        async with running(adapter):
            await fresh(adapter)
            server.freeze()
            await until(lambda: caplog.records, 8)  # three time-outs in a row: told
            await asyncio.sleep(0.5)
            assert adapter.measurements()["meter"].taken_s < time.monotonic() - 0.5
            assert "no answer" in adapter.problems()["meter"]
            server.thaw()
            await fresh(adapter, timeout_s=6)
    finally:
        server.kill()
    assert len(caplog.records) == 1  # by the supervisor or by the device, not by both
    assert "no answer within 0.4 s from unit 1" in caplog.records[0].getMessage()


async def test_closed_in_the_middle_of_a_request():
    async with Server(device(1, {0: sdm630_image()})) as server, FaultProxy(server.port) as proxy:
        adapter = make(make_device(proxy.port, model="eastron_sdm630"))
        async with running(adapter):
            await fresh(adapter)
            proxy.truncate = 5
            await until(lambda: "meter" in adapter.problems())
            await fresh(adapter)
            proxy.reset = True
            await until(lambda: "meter" in adapter.problems())
            proxy.reset = False
            await fresh(adapter)
        assert proxy.most_open == 1  # M12: one connection only


async def test_a_late_answer_is_never_taken_for_the_next_one():
    """The answer with 5 A comes after the time-out; meanwhile the meter went to 20 A; no read may say 5 A any more."""
    async with Server(device(1, {0: sdm630_image()})) as server, FaultProxy(server.port) as proxy:
        adapter = make(make_device(proxy.port, model="eastron_sdm630"))
        async with running(adapter):
            await fresh(adapter)
            proxy.delays_s.append(0.7)  # longer than the time-out of 0.4 s
            await until(lambda: not proxy.delays_s)
            asked = time.monotonic()
            await server.set(1, 6, words("f", 20.0))
            await server.set(1, 12, words("f", 4600.0))
            await server.set(1, 52, words("f", 4838.0))
            seen = []
            while time.monotonic() - asked < 2:
                found = adapter.measurements()["meter"]
                if found.taken_s > asked:
                    seen.append(found.current_a.l1)
                await asyncio.sleep(0.02)
        assert seen
        assert set(seen) == {20.0}
        assert proxy.connections == 2  # thrown away after the time-out, opened once


async def test_a_dead_unit_does_not_slow_its_neighbour(caplog, monkeypatch):
    """Units share one connection; nothing answers for unit 9."""
    monkeypatch.setattr("adapters.modbus.adapter.LOST_AFTER", 2)
    monkeypatch.setattr("adapters.modbus.unit.FIRST_PAUSE_S", 1.0)  # as shipped
    async with Server(device(1, {0: sdm630_image()})) as server, FaultProxy(server.port) as proxy:
        asked = {1: 0, 9: 0}

        def dead_nine(request: bytes) -> bool:
            asked[request[6]] += 1  # the unit id in the MBAP header
            return request[6] == 9

        proxy.swallow = dead_nine
        live = make_device(proxy.port, model="eastron_sdm630")
        dead = make_device(proxy.port, name="dead", unit=9, model="eastron_sdm630", role="zone_meter")
        adapter = make(live, dead)
        ages = []
        async with running(adapter):
            await fresh(adapter)
            started = time.monotonic()
            while time.monotonic() - started < 2.2:
                ages.append(time.monotonic() - adapter.measurements()["meter"].taken_s)
                await asyncio.sleep(0.02)
        assert asked[1] > 6 * asked[9] > 0  # it backs off; without that they would be asked in turn
        assert max(ages) < 1.5  # one time-out of 0.4 s and a poll, on a busy machine
        assert "no answer within 0.4 s from unit 9" in adapter.problems()["dead"]
        assert proxy.most_open == 1
        assert len([r for r in caplog.records if "dead" in r.getMessage()]) == 1


async def test_a_hanging_device_delays_nobody_else():
    async with Server(device(1, {0: sdm630_image()})) as server, FaultProxy(server.port) as proxy:
        proxy.black_hole = True
        hanging = make(make_device(proxy.port, name="hanging", model="eastron_sdm630"))
        good = make(make_device(server.port, model="eastron_sdm630"))
        async with running(hanging), running(good):
            await fresh(good)
            for _ in range(10):
                before = time.monotonic()
                await asyncio.sleep(0.05)
                assert time.monotonic() - before < 0.8  # the loop was never blocked for a time-out
                assert time.monotonic() - (await fresh(good)).taken_s < 0.8
            assert hanging.measurements() == {}


async def test_reads_are_stamped_at_their_start_and_stay_aligned():
    async with Server(device(1, {0: sdm630_image()})) as server, FaultProxy(server.port) as proxy:
        proxy.delays_s = [0.15] * 100
        adapter = make(make_device(proxy.port, model="eastron_sdm630"))
        async with running(adapter):
            stamps = set()
            started = time.monotonic()
            while len(stamps) < 6 and time.monotonic() - started < 10:
                if found := adapter.measurements().get("meter"):
                    stamps.add(found.taken_s)
                    assert time.monotonic() - found.taken_s >= 0.14
                await asyncio.sleep(0.01)
        steps = [(b - a) / 0.1 for a, b in zip(sorted(stamps), sorted(stamps)[1:], strict=False)]
        assert len(steps) == 5
        on_time = [step for step in steps if abs(step - round(step)) < 0.3 and round(step) >= 2]
        assert len(on_time) > len(steps) / 2  # the others were late on a busy machine, and not made up for


async def test_cancelled_at_any_moment_it_ends_at_once():
    """A cancellation that arrives together with an answer must not be lost (Python 3.11 wait_for)."""
    async with Server(device(1, {0: sdm630_image()})) as server:
        for turn in range(60):
            adapter = make(make_device(server.port, model="eastron_sdm630", poll_s=0.001))
            task = asyncio.create_task(adapter.run())
            await asyncio.sleep(0.01 + turn * 0.0003)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=1)
            assert done
            assert task.cancelled()


async def test_an_illegal_address_is_a_refusal_with_its_reason():
    async with Server(device(1, {40_000: chain(common(), meter_203())})) as server:
        adapter = make(make_device(server.port, model="eastron_sdm630"))
        async with running(adapter):
            await until(lambda: "meter" in adapter.problems())
    assert "unit 1 refuses input registers 0 to 17" in adapter.problems()["meter"]


async def test_wrong_model_is_said_in_the_installers_words():
    async with Server(device(1, {40_000: chain(common(), inverter_103())})) as server:
        adapter = make(make_device(server.port))
        async with running(adapter):
            await until(lambda: "meter" in adapter.problems())
    assert "SunSpec models 1, 103 but none of 203" in adapter.problems()["meter"]


async def test_run_ends_with_a_device_error_when_nobody_answers(monkeypatch):
    monkeypatch.setattr("adapters.modbus.adapter.LOST_AFTER", 1)
    async with Server(device(1, {0: sdm630_image()})) as server, FaultProxy(server.port) as proxy:
        proxy.swallow = lambda request: True
        adapter = make(make_device(proxy.port, unit=7, model="eastron_sdm630"))
        with pytest.raises(DeviceUnavailable, match=r"no answer within 0.4 s from unit 7"):
            await asyncio.wait_for(adapter.run(), 10)


def test_every_map_is_valid_and_cites_its_sources():
    assert set(known_models()) >= {
        "sunspec_meter",
        "sunspec_inverter",
        "sunspec_battery",
        "eastron_sdm630",
        "generic_meter",
    }
    for model in known_models():
        assert load_map(model).sources


def test_an_unknown_model_is_refused():
    with pytest.raises(DeviceMisconfigured, match="no map for model 'nonsense'; known models: abb_b23, "):
        make(make_device(502, model="nonsense"))
