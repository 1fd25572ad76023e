"""Inverters and batteries commanded by real Modbus: written, fed, released, disobeyed and told."""

import asyncio
from contextlib import asynccontextmanager

import pytest

import adapters
from cem import resource_control
from cem.clock import SystemClock
from cem.config.models import Device
from cem.core.resources import Envelope
from cem.core.site import Resource, ResourceKind
from cem.core.state import Measurement
from cem.errors import DeviceRefused
from cem.resource_control import Controlled, ResourceCommander
from tests.adapters import image_files
from tests.adapters.field import running, until
from tests.adapters.modbus_server import Server, device
from tests.adapters.sunspec_image import (
    battery_124,
    chain,
    common,
    controls_123,
    controls_704,
    inverter_103,
    measured_701,
)

CLOCK = SystemClock()
BASE = 40_000
COMMON = 2 + 68  # marker, model 1


def settings_121() -> list[int]:
    """Model 121, length 30: WMax 10 kW (WMax_SF = 1)."""
    block = [0x8000] * 32
    block[0:2] = [121, 30]
    block[2] = 1000  # WMax
    block[22] = 1  # WMax_SF
    return block


def capacity_702() -> list[int]:
    """Model 702, length 50: WMaxRtg 12 kW, WMax set to 10 kW (W_SF = 1)."""
    block = [0xFFFF] * 52
    block[0:2] = [702, 50]
    block[2] = 1200  # WMaxRtg
    block[26] = 1000  # WMax
    block[45] = 1  # W_SF
    return block


def adapter_for(port, model, role, unit=1, **more):
    at = {"kind": "modbus_tcp", "host": "127.0.0.1", "port": port, "unit_id": unit, "timeout_s": 0.5}
    it = Device.model_validate(
        {"id": "it", "role": role, "connection": at, "model": model, "poll_s": 0.1, "max_w": 10_000, **more}
    )
    return adapters.create("modbus_tcp", it.connection, [it], CLOCK, lambda: None)


class Rig:
    """A commander over one device, handed an envelope again and again as control does it."""

    def __init__(self, adapter, kind, *, fallback_w=None, lapses_s=None):
        self.adapter = adapter
        self.events = []
        self.grid_w = None
        self.resource = Resource("it", kind, "root", 10_000.0)
        self.commander = ResourceCommander(
            [Controlled(self.resource, fallback_w, lapses_s)], [adapter], self.read, "grid", CLOCK, self.events.append
        )
        self.lower_w, self.upper_w = -10_000.0, 0.0 if kind is ResourceKind.PV else 10_000.0

    def read(self):
        found = dict(self.adapter.measurements())
        if self.grid_w is not None:
            found["grid"] = Measurement("grid", CLOCK.monotonic_s(), total_power_w=self.grid_w)
        return found

    async def cycles(self):
        while True:
            self.commander.apply(CLOCK.monotonic_s(), [Envelope("it", self.lower_w, self.upper_w)])
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def runs(self):
        task = asyncio.create_task(self.cycles())
        try:
            async with running(self.adapter), running(self.commander):
                yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(resource_control, "SPACING_S", 0.05)
    monkeypatch.setattr(resource_control, "RETRY_S", 0.2)


async def holds(server, address, words, unit=1, timeout_s=5.0):
    async with asyncio.timeout(timeout_s):
        while (seen := await server.get(unit, address, len(words))) != words:
            await asyncio.sleep(0.02)
    return seen


async def test_an_inverter_is_curtailed_by_model_123_fed_and_released(monkeypatch):
    monkeypatch.setattr(resource_control, "REFRESH_S", 0.5)
    words = chain(common(), inverter_103(), settings_121(), controls_123())
    at = BASE + COMMON + 52 + 32  # model 123
    async with Server(device(1, {BASE: words})) as server:
        rig = Rig(adapter_for(server.port, "sunspec_inverter", "pv"), ResourceKind.PV)
        async with rig.runs():
            await holds(server, at + 9, [0])  # WMaxLim_Ena: left alone
            rig.lower_w = -3456.0
            await holds(server, at + 9, [1])
            assert await server.get(1, at + 5, 3) == [3400, 0, 60]  # WMaxLimPct 34.00 % of WMax, _WinTms, _RvrtTms
            await server.set(1, at + 9, [0])  # what a reversion does
            await holds(server, at + 9, [1])  # fed before the time is over
            rig.lower_w = -10_000.0
            await holds(server, at + 9, [0])
            await asyncio.sleep(0.7)
            await server.set(1, at + 9, [7])
            await asyncio.sleep(0.7)
            assert await server.get(1, at + 9, 1) == [7], "a released inverter is not written any more"
    assert rig.events == []


async def test_model_704_comes_first_and_falls_back_to_its_part_of_the_contract():
    words = chain(common(), measured_701(), capacity_702(), controls_704())
    at = BASE + COMMON + 155 + 52
    async with Server(device(1, {BASE: words})) as server:
        rig = Rig(adapter_for(server.port, "sunspec_inverter", "pv"), ResourceKind.PV, fallback_w=6000.0)
        rig.lower_w = -2000.0
        async with rig.runs():
            await holds(server, at + 14, [1])  # WMaxLimPctEna
            assert await server.get(1, at + 15, 1) == [200]  # 20.0 % of WMax, not of WMaxRtg
            assert await server.get(1, at + 16, 4) == [600, 1, 0, 60]  # Rvrt 60.0 %, EnaRvrt, RvrtTms


