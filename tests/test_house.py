"""Rules of the house that no linter knows."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]

LONGEST_FILE = 400
TOP_LEVEL = {
    "pyproject.toml", "cem", "adapters", "site_configs", "tests", "deploy", "README.md", "Makefile", "CHANGELOG.md",
    "LICENSE", "SECURITY.md", ".gitignore", ".ci",
}  # fmt: skip


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def code() -> list[Path]:
    return [path for folder in ("cem", "adapters") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_file_outgrows_its_room():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in code()}
    assert len(lengths) > 20
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def test_top_level_is_fixed():
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= TOP_LEVEL


def test_nothing_is_left_to_do():
    # Put together here so that this file does not find itself.
    marks = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".css", ".service", ""}
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if marks.search(line)
    ]
    assert found == []


def test_nothing_names_the_machine_it_was_written_on():
    forbidden = re.compile("|".join(["/wo" + "rk/", "/tm" + "p/bash", "/ro" + "ot/"]))
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert found == []


def test_every_ignored_rule_has_its_reason():
    bare = re.compile(r"#\s*(noqa(: [A-Z0-9, ]+)?|type: ignore(\[[a-z-]+(, ?[a-z-]+)*\])?)\s*$")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in code()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if bare.search(line)
    ]
    assert found == []


def test_every_module_says_what_it_is_for():
    silent = [
        str(path.relative_to(ROOT))
        for path in code()
        if (text := path.read_text("utf-8").lstrip()) and not text.startswith('"""')
    ]
    assert silent == []


def test_i7_times_are_monotonic_or_aware_utc():
    naive = re.compile(r"datetime\.(utcnow|now)\(\)|datetime\.utcfromtimestamp|\btime\.time\(\)")
    plant = ROOT / "adapters" / "simulated"  # devices of a simulated site have clocks of their own
    found = [
        str(path.relative_to(ROOT))
        for path in code()
        if not path.is_relative_to(plant) and naive.search(path.read_text("utf-8"))
    ]
    assert found == []
