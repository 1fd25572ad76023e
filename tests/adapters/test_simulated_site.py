"""The whole simulated site: real servers, its story, its truth, and what it says of the controller's reactions."""

import asyncio
import csv
import json
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapters.simulated.cloud import Cloud
from adapters.simulated.plant import Plant
from adapters.simulated.reactions import Reactions
from adapters.simulated.site import SimulatedSite
from adapters.simulated.story import Step, Story, demo_story
from adapters.simulated.truth import HEADER, Judge, external_a
from cem.config.loader import load_site_file
from cem.core.units import PerPhase
from tests import needs
from tests.adapters.test_simulated_plant import make_site

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "site_configs" / "demo.yaml"
PORTS = ("METER", "GARAGE", "PV", "BATTERY", "MQTT", "OCPP", "CLOUD", "OPCUA", "WEB")

LOAD = {"do": "load", "zone": "main", "power_w": [2300.0, 0.0, 0.0], "length_s": 5.0}
SMALL = """
version: 1
site: {name: Small, grid_connection: {fuse_a: 35}}
zones:
  - {id: main, protection: {rating_a: 35}, meter: meter, fallback_limit_a: 10, uncontrolled_max_a: 20}
devices:
  - {id: meter, role: grid_meter, model: sunspec_meter, connection: {kind: modbus_tcp, host: 127.0.0.1, port: PORT}}
"""


def demo_environment(folder: Path) -> dict[str, str]:
    sockets = [socket.socket() for _ in PORTS]
    try:
        for it in sockets:
            it.bind(("127.0.0.1", 0))
        ports = {f"CEM_DEMO_{n}_PORT": str(s.getsockname()[1]) for n, s in zip(PORTS, sockets, strict=True)}
    finally:
        for it in sockets:
            it.close()
    return ports | {"CEM_DEMO_VAR": str(folder)}


@asynccontextmanager
async def lived(tmp_path, *, csms=True, **options):
    """The demo's site with a friendly CSMS in the controller's place, alive until the block ends."""
    needs.mosquitto()
    environ = demo_environment(tmp_path)
    loaded = load_site_file(DEMO, environ={**os.environ, **environ})
    events = []
    simulated = SimulatedSite(
        loaded.file,
        loaded.site,
        truth=tmp_path / "truth.csv",
        emit=lambda event, **data: events.append((event, data)),
        **options,
    )
    controller = Cloud(int(environ["CEM_DEMO_OCPP_PORT"]), utc_s=simulated.utc_s)
    if csms:
        await controller.start()
    task = asyncio.create_task(simulated.run(60.0, wait_s=15.0))
    try:
        async with asyncio.timeout(25):
            while not any(name == "started" for name, _ in events):
                assert not task.done(), task.exception()
                await asyncio.sleep(0.05)
        yield simulated, controller, events
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await controller.stop()


async def test_the_site_serves_every_device_tells_the_truth_and_can_be_cut(tmp_path):
    car = Step(0.1, "plug", {"evse": "garage-1/1", "token": "T", "phases": 3, "max_a": 32, "settle_s": 1.0})
    async with lived(tmp_path, story=Story((car,)), seed=4) as (simulated, controller, events):
        assert all(station.link.online for station in simulated.stations.values())
        versions = {s.subprotocol for s in controller.stations.values()}
        assert versions == {"ocpp1.6", "ocpp2.0.1"}
        ports = [d.port for d in simulated.devices.values()] + [m._port for m in simulated.meters.values()]
        for port in [*ports, simulated.clouds[0].port]:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
        await asyncio.sleep(2.5)
        assert simulated.plant.zone_current_a("garage").l1 > 25.0
        assert controller.sessions

        await simulated.act(Step(0, "dso", {"limit": 20.0}))
        await simulated.act(Step(0, "cut", {"what": "device", "name": "grid_meter"}))
        await controller.set_limit("garage-1", 10.0)  # a controller's answer to both, before long
        await asyncio.sleep(1.2)
        figures = simulated.summary()
        assert 0 < figures["dso_to_last_command_s"] < 1.5
        assert 0 < figures["meter_loss_to_fallback_s"] < 1.5
        assert figures["sessions_plant"] == 1
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", simulated.devices["grid_meter"].port)
        await simulated.act(Step(0, "restore", {"what": "device", "name": "grid_meter"}))
        _, writer = await asyncio.open_connection("127.0.0.1", simulated.devices["grid_meter"].port)
        writer.close()

        await simulated.act(Step(0, "cut", {"what": "station", "name": "garage-1"}))
        await asyncio.sleep(0.3)
        assert not simulated.stations["garage-1"].link.online
        t_s = simulated.plant.t_s
        await simulated.act(Step(0, "worst"))
        await simulated.act(Step(0, "fast_forward", {"seconds": 120.0}))
        assert simulated.plant.t_s >= t_s + 120.0
        assert simulated.plant.household_power_w("site") == PerPhase.same(36 * 230.0)
        with pytest.raises(ValueError, match="unknown step 'dance'"):
            await simulated.act(Step(0, "dance"))
        with pytest.raises(ValueError, match="nothing to cut"):
            await simulated.act(Step(0, "cut", {"what": "moon"}))
    rows = list(csv.DictReader((tmp_path / "truth.csv").read_text().splitlines()))
    assert (tmp_path / "truth.csv").read_text().splitlines()[0] == HEADER
    assert {(r["zone"], r["phase"]) for r in rows} == {(z, p) for z in ("site", "garage", "row_b") for p in "123"}
    assert {r["rating_a"] for r in rows if r["zone"] == "row_b"} == {"25"}
    assert {r["external_a"] for r in rows if r["zone"] == "garage"} == {""}
    outside = [r["external_a"] for r in rows if r["zone"] == "site" and r["phase"] == "1"]
    assert outside[0] == ""
    assert outside[-1] == "20.000"
    times = [float(r["t_s"]) for r in rows]
    assert times == sorted(times)
    assert any(name == "limit_received" for name, _ in events)


