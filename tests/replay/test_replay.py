"""What is recorded decides the same again; what is cut off, torn or too much harms nobody."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from adapters.simulated.ev import EvType
from adapters.simulated.plant import Plant
from cem.core.engine import EngineMemory, Plan, decide
from cem.core.limits import Limit, LimitKind
from cem.core.site import Evse, Meter, Protection, Site, Zone
from cem.core.state import EvseState, Measurement, SiteState
from cem.core.timings import Timings
from cem.core.units import PerPhase
from cem.errors import CemError
from cem.replay import Recorder, codec, replay
from cem.replay.segment import SUFFIX, read_cycles
from cem.simulate.loop import ClosedLoop

SITE = Site(
    "replayed",
    230.0,
    3,
    (
        Zone("house", None, Protection(35.0), meter_id="grid", fallback_limit_a=8.0, uncontrolled_max_a=20.0),
        Zone("garage", "house", Protection(25.0), uncontrolled_max_a=0.0),
    ),
    (
        Evse("A/1", "A", "garage", 1, rotation=(0, 1, 2)),
        Evse("B/1", "B", "garage", 1, rotation=(1, 2, 0), max_a=16.0),
        Evse("C/1", "C", "house", 1, phases=1, rotation=(2,), priority=1),
    ),
    (Meter("grid", 1.0),),
)
PLAN = Plan.of(SITE, Timings(min_off_s=20.0))


def live(record, cycles, *, faults=True, seed=3):
    """A day's worth of trouble in a few minutes, every cycle handed to the recorder."""
    plant = Plant(SITE, seed)
    loop = ClosedLoop(PLAN, plant, step_s=0.5, record=record)
    for name in ("A/1", "B/1", "C/1"):
        plant.points[name].plug(EvType(phases=3, need_wh=1e9, settle_s=3.0))
        loop.stations[name].begin(0.0)
    script = {
        60.0: lambda: loop.cut_meters.add("grid"),
        110.0: lambda: loop.cut_meters.discard("grid"),
        150.0: lambda: setattr(loop.stations["B/1"], "online", False),
        180.0: lambda: setattr(loop, "limits", (Limit(LimitKind.IMPORT, "house", "dso", value_a=PerPhase.same(18.0)),)),
        230.0: lambda: (setattr(loop.stations["B/1"], "online", True), setattr(loop, "limits", ())),
        260.0: lambda: (plant.points["C/1"].unplug(), loop.stations["C/1"].end()),
    }
    for at_s, do in sorted(script.items()):
        if at_s < cycles:
            loop.run(at_s)
            if faults:
                do()
    loop.run(float(cycles))
    return loop


def recorded(place, cycles=300, **options):
    recorder = Recorder(place, PLAN, version="1.2.3", **options)

    def take(*step):
        recorder.take(*step)
        while recorder._queue.qsize() > 20:  # virtual time is faster than any real control
            time.sleep(0.001)

    live(take, cycles)
    recorder.close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    place = tmp_path_factory.mktemp("ring")
    recorded(place)
    return place


def test_every_decision_comes_out_the_same_to_the_last_bit(recording):
    steps = list(replay(recording))
    assert [step.number for step in steps] == list(range(1, 301))
    assert all(step.identical for step in steps)
    reasons = {int(code) for step in steps for code in step.decision.reason}
    assert len(reasons) >= 6  # the faults were felt


def test_a_changed_timing_is_found_by_evse(recording):
    steps = list(replay(recording, timings=replace(PLAN.timings, raise_rate_a_per_s=0.4)))
    found = [difference for step in steps for difference in step.evses]
    assert found
    assert {difference.evse_id for difference in found} <= {"A/1", "B/1", "C/1"}
    assert any(difference.recorded_a != difference.now_a for difference in found)
    assert any("setpoint_a" in step.parts for step in steps)
    assert not all(step.identical for step in steps)


def test_a_changed_site_is_used_and_another_site_is_refused(recording):
    smaller = replace(SITE, zones=(replace(SITE.zones[0], protection=Protection(20.0)), SITE.zones[1]))
    assert any(step.evses for step in replay(recording, smaller))
    with pytest.raises(CemError, match="other EVSEs"):
        next(replay(recording, replace(SITE, evses=SITE.evses[:2])))


def test_a_decision_that_differs_in_one_bit_is_found(recording, monkeypatch):
    def almost(plan, state, memory):
        decision, memory = decide(plan, state, memory)
        if state.now_s == 200.0:
            decision = replace(decision, committed_a=np.nextafter(decision.committed_a, 99.0))
        return decision, memory

    monkeypatch.setattr("cem.replay.player.decide", almost)
    different = [step for step in replay(recording) if not step.identical]
    assert [(step.recorded.state.now_s, step.parts, step.evses) for step in different] == [
        (200.0, ("committed_a",), ())
    ]


def size_of(folder):
    total = 0
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # the recorder drops it this moment
            total += path.stat().st_size
    return total


