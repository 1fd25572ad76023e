"""What ``cem/README.md`` says of its tests is true: every test and scenario it names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_test_named_in_the_architecture_exists():
    named = set(re.findall(r"`((?:test_|[a-z]+\d*_)[a-z0-9_]+)`", (ROOT / "cem" / "README.md").read_text()))
    tests = {
        name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    known = tests | {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    known |= {path.stem for path in (ROOT / "tests" / "scenarios").glob("*.yaml")}
    known |= {"external_limits", "uncontrolled_max_a", "fallback_a", "sd_notify", "now_s"}  # keys and modules
    assert named - known == set()
