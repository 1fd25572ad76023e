"""Processes of the end-to-end tests: all start here, and all end by their own id."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.adapters.broker import Broker
from tests.adapters.dso_server import DsoProcess
from tests.e2e.controller import Controller
from tests.e2e.demo_run import DemoProcess
from tests.e2e.meter import MeterProcess

DEMO_SEED = 1
Start = Callable[[dict], Awaitable[Controller]]


@pytest.fixture
async def start_controller(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts ``cem run`` with a site file and waits until it is healthy; its log is ``tmp_path/controller.log``."""
    started: list[Controller] = []

    async def start(site: dict) -> Controller:
        controller = Controller(tmp_path, site)
        started.append(controller)
        await controller.start()
        return controller

    yield start
    for controller in started:
        await controller.close()


@pytest.fixture
def meter() -> Iterator[MeterProcess]:
    process = MeterProcess()
    yield process
    if process.alive:
        process.kill()


@pytest.fixture(scope="session")
def dso_process() -> Iterator[DsoProcess]:
    process = DsoProcess()
    yield process
    process.kill()


@pytest.fixture
def dso(dso_process: DsoProcess) -> DsoProcess:
    """The DSO's OPC UA server, without a limit; one for all tests, for it takes seconds to start."""
    for command in ("enabled 0", "limit 20", "beat 1"):
        dso_process.tell(command)
    return dso_process


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    process = Broker(tmp_path)
    yield process
    process.kill()


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    """One run of ``cem demo``; it takes two minutes."""
    process = DemoProcess(tmp_path_factory.mktemp("demo"), DEMO_SEED)
    yield process
    process.end()


@pytest.fixture(scope="session", autouse=True)
def _demo_meanwhile(request: pytest.FixtureRequest) -> None:
    """Where its test is due (the last of this folder), the demo plays in the background of those before it."""
    due = any("demo_run" in getattr(item, "fixturenames", ()) for item in request.session.items)
    if due and "PYTEST_XDIST_WORKER" not in os.environ:  # every worker knows all tests; one of them will want it
        request.getfixturevalue("demo_run")
