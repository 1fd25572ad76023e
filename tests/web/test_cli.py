"""The command line as a person uses it: real processes, their output and exit codes."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cem.cli import make_app
from cem.csms.personality import Personality, restored
from cem.store import Session
from tests.web.conftest import make_view

CEM = Path(sys.executable).with_name("cem")


def cem(*words, **environment):
    return subprocess.run(
        [CEM, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "160", **environment},
    )


def told(*words, url):
    """The same in this process, which is quicker."""
    result = CliRunner().invoke(make_app(words), [*words, "--url", url], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_status_shows_zones_and_charging_points(server):
    server.cell.set(make_view(13.0, stale=True))
    result = cem("status", "--url", server.web.url)
    assert result.returncode == 0, result.stderr
    (garage,) = [line for line in result.stdout.splitlines() if "garage" in line]
    assert "20 20 20" in garage
    assert "22.5 - 3" in garage, "missing is a dash, not 0"
    assert "meter lost" in garage
    assert "held to 13 A by the main fuse on L1" in result.stdout
    assert "<script>alert(1)</script> paused" in result.stdout
    assert json.loads(cem("status", "--json", CEM_URL=server.web.url).stdout) == make_view(13.0, stale=True)


STACK = [
    {
        "code": "zone_current",
        "text": "the current limit of a zone is shared",
        "state": "binding",
        "value_a": 13.0,
        "zone": "site",
        "phase": "L1",
        "source": "fuse",
        "since_s": 42.0,
    },
    {
        "code": "csms_profile",
        "text": "the operator's charging profile allows no more",
        "state": "inactive",
        "value_a": None,
        "zone": None,
        "phase": None,
        "source": None,
        "since_s": None,
    },
]


def test_why_prints_every_limit_and_which_one_binds(server):
    server.cell.set(make_view(), {"CS1/1": STACK, "CS2/1": []}.get)
    result = cem("why", "CS1/1", "--url", server.web.url)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("CS1/1: held to 13 A by the main fuse on L1\n")
    (binding,) = (line for line in result.stdout.splitlines() if "binding" in line)
    assert all(word in binding for word in ("zone_current", "site L1", "fuse", "13 A", "42 s"))
    found = json.loads(cem("why", "CS1/1", "--json", "--url", server.web.url).stdout)
    assert (found["evse"], found["reason"], found["stack"]) == ("CS1/1", "zone_current", STACK)
    unknown = cem("why", "CS9/1", "--url", server.web.url)
    assert unknown.returncode == 1
    assert "there is no EVSE CS9/1 at this site" in unknown.stderr


def test_sessions_and_events_are_listed(server):
    now = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
    server.sessions = [
        Session(
            "s1", "CS1", "CS1/1", "7", open=False, updated_utc=now, stopped_utc=now, energy_wh=12345.0, reason="Local"
        )
    ]
    listed = cem("sessions", "list", "--url", server.web.url)
    assert listed.returncode == 0, listed.stderr
    assert "12.35" in listed.stdout
    assert "2026-11-22T09:30:00" in listed.stdout
    (session,) = json.loads(cem("sessions", "list", "--json", "--url", server.web.url).stdout)
    assert session["energy_wh"] == 12345.0
    assert "2026-11-22T10:14:00Z  external_limit     dso: limit 4.2 kW" in cem("events", "--url", server.web.url).stdout
    (event,) = json.loads(cem("events", "--json", "--url", server.web.url).stdout)
    assert event["code"] == "external_limit"


def test_nobody_answers_is_said_for_an_installer():
    result = cem("status", "--url", "http://127.0.0.1:1")
    assert result.returncode == 1
    assert result.stderr.startswith("cem: no controller answers at http://127.0.0.1:1")
    assert "Traceback" not in result.stderr


def test_before_the_first_cycle_the_controller_says_so(server):
    result = cem("status", "--url", server.web.url)
    assert result.returncode == 1
    assert "has not completed its first cycle" in result.stderr


def test_version():
    assert json.loads(cem("version", "--json").stdout)["version"] in cem("version").stdout


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_bad_site_file_exits_78(tmp_path, command):
    site = tmp_path / "site.yaml"
    site.write_text("version: 1\nsite: {name: X, grid_connection: {fuse: 35}}\n")
    result = cem(command, str(site))
    assert result.returncode == 78, result.stderr
    assert f"{site}:2:" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_words_exit_2():
    for words in (["bogus"], ["status", "--bogus"], ["why"], []):
        assert CliRunner().invoke(make_app(words), words).exit_code == 2, words


def test_check_does_not_import_what_it_does_not_need():
    script = (
        "import sys; from cem.cli import make_app; make_app(['check']); "
        "print([m for m in ('nicegui', 'fastapi', 'asyncua', 'pymodbus', 'websockets', 'httpx') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_station_show_tells_what_was_learned(server):
    own = Personality(("Acme", "Box", "1.0"), way="tx/0/W", dead_man=False, dead_man_by="it refuses", loses=("resume",))
    station = {"id": "CS1", "online": True, "personality": own.record()}
    server.cell.set({**make_view(), "csms": {"stations": [station], "waiting_room": []}})
    shown = cem("station", "show", "CS1", "--url", server.web.url)
    assert shown.returncode == 0, shown.stderr
    for word in ("Acme Box 1.0", "tx/0/W", "NO: it refuses", "resume"):
        assert word in shown.stdout
    exported = json.loads(cem("station", "show", "CS1", "--json", "--url", server.web.url).stdout)
    assert exported["personality"]["without_us"] == "it refuses"
    assert "CS9" in cem("station", "show", "CS9", "--url", server.web.url).stderr


def test_what_was_learned_of_all_stations_is_exported_whole(server):
    odd = Personality(("Acme", "Box", "1.0"), way="tx/0/W", dead_man=False, dead_man_by="it refuses", reaction_s=12.0)
    good = Personality(("Acme", "Box", "2.0"), way="tx/1/A", dead_man=True, loses=("reconnect",))
    stations = [
        {"id": name, "ocpp_version": "1.6", "online": True, "personality": own.record()}
        for name, own in (("CS1", odd), ("CS2", good))
    ]
    server.cell.set({**make_view(), "csms": {"stations": stations, "waiting_room": []}})
    shown = told("station", "show", "--all", url=server.web.url).splitlines()
    (one,) = (line for line in shown if "CS1" in line)
    assert all(word in one for word in ("tx/0/W", "NO", "12 s", "it refuses"))
    (two,) = (line for line in shown if "CS2" in line)
    assert all(word in two for word in ("tx/1/A", "yes", "reconnect", "its fallback counts"))
    exported = json.loads(told("station", "show", "--all", "--json", url=server.web.url))
    assert [e["id"] for e in exported] == ["CS1", "CS2"]
    assert set(exported[0]) == {"id", "ocpp_version", *odd.record()}
    assert [restored(e).record() for e in exported] == [odd.record(), good.record()]
    for words in (["show"], ["show", "CS1", "--all"]):
        assert CliRunner().invoke(make_app(["station"]), ["station", *words]).exit_code == 1, words


def test_status_and_why_tell_who_would_not_fall_back(server):
    view = make_view(stale=True)
    view["evses"]["CS1/1"] |= {"without_us_a": 32.0, "without_us": "it refuses"}
    view["evses"]["CS2/1"] |= {"without_us_a": 6.0, "without_us": None}
    server.cell.set(view, {"CS1/1": STACK, "CS2/1": []}.get)
    shown = told("status", url=server.web.url)
    assert "if this controller dies, CS1/1 may draw the maximum: it refuses" in shown
    assert "the disk is 91 % full" in shown
    assert "dies  32 A, its maximum: it refuses" in told("why", "CS1/1", url=server.web.url)
    assert "dies  6 A, its fallback" in told("why", "CS2/1", url=server.web.url)
