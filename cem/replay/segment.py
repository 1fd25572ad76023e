"""One segment file: a header, a keyframe, then one line a cycle; compressed, readable up to its last whole line.

Lines are JSON behind their CRC-32, in one zlib stream that is flushed now and then, so that what a killed process
leaves can be read up to the last flush.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cem.core.engine import Decision, EngineMemory
from cem.core.state import SiteState
from cem.core.topology import Floats, Ints
from cem.errors import CemError
from cem.replay import codec

SUFFIX = ".cycles"
FORMAT = "cem cycles 1"
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Taken:
    """What control hands over after a cycle; everything in it is immutable.

    Attributes:
        number: Of the cycle; a gap begins a new segment.
        state: What ``decide`` saw.
        memory: What it was handed.
        decision: What it decided; ``None`` where it failed.
    """

    number: int
    state: SiteState
    memory: EngineMemory
    decision: Decision | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """One cycle as read from a file.

    Attributes:
        number: Of the cycle.
        state: What ``decide`` saw.
        memory: The encoded memory, at keyframes; ``None`` elsewhere.
        setpoint_a: ``(n,)`` as decided; ``None`` where ``decide`` failed.
        reason: ``(n,)`` as decided.
        digests: Of every part of the decision, by dotted name.
    """

    number: int
    state: SiteState
    memory: Any
    setpoint_a: Floats | None
    reason: Ints | None
    digests: dict[str, str]


class SegmentText:
    """Turns cycles into compressed bytes; writes nothing itself."""

    def __init__(self, header: dict[str, Any]) -> None:
        self._zip = zlib.compressobj(6)
        self._pending = self._line({"format": FORMAT, **header})
        self._last: Taken | None = None
        self._digests: dict[str, str] = {}

    def follows(self, taken: Taken) -> bool:
        """Whether a cycle may go on from the last one here."""
        return self._last is None or taken.number == self._last.number + 1

    def add(self, taken: Taken) -> None:
        """One cycle; the first is the keyframe."""
        last, line = self._last, dict[str, Any]()
        line["n"] = taken.number
        if last is None:
            line["memory"] = codec.encode(taken.memory)
            line["state"] = codec.encode(taken.state)
        elif (change := codec.delta(last.state, taken.state)) is not codec.SAME:
            line["state"] = change
        decision = taken.decision
        if decision is None:
            line["failed"] = True
        else:
            known = None if last is None else last.decision
            line["setpoint_a"] = _changes(None if known is None else known.setpoint_a, decision.setpoint_a)
            line["reason"] = _changes(None if known is None else known.reason, decision.reason)
            found = codec.digests(decision)
            line["digests"] = {name: text for name, text in found.items() if self._digests.get(name) != text}
            self._digests = found
        self._pending += self._line(line)
        self._last = taken

    def take(self) -> bytes:
        """What is to be written now, complete up to the last line."""
        data, self._pending = self._pending + self._zip.flush(zlib.Z_SYNC_FLUSH), b""
        return data

    def end(self) -> bytes:
        """What is to be written last."""
        data, self._pending = self._pending + self._zip.flush(), b""
        return data

    @property
    def pending(self) -> int:
        """Bytes that wait, those inside the compressor not counted."""
        return len(self._pending)

    def _line(self, data: dict[str, Any]) -> bytes:
        text = json.dumps(data, separators=(",", ":")).encode()
        return self._zip.compress(b"%08x %s\n" % (zlib.crc32(text), text))


def _changes(before: Floats | Ints | None, after: Floats | Ints) -> list[list[Any]]:
    """``[indices, values]`` of what differs; everything where nothing came before."""
    changed = np.arange(len(after)) if before is None else np.flatnonzero(before != after)
    return [changed.tolist(), after[changed].tolist()]


def read_header(path: Path) -> dict[str, Any]:
    """The first line of a segment.

    Raises:
        CemError: It is not a recording, or broken at its very beginning.
    """
    for line in _lines(path):
        if line.get("format") == FORMAT:
            return line
        break
    raise CemError(f"{path}: not a recording of control cycles (or cut off before its first line)")


def read_cycles(path: Path) -> Iterator[Recorded]:
    """Every whole cycle of a segment, in order."""
    lines = _lines(path)
    next(lines, None)
    state: SiteState | None = None
    setpoint_a: Floats | None = None
    reason: Ints | None = None
    known: dict[str, str] = {}
    for line in lines:
        change = line.get("state")
        if change is not None:
            state = codec.decode(change) if state is None else codec.patch(state, change)
        if state is None:
            raise CemError(f"{path}: the recording begins without a picture of the site")
        if line.get("failed"):
            yield Recorded(line["n"], state, line.get("memory"), None, None, {})
            continue
        setpoint_a = _changed(setpoint_a, line["setpoint_a"], np.float64)
        reason = _changed(reason, line["reason"], np.int64)
        known = {**known, **line["digests"]}
        yield Recorded(line["n"], state, line.get("memory"), setpoint_a, reason, known)


def _changed(before: Any, change: list[Any], kind: Any) -> Any:
    indices, values = change
    if before is None:
        return np.array(values, dtype=kind)
    after = before.copy()
    after[indices] = values
    return after


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines; what was cut off by a crash or torn by a power cut ends the segment."""
    unzip = zlib.decompressobj()
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            try:
                *whole, rest = (rest + unzip.decompress(chunk)).split(b"\n")
                for line in whole:
                    sum_, _, text = line.partition(b" ")
                    if int(sum_, 16) != zlib.crc32(text):  # zlib itself makes something of a torn block
                        return
                    yield json.loads(text)
            except (zlib.error, ValueError):
                return