def settled_size_of(folder):
    """Files are looked at one after the other: while the recorder writes, their sum is of no one moment."""
    last, size = -1, size_of(folder)
    while size != last:
        time.sleep(0.004)
        last, size = size, size_of(folder)
    return size


def test_the_ring_never_takes_more_than_it_may(tmp_path):
    limit = 40_000
    recorder = Recorder(tmp_path, PLAN, version="1", max_bytes=limit, flush_s=0.0)
    most = []

    def take(*step):
        recorder.take(*step)
        most.append(settled_size_of(tmp_path))

    live(take, 200)
    recorder.close()
    assert max(most) <= limit
    assert most[-1] > limit / 2
    steps = list(replay(tmp_path))
    assert steps[0].number > 1  # the oldest are gone
    assert steps[-1].number == 200  # the newest are there
    assert all(step.identical for step in steps)


def test_a_ring_too_small_for_one_keyframe_is_said_once_and_stays_empty(tmp_path, caplog):
    recorded(tmp_path, 20, max_bytes=500)
    assert size_of(tmp_path) <= 500
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "storage.replay_mb" in caplog.text


def test_cycles_left_out_begin_a_new_segment(tmp_path):
    recorder = Recorder(tmp_path, PLAN, version="1")

    def take(number, *rest):
        if number not in {50, 51}:
            recorder.take(number, *rest)
            while recorder._queue.qsize() > 20:
                time.sleep(0.001)

    live(take, 100)
    recorder.close()
    steps = list(replay(tmp_path))
    assert [step.number for step in steps] == [n for n in range(1, 101) if n not in {50, 51}]
    assert all(step.identical for step in steps)
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == 2


def test_control_never_waits_for_the_disk(tmp_path):
    recorder = Recorder(tmp_path, PLAN, version="1")
    steps = []
    live(lambda *step: steps.append(step), 3)
    started_s = time.perf_counter()
    for _ in range(5000):
        recorder.take(*steps[0])
    assert time.perf_counter() - started_s < 1.0  # 0.2 ms each, though the queue overflows
    recorder.close()


def test_a_torn_tail_ends_the_segment_and_nothing_else(recording, tmp_path):
    (whole,) = recording.glob(f"*{SUFFIX}")
    data = whole.read_bytes()
    before = 0
    for part in (0.5, 0.95):
        torn = tmp_path / f"torn{SUFFIX}"
        torn.write_bytes(data[: int(len(data) * part)] + b"\0" * 4096)
        steps = list(replay(torn))
        assert len(steps) > before
        before = len(steps)
        assert all(step.identical for step in steps)
    (tmp_path / f"empty{SUFFIX}").write_bytes(b"")
    assert len(list(replay(tmp_path))) == before  # the empty one is passed over in a folder
    with pytest.raises(CemError, match="not a recording"):
        next(replay(tmp_path / f"empty{SUFFIX}"))


KILLED = """
import sys, time
from pathlib import Path
from cem.replay import Recorder
from tests.replay.test_replay import PLAN, live
recorder = Recorder(Path(sys.argv[1]), PLAN, version="1", flush_s=0.01)
def take(*step):
    recorder.take(*step)
    time.sleep(0.01)
    if step[0] == 40:
        print("now", flush=True)
live(take, 100000, faults=False)
"""


def test_a_killed_process_leaves_what_it_had_flushed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"now\n"
        time.sleep(0.1)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    steps = list(replay(tmp_path))
    assert len(steps) >= 35
    assert all(step.identical for step in steps)


def test_a_cycle_that_fails_is_recorded_and_fails_again(tmp_path):
    recorder = Recorder(tmp_path, PLAN, version="1")
    steps = []
    live(lambda *step: steps.append(step), 3)
    number, state, memory, decision = steps[1]
    broken = replace(state, evses=())  # no engine can take that
    recorder.take(number, state, memory, decision)
    recorder.take(number + 1, broken, memory, None)
    recorder.close()
    good, bad = replay(tmp_path)
    assert good.identical
    assert good.failure is None
    assert bad.decision is None
    assert bad.failure
    assert bad.identical


