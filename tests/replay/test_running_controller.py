"""A real controller leaves a recording behind that replays."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

SITE = """
version: 1
site: {{name: Recorded, time_zone: Europe/Berlin, grid_connection: {{fuse_a: 35}}}}
zones:
  - {{id: house, protection: {{rating_a: 35}}, meter: grid, fallback_limit_a: 8, uncontrolled_max_a: 20}}
devices:
  - {{id: grid, role: grid_meter, model: generic_meter, connection: {{kind: modbus_tcp, host: 127.0.0.1, port: {meter}}}}}
stations:
  - {{id: A, zone: house, breaker_a: 32, fallback_a: 6}}
csms: {{listen: {{host: 127.0.0.1, port: {csms}}}}}
web: {{host: 127.0.0.1, port: {web}}}
storage: {{replay_mb: {megabytes}}}
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def cem(*words, **options):
    return subprocess.Popen([sys.executable, "-c", "from cem.cli import main; main()", *map(str, words)], **options)


def run_until(folder, megabytes, done, timeout_s=30.0):
    meter, csms, web = free_ports(3)
    site = folder / "site.yaml"
    site.write_text(SITE.format(meter=meter, csms=csms, web=web, megabytes=megabytes))
    with (folder / "log").open("wb") as log:
        process = cem("run", site, stdout=log, stderr=log)
        try:
            until_s = time.monotonic() + timeout_s
            while not done() and time.monotonic() < until_s:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            time.sleep(4.0)
        finally:
            os.kill(process.pid, signal.SIGTERM)
            process.wait(20)
    assert process.returncode == 0, (folder / "log").read_text()


def test_a_stopped_controllers_recording_replays_identically(tmp_path):
    ring = tmp_path / "var" / "replay"
    run_until(tmp_path, 256, lambda: ring.is_dir() and any(ring.iterdir()))
    (file,) = ring.iterdir()
    assert file.stat().st_mode & 0o077 == 0  # when people charge is nobody else's business
    with cem("replay", tmp_path / "var", "--json", stdout=subprocess.PIPE) as replaying:
        summary = json.loads(replaying.stdout.read())
    assert replaying.returncode == 0
    assert summary["cycles"] >= 4
    assert summary["identical"] == summary["cycles"]


def test_nothing_is_recorded_where_the_site_file_says_so(tmp_path):
    run_until(tmp_path, 0, (tmp_path / "var" / "history.db").exists)
    assert not (tmp_path / "var" / "replay").exists()
