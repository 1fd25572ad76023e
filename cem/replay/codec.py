"""The core's values as JSON and back, bit for bit, whatever fields they have; and what changed between two of them.

Values are encoded by what they are (dataclasses, named tuples, enums, tuples, mappings, numpy arrays, times), so a
field that the engine gains is recorded without a word here. Only classes of ``cem.core`` are ever made from a file.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from importlib import import_module
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from cem.errors import CemError

HOME = "cem.core."
"""Where every class in a recording must live: a file from outside makes nothing else."""

SAME = object()
"""Nothing changed."""

_PLAIN = (bool, int, float, str, type(None))


def encode(value: Any) -> Any:
    """A value as JSON; tagged lists stand for all that JSON has no word for.

    Raises:
        TypeError: A kind of value that a pure core has no business with.
    """
    if type(value) in _PLAIN:
        return value
    match value:
        case Enum():
            return ["enum", _name(type(value)), value.value]
        case np.ndarray():
            if value.dtype.hasobject:
                raise TypeError("an array of objects cannot be recorded")
            data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
            return ["array", value.dtype.str, list(value.shape), data]
        case np.generic():
            return ["scalar", value.dtype.str, base64.b64encode(value.tobytes()).decode()]
        case datetime():
            return ["time", value.isoformat()]
        case ZoneInfo(key=str(key)):
            return ["zone", key]
        case _ if value is UTC:
            return ["zone", "UTC"]
        case tuple() if hasattr(value, "_fields"):
            return ["named", _name(type(value)), *map(encode, value)]
        case tuple():
            return ["tuple", *map(encode, value)]
        case frozenset():
            return ["set", *map(encode, sorted(value))]
        case Mapping():
            return ["map", *([encode(key), encode(inner)] for key, inner in value.items())]
        case _ if is_dataclass(value):
            return ["data", _name(type(value)), {name: encode(getattr(value, name)) for name in _fields(type(value))}]
    raise TypeError(f"cannot record a {type(value).__qualname__}")


def decode(data: Any, like: Any = None) -> Any:
    """The value again.

    Args:
        data: What ``encode`` made.
        like: A value of the same kind made by today's code: what the recording lacks, or has in another shape, is
            taken from it, and what today's code has no field for is left out.

    Raises:
        CemError: The recording holds something that this version does not know.
    """
    match data:
        case ["enum", str(name), value]:
            return _class(name)(value)
        case ["array", str(kind), list(shape), str(text)]:
            array = np.frombuffer(base64.b64decode(text), dtype=kind).reshape(shape).copy()
            return like if isinstance(like, np.ndarray) and like.shape != array.shape else array
        case ["scalar", str(kind), str(text)]:
            return np.frombuffer(base64.b64decode(text), dtype=kind)[0]
        case ["time", str(text)]:
            return datetime.fromisoformat(text)
        case ["zone", str(key)]:
            return UTC if key == "UTC" else _zone(key)
        case ["named", str(name), *values]:
            return _class(name)(*map(decode, values))
        case ["tuple", *values]:
            pairs = isinstance(like, tuple) and len(like) == len(values)
            return tuple(decode(inner, like[i] if pairs else None) for i, inner in enumerate(values))
        case ["set", *values]:
            return frozenset(map(decode, values))
        case ["map", *pairs]:
            return {decode(key): decode(inner) for key, inner in pairs}
        case ["data", str(name), dict(found)]:
            return _rebuild(_class(name), found, like)
        case _ if type(data) in _PLAIN:
            return data
    raise CemError("a recording holds a value that this version cannot read")


def _zone(key: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    except (KeyError, ValueError) as error:
        raise CemError(f"a recording names the time zone {key!r}, which this machine does not know") from error


def _rebuild(kind: type[Any], found: dict[str, Any], like: Any) -> Any:
    model = like if isinstance(like, kind) else None
    values = {}
    for field in fields(kind):
        if field.name in found:
            values[field.name] = decode(found[field.name], getattr(model, field.name, None))
        elif model is not None:
            values[field.name] = getattr(model, field.name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise CemError(f"recorded by a version whose {kind.__name__} had no {field.name}; replay it with that one")
    return kind(**values)


def delta(before: Any, after: Any) -> Any:
    """What turns one value into the next, as JSON; ``SAME`` where they are alike to the last bit."""
    if before is after:
        return SAME
    if type(before) is not type(after):
        return encode(after)
    if is_dataclass(after):
        changed = {}
        for name in _fields(type(after)):
            one, other = getattr(before, name), getattr(after, name)
            if one is not other and (change := delta(one, other)) is not SAME:
                changed[name] = change
        return ["fields", changed] if changed else SAME
    if isinstance(after, Mapping) and all(type(key) is str for key in after) and list(before) == list(after):
        inner = {key: change for key in after if (change := delta(before[key], after[key])) is not SAME}
        return ["keys", inner] if inner else SAME
    if type(after) is tuple and len(before) == len(after):
        items = [
            [i, change]
            for i, (one, other) in enumerate(zip(before, after, strict=True))
            if one is not other and (change := delta(one, other)) is not SAME
        ]
        return ["items", *items] if items else SAME
    if isinstance(after, np.ndarray):
        alike = (before.dtype, before.shape) == (after.dtype, after.shape) and before.tobytes() == after.tobytes()
        return SAME if alike else encode(after)
    return SAME if repr(before) == repr(after) else encode(after)  # == takes -0.0 for 0.0 and 1 for True


def patch(before: Any, change: Any) -> Any:
    """The next value, from the one before and its ``delta``."""
    match change:
        case ["fields", dict(changed)]:
            return replace(before, **{name: patch(getattr(before, name), inner) for name, inner in changed.items()})
        case ["keys", dict(changed)]:
            return {**before, **{key: patch(before[key], inner) for key, inner in changed.items()}}
        case ["items", *items]:
            values = list(before)
            for i, inner in items:
                values[i] = patch(values[i], inner)
            return tuple(values)
    return decode(change)


def digests(value: Any, prefix: str = "") -> dict[str, str]:
    """A short digest of each part of a value, by its dotted name; equal where every bit is."""
    found = {}
    for name in _fields(type(value)):
        inner = getattr(value, name)
        if is_dataclass(inner):
            found.update(digests(inner, f"{prefix}{name}."))
        else:
            found[prefix + name] = hashlib.blake2b(b"".join(_bytes(inner)), digest_size=8).hexdigest()
    return found


def _bytes(value: Any) -> Iterator[bytes]:
    if isinstance(value, np.ndarray):
        yield f"{value.dtype.str}{value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, tuple):
        yield b"("
        for inner in value:
            yield from _bytes(inner)
        yield b")"
    elif is_dataclass(value):
        yield repr(sorted(digests(value).items())).encode()
    else:
        yield repr(value).encode()
        yield b","


def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(kind.__dataclass_fields__)  # fields() costs more than all the rest of a comparison


def _name(kind: type[Any]) -> str:
    if not kind.__module__.startswith(HOME):
        raise TypeError(f"cannot record a {kind.__module__}.{kind.__qualname__}: it is not part of the core")
    return f"{kind.__module__.removeprefix(HOME)}:{kind.__qualname__}"


@cache
def _class(name: str) -> type[Any]:
    module, _, kind = name.partition(":")
    try:
        found = getattr(import_module(HOME + module), kind) if module.isidentifier() else None
    except (ImportError, AttributeError) as error:
        raise CemError(f"a recording holds a {name}, which this version does not have") from error
    if not isinstance(found, type) or not (is_dataclass(found) or issubclass(found, (Enum, tuple))):
        raise CemError(f"a recording holds a {name}, which is not a value")
    return found
