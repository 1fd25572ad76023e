"""The store as the rest of the product sees it: one writer thread, group commit, nobody else waits for the disk."""

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cem.csms.privacy import Forgotten
from cem.errors import CemError
from cem.ports import Event, Grant, IdMap, JournalEntry, Record, Registration, TokenKnown
from cem.store.audit import AUDITED
from cem.store.files import disk_used_percent, prepare_directory, take_lock
from cem.store.forget import without_token
from cem.store.history import History, read_rollups
from cem.store.id_blocks import IdBlocks
from cem.store.jobs import Call, Job
from cem.store.ledger import Ledger
from cem.store.purge import purge
from cem.store.queue import by_station, read_id_maps, read_journal, read_queue
from cem.store.rollups import Rollup
from cem.store.rows import Entry, State, TransactionIds, read_audit, read_sessions
from cem.store.sessions import Session
from cem.store.tokens import read_tokens

log = logging.getLogger(__name__)

MAX_JOBS = 20_000
MAX_EVENTS = 2_000
MAX_ROLLUPS = 10_000
STATE_RETRY_S = 5.0
DISK_ALARM_PERCENT = 85.0  # FAULTS L6


class Store:
    """Ledger and history of one site; implements ``cem.ports.StationStore``.

    Opening blocks (call it before the loop runs); afterwards only the writer thread touches the disk, but for
    ``sessions`` and ``rollups``, which read in the caller's thread and belong into a worker thread or the web part.
    """

    def __init__(self, directory: Path, *, history_days: int = 90, history_interval_s: float = 60.0) -> None:
        """Open both files and start the writer.

        Args:
            directory: Where they live; made with rights 0700.
            history_days: How long one-minute figures are kept.
            history_interval_s: How often the history is written (FAULTS L7: 60 s or more on an SD card).

        Raises:
            CemError: Another controller uses the directory.
        """
        self._directory = directory
        prepare_directory(directory)
        self._lock_descriptor = take_lock(directory)
        self._ledger = Ledger(directory / "ledger.db")
        self._history = History(directory / "history.db", history_days)
        self._history_interval_s = history_interval_s
        self._recent = deque(
            sorted(
                (*self._history.recent_events(MAX_EVENTS), *read_audit(directory / "ledger.db", MAX_EVENTS)),
                key=lambda event: event.at_utc,
            ),
            maxlen=MAX_EVENTS,
        )
        self._wake = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._taken: list[Job] = []
        self._calls: deque[Call] = deque()
        self._states: dict[str, str] = {}
        self._states_retry_s = 0.0
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._rollups: deque[Rollup] = deque(maxlen=MAX_ROLLUPS)
        self._dropped = 0
        self._closing = False
        self._disk_problem: str | None = None
        self._ids = IdBlocks(self._ledger.contents.ids_below, self._write_ids, self._order_ids)
        self._writer = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._writer.start()

    # -- what the local CSMS keeps -------------------------------------------------------------------------------

    async def commit(self, records: Sequence[Record]) -> None:
        """Put records on disk, all or none; many callers share one fsync.

        Raises:
            CemError: They are not on disk: the disk is full or read-only, or the store is closed.
        """
        await self._commit(records)

    async def audit(self, event: Event) -> None:
        """Put an event of consequence into the ledger; as ``commit``."""
        with self._wake:
            self._recent.append(event)
        await self._commit((event,))

    def note(self, event: Event) -> None:
        """Note an event, one of security in the audit; never waits."""
        if event.code not in AUDITED:
            self.add_event(event)
            return
        with self._wake:
            self._recent.append(event)
        with contextlib.suppress(CemError):  # what is wrong with the disk is told by ``problems``
            self._enqueue(Job((event,)))

    async def _commit(self, entries: Sequence[Entry]) -> None:
        job = Job(entries)
        self._enqueue(job)
        # Whoever stops waiting does not take the record back.
        await asyncio.shield(asyncio.wrap_future(job.done))

    def _enqueue(self, job: Job) -> None:
        with self._wake:
            if self._closing:
                raise CemError("the store is closed; the record was not written")
            if len(self._jobs) >= MAX_JOBS:
                raise CemError(
                    f"{self._directory}: the disk is too slow, {MAX_JOBS} records are waiting; the record was not written"
                )
            self._jobs.append(job)
            self._wake.notify()

    def registrations(self) -> Mapping[str, Registration]:
        """Station id to what it said at its last accepted boot, as it is on disk."""
        return self._ledger.contents.registrations

    def grants(self) -> Mapping[str, Grant]:
        """EVSE id to the last limit that it was sent, as it is on disk."""
        return self._ledger.contents.grants

    def journal(self) -> Mapping[str, Sequence[JournalEntry]]:
        """By station: what its CSMSs have not heard, and what they heard last; reads the file in the caller's thread.

        Raises:
            CemError: The ledger cannot be read.
        """
        return by_station(read_journal(self._directory / "ledger.db"))

    def id_maps(self) -> Mapping[str, Sequence[IdMap]]:
        """By station: under which ids CSMSs know its transactions, oldest first; as ``journal``."""
        return by_station(read_id_maps(self._directory / "ledger.db"))

    def tokens(self) -> tuple[TokenKnown, ...]:
        """What CSMSs said of tokens; as ``journal``."""
        return read_tokens(self._directory / "ledger.db")

    def queue(self, limit: int = 200, *, station_id: str | None = None) -> tuple[JournalEntry, ...]:
        """What CSMSs have not heard, in the order of each station's queue; as ``journal``."""
        return read_queue(self._directory / "ledger.db", station_id=station_id, limit=limit)

    def next_transaction_id(self) -> int:
        """A new transaction id, unique for the site and never 0 or -1.

        Ids come from a block whose end is already on disk, so that none is ever handed out twice, whatever happens.

        Raises:
            CemError: The block is used up and a new one cannot be written.
        """
        taken = self._ids.take()
        if taken is None:
            raise CemError(self._ledger.problem or f"{self._directory}: no new transaction id can be written")
        return taken

    def _write_ids(self, below: int) -> bool:
        return self._ledger.write([(TransactionIds(below),)]) == [None]

    def _order_ids(self, below: int) -> concurrent.futures.Future[None]:
        job = Job((TransactionIds(below),))
        self._enqueue(job)
        return job.done

    async def forget(
        self, pseudonyms: Mapping[str, str], *, by: str, signed_too: bool = False
    ) -> Mapping[str, Forgotten]:
        """Takes tokens out of everything on disk; writes to the ledger wait meanwhile, for seconds where it is large.

        Args:
            pseudonyms: What stands in place of each token where something must.
            by: Who asked, for the audit.
            signed_too: Signed values of ended sessions that name a token go as well.

        Raises:
            CemError: It could not be done; nothing is lost, and it can be asked for again.
        """
        call = Call(partial(self._forget, pseudonyms, by, signed_too))
        with self._wake:
            if self._closing:
                raise CemError("the store is closed")
            self._calls.append(call)
            self._wake.notify()
        return await asyncio.shield(asyncio.wrap_future(call.done))

    def _forget(self, pseudonyms: Mapping[str, str], by: str, signed_too: bool) -> Mapping[str, Forgotten]:
        """In the writer's thread."""
        self._write_history()
        found, entry = purge(self._ledger, self._history, self._directory, pseudonyms, by=by, signed_too=signed_too)
        with self._wake:
            kept = [replace(event, text=without_token(event.text, pseudonyms)) for event in self._recent]
            self._recent.clear()
            self._recent.extend([*kept, entry])
        return found

    # -- state by name -------------------------------------------------------------------------------------------

    def save_state(self, key: str, value: Any) -> None:
        """Keep a small JSON value by name; returns at once, the latest value reaches the disk within moments.

        Raises:
            TypeError: The value is not JSON.
            ValueError: The value is not JSON (NaN, infinity).
        """
        text = json.dumps(value, allow_nan=False)
        with self._wake:
            if self._states.get(key, self._ledger.contents.states.get(key)) == text:
                return
            self._states[key] = text
            self._wake.notify()

    def load_state(self, key: str) -> Any:
        """What was last saved under this name; ``None`` where nothing was."""
        with self._wake:
            text = self._states.get(key)
        if text is None:
            text = self._ledger.contents.states.get(key)
        return None if text is None else json.loads(text)

    # -- history -------------------------------------------------------------------------------------------------

    def add_event(self, event: Event) -> None:
        """Note an event; never waits."""
        with self._wake:
            self._recent.append(event)
            if len(self._events) == MAX_EVENTS:
                self._dropped += 1
            self._events.append(event)

    def events(self, limit: int = 200) -> tuple[Event, ...]:
        """The latest events, newest first, from memory (at most ``MAX_EVENTS``)."""
        with self._wake:
            return tuple(reversed(self._recent))[: max(0, limit)]

    def add_rollup(self, rollup: Rollup) -> None:
        """Note one minute of one zone or EVSE; never waits."""
        with self._wake:
            if len(self._rollups) == MAX_ROLLUPS:
                self._dropped += 1
            self._rollups.append(rollup)

    def rollups(self, since: datetime, until: datetime) -> tuple[Rollup, ...]:
        """One-minute figures on disk, oldest first; reads the file in the caller's thread."""
        return tuple(read_rollups(self._directory / "history.db", since, until))

    # -- people --------------------------------------------------------------------------------------------------

    def sessions(self, limit: int = 200, *, evse_id: str | None = None) -> tuple[Session, ...]:
        """Sessions, latest first; reads the file in the caller's thread.

        Raises:
            CemError: The ledger cannot be read.
        """
        return read_sessions(self._directory / "ledger.db", limit=limit, only_open=False, evse_id=evse_id)

    def open_sessions(self) -> tuple[Session, ...]:
        """Sessions without a stop, latest first; as ``sessions``."""
        return read_sessions(self._directory / "ledger.db", limit=MAX_JOBS, only_open=True, evse_id=None)

    @property
    def dropped(self) -> int:
        """History records that were thrown away because the disk did not take them."""
        return self._dropped

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the storage now, for people; empty where all is well."""
        found = [self._ledger.problem, self._history.problem, self._disk_problem]
        moved = [f"{path.name}: a damaged file was moved aside" for path in self._quarantined()]
        return (*(problem for problem in found if problem), *moved)

    def _quarantined(self) -> tuple[Path, ...]:
        return (*self._ledger.quarantined, *self._history.quarantined)

    def close(self) -> None:
        """Write what is waiting and close the files; blocks until that is done."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._writer.join()
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    # -- the writer thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._write_until_closed()
        except Exception as error:  # a bug: nobody may wait for ever for a thread that is gone
            log.exception("the store's writer stopped")
            with self._wake:
                self._closing = True
                self._disk_problem = f"{self._directory}: nothing is written any more ({error}); restart the controller"
                jobs = [*self._taken, *self._jobs]
            for job in jobs:
                if not job.done.done():
                    job.done.set_exception(CemError(self._disk_problem))

    def _write_until_closed(self) -> None:
        history_due_s = time.monotonic()  # at once: what is wrong with the disk is known from the start
        closing = False
        while not closing:
            with self._wake:
                self._wake.wait_for(self._has_work, timeout=max(0.0, history_due_s - time.monotonic()))
                closing = self._closing
                self._taken = list(self._jobs)
                self._jobs.clear()
                calls = list(self._calls)
                self._calls.clear()
            self._write_ledger(self._taken)
            for call in calls:
                call.run()
            if closing or time.monotonic() >= history_due_s:
                self._write_history()
                self._ledger.keep_snapshot()
                self._check_disk()
                history_due_s = time.monotonic() + self._history_interval_s
        self._ledger.close()
        self._history.close()

    def _has_work(self) -> bool:
        states_due = bool(self._states) and time.monotonic() >= self._states_retry_s
        return bool(self._jobs or self._calls) or states_due or self._closing

    def _write_ledger(self, jobs: Sequence[Job]) -> None:
        with self._wake:
            states = dict(self._states)
        if not jobs and not states:
            return
        batches: list[Sequence[Entry]] = [job.entries for job in jobs]
        batches.append([State(key, text) for key, text in states.items()])
        results = self._ledger.write(batches)
        with self._wake:
            if results[-1] is None:
                for key, text in states.items():
                    if self._states.get(key) == text:
                        del self._states[key]
            else:
                self._states_retry_s = time.monotonic() + STATE_RETRY_S
        for job, error in zip(jobs, results, strict=False):
            if error is None:
                job.done.set_result(None)
            else:
                job.done.set_exception(error)

    def _write_history(self) -> None:
        with self._wake:
            events, rollups = list(self._events), list(self._rollups)
        written = self._history.write(events, rollups, datetime.now(UTC))
        if not written:
            return
        with self._wake:  # what came meanwhile stays; what the bound pushed out meanwhile was written anyway
            _drop_written(self._events, events)
            _drop_written(self._rollups, rollups)

    def _check_disk(self) -> None:
        used = disk_used_percent(self._directory)
        if used is not None and used >= DISK_ALARM_PERCENT:
            if self._disk_problem is None:
                log.warning("%s: the disk is %.0f %% full; free some space", self._directory, used)
            self._disk_problem = f"{self._directory}: the disk is {used:.0f} % full; free some space"
        elif self._disk_problem is not None:
            log.warning("%s: the disk has room again", self._directory)
            self._disk_problem = None


def _drop_written(queue: deque[Any], written: Sequence[object]) -> None:
    done = {id(item) for item in written}
    while queue and id(queue[0]) in done:
        queue.popleft()
