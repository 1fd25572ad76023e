"""Small tolerant readers of parsed JSON."""

from collections.abc import Mapping
from typing import Any

from cem.csms.metering import number

LONGEST_COMPOSITE_S = 7 * 86_400
NOTHING = -(2**62)
"""An id that nothing has."""


def whole(value: Any) -> int | None:
    """A whole number; ``None`` for anything else."""
    if type(value) is int:
        return value if abs(value) < 2**63 else None
    parsed = number(value)
    return int(parsed) if parsed is not None and parsed == int(parsed) and abs(parsed) < 2**63 else None


def words(value: Any) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def member(value: Any, key: str) -> Any:
    """``value[key]`` where value is an object that has it."""
    return value.get(key) if isinstance(value, Mapping) else None


def criterion(value: Any, key: str) -> int | None:
    """``value[key]`` as a whole number to select by; one that cannot be read selects nothing, never everything."""
    if member(value, key) is None:
        return None
    found = whole(member(value, key))
    return NOTHING if found is None else found
