"""The order of the files: one worker plays a whole file, so those that take longest begin first."""

from collections.abc import Sequence

import pytest

LONGEST = (
    "properties/test_closed_loop.py",
    "e2e/test_the_demo.py",
    "adapters/test_field_drills.py",
    "csms/test_chaos.py",
    "csms/test_csms_odd_stations.py",
    "core/test_turns_in_the_loop.py",
    "core/test_attack.py",
    "e2e/",
    "adapters/",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts files by the first of ``LONGEST`` that they fit, what fits none last; within a file nothing moves."""
    items.sort(key=lambda item: _place(item.nodeid, LONGEST))


def _place(nodeid: str, first: Sequence[str]) -> int:
    return next((k for k, part in enumerate(first) if part in nodeid), len(first))
