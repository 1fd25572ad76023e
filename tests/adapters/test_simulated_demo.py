"""``cem demo``: what it prepares, what it shows, how it ends; the whole story is a soak test."""

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from adapters.simulated.site import SimulatedSite
from cem.cli.demo import DemoRun
from cem.cli.demo_site import PORTS, demo_site_file, free_ports, shipped_site_file, without_broker
from cem.cli.demo_view import DemoView
from cem.config.loader import load_site_file
from cem.errors import CemError

CEM = [sys.executable, "-c", "from cem.cli import main; main()"]

PICTURE = {
    "cycle": {"p50_ms": 2.0, "p99_ms": 9.0},
    "zones": {
        "site": {
            "limit_a": [20.0, 20.0, None],
            "limit_source": "dso",
            "measured_a": [23.4, 10.0, 9.0],
            "granted_a": [6.0, 6.0, 0.0],
            "stale": False,
        },
        "row_b": {
            "limit_a": [25.0] * 3,
            "limit_source": "fuse",
            "measured_a": None,
            "granted_a": [0.0] * 3,
            "stale": True,
        },
    },
    "evses": {
        "a/1": {"status": "Charging", "setpoint_a": 6.0, "measured_a": [5.9, 0.0, 0.0], "reason": "zone_limit", "binding": {"text": "site, by the DSO"}},
        "b/1": {"status": "", "setpoint_a": None, "measured_a": None, "reason": "idle", "binding": None},
    },
    "external_limits": {"dso": {"state": "limited", "value": 20.0}},
}  # fmt: skip


def test_every_address_of_the_demo_gets_a_free_port_of_its_own(tmp_path):
    environment = free_ports(tmp_path)
    loaded = load_site_file(shipped_site_file(), environ=environment)
    ports = {environment[f"CEM_DEMO_{name}_PORT"] for name in PORTS}
    assert len(ports) == len(PORTS)
    text = repr(loaded.file)
    assert all(port in text for port in ports)
    assert loaded.file.storage.directory == str(tmp_path / "var")


async def test_without_a_broker_the_household_meter_comes_by_modbus(tmp_path, monkeypatch):
    variant = tmp_path / "demo.yaml"
    variant.write_text(without_broker(shipped_site_file().read_text()))
    environment = free_ports(tmp_path)
    loaded, real = (
        load_site_file(variant, environ=environment),
        load_site_file(shipped_site_file(), environ=environment),
    )
    house = next(d for d in loaded.file.devices if d.id == "house")
    assert (house.connection.kind, house.model) == ("modbus_tcp", "eastron_sdm630")
    assert loaded.site == real.site
    assert [d for d in loaded.file.devices if d.id != "house"] == [d for d in real.file.devices if d.id != "house"]

    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    simulated = SimulatedSite(loaded.file, loaded.site)
    assert simulated.devices["house"].port == house.connection.port
    assert not simulated.meters

    place, remark = demo_site_file(tmp_path)
    assert place == variant
    assert "apt-get install mosquitto" in remark


def test_plain_output_is_lines_and_a_terminal_gets_tables():
    plain, rich = io.StringIO(), io.StringIO()
    for target, terminal in ((plain, False), (rich, True)):
        view = DemoView(Console(file=target, force_terminal=terminal, width=110, highlight=False, soft_wrap=True))
        with view:
            view.caption(3.04, "A car arrives at a/1.")
            view.show(PICTURE)
    assert plain.getvalue() == "   3.0 s  A car arrives at a/1.\n"
    for shown in ("A car arrives", "23.4", "site, by the DSO", "meter lost", "dso: limited 20.0", "Charging"):
        assert shown in rich.getvalue()


def test_the_report_is_flat_and_complete_even_when_figures_are_missing(tmp_path):
    run = DemoRun(tmp_path, 120, 1, None)
    assert run.report()["dso_to_last_command_s"] is None
    run.summary = {"worst_overshoot_as": 3.5, "sessions_plant": 7, "tripped": ["site"]}
    run.picture, run.sessions_local = PICTURE, 7
    report = run.report()
    assert (report["cycle_p99_ms"], report["worst_overshoot_as"], report["would_have_tripped"]) == (9.0, 3.5, 1)
    assert not any(isinstance(value, dict | list) for value in report.values())
    assert run._verdict(3) == 3


def test_a_run_shorter_than_the_story_or_without_a_place_to_write_is_refused(tmp_path):
    short = subprocess.run([*CEM, "demo", "--for", "60"], capture_output=True, text=True, check=False)
    assert short.returncode == 2
    assert "120" in short.stderr
    nowhere = [*CEM, "demo", "--report", str(tmp_path / "none" / "r.json")]
    refused = subprocess.run(nowhere, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "there is no folder" in refused.stderr


async def test_a_controller_that_cannot_start_is_told_and_nothing_is_left_running(tmp_path, monkeypatch):
    broken = tmp_path / "demo.yaml"
    broken.write_text(shipped_site_file().read_text().replace("rating_a: 63", "rating_a: -63"))
    monkeypatch.setattr("cem.cli.demo.demo_site_file", lambda _: (broken, None))
    with pytest.raises(CemError, match=r"(?s)ended with exit code 78.*rating_a"):
        await DemoRun(tmp_path, 120, 1, None).play()


async def test_an_interrupted_demo_ends_both_its_processes(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        *CEM, "demo", "--for", "120", env=environment, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    async with asyncio.timeout(40):
        lines = [(await process.stdout.readline()).decode().strip() for _ in range(2)]
    addresses = [line for line in lines if "://" in line]
    assert any(line.endswith("/ocpp") and "ws://127.0.0.1:" in line for line in addresses)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 2
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(15):
        assert await process.wait() == 130
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_the_whole_story_stays_within_every_limit(tmp_path):
    report, truth = tmp_path / "r.json", tmp_path / "t.csv"
    command = [*CEM, "demo", "--for", "150", "--seed", "3", "--report", str(report), "--truth", str(truth)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(report.read_text())
    assert figures["dso_to_last_command_s"] < 2.0
    assert figures["meter_loss_to_fallback_s"] < 10.0
    assert figures["sessions_plant"] == figures["sessions_local"] == figures["sessions_cloud"] == 7
    since: dict[tuple[str, str], float] = {}
    for row in csv.DictReader(truth.read_text().splitlines()):
        key, t_s = (row["zone"], row["phase"]), float(row["t_s"])
        limit_a = min(float(row[name]) for name in ("rating_a", "external_a") if row[name])
        if float(row["current_a"]) <= limit_a:
            since.pop(key, None)
        else:
            assert t_s - since.setdefault(key, t_s) < 10.0
