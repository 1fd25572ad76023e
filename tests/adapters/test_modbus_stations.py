"""Modbus wallboxes as EVSEs: limits, watchdogs, sessions and outages, by real servers with a car in closed loop."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from adapters.modbus import wallbox
from adapters.modbus.adapter import ModbusAdapter
from adapters.modbus.maps import load_map
from adapters.modbus.wallbox import ModbusStations, device_of
from cem.clock import SystemClock
from cem.config.models import StationSection
from cem.control import Control
from cem.core.engine import Plan
from cem.core.site import Evse, Protection, Site, Zone
from cem.core.timings import Timings
from tests.adapters.field import running, until
from tests.adapters.wallboxes import Box
from tests.fakes import MemoryStore

CLOCK = SystemClock()
MODELS = ["keba_p30", "abb_terra_ac", "alfen_ng9xx", "phoenix_charx", "webasto_unite"]
GUARDED = {"keba_p30", "abb_terra_ac", "webasto_unite"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Our boxes show in 20 ms what real ones show in a second."""

    def load(model):
        found = load_map(model)
        writes = {
            name: write.model_copy(update={"settle_s": write.settle_s / 10}) for name, write in found.writes.items()
        }
        return found.model_copy(update={"writes": writes})

    monkeypatch.setattr("adapters.modbus.unit.load_map", load)


class Rig:
    """The product's side of some wallboxes: adapters, stations and what they tell."""

    def __init__(self, *boxes, store=None, fallback_a=8.0):
        self.events = []
        self.store = store or MemoryStore()
        self.evses = tuple(
            Evse(f"box{n}/1", f"box{n}", "root", 1, rotation=(0, 1, 2), fallback_a=fallback_a)
            for n in range(len(boxes))
        )
        sections = [
            StationSection.model_validate(
                {
                    "id": f"box{n}", "zone": "root", "breaker_a": 32, "fallback_a": fallback_a,
                    "modbus": {
                        "connection": {
                            "kind": "modbus_tcp", "host": "127.0.0.1", "port": box.server.port,
                            "unit_id": box.image.unit, "timeout_s": 0.5,
                        },
                        "model": box.model, "poll_s": 0.1,
                    },
                }
            )
            for n, box in enumerate(boxes)
        ]  # fmt: skip
        devices = [device_of(section) for section in sections]
        self.adapters = [ModbusAdapter(device.connection, [device], CLOCK, lambda: None) for device in devices]
        self.stations = ModbusStations(
            self.evses,
            [load_map(box.model) for box in boxes],
            self.adapters,
            [0.1] * len(boxes),
            self.store,
            CLOCK,
            lambda: None,
            self.events.append,
        )

    def state(self, n=0):
        return self.stations.evse_states(CLOCK.monotonic_s())[f"box{n}/1"]

    def sessions(self):
        return [(s.kind, s.meter_wh) for s in self.store.sessions()]


async def started(stack, rig):
    for adapter in rig.adapters:
        await stack.enter_async_context(running(adapter))
    await stack.enter_async_context(running(rig.stations))


@pytest.mark.parametrize("model", MODELS)
async def test_a_wallbox_is_limited_paused_and_its_car_seen(model):
    box = Box(model)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(box.runs())
        rig = Rig(box)
        before = rig.state()
        assert (before.online, before.connected, before.in_force_a) == (False, None, 32.0), "nothing known: its maximum"
        await started(stack, rig)
        rig.stations.apply(0.0, {"box0/1": 10.0})
        await until(lambda: rig.state().online and box.drawn_a == 10.0, 12)
        await until(lambda: (m := rig.state().measured_a) and m == pytest.approx((10.0, 10.0, 10.0)))
        now = rig.state()
        assert (now.connected, now.charging, now.in_force_a, now.confirmed_a) == (True, True, 10.0, 10.0)
        await until(lambda: rig.state().status == "charging")
        rig.stations.apply(0.0, {"box0/1": 0.0})
        await until(lambda: box.drawn_a == 0.0 and rig.state().confirmed_a == 0.0, 8)
        assert rig.state().in_force_a == 0.0
        rig.stations.apply(0.0, {"box0/1": 13.0})
        await until(lambda: box.drawn_a == 13.0 and rig.state().confirmed_a == 13.0, 12)
        box.plugged = False
        await until(lambda: rig.state().connected is False)
        assert rig.state().charging is False
        await until(lambda: len(rig.sessions()) == 2)
        (start, first), (stop, last) = rig.sessions()
        assert (start, stop) == ("start", "stop")
        if box.model in {"keba_p30", "alfen_ng9xx"}:  # the register is read every half minute
            assert first is not None
            assert last >= first
    assert rig.events == []


@pytest.mark.parametrize("model", sorted(GUARDED))
async def test_the_watchdog_is_set_read_back_and_fed(model, monkeypatch):
    assert wallbox.FEED_S + 2 < wallbox.WATCHDOG_S / 4  # Webasto: more often than every quarter of it
    monkeypatch.setattr(wallbox, "FEED_S", 0.3)
    box = Box(model)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(box.runs())
        rig = Rig(box)
        await started(stack, rig)
        rig.stations.apply(0.0, {"box0/1": 10.0})
        await until(lambda: rig.state().confirmed_a == 10.0, 12)
        address, raw = {"keba_p30": (5016, 8000), "abb_terra_ac": (0x4109, 8), "webasto_unite": (2000, 8)}[model]
        assert await box.get(address) == [raw]
        timer = {"keba_p30": 5018, "abb_terra_ac": 0x4106, "webasto_unite": 2002}[model]
        assert await box.get(timer) == [60]
        if model == "webasto_unite":
            await until(lambda: box.alive >= 2)
        else:
            await box.set(timer, [1])
            async with asyncio.timeout(6):
                while await box.get(timer) != [60]:
                    await asyncio.sleep(0.05)


