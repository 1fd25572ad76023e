"""The meter faults of FAULTS.md (M1 to M12) over every field protocol at once, secured where it can be; bounds are printed (-s).

Each peer is a real server (``field_peers``). What the adapters make of it goes to the core's own judges in real time; only the
hours of M6's correlation are virtual. M3 and M6 take longest and are marked ``soak``.
"""

import asyncio
import math
import time

import numpy as np
import pytest

from cem.core import meter_health
from cem.core.meter_health import MeterHealth, MeterMemory, judge
from cem.core.site import Meter
from cem.core.step_check import StepMemory, watch
from tests.adapters.field import fresh, until
from tests.adapters.field_peers import NAN, POLL_S, ModbusRtu, ModbusTcp, OpcUa, all_of_them

# paho and asyncua leave the socket of a failed attempt to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LOOK_S = 0.02
HOLD_OFF_S = 2.0
PHYSICAL_A = 63.0


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("adapters.modbus.unit.SLOW_POLL_S", 0.0)


class Judge:
    """The core's judgement of one meter, cycle by cycle."""

    def __init__(self, adapter):
        self.adapter, self.memory, self.ours_a = adapter, MeterMemory(), 0.0
        self.health = MeterHealth.LOST

    def look(self):
        self.memory, self.health = judge(
            Meter("meter", POLL_S), self.memory, self.adapter.measurements().get("meter"),
            ours_a=self.ours_a, physical_max_a=PHYSICAL_A, now_s=time.monotonic(), hold_off_s=HOLD_OFF_S,
        )  # fmt: skip
        return self.health

    async def until(self, health, timeout_s):
        return await until(lambda: self.look() is health, timeout_s)


async def each(found, row, record_property, **columns):
    """Run a row's steps with every peer at once; tell what was measured."""
    for peer, took in zip(
        found, await asyncio.gather(*(row(peer, adapter, **columns) for peer, adapter in found)), strict=True
    ):
        line = f"{peer[0].name}: " + ", ".join(f"{what} {value:.2f} s" for what, value in took.items())
        print(line)
        record_property(peer[0].name, line)


async def told(adapter, words):
    began_s = time.monotonic()
    while words not in (said := adapter.problems().get("meter", "nothing is wrong")):
        assert time.monotonic() - began_s < 4, f"{adapter.name}: {said!r}, not {words!r}"
        await asyncio.sleep(0.01)
    return time.monotonic() - began_s


async def put_right(peer, adapter):
    await peer.say(v=[230.0] * 3, a=[4.0] * 3, hz=50.0)
    await fresh(adapter)
    await until(lambda: not adapter.problems())


async def test_m1_m2_m12_silent_and_back(tmp_path, record_property):
    async def row(peer, adapter):
        judged, took = Judge(adapter), {}
        await judged.until(MeterHealth.GOOD, 15)
        await peer.silence()
        took["M1 no raises after"] = await judged.until(MeterHealth.HOLD, 5)
        took["M1 fallback after"] = took["M1 no raises after"] + await judged.until(MeterHealth.LOST, 8)
        assert 2.0 < took["M1 no raises after"] < 4.5
        assert 7.0 < took["M1 fallback after"] < 10.0
        await peer.speak()
        took["M12 fresh again after"] = await until(lambda: judged.look() is not MeterHealth.LOST, 30)
        back_s = time.monotonic()
        assert judged.memory.samples >= 3
        await judged.until(MeterHealth.GOOD, 6)
        took["M2 raises after another"] = time.monotonic() - back_s
        assert time.monotonic() - judged.memory.back_s >= HOLD_OFF_S
        if isinstance(peer, ModbusTcp):
            assert peer.proxy.most_open == 1
        return took

    async with all_of_them(tmp_path) as found:
        await each(found, row, record_property)


@pytest.mark.soak
async def test_m3_frozen_and_m6_turned(tmp_path, record_property, monkeypatch):
    monkeypatch.setattr(meter_health, "FROZEN_CONFIRM_S", 2.0)

    async def frozen(peer, adapter):
        judged = Judge(adapter)
        await judged.until(MeterHealth.GOOD, 15)
        began_s, judged.ours_a = time.monotonic(), 10.0  # our stations rise, its words stay
        await judged.until(MeterHealth.LOST, 5)
        took = {"M3 lost after": time.monotonic() - began_s}
        assert 2.0 <= took["M3 lost after"] < 3.0
        assert time.monotonic() - judged.adapter.measurements()["meter"].taken_s < 2.0  # though it answers
        return took

    async def turned(peer, adapter, sign):
        memory, now_s, conclusion_s = StepMemory.none(1, 1), 0.0, math.nan
        for setpoint_a in (0.0, 10.0, 0.0, 10.0, 0.0, 10.0, 0.0):
            seen = None
            for second in range(40):
                ours_a = setpoint_a if second > 4 or setpoint_a == 0 else 0.0
                if seen is None or second in {0, 5}:
                    await peer.say(a=[sign * (4.0 + ours_a)] * 3)
                    seen = (await fresh(adapter)).current_a
                    assert seen == pytest.approx([sign * (4.0 + ours_a)] * 3, rel=1e-4)
                memory = watch(
                    memory, setpoint_a=np.array([setpoint_a]), raised=np.array([setpoint_a > memory.setpoint_a[0]]),
                    meter_a=np.array([list(seen)]), ours_a=np.full((1, 3), ours_a), settles_s=np.array([25.0]),
                    feeds=np.array([True]), now_s=now_s,
                )  # fmt: skip
                now_s += 1.0
                if memory.implausible[0] and math.isnan(conclusion_s):
                    conclusion_s = now_s
        return {f"M6 turned by {sign}: found after (virtual)": conclusion_s}

    async with all_of_them(tmp_path) as found:
        await each(found, frozen, record_property)
        for sign in (-1, 1):
            for (peer, _), took in zip(
                found, await asyncio.gather(*(turned(*one, sign) for one in found)), strict=True
            ):
                ((what, seconds),) = took.items()
                print(f"{peer.name}: {what} {seconds:.0f} s")
                assert math.isnan(seconds) == (sign > 0), "a meter that is right is never doubted"


