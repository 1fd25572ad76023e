"""The local CSMS under load: CPU, memory and delay of the proxy beside a bare relay and one made with the ``ocpp`` library.

Stations and cloud are processes of their own, all connections are under TLS, each station has its uplink. CPU is that of
the subject's process alone, in rounds that take turns, so that whatever else the machine does touches all of them.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme

from tests.adapters.ocpp_peers import free_port
from tests.benchmarks import _proxy_session

STATIONS = int(os.environ.get("PROXY_STATIONS", "1000"))
ROUNDS = int(os.environ.get("PROXY_ROUNDS", "5"))
ROUND_S = float(os.environ.get("PROXY_ROUND_S", "5"))
SUBJECTS = os.environ.get("PROXY_SUBJECTS", "ours raw_relay ocpp_library").split()
COMPRESSION = os.environ.get("PROXY_COMPRESSION", "plain")
A_SECOND = float(os.environ.get("PROXY_A_SECOND", STATIONS))
SWITCH_ON_A_SECOND = 80.0
WARM_UP_S = 3.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Process:
    """A helper in a process of its own, spoken to by lines."""

    def __init__(self, module: str, *words: str) -> None:
        self._run([sys.executable, "-m", f"tests.benchmarks.{module}", *words])

    def _run(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self) -> str:
        line = self._process.stdout.readline()
        assert line, f"ended: {self._process.args}"
        return line.strip()

    def ask(self, *words: Any) -> Any:
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return json.loads(self.read())

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * TICK_S

    def rss_kb(self) -> float:
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize() / 1e3

    def end(self) -> None:
        """As by a power cut."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.end()
        self._process.stdin.close()
        self._process.stdout.close()


class Bench:
    """The cloud, the stations and the subjects."""

    def __init__(self, folder: Path, running: list[Process]) -> None:
        self._folder, self._running = folder, running
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        leaf = authority.issue_cert("127.0.0.1")
        leaf.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
        leaf.private_key_pem.write_to_path(folder / "key.pem")
        leaf.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        self.cloud = self._start("_proxy_peers", "cloud", str(folder / "both.pem"), COMPRESSION)
        self.cloud_url = f"wss://127.0.0.1:{self.cloud.read()}"
        self.stations = self._start("_proxy_peers", "stations", str(folder / "ca.pem"), COMPRESSION)
        self.subjects: dict[str, Process] = {}
        self._ports: dict[str, int] = {}

    def _start(self, module: str, *words: str) -> Process:
        self._running.append(Process(module, *words))
        return self._running[-1]

    def start(self, subject: str, size: int) -> Process:
        """Starts a subject; again on the same port."""
        port = self._ports.setdefault(subject, free_port())
        words = (str(self._folder), str(port), self.cloud_url, str(size))
        self.subjects[subject] = self._start("_proxy_subjects", subject, *words)
        assert self.subjects[subject].read() == "ready"
        return self.subjects[subject]

    def connect(self, subject: str, size: int) -> None:
        """Its stations come one after the other."""
        url = f"wss://127.0.0.1:{self._ports[subject]}" if subject in self._ports else self.cloud_url
        self.stations.ask("connect", subject, url, size, SWITCH_ON_A_SECOND)


@contextmanager
def bench() -> Iterator[Bench]:
    running: list[Process] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield Bench(Path(folder), running)
        finally:
            for process in running:
                process.close()


def run() -> dict[str, float]:
    """Figures by name; ``PROXY_...`` in the environment make it smaller."""
    figures = _proxy_session.run()
    with bench() as all_of:
        for subject in SUBJECTS:
            process = all_of.start(subject, STATIONS)
            before_kb = process.rss_kb()
            all_of.connect(subject, STATIONS)
            all_of.stations.ask("say", subject, A_SECOND, WARM_UP_S)
            name = "proxy.kb_per_station_tls" + ("" if subject == "ours" else f".{subject}")
            figures[name] = (process.rss_kb() - before_kb) / STATIONS
        all_of.connect("direct", STATIONS)
        figures |= _cpu_and_delay(all_of)
        if "ours" in SUBJECTS:
            figures |= _back_again(all_of)
    return figures


def _cpu_and_delay(all_of: Bench) -> dict[str, float]:
    costs: dict[str, list[float]] = {subject: [] for subject in SUBJECTS}
    times: dict[str, list[float]] = {"plain": [], "kept": [], "direct": []}
    for _ in range(ROUNDS):
        for subject in SUBJECTS:
            process = all_of.subjects[subject]
            before_s = process.cpu_s()
            said = all_of.stations.ask("say", subject, A_SECOND, ROUND_S)
            costs[subject].append((process.cpu_s() - before_s) / said["pairs"] * 1e6)
            if subject == "ours":
                times["plain"] += said["s_plain"]
                times["kept"] += said["s_kept"]
        times["direct"] += all_of.stations.ask("say", "direct", A_SECOND, ROUND_S)["s_plain"]
    figures = {f"proxy.us_per_pair.{subject}": statistics.median(cost) for subject, cost in costs.items()}
    figures |= _ratios(figures)
    base_s = statistics.median(times["direct"])
    figures["proxy.direct_ms.p50"], figures["proxy.direct_ms.p99"] = 1e3 * base_s, 1e3 * _p99(times["direct"])
    for kind, name in (("plain", ""), ("kept", "journaled.")):
        if times[kind]:
            figures[f"proxy.added_ms.{name}p50"] = 1e3 * (statistics.median(times[kind]) - base_s)
            figures[f"proxy.added_ms.{name}p99"] = 1e3 * (_p99(times[kind]) - base_s)
    return figures


def _ratios(figures: dict[str, float]) -> dict[str, float]:
    cost = {name.rsplit(".", 1)[1]: value for name, value in figures.items()}
    found = {}
    if {"ours", "raw_relay"} <= cost.keys():
        found["proxy.times_raw_relay"] = cost["ours"] / cost["raw_relay"]
    if {"ours", "ocpp_library"} <= cost.keys():
        found["proxy.times_better_than_library"] = cost["ocpp_library"] / cost["ours"]
    return found


def _back_again(all_of: Bench) -> dict[str, float]:
    """All stations lose power at once; then our process dies and starts anew. Until each has booted with the cloud."""
    cut = all_of.stations.ask("power_cut", "ours")
    all_of.subjects["ours"].end()
    began_s = time.monotonic()
    all_of.start("ours", STATIONS)
    all_of.stations.ask("await_up", "ours")
    return {"proxy.reconnect_1000_s": cut["s"], "proxy.restart_1000_s": time.monotonic() - began_s}


def _p99(times: list[float]) -> float:
    return sorted(times)[int(0.99 * len(times))]