async def test_a_battery_is_bounded_by_model_124():
    words = chain(common(), inverter_103(), battery_124())
    words[COMMON + 52 + 18 : COMMON + 52 + 26] = [0, 0, 0, 0, 0xFFFF, 0, 0, 0xFFFE]
    at = BASE + COMMON + 52
    async with Server(device(1, {BASE: words})) as server:
        await server.set(1, BASE + COMMON + 14, [0])  # it rests
        rig = Rig(adapter_for(server.port, "sunspec_battery", "battery", max_w=5000), ResourceKind.BATTERY)
        rig.lower_w, rig.upper_w = 0.0, 1250.0
        async with rig.runs():
            await holds(server, at + 5, [3])  # StorCtl_Mod: both hold
            assert await server.get(1, at + 12, 2) == [0, 2400]  # OutWRte 0 %, InWRte 1200 of 5000 W
            assert await server.get(1, at + 15, 1) == [60]
            rig.lower_w, rig.upper_w = -10_000.0, 10_000.0
            await holds(server, at + 5, [0])
            assert await server.get(1, at + 12, 2) == [10_000, 10_000]


async def test_a_battery_with_a_set_point_is_led_only_while_it_would_leave_its_envelope(monkeypatch):
    """Kostal: 582 tells discharging as positive; 1034 is a float, low word first; its commands lapse in 30 s."""
    monkeypatch.setattr(resource_control, "RELEASE_S", 0.5)
    image = image_files.load("kostal_plenticore_battery")
    async with Server(image.served()) as server:
        rig = Rig(adapter_for(server.port, image.model, "battery", unit=71), ResourceKind.BATTERY, lapses_s=0.9)
        rig.grid_w = 0.0
        async with rig.runs():
            await until(lambda: "it" in rig.adapter.measurements())
            await asyncio.sleep(0.3)
            assert await server.get(71, 1034, 2) == [0, 0], "inside its envelope it is left alone"
            rig.lower_w = 0.0  # it discharges 1234 W
            await asyncio.sleep(0.5)
            assert await server.get(71, 1034, 2) == [0, 0]
            assert rig.adapter.measurements()["it"].total_power_w == -1234
            rig.grid_w = -5234.0  # and the site exports: it would charge by itself
            await server.set(71, 582, [0])
            await asyncio.sleep(0.5)
            low, high = await server.get(71, 1034, 2)
            assert high & 0x8000, "led to charge (their sign: negative)"
            await server.set(71, 1034, [0, 0])
            rig.lower_w = -10_000.0
            await asyncio.sleep(1.2)
            await server.set(71, 1034, [1, 1])
            await asyncio.sleep(0.6)
            assert await server.get(71, 1034, 2) == [1, 1], "left alone again"
            del low


async def test_one_that_does_not_obey_is_told_once_and_again_when_it_does(monkeypatch):
    monkeypatch.setattr(resource_control, "OBEY_S", 0.4)
    words = chain(common(), inverter_103(), settings_121(), controls_123())
    async with Server(device(1, {BASE: words})) as server:
        rig = Rig(adapter_for(server.port, "sunspec_inverter", "pv"), ResourceKind.PV)
        rig.lower_w = -3000.0  # it goes on with 6900 W
        async with rig.runs():
            await until(lambda: rig.events)
            await asyncio.sleep(1.0)
            (event,) = rig.events
            assert event.code == "resource_control"
            assert "it: it does not obey: -6900 W measured, -3000 to 0 W allowed" in event.text
            assert "does not obey" in rig.commander.problems()["it"]
            await server.set(1, BASE + COMMON + 14, [300])
            await until(lambda: len(rig.events) == 2)
            assert rig.events[1].text == "it: obeys its limits again"
            assert rig.commander.problems() == {}


async def test_one_that_takes_no_limit_says_so_once():
    words = chain(common(), inverter_103())  # no controls
    async with Server(device(1, {BASE: words})) as server:
        rig = Rig(adapter_for(server.port, "sunspec_inverter", "pv"), ResourceKind.PV)
        rig.lower_w = 0.0
        async with rig.runs():
            await until(lambda: rig.events)
            await asyncio.sleep(0.6)
    (event,) = rig.events
    assert "has nothing that a limit can be written to" in event.text


async def test_a_limit_is_never_rounded_up_nor_over_the_whole():
    words = chain(common(), inverter_103(), settings_121(), controls_123())
    async with Server(device(1, {BASE: words})) as server:
        adapter = adapter_for(server.port, "sunspec_inverter", "pv")
        async with running(adapter):
            await until(adapter.measurements)
            assert await adapter.write("it", "limit_w", 3333.9) == pytest.approx(3333.0)
            assert await adapter.write("it", "limit_w", 99_000.0) == pytest.approx(10_000.0)


async def test_a_percentage_of_nothing_is_refused():
    words = chain(common(), inverter_103(), settings_121(), controls_123())
    words[COMMON + 52 + 2] = 0xFFFF  # WMax not known
    async with Server(device(1, {BASE: words})) as server:
        adapter = adapter_for(server.port, "sunspec_inverter", "pv")
        async with running(adapter):
            await until(adapter.measurements)
            with pytest.raises(DeviceRefused, match="the device does not say of what"):
                await adapter.write("it", "limit_w", 1000)


async def test_a_device_that_was_away_is_told_anew():
    words = chain(common(), inverter_103(), settings_121(), controls_123())
    at = BASE + COMMON + 52 + 32
    async with Server(device(1, {BASE: words})) as server:
        rig = Rig(adapter_for(server.port, "sunspec_inverter", "pv"), ResourceKind.PV)
        rig.lower_w = -8000.0
        async with rig.runs():
            await holds(server, at + 9, [1])
            await server.__aexit__()
            await until(lambda: rig.adapter.writes("it") is None, 10)
            async with Server(device(1, {BASE: words}), port=server.port) as again:  # as if switched off and on
                await holds(again, at + 9, [1], timeout_s=15)
                assert await again.get(1, at + 5, 1) == [8000]