def big_site(n):
    zones = [Zone("grid", None, Protection(4000.0), meter_id="grid", uncontrolled_max_a=100.0)]
    zones += [Zone(f"z{i}", "grid", Protection(250.0), meter_id=f"m{i}") for i in range(n // 20)]
    evses = [Evse(f"S{i}/1", f"S{i}", zones[1 + i // 20].zone_id, 1, rotation=(0, 1, 2)) for i in range(n)]
    return Site("big", 230.0, 3, tuple(zones), tuple(evses), tuple(Meter(z.meter_id) for z in zones))


def big_state(site, k):
    amps = PerPhase(10.0 + k / 7, 9.0, 8.5)
    return SiteState(
        1000.0 + k,
        datetime.fromtimestamp(1e9 + k, UTC),
        {m.meter_id: Measurement(m.meter_id, 1000.0 + k, current_a=amps) for m in site.meters},
        tuple(
            EvseState(e.evse_id, True, True, True, 6.0, measured_a=amps, measured_s=1000.0 + k - (i + k) % 10)
            for i, e in enumerate(site.evses)
        ),
    )


def test_a_thousand_evses_cost_control_under_a_millisecond(tmp_path):
    site = big_site(1000)
    plan = Plan.of(site, Timings())
    recorder = Recorder(tmp_path, plan, version="1")
    memory = EngineMemory.none(plan)
    costs_s = []
    for k in range(12):
        state = big_state(site, k)
        before = memory
        decision, memory = decide(plan, state, before)
        started_s = time.perf_counter()
        recorder.take(k + 1, state, before, decision)
        costs_s.append(time.perf_counter() - started_s)
    recorder.close()
    assert sorted(costs_s)[len(costs_s) // 2] < 0.001
    steps = list(replay(tmp_path))
    assert len(steps) == 12
    assert all(step.identical for step in steps)


def alike(one, other):
    if is_dataclass(one):
        return type(one) is type(other) and all(
            alike(getattr(one, f.name), getattr(other, f.name)) for f in fields(one)
        )
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(alike, one, other))
    return repr(one) == repr(other)


def test_values_survive_as_they_are_and_so_do_their_changes():
    steps = []
    live(lambda *step: steps.append(step), 120)
    _, state, memory, _ = steps[-1]
    for value in (SITE, PLAN.timings, state, memory):
        assert alike(value, codec.decode(json.loads(json.dumps(codec.encode(value)))))
    before = steps[0][1]
    for _, after, _, _ in steps[1:]:
        change = codec.delta(before, after)
        before = codec.patch(before, json.loads(json.dumps(change)))
        assert alike(before, after)


@pytest.mark.parametrize(
    ("before", "after"), [(0.0, -0.0), (1.0, 1), (1, True), (1.5, None), ((1, 2), (1, 2, 3)), ({"a": 1}, {"b": 1})]
)
def test_changes_that_equality_does_not_see(before, after):
    change = codec.delta(before, after)
    assert change is not codec.SAME
    assert repr(codec.patch(before, json.loads(json.dumps(change)))) == repr(after)


def test_a_memory_of_another_version_is_filled_up_from_this_one():
    memory = EngineMemory.none(PLAN)
    data = codec.encode(memory)
    del data[2]["raised_s"]
    data[2]["gone"] = 1.0
    assert alike(codec.decode(data, memory), memory)
    with pytest.raises(CemError, match="raised_s"):
        codec.decode(data)


@pytest.mark.parametrize(
    "name", ["os:system", "engine:decide", "engine:np", "nowhere:X", "..cli.run:run", "state:datetime"]
)
def test_a_file_makes_nothing_but_the_cores_values(name):
    with pytest.raises(CemError):
        codec.decode(["data", name, {}])


def test_what_cannot_be_recorded_is_refused():
    for value in ([1], object(), np.array([object()])):
        with pytest.raises(TypeError):
            codec.encode(value)


def cem(*words):
    return subprocess.run(
        [sys.executable, "-c", "from cem.cli import main; main()", *words], capture_output=True, text=True, check=False
    )


def test_command_line(recording, tmp_path):
    same = cem("replay", str(recording))
    assert same.returncode == 0, same.stderr
    assert "300 cycles" in same.stdout
    assert "300 identical" in same.stdout
    (whole,) = recording.glob(f"*{SUFFIX}")
    site_file = tmp_path / "site.yaml"
    site_file.write_text(
        """
version: 1
site: {name: Smaller, grid_connection: {fuse_a: 35}}
zones:
  - {id: house, protection: {rating_a: 35}, meter: grid, fallback_limit_a: 8, uncontrolled_max_a: 20}
  - {id: garage, parent: house, protection: {rating_a: 12}}
devices:
  - {id: grid, role: grid_meter, model: generic_meter, connection: {kind: modbus_tcp, host: 127.0.0.1}}
stations:
  - {id: A, zone: garage, breaker_a: 32, evses: [{id: 1, rotation: RST}]}
  - {id: B, zone: garage, breaker_a: 32, evses: [{id: 1, max_a: 16, rotation: STR}]}
  - {id: C, zone: house, breaker_a: 32, priority: 1, evses: [{id: 1, phases: 1, rotation: L3}]}
"""
    )
    other = cem("replay", str(whole), "--json", "--site", str(site_file))
    assert other.returncode == 1, other.stderr
    summary = json.loads(other.stdout)
    assert summary["cycles"] == 300
    assert summary["identical"] < 300
    assert summary["first_differences"][0]["evse_id"] in {"A/1", "B/1"}
    table = cem("replay", str(whole), "--site", str(site_file))
    assert "First differences" in table.stdout
    nothing = cem("replay", str(tmp_path / "nowhere"))
    assert nothing.returncode == 1
    assert "no recorded cycles" in nothing.stderr
    assert list(read_cycles(whole))
