"""``cem demo``: a simulated site and a real controller in separate processes, with a story of about three minutes."""

import asyncio
import json
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from cem.cli.demo_site import demo_site_file, free_ports
from cem.cli.demo_view import DemoView
from cem.errors import CemError

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0
AROUND_STORY_S = 8.0
"""Of the time asked for, what starting and ending takes."""

EXIT_TRIPPED = 3

REPORT_KEYS = (
    "cycle_p50_ms", "cycle_p99_ms", "dso_to_last_command_s", "meter_loss_to_fallback_s", "worst_overshoot_as",
    "sessions_plant", "sessions_local", "sessions_cloud",
)  # fmt: skip
MORE_KEYS = ("worst_overshoot_a", "longest_excess_s", "least_trip_margin", "sessions_cloud_stopped")


def demo(
    for_seconds: Annotated[int, typer.Option("--for", min=120, help="Length in seconds; the story is fitted.")] = 180,
    seed: Annotated[int, typer.Option(help="Same seed, same household, sky and cars.")] = 1,
    truth: Annotated[Path | None, typer.Option(help="Write the plant's own truth here (CSV).")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the figures of the run here (JSON).")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the figures as JSON at the end.")] = False,
    no_outside_steps: Annotated[
        bool, typer.Option(help="The same seed without appliances, clouds, DSO limits and cut connections.")
    ] = False,
) -> None:
    """Watch a simulated site being kept within its limits; nothing outside this machine is touched."""
    for file in (truth, report):
        if file is not None and not file.absolute().parent.is_dir():
            raise CemError(f"{file}: there is no folder {file.absolute().parent}")
    with tempfile.TemporaryDirectory(prefix="cem-demo-") as folder:
        run = DemoRun(Path(folder), for_seconds, seed, truth, outside=not no_outside_steps)
        code = asyncio.run(run.play())
    figures = run.report()
    if report is not None:
        report.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if json_output:
        print(json.dumps(figures))
    raise typer.Exit(code)


