"""Every scenario file of this folder, and the same day without its outside steps: there no excess is allowed."""

from pathlib import Path

import pytest

from tests.scenarios.runner import run_scenario

FILES = sorted(Path(__file__).parent.glob("*.yaml"))
SOUND = [path for path in FILES if "\nfaulty: true" not in path.read_text()]
"""Scenarios in which no station is at fault: there every excess has its cause outside."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path):
    run = run_scenario(path)
    assert run.failed == []


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.stem)
def test_the_controller_causes_no_excess_of_its_own(path):
    run = run_scenario(path, outside=False)
    assert run.loop.judge.total_as == 0.0
    assert run.loop.judge.tripped == {}
