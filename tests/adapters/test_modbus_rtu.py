"""Modbus RTU on a pty pair, and RTU over TCP, against real pymodbus servers."""

import asyncio
import time

import pytest

import adapters
from adapters.modbus.decode import Request
from adapters.modbus.doubt import HOLDING, INPUTS, LATEST_S, Doubts, Look
from adapters.modbus.link import Link
from cem.clock import SystemClock
from cem.config.models import Device
from cem.errors import DeviceUnavailable
from tests.adapters.fault_proxy import FaultProxy
from tests.adapters.field import fresh, running, until
from tests.adapters.modbus_server import Server, device
from tests.adapters.serial_line import Gateway, SerialLine
from tests.adapters.sunspec_image import words

CLOCK = SystemClock()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("cem.supervise.FIRST_PAUSE_S", 0.3)
    monkeypatch.setattr("cem.supervise.LONGEST_PAUSE_S", 0.6)
    monkeypatch.setattr("adapters.modbus.unit.FIRST_PAUSE_S", 0.05)  # the next request meets the late answer


def serial(port, **more):
    return {"kind": "modbus_rtu", "port": port, "baudrate": 115_200, "timeout_s": 0.3, **more}


def gateway(port, **more):
    return {"kind": "modbus_rtu_tcp", "host": "127.0.0.1", "port": port, "timeout_s": 0.3, **more}


def make_device(connection, *, name="meter", unit=1, role="grid_meter", **more):
    return Device.model_validate(
        {"id": name, "role": role, "connection": {**connection, "unit_id": unit}, "model": "eastron_sdm120",
         "phases": 1, "poll_s": 0.1, **more}
    )  # fmt: skip


def make(*devices):
    return adapters.create(devices[0].connection.kind, devices[0].connection, devices, CLOCK, lambda: None)


def sdm120(amps):
    """Input registers of the maker's table: address 0 V, 6 A, 12 W, 70 Hz, 72 kWh import."""
    image = words("f", 0.0) * 40
    for address, value in ((0, 230.0), (6, amps), (12, 230.0 * amps), (70, 50.0), (72, 12.5)):
        image[address : address + 2] = words("f", value)
    return image


def one_request(amps):
    """The sample map's 18 registers, all in one request: nothing but the unit and the length tells answers apart."""
    image = [2300] * 3 + [int(100 * amps)] * 3 + words("i", int(230 * amps)) * 3 + words("i", int(690 * amps))
    return [*image, 5000, 0, *words("I", 1000)]


async def test_several_units_on_one_serial_line():
    units = {1: 5.0, 2: 7.0, 3: 9.0}
    async with SerialLine(*(device(unit, {0: sdm120(amps)}) for unit, amps in units.items())) as line:
        adapter = make(*(make_device(serial(line.port), name=f"m{unit}", unit=unit) for unit in units))
        assert adapter.name == f"modbus {line.port}"
        async with running(adapter):
            for unit, amps in units.items():
                assert (await fresh(adapter, f"m{unit}")).current_a == pytest.approx((amps, 0, 0))


@pytest.mark.parametrize("late_s", [0.36, 0.42, 0.65])
async def test_a_late_answer_on_a_serial_line_is_never_taken_for_the_next_one(late_s):
    """The old 5 A arrives at every stage of the next questions; meanwhile the meter reads 20 A; nobody may see 5 A."""
    async with SerialLine(device(1, {0: one_request(5.0)})) as line:
        adapter = make(make_device(serial(line.port), model="generic_meter", phases=3))
        async with running(adapter):
            await fresh(adapter)
            line.delays_s.append(late_s)
            await until(lambda: not line.delays_s)
            asked = time.monotonic()
            await line.set(1, 0, one_request(20.0))
            await until(lambda: "meter" in adapter.problems())
            line.delays_s.extend([0.15, 0.15, 0.15])  # and the line stays slow
            seen = set()
            while time.monotonic() - asked < 1.8:
                found = adapter.measurements()["meter"]
                if found.taken_s > asked:
                    seen.add(found.current_a.l1)
                await asyncio.sleep(0.01)
    assert seen == {20.0}


async def test_a_late_answer_through_a_gateway_is_never_taken_for_the_next_one():
    """A transparent gateway hands the old answer to the new TCP connection."""
    async with SerialLine(device(1, {0: one_request(5.0)})) as line, Gateway(line.port) as box:
        adapter = make(make_device(gateway(box.port), model="generic_meter", phases=3))
        async with running(adapter):
            await fresh(adapter)
            line.delays_s.append(0.45)
            await until(lambda: not line.delays_s)
            asked = time.monotonic()
            await line.set(1, 0, one_request(20.0))
            await until(lambda: "meter" in adapter.problems())
            line.delays_s.extend([0.15, 0.15, 0.15])
            seen = set()
            while time.monotonic() - asked < 1.8:
                found = adapter.measurements()["meter"]
                if found.taken_s > asked:
                    seen.add(found.current_a.l1)
                await asyncio.sleep(0.01)
        assert box.connections > 1
    assert seen == {20.0}


