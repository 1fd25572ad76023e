"""The recorder: cycles in, a bounded ring of segment files out, written by a thread that control never waits for."""

import logging
import queue
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cem.core.engine import Decision, EngineMemory, Plan
from cem.core.state import SiteState
from cem.replay import codec
from cem.replay.segment import SUFFIX, SegmentText, Taken

log = logging.getLogger(__name__)

MAX_BYTES = 256_000_000
SEGMENTS = 16
"""A segment is at most this part of the ring, so that what is dropped is never much at once."""

SEGMENT_S = 3600.0
"""A segment ends after this: a keyframe an hour bounds what one torn file costs."""

FLUSH_S = 5.0
FLUSH_BYTES = 256_000
QUEUED = 32
RETRY_S = 60.0
CLOSE_S = 10.0


class Recorder:
    """Keeps the last cycles on disk.

    Args:
        directory: Of the ring; made where it is missing. Nothing else may live in it.
        plan: The site, flattened: a recording can be replayed without the site file.
        version: Of the product.
        site_file_sha256: Of the site file as it was read.
        max_bytes: The ring never takes more than this.
        flush_s: A killed process loses at most this much.
    """

    def __init__(
        self,
        directory: Path,
        plan: Plan,
        *,
        version: str,
        site_file_sha256: str = "",
        max_bytes: int = MAX_BYTES,
        flush_s: float = FLUSH_S,
    ) -> None:
        self._header = {
            "version": version,
            "site_file_sha256": site_file_sha256,
            "site": codec.encode(plan.site),
            "timings": codec.encode(plan.timings),
        }
        self._ring = _Ring(directory, max_bytes)
        self._flush_s = flush_s
        self._queue: queue.Queue[Taken | None] = queue.Queue(QUEUED)
        self._text: SegmentText | None = None
        self._began_s = self._flushed_s = 0.0
        self._retry_s = 0.0
        self._ill = False
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def take(self, number: int, state: SiteState, memory: EngineMemory, decision: Decision | None) -> None:
        """One cycle, from control; returns at once.

        Where the writer is behind, the cycle is left out: the gap in the numbers begins a new segment.

        Args:
            number: Of the cycle.
            state: What ``decide`` saw.
            memory: What it was handed.
            decision: What it decided; ``None`` where it failed.
        """
        try:
            self._queue.put_nowait(Taken(number, state, memory, decision))
        except queue.Full:
            return

    def close(self) -> None:
        """Write what waits and end the segment."""
        if self._thread.is_alive():
            try:
                self._queue.put(None, timeout=CLOSE_S)
            except queue.Full:
                return  # the disk hangs; the thread is a daemon
            self._thread.join(CLOSE_S)

    def _write(self) -> None:
        while True:
            try:
                taken = self._queue.get(timeout=self._flush_s)
            except queue.Empty:
                self._guarded(self._flush)
                continue
            if taken is None:
                self._guarded(self._end)
                return
            self._guarded(self._add, taken)

    def _guarded(self, do: Any, *args: Any) -> None:
        """A full or broken disk costs the recording, never the controller; said once, and once when it is over."""
        if self._ill and time.monotonic() < self._retry_s:
            return
        try:
            do(*args)
        except OSError as error:
            self._text = None
            self._ring.abandon()
            self._retry_s = time.monotonic() + RETRY_S
            if not self._ill:
                log.error(  # noqa: TRY400 - a full disk is no bug; its traceback tells an installer nothing
                    "cannot record control cycles in %s (%s); trying again every minute", self._ring, error
                )
            self._ill = True
        else:
            if self._ill and self._text is not None:
                self._ill = False
                log.info("control cycles are recorded again in %s", self._ring)

    def _add(self, taken: Taken) -> None:
        now_s = time.monotonic()
        text = self._text
        if text is not None and (
            not text.follows(taken)
            or now_s - self._began_s >= SEGMENT_S
            or self._ring.segment_bytes >= self._ring.max_bytes // SEGMENTS
        ):
            self._end()
            text = None
        if text is None:
            self._ring.begin()
            text = self._text = SegmentText({**self._header, "began_utc": taken.state.utc.isoformat()})
            self._began_s = now_s
            self._flushed_s = -1.0  # a keyframe goes to disk at once
        text.add(taken)
        if now_s - self._flushed_s >= self._flush_s or text.pending >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._text is not None:
            self._ring.write(self._text.take())
            self._flushed_s = time.monotonic()

    def _end(self) -> None:
        if self._text is not None:
            self._ring.write(self._text.end())
            self._text = None
            self._ring.end()


class _Ring:
    """Segment files in a folder; their sum is never above ``max_bytes``, the oldest goes first."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self.max_bytes = max_bytes
        self.segment_bytes = 0
        self._file: Any = None
        self._path: Path | None = None

    def __str__(self) -> str:
        return str(self._directory)

    def begin(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = [int(path.name[:8]) for path in self._directory.glob(f"*{SUFFIX}") if path.name[:8].isdecimal()]
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")  # for people; a clock may jump, so numbers give the order
        self._path = self._directory / f"{max(numbers, default=0) + 1:08d}-{stamp}{SUFFIX}"
        self._file = self._path.open("xb", buffering=0)
        self._path.chmod(0o600)
        self.segment_bytes = 0

    def write(self, data: bytes) -> None:
        if self._file is None or self._path is None:
            raise OSError("no segment is open")
        sizes = {path: path.stat().st_size for path in sorted(self._directory.glob(f"*{SUFFIX}"))}
        sizes.pop(self._path, None)
        total = sum(sizes.values()) + self.segment_bytes + len(data)
        for path, size in sizes.items():
            if total <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        if total > self.max_bytes:
            raise OSError(f"one keyframe alone takes more than the {self.max_bytes} bytes allowed (storage.replay_mb)")
        written = self._file.write(data)
        self.segment_bytes += written
        if written != len(data):
            raise OSError("the disk is full")

    def end(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._path = None

    def abandon(self) -> None:
        """Ends the segment where it stands; one that could never be filled is removed."""
        path, empty = self._path, self.segment_bytes == 0
        self.end()
        if path is not None and empty:
            path.unlink(missing_ok=True)
