"""What a payload says: a number, a word, at a dotted path of JSON or plain. Nothing is guessed at."""

import json
import math
import re
from typing import Any

import orjson

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def number_in(payload: bytes, path: str | None) -> float | None:
    """The finite number there; ``16,0``, ``on`` and ``null`` are none."""
    return number_of(at(parsed(payload), path) if path is not None else payload.decode(errors="replace"))


def number_of(found: Any) -> float | None:
    """What stands in a payload, as a finite number."""
    if isinstance(found, float):
        return found if math.isfinite(found) else None
    if isinstance(found, str):
        stripped = found.strip()
        if not _NUMBER.fullmatch(stripped):
            return None
        found = float(stripped)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        number = float(found)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def word_in(payload: bytes, path: str | None) -> str | None:
    """The word there, in small letters: ``ON`` and ``on`` are the same, and so are ``True`` and JSON's ``true``."""
    found = at(parsed(payload), path) if path is not None else payload.decode(errors="replace")
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int | float | str):
        return str(found).strip().strip('"').casefold()
    return None


def parsed(payload: bytes) -> Any:
    """JSON, or ``None``."""
    try:
        return orjson.loads(payload)
    except ValueError:
        pass  # it is strict: NaN of one value must not cost the others
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


Steps = tuple[tuple[str, int], ...]


def steps_of(path: str) -> Steps:
    """A dotted path made ready for ``follow``: each key, and as the number it is in a list (-1: none)."""
    return tuple((key, int(key) if key.isdecimal() else -1) for key in path.split("."))


def follow(document: Any, steps: Steps, path: str) -> Any:
    """As ``at``, for paths that are followed a thousand times a second."""
    found = document
    for key, index in steps:
        if type(found) is dict and key in found:
            found = found[key]
        elif type(found) is list and 0 <= index < len(found):
            found = found[index]
        else:
            return at(document, path)
    return found


def at(document: Any, path: str) -> Any:
    """What stands at a dotted path; a list is indexed by number, a key may itself hold dots."""
    if isinstance(document, dict) and path in document:
        return document[path]
    key, _, rest = path.partition(".")
    if isinstance(document, dict):
        inner = document.get(key)
    elif isinstance(document, list) and key.isdecimal() and int(key) < len(document):
        inner = document[int(key)]
    else:
        return None
    return at(inner, rest) if rest else inner
