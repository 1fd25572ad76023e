"""Deployment files: the unit as systemd reads it, the backup of a running controller."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from cem.ports import Registration
from cem.store import Store

DEPLOY = Path(__file__).parents[1] / "deploy"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not on this machine")
def test_systemd_accepts_the_unit(tmp_path):
    unit = (DEPLOY / "cem.service").read_text()
    (tmp_path / "cem.service").write_text(unit.replace("/opt/cem/current/bin/cem", shutil.which("true") or "/bin/true"))
    result = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "cem.service")], check=False, capture_output=True, text=True
    )
    # Systemd older than 254 does not know growing pauses; the unit says so.
    known = ("RestartSteps", "RestartMaxDelaySec", "man:", "file://")
    complaints = [line for line in result.stderr.splitlines() if not any(word in line for word in known)]
    assert (result.returncode, complaints) == (0, [])


def test_unit_is_restarted_but_not_for_a_bad_site_file():
    lines = (DEPLOY / "cem.service").read_text().splitlines()
    wanted = {
        "Type=notify", "WatchdogSec=30", "Restart=always", "RestartPreventExitStatus=78", "ProtectSystem=strict",
        "NoNewPrivileges=yes", "StateDirectory=cem", "User=cem",
    }  # fmt: skip
    assert wanted <= set(lines)


@pytest.mark.parametrize("script", ["install", "backup", "system-packages"])
def test_scripts_can_be_run(script):
    path = DEPLOY / script
    assert os.access(path, os.X_OK)
    if path.read_text().startswith("#!/bin/sh"):
        subprocess.run(["sh", "-n", str(path)], check=True)


def backup(*words):
    command = [sys.executable, str(DEPLOY / "backup"), *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


async def test_backup_of_a_running_controller_holds_every_record(tmp_path):
    site = tmp_path / "etc"
    site.mkdir()
    (site / "site.yaml").write_text("version: 1\n")
    store = Store(tmp_path / "var")
    for number in range(50):
        await store.commit([Registration(f"CS{number}", "1.6", {})])
    result = backup(tmp_path / "out", "--state", tmp_path / "var", "--site", site)
    store.close()
    assert result.returncode == 0, result.stderr
    archive = Path(result.stdout.strip())
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "out").iterdir()] == [archive.name]
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "restored", filter="data")
    assert (tmp_path / "restored" / "site" / "site.yaml").read_text() == "version: 1\n"
    restored = Store(tmp_path / "restored")
    assert len(restored.registrations()) == 50
    restored.close()
    again = backup(tmp_path / "out", "--state", tmp_path / "var", "--site", site, "--keep", 1)
    assert again.returncode == 0, "also while the controller is stopped: " + again.stderr
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_backup_says_what_is_missing_or_damaged(tmp_path):
    nothing = backup(tmp_path / "out", "--state", tmp_path / "none")
    assert nothing.returncode == 1
    assert "does not exist; give the storage directory by --state" in nothing.stderr
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "ledger.db").write_bytes(b"no database at all" * 300)
    damaged = backup(tmp_path / "out", "--state", tmp_path / "var", "--site", tmp_path)
    assert damaged.returncode == 1
    assert "cannot be copied" in damaged.stderr
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(tmp_path / "var" / "ledger.db").execute("SELECT 1 FROM session")
