"""The controller as users run it: ``cem run`` in a process of its own, asked over HTTP, ended by signals."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import yaml

from tests.adapters.ocpp_peers import free_port

CEM = [sys.executable, "-c", "from cem.cli import main; main()"]
START_S = 45.0
"""A cold start takes three seconds; this is for machines with much else to do."""


class Controller:
    """One site file and the process that runs it.

    Args:
        folder: For the site file, the records and the log.
        site: The site file as data; its ports are filled in here.
    """

    def __init__(self, folder: Path, site: dict) -> None:
        self.ocpp_port, self.web_port = free_port(), free_port()
        site.setdefault("csms", {})["listen"] = {"host": "127.0.0.1", "port": self.ocpp_port}
        site["web"] = {"host": "127.0.0.1", "port": self.web_port}
        site["storage"] = {"directory": str(folder / "var")}
        self.file = folder / "site.yaml"
        self.file.write_text(yaml.safe_dump(site, sort_keys=False))
        self.log = folder / "controller.log"
        self.address = f"ws://127.0.0.1:{self.ocpp_port}/ocpp"
        self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.web_port}", timeout=10.0, trust_env=False)
        self._process: subprocess.Popen | None = None

    def launch(self) -> None:
        with self.log.open("ab") as log:
            environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
            self._process = subprocess.Popen(
                [*CEM, "run", str(self.file)], stdout=log, stderr=log, env=environment, cwd=self.file.parent
            )

    async def start(self) -> None:
        """Launch it and wait until it completes cycles."""
        self.launch()
        until_s = time.monotonic() + START_S
        while time.monotonic() < until_s:
            assert self._process.poll() is None, f"exit code {self._process.returncode}\n{self.text()}"
            with contextlib.suppress(httpx.HTTPError):
                if (await self._http.get("/healthz")).status_code == 200:
                    return
            await asyncio.sleep(0.1)
        raise AssertionError(f"not healthy after {START_S} s\n{self.text()}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: nothing is said or written any more."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(15)

    async def close(self) -> None:
        await self._http.aclose()
        if self._process is not None and self._process.poll() is None:
            self.kill()

    # -- what it says -----------------------------------------------------------------------------------------------
    async def site(self) -> dict:
        answer = await self._http.get("/api/v1/site")
        answer.raise_for_status()
        return answer.json()

    async def health(self) -> tuple[int, dict]:
        answer = await self._http.get("/healthz")
        return answer.status_code, answer.json()

    async def sessions(self) -> list[dict]:
        return (await self._http.get("/api/v1/sessions")).json()["sessions"]

    async def events(self, code: str | None = None) -> list[dict]:
        events = (await self._http.get("/api/v1/events", params={"limit": 1000})).json()["events"]
        return [e for e in events if code in {None, e["code"]}]

    async def sees(self, condition, timeout_s: float = 15.0) -> dict:
        """Wait for a picture of the site that satisfies a condition."""
        until_s = time.monotonic() + timeout_s
        while True:
            picture = await self.site()
            if condition(picture):
                return picture
            assert time.monotonic() < until_s, f"not seen in {timeout_s} s, last: {picture}\n{self.text()}"
            await asyncio.sleep(0.1)

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self, *words: str) -> list[str]:
        """Lines of the log that hold every word."""
        return [line for line in self.text().splitlines() if all(word in line for word in words)]


async def watch_cycles(controller: Controller, seconds: float) -> tuple[float, float]:
    """Watch it for a while.

    Returns:
        Cycles per second, and the greatest age of the last cycle that ``/healthz`` told.
    """
    first, began_s, oldest_s = (await controller.site())["cycle"]["count"], time.monotonic(), 0.0
    while (past_s := time.monotonic() - began_s) < seconds:
        status, body = await controller.health()
        assert status == 200, body
        oldest_s = max(oldest_s, body["cycle_age_s"])
        await asyncio.sleep(0.2)
    return ((await controller.site())["cycle"]["count"] - first) / past_s, oldest_s