async def test_away_it_counts_with_its_fallback_only_once_that_must_be_in_force(monkeypatch):
    monkeypatch.setattr(wallbox, "WATCHDOG_S", 2)
    monkeypatch.setattr(wallbox, "EXPIRY_MARGIN_S", 0.5)
    monkeypatch.setattr(wallbox, "STALE_S", 0.5)
    box = Box("webasto_unite")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(box.runs())
        rig = Rig(box, fallback_a=12.0)
        await started(stack, rig)
        rig.stations.apply(0.0, {"box0/1": 7.0})
        await until(lambda: rig.state().confirmed_a == 7.0)

        def later(seconds):
            return rig.stations.evse_states(CLOCK.monotonic_s() + seconds)["box0/1"].in_force_a

        assert (later(0.5), later(1.5), later(60)) == (7.0, 12.0, 12.0), "from half of its watchdog on it may be either"
        await box.server.__aexit__()
        await until(lambda: not rig.state().online)
        seen = set()
        async with asyncio.timeout(6):
            while rig.state().in_force_a != 12.0:
                seen.add(rig.state().in_force_a)
                await asyncio.sleep(0.02)
        assert seen == {7.0}
        assert rig.state().charging, "who is away may go on charging"
        async with Box("webasto_unite").server as again:  # another port: nothing hears us there
            assert again.port != box.server.port


async def test_without_a_watchdog_it_counts_with_its_maximum(monkeypatch):
    monkeypatch.setattr(wallbox, "WATCHDOG_S", 2)
    box = Box("phoenix_charx")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(box.runs())
        rig = Rig(box)
        await started(stack, rig)
        rig.stations.apply(0.0, {"box0/1": 7.0})
        await until(lambda: rig.state().confirmed_a == 7.0)
        await box.server.__aexit__()
        await until(lambda: rig.state().in_force_a == 32.0)


async def test_one_that_holds_something_else_is_told_once_and_cannot_be_held(monkeypatch):
    monkeypatch.setattr(wallbox, "RETRY_S", 0.2)
    box = Box("keba_p30")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(box.runs())
        rig = Rig(box)
        await started(stack, rig)
        rig.stations.apply(0.0, {"box0/1": 10.0})
        await until(lambda: rig.state().confirmed_a == 10.0, 12)
        box.stuck = [0, 20_000]  # what it shows from now on, whatever it is told
        rig.stations.apply(0.0, {"box0/1": 6.0})
        await until(lambda: rig.state().fault is not None, 8)
        assert "current_a was set to 6 and reads back as 20" in rig.state().fault
        assert rig.state().in_force_a == 10.0, "the cut is not believed"
        assert [event.code for event in rig.events] == ["wallbox"]


async def test_a_session_and_what_may_be_in_force_go_on_over_a_restart():
    store = MemoryStore()
    box = Box("alfen_ng9xx")
    async with box.runs():
        for known_a in (32.0, 10.0):
            async with AsyncExitStack() as stack:
                rig = Rig(box, store=store)
                assert rig.state().in_force_a == known_a
                await started(stack, rig)
                rig.stations.apply(0.0, {"box0/1": 10.0})
                await until(lambda rig=rig: rig.state().confirmed_a == 10.0)
                await until(store.sessions)
        box.plugged = False
        async with AsyncExitStack() as stack:
            rig = Rig(box, store=store)
            await started(stack, rig)
            await until(lambda: len(store.sessions()) == 2)
    start, stop = store.sessions()
    assert (start.kind, stop.kind, start.session_id) == ("start", "stop", stop.session_id)


async def test_two_wallboxes_share_a_fuse_in_closed_loop():
    """Real control, real Modbus both ways: 20 A for two cars of 16 A, and all of it for one when the other leaves."""
    boxes = [Box("alfen_ng9xx"), Box("webasto_unite")]
    async with AsyncExitStack() as stack:
        for box in boxes:
            await stack.enter_async_context(box.runs())
        rig = Rig(*boxes)
        site = Site("s", 230.0, 3, (Zone("root", None, Protection(20.0)),), rig.evses, ())
        plan = Plan.of(site, Timings(raise_interval_s=1.0, reaction_s=1.0, peak_hold_s=1.0, hold_off_s=1.0))
        cycles = []
        control = Control(
            plan, CLOCK, rig.adapters, rig.stations, [], rig.store, rig.events.append, cycles.append, cycle_s=0.25
        )
        await started(stack, rig)
        task = asyncio.create_task(control.run())
        most_a = 0.0
        try:
            settled = asyncio.get_running_loop().time() + 3.0
            async with asyncio.timeout(30):
                while not all(box.drawn_a >= 9 for box in boxes):
                    if asyncio.get_running_loop().time() > settled:
                        most_a = max(most_a, sum(box.drawn_a for box in boxes))
                    await asyncio.sleep(0.02)
            boxes[0].plugged = False
            await until(lambda: boxes[1].drawn_a == 16.0, 25)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert most_a <= 20.0
