"""The order of the files: one worker plays a whole file, so those that take longest begin first.

The others alternate between those that mostly wait (for sockets and clocks) and those that mostly compute, so that the
machine has something to do at any time.
"""

import pytest

LONGEST = (
    "properties/test_closed_loop.py",
    "e2e/test_the_demo.py",
    "adapters/test_field_drills.py",
    "csms/test_chaos.py",
    "csms/test_csms_odd_stations.py",
)
WAITING = ("/e2e/", "/adapters/", "/web/")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts whole files; within a file nothing moves."""
    files = list(dict.fromkeys(item.path.as_posix() for item in items))
    first = [file for part in LONGEST for file in files if file.endswith(part)]
    rest = [file for file in files if file not in first]
    waiting = [file for file in rest if any(part in file for part in WAITING)]
    computing = [file for file in rest if file not in waiting]
    place = {file: (-1.0, k) for k, file in enumerate(first)}
    for some in (waiting, computing):  # both are spread evenly over the whole run
        place |= {file: (k / len(some), k) for k, file in enumerate(some)}
    items.sort(key=lambda item: place[item.path.as_posix()])