async def test_as_a_process_it_speaks_json_lines_and_ends_on_sigterm(tmp_path):
    small = tmp_path / "small.yaml"
    small.write_text(SMALL.replace("PORT", demo_environment(tmp_path)["CEM_DEMO_METER_PORT"]))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "adapters.simulated", str(small), "--for", "60", "--commands", "--story", "none",
        "--truth", str(tmp_path / "t.csv"), "--no-outside-steps",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    events = []

    async def heard(name):
        async with asyncio.timeout(25):
            while True:
                event = json.loads(await process.stdout.readline())
                events.append(event)
                if event["event"] == name:
                    return event

    assert "at_s" in await heard("started")
    for command in (LOAD, {"do": "nonsense"}, {"do": "summary"}):
        process.stdin.write(json.dumps(command).encode() + b"\n")
    assert (await heard("load_step"))["zone"] == "main"
    assert "nonsense" in (await heard("refused"))["text"]
    assert (await heard("summary"))["tripped"] == []
    process.send_signal(signal.SIGTERM)
    assert (await heard("summary"))["sessions_plant"] == 0
    assert await process.wait() == 0
    assert await process.stderr.read() == b""
    assert (tmp_path / "t.csv").read_text().startswith(HEADER)


def test_a_limit_in_watts_binds_the_sum_of_the_phases():
    amps = PerPhase(30.0, 10.0, 2.0)
    assert external_a(16.0, "A", amps, 230.0) == PerPhase.same(16.0)
    below = external_a(50 * 230.0, "W", amps, 230.0)
    assert all(bound > a for bound, a in zip(below, amps, strict=True))
    above = external_a(39 * 0.230, "kW", amps, 230.0)
    assert [a - bound for a, bound in zip(amps, above, strict=True)] == pytest.approx([1.0, 1.0, 1.0])


def test_the_judge_measures_the_worst_excess_and_knows_what_trips():
    judge = Judge(make_site())
    calm, high = {"main": PerPhase.same(10.0), "garage": PerPhase.same(0.0)}, {}
    high = calm | {"main": PerPhase(70.0, 10.0, 10.0)}
    for n in range(100):
        judge.watch(n * 0.1, 0.1, high if n < 20 else calm, {})
    assert judge.worst_overshoot_as == pytest.approx(7.0 * 2.0)
    assert judge.longest_s == pytest.approx(2.0)
    assert not judge.tripped
    for n in range(100):
        judge.watch(10 + n * 0.1, 0.1, calm, {"main": PerPhase.same(8.0)} if n < 50 else {})
    assert judge.worst_overshoot_as == pytest.approx(14.0)  # 2 A for 5 s is less
    for n in range(3000):
        judge.watch(20 + n * 0.1, 0.1, calm | {"garage": PerPhase(0.0, 48.0, 0.0)}, {})
    assert judge.tripped == {"garage"}
    assert judge.least_margin == 0.0


def test_a_meter_that_comes_back_before_the_fallback_was_held_is_a_miss():
    site = load_site_file(DEMO, environ=demo_environment(ROOT)).site
    reactions = Reactions(Plant(site, 1), {}, lambda *_, **__: None)
    reactions.meter_cut("grid_meter")
    reactions.meter_back("grid_meter")
    assert reactions.figures()["fallback_missed"] == ["grid_meter"]


@pytest.mark.parametrize("length_s", [120.0, 150.0, 180.0, 600.0])
def test_the_demo_story_fits_its_length_and_every_car_leaves(length_s):
    story = demo_story(length_s)
    coming = [s.data["evse"] for s in story.steps if s.do == "plug"]
    going = [s.data["evse"] for s in story.steps if s.do == "unplug"]
    assert sorted(coming) == sorted(going)
    assert max(s.at_s for s in story.steps) <= story.over_s <= length_s - 5
    assert all(not s.outside for s in story.steps if s.do in {"plug", "unplug"})
    assert all(s.caption for s in story.steps)
    dead = next(s.at_s for s in story.steps if s.do == "cut" and s.data["what"] == "device")
    back = next(s.at_s for s in story.steps if s.do == "restore" and s.data["what"] == "device")
    assert back - dead >= 12.0  # T_safe and a little


def test_the_same_seed_without_outside_steps_has_the_same_cars_and_nothing_else(tmp_path):
    loaded = load_site_file(DEMO, environ=demo_environment(tmp_path))
    story = demo_story(150.0)

    async def made(outside):
        return SimulatedSite(loaded.file, loaded.site, seed=9, story=story, outside=outside)

    real, calm = asyncio.run(made(True)), asyncio.run(made(False))
    assert [s.do for s in calm._steps].count("plug") == [s.do for s in real._steps].count("plug") == 7
    assert {s.do for s in calm._steps} == {"plug", "unplug"}
    assert not calm.plant.households["site"].steps
    assert real.plant.households["site"].steps
    assert calm.plant.household_power_w("site").l1 <= real.plant.household_power_w("site").l1