async def test_a_dead_unit_does_not_stop_the_line(caplog, monkeypatch):
    monkeypatch.setattr("adapters.modbus.unit.FIRST_PAUSE_S", 0.5)
    async with SerialLine(device(1, {0: sdm120(5.0)}), device(9, {0: sdm120(6.0)})) as line:
        line.swallow = lambda request: request[0] == 9
        live, dead = make_device(serial(line.port)), make_device(serial(line.port), name="dead", unit=9)
        adapter = make(live, dead)
        ages = []
        async with running(adapter):
            await fresh(adapter)
            started = time.monotonic()
            while time.monotonic() - started < 2.0:
                ages.append(time.monotonic() - adapter.measurements()["meter"].taken_s)
                await asyncio.sleep(0.02)
            assert "no answer within 0.3 s from unit 9" in adapter.problems()["dead"]
            assert max(ages) < 1.5
            line.swallow = None
            assert (await fresh(adapter, "dead", timeout_s=15)).current_a.l1 == 6.0


async def test_noise_before_an_answer_costs_one_sample_at_most():
    async with SerialLine(device(1, {0: sdm120(5.0)})) as line:
        adapter = make(make_device(serial(line.port)))
        async with running(adapter):
            await fresh(adapter)
            for noise in (b"\x00", b"\xff\xff\x01\x04", bytes(range(40))):
                line.noise = noise
                await until(lambda: not line.noise)
                assert (await fresh(adapter)).current_a.l1 == 5.0


async def test_a_port_that_is_not_there_is_said():
    async with SerialLine(device(1, {0: sdm120(5.0)})) as line:
        missing = "/dev/pts/none-such"
        adapter = make(make_device(serial(missing)))
        async with running(adapter):
            await until(lambda: "meter" in adapter.problems())
            assert (
                f"modbus {missing}: no connection; check that the adapter is plugged in" in adapter.problems()["meter"]
            )
        again = make(make_device(serial(line.port)))
        async with running(again):
            await fresh(again)


async def test_several_units_behind_one_gateway():
    async with (
        Server(device(1, {0: sdm120(5.0)}), device(2, {0: sdm120(6.0)}), framer="rtu") as server,
        FaultProxy(server.port) as proxy,
    ):
        adapter = make(make_device(gateway(proxy.port)), make_device(gateway(proxy.port), name="second", unit=2))
        async with running(adapter):
            assert (await fresh(adapter)).current_a.l1 == 5.0
            assert (await fresh(adapter, "second")).current_a.l1 == 6.0
        assert (proxy.connections, proxy.most_open) == (1, 1)


async def test_a_late_echo_is_never_taken_for_that_of_the_next_write():
    """The second write never reaches the device; the echo of the first comes when its own is waited for."""
    async with SerialLine(device(1, {0: [0] * 8})) as line:
        section = make_device(serial(line.port))
        link = Link(section.connection)
        await link.open()
        try:
            line.delays_s.append(0.4)
            for words, lost in (([7], False), ([8], True), ([8], True)):
                line.swallow = lambda request, lost=lost: lost and request[1] == 6
                with pytest.raises(DeviceUnavailable):
                    await link.write(1, 3, words, single=True, timeout_s=0.3, device="meter")
                await asyncio.sleep(0 if words == [7] else 0.1)
            line.swallow = None
            await link.write(1, 3, [9], single=True, timeout_s=0.3, device="meter")
            request = Request("holding", 3, 1)
            assert await link.read(1, request, 0.3, "meter") == [9]
        finally:
            link.close()


def test_a_doubtful_unit_is_asked_for_what_no_late_answer_looks_like():
    doubts = Doubts()
    assert doubts.probe(1, Look(HOLDING, 10), 0.0) is None
    doubts.timed_out(1, Look(HOLDING, 1), 0.0)
    doubts.timed_out(1, Look(HOLDING, 3), 0.0)
    assert doubts.probe(1, Look(HOLDING, 2), 1.0) == Look(HOLDING, 4)  # 1 and 3 are late, 2 is the next question
    assert doubts.probe(1, Look(INPUTS, 2), 1.0) is None  # answers say which function they are to
    assert doubts.probe(2, Look(HOLDING, 2), 1.0) is None  # and which unit speaks
    doubts.settled(1)
    assert doubts.probe(1, Look(HOLDING, 2), 1.0) is None
    doubts.timed_out(1, Look(HOLDING, 1), 0.0)
    assert doubts.probe(1, Look(HOLDING, 2), LATEST_S) is None


def test_bits_in_doubt_are_settled_by_another_function_and_no_longer_than_an_answer_may_take():
    doubts, asked = Doubts(), Look(INPUTS, 1)
    doubts.timed_out(1, asked, 0.0)
    for now_s in range(1, 8):  # a module that is silent to all of these
        probe = doubts.probe(1, asked, now_s)
        assert probe.function != INPUTS
        doubts.timed_out(1, probe, now_s)
    assert doubts.probe(1, asked, LATEST_S) is None


def test_a_refusal_settles_only_what_it_is_meant_for():
    doubts = Doubts()
    assert not doubts.may_be_older(1, HOLDING, HOLDING, 0.0)
    assert doubts.may_be_older(1, INPUTS, HOLDING, 0.0)
    doubts.timed_out(1, Look(INPUTS, 1), 0.0)
    assert not doubts.may_be_older(1, HOLDING, HOLDING, 1.0)
    assert doubts.may_be_older(1, INPUTS, HOLDING, 1.0)
    doubts.timed_out(1, Look(HOLDING, 1), 1.0)
    doubts.timed_out(1, Look(HOLDING, 2), 1.0)
    assert doubts.may_be_older(1, HOLDING, HOLDING, 2.0)
