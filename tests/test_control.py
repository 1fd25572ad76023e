"""The control loop by itself: pace, restart, what it tells, and in which order it hands setpoints over."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from cem.control import Control
from cem.core.engine import Plan
from cem.core.grid_channel import Channel
from cem.core.limits import LimitKind, LimitSignal
from cem.core.site import Evse, Meter, Protection, Site, Zone
from cem.core.state import EvseState, Measurement
from cem.core.timings import Timings
from cem.core.units import PerPhase

from .fakes import MemoryStore, RealClock

SITE = Site(
    "s",
    230.0,
    3,
    (Zone("z", None, Protection(40.0), meter_id="m", fallback_limit_a=8.0, uncontrolled_max_a=20.0),),
    (Evse("A/1", "A", "z", 1, rotation=(0, 1, 2)), Evse("B/1", "B", "z", 1, rotation=(1, 2, 0))),
    (Meter("m"),),
)
PLAN = Plan.of(SITE, Timings())
DSO = Channel("dso", LimitKind.IMPORT, "z", "A", failsafe=10.0, nominal=40.0, release_ramp_s=0.0)


class Clock:
    """Time that a test sets."""

    def __init__(self):
        self.now_s = 1000.0
        self.jump_s = 0.0

    def monotonic_s(self):
        return self.now_s

    def utc(self):
        return datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=self.now_s + self.jump_s)


class Field:
    """A meter and a limit channel that say what a test wants."""

    name = "field"

    def __init__(self, clock):
        self.clock = clock
        self.amps = 2.0
        self.silent = False
        self.signal = None
        self._last = None

    def measurements(self):
        if not self.silent:
            now_s = self.clock.monotonic_s()
            volts = PerPhase.same(230.0)
            self._last = Measurement("m", now_s, current_a=PerPhase(self.amps, self.amps, now_s % 7), voltage_v=volts)
        return {} if self._last is None else {"m": self._last}

    def signals(self):
        return {} if self.signal is None else {"dso": self.signal}

    def problems(self):
        return {}


class Stations:
    """Stations that obey at once."""

    def __init__(self, clock):
        self.clock = clock
        self.charging = {"A/1": True, "B/1": True}
        self.limits = {"A/1": 0.0, "B/1": 0.0}
        self.calls = []

    def evse_states(self, now_s):
        return {
            evse: EvseState(
                evse,
                online=True,
                connected=True,
                charging=charging,
                in_force_a=self.limits[evse],
                measured_a=PerPhase.same(self.limits[evse]),
                measured_s=now_s,
                report_interval_s=1.0,
                since_s=0.0,
            )
            for evse, charging in self.charging.items()
        }

    def apply(self, now_s, setpoints_a, *_more):
        self.calls.append(list(setpoints_a.items()))
        self.limits.update(setpoints_a)


class Rig:
    def __init__(self, store=None, resumed_a=None):
        self.clock = Clock()
        self.field = Field(self.clock)
        self.stations = Stations(self.clock)
        self.store = store or MemoryStore()
        self.events = []
        self.cycles = []
        self.resumed_a = resumed_a
        self.control = self.make()

    def make(self):
        return Control(
            PLAN,
            self.clock,
            [self.field],
            self.stations,
            [DSO],
            self.store,
            self.events.append,
            self.cycles.append,
            resumed_a=self.resumed_a,
        )

    def run(self, seconds):
        for _ in range(seconds):
            self.clock.now_s += 1.0
            self.control.step()

    def codes(self):
        return [event.code for event in self.events]


@pytest.fixture
def rig():
    rig = Rig()
    rig.field.signal = LimitSignal("dso", None, active=False, written_s=1000.0, alive_s=1e9)
    return rig


def test_setpoints_are_handed_over_cuts_first(rig):
    rig.run(60)
    rig.stations.charging["A/1"] = False
    rig.run(1)
    rig.stations.charging["A/1"] = True
    rig.run(60)
    for before, call in zip(rig.stations.calls, rig.stations.calls[1:], strict=False):
        old = dict(before)
        falls = [amps < old[evse] for evse, amps in call]
        assert falls == sorted(falls, reverse=True)


def test_a_lost_meter_is_told_once_and_its_return_once(rig):
    rig.run(10)
    rig.field.silent = True
    rig.run(30)
    rig.field.silent = False
    rig.run(60)
    assert [code for code in rig.codes() if code.startswith("meter")] == ["meter_back", "meter_lost", "meter_back"]
    lost = next(event for event in rig.events if event.code == "meter_lost")
    assert "no believable value for" in lost.text


def test_an_outside_limit_is_told_when_it_changes_and_persisted(rig):
    rig.run(5)
    rig.field.signal = LimitSignal("dso", 12.0, active=True, written_s=rig.clock.now_s, alive_s=1e9)
    rig.run(5)
    told = [event for event in rig.events if event.code == "external_limit"]
    assert [event.data["state"] for event in told] == ["unlimited_controlled", "limited"]
    assert rig.store.load_state("external_limit/dso")["written"] == 12.0
    assert max(sum(dict(call).values()) for call in rig.stations.calls[-2:]) <= 12.0


def test_d3_a_restart_goes_on_with_the_limit_that_held(rig):
    rig.field.signal = LimitSignal("dso", 12.0, active=True, written_s=rig.clock.now_s, alive_s=1e9)
    rig.run(30)
    rig.field.signal = None  # and nobody answers after the restart
    rig.control = rig.make()
    rig.run(1)
    (limit,) = rig.cycles[-1].state.limits
    assert (limit.source, limit.value_a) == ("dso", PerPhase.same(12.0))


def test_d3_without_anything_on_record_the_failsafe_value_holds_at_once():
    rig = Rig()
    rig.run(1)
    (limit,) = rig.cycles[-1].state.limits
    assert limit.value_a == PerPhase.same(10.0)


def test_l1_grants_on_record_are_resumed_so_that_nobody_is_paused(rig):
    rig.stations.limits.update({"A/1": 13.0, "B/1": 13.0})
    rig.resumed_a = {"A/1": 13.0, "B/1": 13.0}
    rig.control = rig.make()
    rig.field.amps = 28.0
    rig.run(30)
    assert min(amps for call in rig.stations.calls for _, amps in call) >= 13.0


def test_l8_a_clock_that_jumps_changes_no_setpoint(rig):
    rig.run(60)
    before = rig.stations.calls[-1]
    for jump_s in (3600.0, -86_400.0, 10 * 365 * 86_400.0):
        rig.clock.jump_s = jump_s
        rig.run(5)
        assert sorted(rig.stations.calls[-1]) == sorted(before)


def test_an_evse_that_no_station_speaks_for_counts_with_all_it_can_draw(rig):
    del rig.stations.charging["B/1"]
    rig.run(40)
    decision = rig.cycles[-1].decision
    assert decision.committed_a[1] == 32.0
    assert decision.setpoint_a[0] + 32.0 <= 40.0


async def test_news_start_a_cycle_at_once_and_a_flood_of_them_does_not_take_over():
    rig = Rig()
    rig.clock.monotonic_s = RealClock().monotonic_s
    task = asyncio.create_task(rig.control.run())
    await asyncio.sleep(0.15)
    before = len(rig.cycles)
    rig.control.news()
    await asyncio.sleep(0.15)
    assert len(rig.cycles) > before  # less than the period has passed
    before = len(rig.cycles)
    for _ in range(200):
        rig.control.news()
        await asyncio.sleep(0.002)
    assert len(rig.cycles) - before <= 20
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_flood_of_news_leaves_the_loop_twice_as_long_as_a_cycle_takes():
    rig = Rig()
    rig.clock.monotonic_s = RealClock().monotonic_s
    slow_s, began_s = 0.1, time.monotonic()
    step = rig.control.step

    def slow_step():
        time.sleep(slow_s)  # as on a site of a thousand stations
        return step()

    rig.control.step = slow_step
    task = asyncio.create_task(rig.control.run())
    while time.monotonic() < began_s + 1.5:
        rig.control.news()
        await asyncio.sleep(0.002)
    periods = 2 + (time.monotonic() - began_s)  # the cycles on the clock come in any case
    assert len(rig.cycles) <= periods + (time.monotonic() - began_s) / (3 * slow_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_cycles_carry_their_number_and_pace(rig):
    rig.run(3)
    assert [cycle.number for cycle in rig.cycles] == [1, 2, 3]
    assert rig.cycles[-1].p99_ms >= rig.cycles[-1].p50_ms >= 0.0