async def test_m4_m5_m7_m8_m9_m11_what_is_no_value(tmp_path, record_property):
    async def row(peer, adapter):
        took = {}
        await fresh(adapter, timeout_s=15)

        await peer.say(a=[NAN, 4.0, 4.0], w=[920.0] * 3)
        took["M4"] = await until(adapter.problems, 4)
        kept = adapter.measurements()["meter"]
        await asyncio.sleep(2 * POLL_S)
        assert adapter.measurements()["meter"] == kept  # missing, not 0
        await put_right(peer, adapter)

        judged, began_s = Judge(adapter), time.monotonic()
        await judged.until(MeterHealth.GOOD, 4)
        await peer.say(a=[200.0] * 3)
        await until(lambda: judged.look() is not None and judged.memory.spikes == 1)
        assert max(judged.memory.current_a) == pytest.approx(4.0)  # one is not believed
        began_s = time.monotonic()
        await until(lambda: judged.look() is not None and max(judged.memory.current_a) > 190)
        took["M5 second sample"] = time.monotonic() - began_s
        await put_right(peer, adapter)

        await peer.say(a=[5.0] * 3, w=[-1150.0, -1150.0, 1150.0])
        took["M7"] = await until(lambda: adapter.measurements()["meter"].current_a == pytest.approx([-5, -5, 5]))
        await put_right(peer, adapter)

        for counted, believed in ((0.0, 10_000.0), (100.0, 10_000.0), (200.0, 200.0)):
            await peer.say(wh=counted)
            await fresh(adapter)
            await fresh(adapter)
            assert adapter.measurements()["meter"].energy_wh == pytest.approx(believed)

        await peer.say(v=[230.0, 0.4, 230.0], a=[4.0, 0.0, 4.0], w=[920.0, 0.0, 920.0])
        took["M9"] = await told(adapter, "voltage on its terminal 2 reads 0.4 V")
        await put_right(peer, adapter)

        await peer.say(p=9000.0)
        took["M11"] = await told(adapter, "phases sum to 2760 W but its total reads 9000 W")
        await put_right(peer, adapter)
        await peer.say(a=[4.0] * 3, w=[5000.0] * 3)
        took["M11 W, V, A"] = await told(adapter, "check CT ratio and model")
        await put_right(peer, adapter)
        if peer.sees_frequency:
            await peer.say(hz=95.0)
            took["M11 Hz"] = await told(adapter, "frequency reads 95.00 Hz")
        assert max(took.values()) < 2.0
        return took

    async with all_of_them(tmp_path) as found:
        await each(found, row, record_property)


async def test_m10_a_slow_meter_is_as_old_as_its_question_and_delays_nobody(tmp_path, record_property):
    """MQTT is exempt: nobody asks."""
    slow_s = 0.25

    async def row(peer, adapter):
        await fresh(adapter, timeout_s=15)
        delays = peer.line.delays_s if isinstance(peer, ModbusRtu) else peer.proxy.delays_s
        delays.extend([slow_s] * 1000)
        await asyncio.sleep(2 * slow_s)
        ages_s, last = [], adapter.measurements()["meter"].taken_s
        end_s = time.monotonic() + 15
        while len(ages_s) < 3 and time.monotonic() < end_s:
            found = adapter.measurements()["meter"]
            if found.taken_s != last:
                ages_s.append(time.monotonic() - found.taken_s)
                last = found.taken_s
            await asyncio.sleep(0.01)
        youngest_s = min(ages_s)
        delays.clear()
        assert slow_s <= youngest_s < 10 * slow_s
        return {"M10 youngest value": youngest_s}

    async def cycles():
        worst_s = 0.0
        while True:
            before_s = time.monotonic()
            await asyncio.sleep(0.05)
            worst_s = max(worst_s, time.monotonic() - before_s - 0.05)
            jitter.append(worst_s)

    jitter = []
    async with all_of_them(tmp_path, (ModbusTcp, ModbusRtu, OpcUa)) as found:
        for _, adapter in found:
            await fresh(adapter, timeout_s=15)
        beside = asyncio.create_task(cycles())
        await each(found, row, record_property)
        beside.cancel()
    print(f"M10: a cycle beside them was late by at most {1000 * jitter[-1]:.0f} ms")
    assert jitter[-1] < slow_s  # as late as that it would be, had it waited for an answer
