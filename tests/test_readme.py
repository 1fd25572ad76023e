"""What the READMEs of ``cem`` say of tests is true: every test and scenario that their tables name exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
USE_CASES = (
    [f"8.2.{n}" for n in range(3, 11)] + [f"8.3.{n}" for n in (*range(3, 17), 21)] + [f"8.4.{n}" for n in range(3, 10)]
)


def rows_of(readme, since):
    """The rows of every table from a heading on, without the heads."""
    lines = (ROOT / readme).read_text().split(since, 1)[1].splitlines()
    rules = {n for n, line in enumerate(lines) if line.startswith("|---")}
    return [line for n, line in enumerate(lines) if line.startswith("|") and not {n, n + 1} & rules]


def named_in(row):
    """The tests of its last column."""
    return set(re.findall(r"`([a-z0-9_]{8,})`", row.split("|")[-2]))


def known():
    sources = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    tests = {name for text in sources for name in re.findall(r"def (test_\w+)", text)}
    tests |= {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    return tests | {path.stem for path in (ROOT / "tests" / "scenarios").glob("*.yaml")}


def test_every_test_named_in_the_architecture_exists():
    named = {name for row in rows_of("cem/README.md", "## Invariants") for name in named_in(row)}
    assert len(named) > 40
    assert named - known() == set()


def test_every_use_case_names_tests_that_exist():
    rows = rows_of("cem/csms/README.md", "# The local CSMS")
    assert {row for row in rows if not named_in(row)} == set(), "each row is shown by something"
    assert {name for row in rows for name in named_in(row)} - known() == set()
    cases = " ".join(row.split("|")[1] for row in rows)
    assert [case for case in USE_CASES if not re.search(rf"{re.escape(case)}(?!\d)", cases)] == []
