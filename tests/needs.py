"""What a test needs that is not installed with it: where it is missing the test is skipped, in CI it fails."""

import os
from typing import NoReturn

import pytest

from adapters.simulated.mqtt_meter import find_mosquitto


def missing(what: str) -> NoReturn:
    """Ends the test that cannot run here; CI (``.ci/run`` sets it) has everything, or has a fault."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


def mosquitto() -> str:
    """The broker's program."""
    return find_mosquitto() or missing("mosquitto is not installed (make system)")
