"""``cem run`` as a command: exit codes and what it prints."""

import re
import socket
import subprocess

import yaml

from tests.adapters.ocpp_peers import free_port
from tests.e2e.controller import CEM
from tests.e2e.site_files import house


def run(path):
    return subprocess.run([*CEM, "run", str(path)], capture_output=True, text=True, timeout=60, check=False)


def test_an_invalid_site_file_is_exit_78_with_every_problem_at_its_place(tmp_path):
    site = house(5020)
    site["zones"][0]["meter"] = "gird"
    site["stations"][0]["colour"] = "red"
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(site, sort_keys=False))
    done = run(path)
    assert done.returncode == 78
    places = [line for line in done.stderr.splitlines() if re.match(rf"{re.escape(str(path))}:\d+:\d+: ", line)]
    meter_line = path.read_text().splitlines().index("  meter: gird") + 1
    colour_line = path.read_text().splitlines().index("  colour: red") + 1
    assert any(f":{meter_line}:10: zones[0].meter" in p and "did you mean" in p for p in places), done.stderr
    assert any(f":{colour_line}:3: stations[0].colour" in p for p in places), done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_and_an_address_in_use_are_said_plainly(tmp_path):
    missing = run(tmp_path / "none.yaml")
    assert missing.returncode == 78
    assert "none.yaml" in missing.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        site = house(5020)
        site["web"] = {"port": taken.getsockname()[1]}
        site["csms"]["listen"] = {"host": "127.0.0.1", "port": free_port()}
        site["storage"] = {"directory": str(tmp_path / "var")}
        path = tmp_path / "site.yaml"
        path.write_text(yaml.safe_dump(site, sort_keys=False))
        done = run(path)
    assert done.returncode == 1
    assert str(taken_port := site["web"]["port"]) in done.stderr, taken_port
    assert "Traceback" not in done.stderr + missing.stderr
