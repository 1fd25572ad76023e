"""What ``cem/README.md`` says of its tests is true: every test and scenario its tables name exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_test_named_in_the_architecture_exists():
    text = (ROOT / "cem" / "README.md").read_text()
    rows = [line for line in text[text.index("## Invariants") :].splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9_]{8,})`", row.split("|")[-2])}
    sources = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    tests = {name for text in sources for name in re.findall(r"def (test_\w+)", text)}
    known = tests | {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    known |= {path.stem for path in (ROOT / "tests" / "scenarios").glob("*.yaml")}
    assert len(named) > 40
    assert named - known == set()
