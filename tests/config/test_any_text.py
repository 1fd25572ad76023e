"""Whatever a file holds, the loader answers with a site or with ``ConfigError``, never with anything else."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cem.config.loader import load_site_file
from cem.errors import ConfigError

from .sites import GOOD

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def loads_or_refuses(folder: Path, content: bytes) -> None:
    file = folder / "site.yaml"
    file.write_bytes(content)
    try:
        problems = load_site_file(file, environ={"SET": "1"}).warnings
    except ConfigError as error:
        problems = error.problems
        assert problems, "refused without a word"
    for problem in problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.message
        assert "\n" not in str(problem)
        for jargon in ("pydantic", "Input should", "validation error", "object at 0x"):
            assert jargon not in str(problem)


@QUICK
@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"%YAML 9.9\n---\n")
@example(b'"\\UFFFFFFFF"')
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    loads_or_refuses(tmp_path, content)


@QUICK
@given(st.text(alphabet="abzones: -[]{}&*!?|>'\"#%@`,\n\t<0123456789.~", max_size=120))
def test_any_punctuation(tmp_path: Path, text: str) -> None:
    loads_or_refuses(tmp_path, text.encode())


LINES = GOOD.splitlines()
WORDS = st.sampled_from(
    ["", "~", "[]", "{}", "- 1", "no", "12:30", "0644", "6,5", "-1", "1e400", ".inf", "9" * 400, "!env SET", "!env UNSET",
     "!secret x", "!include site.yaml", "!include .", "*a", "&a x", "<<: 1", "{kind: mqtt}", '"\\0"', "row", "root"]
)  # fmt: skip


@QUICK
@given(
    st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.one_of(WORDS, st.text(max_size=12))), min_size=1, max_size=5)
)
def test_the_good_file_with_any_values_exchanged(tmp_path: Path, changes: list[tuple[int, str]]) -> None:
    lines = list(LINES)
    for at, value in changes:
        key, colon, _ = lines[at].partition(":")
        lines[at] = f"{key}{colon} {value}"
    loads_or_refuses(tmp_path, "\n".join(lines).encode("utf-8", "surrogatepass"))


@QUICK
@given(st.sets(st.integers(0, len(LINES) - 1), min_size=1, max_size=6))
def test_the_good_file_with_any_lines_missing(tmp_path: Path, gone: set[int]) -> None:
    loads_or_refuses(tmp_path, "\n".join(line for i, line in enumerate(LINES) if i not in gone).encode())


@pytest.mark.parametrize("value", ["[]", "{}", "5", "~", "!include absent.yaml", "[5]", "[[]]", "[{}]", "[{id: 5}]"])
@pytest.mark.parametrize("key", ["site", "zones", "devices", "stations", "csms", "external_limits", "web", "control"])
def test_any_section_of_the_wrong_shape(tmp_path: Path, key: str, value: str) -> None:
    loads_or_refuses(tmp_path, GOOD.replace(f"{key}:", f"{key}: {value}\nspare_{key}:", 1).encode())