@dataclass(slots=True)
class DemoRun:
    """One run: both processes, what they said, and the figures.

    Attributes:
        folder: For the site file and the controller's records; gone afterwards.
        for_seconds: Length of the whole run.
        seed: Of the plant.
        truth: Where the plant's truth goes.
        outside: ``False``: the same day without outside steps.
        summary: What the simulated site said at its end.
        picture: The controller's last picture of the site.
        sessions_local: Sessions in the controller's records.
    """

    folder: Path
    for_seconds: int
    seed: int
    truth: Path | None
    outside: bool = True
    summary: dict[str, Any] = field(default_factory=dict)
    picture: dict[str, Any] = field(default_factory=dict)
    sessions_local: int | None = None
    _view: DemoView = field(default_factory=DemoView)
    _url: str = ""

    async def play(self) -> int:
        """Runs the story; the exit code.

        Raises:
            CemError: One of the two processes did not come up or ended too early.
        """
        environment = free_ports(self.folder)
        site_file, remark = demo_site_file(self.folder)
        if remark:
            self._view.say(remark)
        self._url = f"http://127.0.0.1:{environment['CEM_DEMO_WEB_PORT']}"
        log = self.folder / "controller.log"
        length_s = self.for_seconds - AROUND_STORY_S
        words = [
            "--seed",
            str(self.seed),
            "--for",
            f"{length_s:g}",
            "--story",
            "demo",
            "--wait",
            f"{START_TIMEOUT_S:g}",
        ]
        words += ["--truth", str(self.truth)] if self.truth else []
        words += [] if self.outside else ["--no-outside-steps"]
        with log.open("wb") as log_file:
            controller = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "from cem.cli import main; main()"),
                *("run", str(site_file), "--log-level", "warning"),
                env=environment,
                stdout=log_file,
                stderr=log_file,
            )
            simulated = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "adapters.simulated", str(site_file), *words),
                env=environment,
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                async with httpx.AsyncClient(base_url=self._url, timeout=3.0) as client:
                    await self._wait_for_controller(client, controller, log)
                    self._view.say(f"web page      {self._url}/")
                    self._view.say(f"OCPP address  ws://127.0.0.1:{environment['CEM_DEMO_OCPP_PORT']}/ocpp")
                    await self._tell(client, controller, simulated, log)
                    await self._read_records(client)
            finally:
                for process in (simulated, controller):
                    await _end(process)
        return self._verdict(simulated.returncode or 0)

    def report(self) -> dict[str, Any]:
        """The figures of the run, flat."""
        cycle = self.picture.get("cycle", {})
        known = self.summary | {
            "cycle_p50_ms": cycle.get("p50_ms"),
            "cycle_p99_ms": cycle.get("p99_ms"),
            "sessions_local": self.sessions_local,
        }
        return {key: known.get(key) for key in (*REPORT_KEYS, *MORE_KEYS)} | {
            "would_have_tripped": len(self.summary.get("tripped", ())),
            "seconds": self.for_seconds,
            "seed": self.seed,
        }

    async def _wait_for_controller(
        self, client: httpx.AsyncClient, controller: asyncio.subprocess.Process, log: Path
    ) -> None:
        until_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until_s:
            if controller.returncode is not None:
                raise CemError(f"the controller ended with exit code {controller.returncode}:\n{_tail(log)}")
            with suppress(httpx.HTTPError):
                await client.get("/healthz")
                return
            await asyncio.sleep(0.2)
        raise CemError(
            f"the controller's page did not come up at {self._url} within {START_TIMEOUT_S:g} s:\n{_tail(log)}"
        )

    async def _tell(
        self,
        client: httpx.AsyncClient,
        controller: asyncio.subprocess.Process,
        simulated: asyncio.subprocess.Process,
        log: Path,
    ) -> None:
        watcher = asyncio.create_task(self._watch(client))
        dead = asyncio.create_task(controller.wait())
        story = asyncio.create_task(self._hear(simulated))
        try:
            with self._view:
                await asyncio.wait({dead, story}, return_when=asyncio.FIRST_COMPLETED)
            if not story.done():
                raise CemError(f"the controller ended in the middle, exit code {controller.returncode}:\n{_tail(log)}")
            await story
        finally:
            for task in (watcher, dead, story):
                task.cancel()
            await asyncio.gather(watcher, dead, story, return_exceptions=True)

    async def _hear(self, simulated: asyncio.subprocess.Process) -> None:
        if simulated.stdout is None:
            raise CemError("the simulated site has no output to read")
        async for line in simulated.stdout:
            event = json.loads(line)
            match event["event"]:
                case "started":
                    self._view.say(f"The simulated site is up: {event['online']} stations connected.")
                case "caption":
                    self._view.caption(event["t_s"], event["text"])
                case "fallback_held":
                    self._view.say(
                        f"  {event['zone']} holds its fallback {event['after_s']:.1f} s after its meter died."
                    )
                case "summary":
                    self.summary = event
        code = await simulated.wait()
        if not self.summary:
            raise CemError(f"the simulated site ended early with exit code {code}; what it wrote is above")

    async def _watch(self, client: httpx.AsyncClient) -> None:
        while True:
            with suppress(httpx.HTTPError, ValueError):
                response = await client.get("/api/v1/site")
                if response.status_code == httpx.codes.OK:
                    self.picture = response.json()
                    self._view.show(self.picture)
            await asyncio.sleep(1.0)

    async def _read_records(self, client: httpx.AsyncClient) -> None:
        with suppress(httpx.HTTPError, ValueError, KeyError):
            self.picture = (await client.get("/api/v1/site")).json()
            self.sessions_local = len((await client.get("/api/v1/sessions", params={"limit": 1000})).json()["sessions"])

    def _verdict(self, code: int) -> int:
        figures = self.report()
        self._view.say("")
        for key in REPORT_KEYS:
            self._view.say(f"{key:<26} {'-' if figures[key] is None else figures[key]}")
        tripped = self.summary.get("tripped", [])
        if tripped:
            self._view.say(f"The protecting device of {', '.join(tripped)} would have tripped.")
            return EXIT_TRIPPED
        if code != 0:
            self._view.say(f"The simulated site ended with exit code {code}.")
            return code
        self._view.say("The story is over; no fuse or breaker would have tripped.")
        return 0


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL where that is not enough."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(END_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
