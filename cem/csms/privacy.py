"""Forgetting a person: which words of a message name a token, and what stands in their place afterwards.

What must still be told to a CSMS keeps its place with a pseudonym instead of the token: a random one, so that nobody can
work the token out from it, the same wherever one request to forget found the token, so that start and end still belong
together. Signed values are never touched, since the signature covers who charged.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

_TOLD = re.compile(r'("(?:idTag|parentIdTag|idToken|additionalIdToken)"\s*:\s*)("(?:[^"\\]|\\.)*")')
SHORTEST = 4
"""Shorter tokens are not looked for in the middle of texts, where they would be found by chance."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What became of a token.

    Attributes:
        pseudonym: What stands in its place.
        sessions: Sessions that no longer name it.
        messages: Messages that a CSMS has still to hear, in which it is replaced.
        tokens: Entries of caches and lists that are gone.
        events: Texts for people in which it stood.
        damaged: Damaged files, moved aside earlier, in which it was overwritten.
        signed_kept: Signed values that name it in what is signed, and are kept as they are.
    """

    pseudonym: str
    sessions: int = 0
    messages: int = 0
    tokens: int = 0
    events: int = 0
    damaged: int = 0
    signed_kept: int = 0


def pseudonym(random_hex: str) -> str:
    """From 11 random hexadecimal digits: 20 characters, the longest idTag of OCPP 1.6."""
    return f"FORGOTTEN{random_hex[:11].upper()}"


def pseudonymised(text: str, token: str, instead: str) -> str:
    """A frame in which another token stands where this one stood; everything else is as it was."""

    def other(found: re.Match[str]) -> str:
        try:
            told = json.loads(found[2])
        except ValueError:
            return found[0]
        return found[1] + json.dumps(instead) if told.upper() == token.upper() else found[0]

    return _TOLD.sub(other, text)


def named(text: str, token: str) -> bool:
    """Whether a text names a token, also inside of signed data that is written in Base64 or hexadecimal."""
    wanted = token.upper()
    if len(token) < SHORTEST:
        return False
    if wanted in text.upper():
        return True
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return any(wanted in plain.upper() for words in _strings(found) for plain in _decoded(words))


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _strings(inner)
        case list():
            for inner in value:
                yield from _strings(inner)


def _decoded(words: str) -> Iterator[str]:
    with suppress(binascii.Error, ValueError):
        yield base64.b64decode(words, validate=True).decode(errors="replace")
    with suppress(ValueError):
        yield bytes.fromhex(words).decode(errors="replace")
