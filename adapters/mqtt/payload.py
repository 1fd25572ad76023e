"""What a payload says: a number, a word, at a dotted path of JSON or plain. Nothing is guessed at."""

import json
import math
import re
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def number_in(payload: bytes, path: str | None) -> float | None:
    """The finite number there; ``16,0``, ``on`` and ``null`` are none."""
    found = at(parsed(payload), path) if path is not None else payload.decode(errors="replace")
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
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


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
