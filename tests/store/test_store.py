"""The store on real files: what was acknowledged is there, whatever happens to the process or the disk."""

import asyncio
import itertools
import json
import logging
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from cem.errors import CemError
from cem.ports import Event, Grant, Registration, SessionUpdate
from cem.store import MinuteRollups, Store
from cem.store.ledger import Ledger

T0 = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def update(kind, wh=None, *, minute=0, session="s1", **more):
    return SessionUpdate(
        session, "CS1", "CS1/1", kind, T0 + timedelta(minutes=minute), transaction_id="7", meter_wh=wh, **more
    )


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "var")
    yield opened
    opened.close()


async def test_records_survive_a_restart(tmp_path):
    store = Store(tmp_path / "var")
    registration = Registration("CS1", "2.0.1", {"chargingStation": {"model": "X"}}, safe_default=True)
    grant = Grant("CS1/1", 13.5, T0)
    await store.commit([registration, grant, update("start", 1000.0, token_hash="h")])
    await store.commit([Grant("CS1/1", 16.0, T0)])
    store.save_state("dso", {"state": "limited", "until": 12.5})
    assert store.load_state("dso") == {"state": "limited", "until": 12.5}, "seen at once, before it is on disk"
    store.close()

    again = Store(tmp_path / "var")
    assert again.registrations() == {"CS1": registration}
    assert again.grants() == {"CS1/1": Grant("CS1/1", 16.0, T0)}
    assert again.load_state("dso") == {"state": "limited", "until": 12.5}
    assert again.load_state("other") is None
    (session,) = again.open_sessions()
    assert (session.session_id, session.token_hash, session.energy_wh) == ("s1", "h", 0.0)
    assert again.problems() == ()
    again.close()


async def test_a_session_is_one_row_with_its_energy(store):
    await store.commit([update("start", 1000.0, minute=0, token_hash="h")])
    await store.commit([update("meter", 1500.0, minute=5), update("stop", 2400.5, minute=30, reason="EVDisconnected")])
    await store.commit([update("stop", 2400.5, minute=30, reason="EVDisconnected")])  # told twice
    (session,) = store.sessions()
    assert session.energy_wh == pytest.approx(1400.5)
    assert (session.open, session.reason, session.transaction_id) == (False, "EVDisconnected", "7")
    assert (session.started_utc, session.stopped_utc) == (T0, T0 + timedelta(minutes=30))
    assert store.open_sessions() == ()


@pytest.mark.parametrize(
    ("readings", "energy_wh"),
    [
        ([1000, 1500, 0, 1600], 600),  # one zero read, then well again
        ([1000, 1500, 0], 500),  # ends on a zero read: never negative
        ([1000, 1500, 0, 10, 20, 120], 620),  # a new register, believed after two rising reads
        ([1000, 1500, 0, 10], 500),  # only one rise: not yet
        ([1000, None, float("nan"), 1200], 200),
        ([None, None], None),  # missing is not 0
    ],
)
async def test_m8_counter_jumps_never_make_negative_energy(store, readings, energy_wh):
    kinds = ["start", *["meter"] * (len(readings) - 2), "stop"]
    for minute, (kind, wh) in enumerate(zip(kinds, readings, strict=True)):
        await store.commit([update(kind, wh, minute=minute)])
    (session,) = store.sessions()
    assert session.energy_wh == (None if energy_wh is None else pytest.approx(energy_wh))
    assert not session.open


async def test_late_meter_values_do_not_count_twice(store):
    await store.commit(
        [update("start", 1000.0), update("meter", 1800.0, minute=20), update("meter", 1400.0, minute=10)]
    )
    await store.commit([update("stop", 2000.0, minute=30)])
    (session,) = store.sessions()
    assert session.energy_wh == pytest.approx(1000.0)


WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from cem.ports import SessionUpdate
from cem.store import Store

async def one(store, worker):
    n = 0
    while True:
        sid = f"{worker}-{n}"
        await store.commit([SessionUpdate(sid, "CS", "CS/1", "start", datetime.now(UTC), str(store.next_transaction_id()), 1.0)])
        print(sid, flush=True)
        n += 1

async def main():
    store = Store(Path(sys.argv[1]))
    await asyncio.gather(*(one(store, w) for w in range(20)))

asyncio.run(main())
"""


def test_l4_every_acknowledged_record_survives_sigkill(tmp_path):
    directory = tmp_path / "var"
    acknowledged: set[str] = set()
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        acknowledged.add(process.stdout.readline().strip())
        time.sleep(0.4)
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split("\n")
        acknowledged.update(rest[:-1])  # a line cut in the middle was not acknowledged
        process.stdout.close()
        process.wait()
    store = Store(directory)
    sessions = store.sessions(limit=1_000_000)
    store.close()
    assert len(acknowledged) > 60
    assert acknowledged <= {s.session_id for s in sessions}
    assert store.problems() == ()


@pytest.mark.parametrize("damaged", [False, True])
async def test_l4_the_ledger_syncs_at_every_commit_also_after_it_was_begun_anew(tmp_path, damaged):
    """What a kill cannot show and a power cut would: the very connection that writes acknowledged records."""
    store = Store(tmp_path / "var")
    await store.commit([update("start", 1.0)])
    store.close()
    if damaged:
        (tmp_path / "var" / "ledger.db").write_bytes(b"nonsense" * 1000)
    ledger = Ledger(tmp_path / "var" / "ledger.db")
    assert bool(ledger.quarantined) == damaged
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    ledger.close()


ONE_COMMIT = """
import asyncio, os, sys
from datetime import UTC, datetime
from pathlib import Path
from cem.ports import SessionUpdate
from cem.store import Store

async def main():
    store = Store(Path(sys.argv[1]))
    for n in range(3):
        await store.commit([SessionUpdate(f"s{n}", "CS", "CS/1", "start", datetime.now(UTC), "1", 1.0)])
        os.write(1, b"acknowledged")

asyncio.run(main())
"""


def test_l4_a_record_is_synced_before_it_is_acknowledged(tmp_path):
    """By the system calls themselves, where they can be watched."""
    trace, directory = tmp_path / "trace", tmp_path / "var"
    watched = [
        "strace",
        "-f",
        "-y",
        "-o",
        str(trace),
        "-e",
        "trace=write,pwrite64,fsync,fdatasync",
        "-e",
        "signal=none",
    ]
    try:
        subprocess.run([*watched, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("system calls cannot be watched here")
    subprocess.run([*watched, sys.executable, "-c", ONE_COMMIT, str(directory)], check=True, capture_output=True)
    unsynced, written, acknowledged = False, 0, 0
    for line in trace.read_text().splitlines():
        if re.search(r"write(64)?\(\d+<[^>]*/ledger\.db-wal>", line):
            unsynced, written = True, written + 1
        elif re.search(r"(fsync|fdatasync)\(\d+<[^>]*/ledger\.db-wal>\) += 0", line) or re.search(
            r"f(data)?sync resumed>\) += 0", line
        ):
            unsynced = False
        elif "acknowledged" in line:
            acknowledged += 1
            assert not unsynced
            assert written >= acknowledged  # each has data of its own
    assert acknowledged == 3


async def test_transaction_ids_never_repeat_even_after_a_kill(tmp_path):
    seen = []
    for _ in range(3):
        store = Store(tmp_path / "var")
        seen.extend(store.next_transaction_id() for _ in range(500))  # more than a block, in one go
        store.close()
    assert len(set(seen)) == len(seen)
    assert min(seen) > 0
    assert max(seen) < 2**31
    (tmp_path / "var" / "ledger.db").unlink()
    store = Store(tmp_path / "var")
    time.sleep(0.01)
    assert store.next_transaction_id() >= 28_000_000, "a lost ledger starts at the clock, not at 1"
    store.close()


async def test_l5_a_damaged_ledger_is_moved_aside(tmp_path, caplog):
    directory = tmp_path / "var"
    Store(directory).close()
    (directory / "ledger.db").write_bytes(b"this is not a database" * 500)
    (directory / "history.db").write_bytes(b"neither is this" * 500)
    with caplog.at_level(logging.ERROR):
        store = Store(directory)
    assert len([r for r in caplog.records if "is damaged" in r.message]) == 2
    assert len(store.problems()) == 2
    assert len(list(directory.glob("ledger.db.corrupt-*"))) == 1
    await store.commit([Registration("CS1", "1.6", {})])
    store.close()
    again = Store(directory)
    assert set(again.registrations()) == {"CS1"}
    again.close()


async def test_l5_damage_while_running_keeps_what_memory_knows(tmp_path):
    directory = tmp_path / "var"
    store = Store(directory)
    await store.commit([Registration("CS1", "1.6", {}), Grant("CS1/1", 10.0, T0)])
    other = sqlite3.connect(directory / "ledger.db")
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    size = (directory / "ledger.db").stat().st_size
    with (directory / "ledger.db").open("r+b") as file:
        file.write(os.urandom(size))
    await store.commit([Registration("CS2", "1.6", {})])
    store.close()
    assert list(directory.glob("ledger.db.corrupt-*"))
    again = Store(directory)
    assert set(again.registrations()) == {"CS1", "CS2"}
    assert again.grants() == {"CS1/1": Grant("CS1/1", 10.0, T0)}
    again.close()


async def test_l5_the_last_snapshot_takes_the_place_of_a_damaged_ledger(tmp_path, caplog):
    directory = tmp_path / "var"
    store = Store(directory)
    await store.commit([Registration("CS1", "1.6", {}), Grant("CS1/1", 32.0, T0), update("stop", 10.0)])
    store.save_state("dso", "unlimited")
    store.close()
    (directory / "ledger-snapshot.db").unlink()
    store = Store(directory)
    last_id = store.next_transaction_id()
    store.close()
    assert stat.S_IMODE((directory / "ledger-snapshot.db").stat().st_mode) == 0o600
    (directory / "ledger.db").write_bytes(os.urandom(20_000))
    store = Store(directory)
    assert "the snapshot of" in caplog.text
    assert set(store.registrations()) == {"CS1"}
    assert [s.session_id for s in store.sessions()] == ["s1"]
    assert store.grants() == {}, "an old grant could say that more is allowed than is"
    assert store.load_state("dso") is None
    time.sleep(0.01)
    assert store.next_transaction_id() > last_id
    store.close()


async def test_l5_a_damaged_snapshot_too(tmp_path):
    directory = tmp_path / "var"
    Store(directory).close()
    for name in ("ledger.db", "ledger-snapshot.db"):
        (directory / name).write_bytes(os.urandom(20_000))
    store = Store(directory)
    await store.commit([Registration("CS1", "1.6", {})])
    store.close()
    again = Store(directory)
    assert set(again.registrations()) == {"CS1"}
    again.close()


async def test_i11_the_oldest_closed_sessions_are_dropped_and_open_ones_never(tmp_path):
    from cem.store.rows import drop_oldest

    store = Store(tmp_path / "var")
    for n in range(10):
        await store.commit([update("meter" if n == 0 else "stop", 1.0, minute=n, session=f"s{n}")])
    store.close()
    with sqlite3.connect(tmp_path / "var" / "ledger.db") as connection:
        drop_oldest(connection, sessions=3, audited=3)
    connection.close()
    store = Store(tmp_path / "var")
    assert {s.session_id for s in store.sessions()} == {"s0", "s6", "s7", "s8", "s9"}
    store.close()


def test_l6_a_nearly_full_disk_is_an_alarm(tmp_path, monkeypatch):
    monkeypatch.setattr("cem.store.store.DISK_ALARM_PERCENT", 0.0)
    store = Store(tmp_path / "var", history_interval_s=0.02)
    time.sleep(0.2)
    assert "% full; free some space" in " ".join(store.problems())
    monkeypatch.setattr("cem.store.store.DISK_ALARM_PERCENT", 101.0)
    time.sleep(0.2)
    assert store.problems() == ()
    store.close()


READ_ONLY = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from cem.errors import CemError
from cem.ports import Event, Registration
from cem.store import Store

async def main():
    store = Store(Path(sys.argv[1]), history_interval_s=0.05)
    print(sorted(store.registrations()))
    for call in (store.commit([Registration("CS2", "1.6", {})]),):
        try:
            await call
        except CemError as error:
            print("refused:", error)
    try:
        store.next_transaction_id()
    except CemError as error:
        print("no id:", error)
    store.add_event(Event(datetime.now(UTC), 1.0, "code", "subject", "text"))
    await asyncio.sleep(0.2)
    print(len(store.events()))
    store.close()

asyncio.run(main())
"""


def run_within_its_rights(program, directory):
    command = [sys.executable, "-c", program, str(directory)]
    if os.geteuid() == 0:  # root writes anywhere unless it gives that up
        gone = "-dac_override,-fowner"
        command = ["setpriv", "--bounding-set", gone, "--inh-caps", gone, *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)


async def test_l6_read_only_directory_refuses_records_and_goes_on(tmp_path):
    directory = tmp_path / "var"
    store = Store(directory)
    await store.commit([Registration("CS1", "1.6", {})])
    store.close()
    for path in directory.iterdir():
        path.chmod(0o400)
    directory.chmod(0o500)
    # The store sets its own directory to 0700, so the files' rights alone are what refuses here.
    result = run_within_its_rights(READ_ONLY, directory)
    lines = result.stdout.splitlines()
    assert lines[0] == "['CS1']", "what is on record is still read"
    assert lines[1].startswith("refused:")
    assert lines[2].startswith("no id:")
    assert lines[3] == "1"
    assert result.stderr.count("history is not written") <= 1


READERS = """
import sys
from pathlib import Path
from cem.store import audit, details, peek, queue, rows, tokens

ledger = Path(sys.argv[1]) / "ledger.db"
(session,) = rows.read_sessions(ledger, limit=9, only_open=False, evse_id=None)
assert session.session_id in details.read_details(ledger, [session])
assert len(rows.read_audit(ledger, 9)) == len(audit.entries(ledger, 9)) == audit.verify(ledger).entries == 1
assert peek.kept_states(ledger, ["key"]) == {"key": 7}
assert queue.read_journal(ledger) == tokens.read_tokens(ledger) == ()
"""


async def test_l6_everything_on_record_is_read_on_a_read_only_disk(tmp_path):
    directory = tmp_path / "var"
    store = Store(directory)
    store.save_state("key", 7)
    await store.commit([update("start", 0.0)])
    await store.audit(Event(T0, 1.0, "code", "subject", "text"))
    store.close()
    directory.chmod(0o500)
    try:
        run_within_its_rights(READERS, directory)
    finally:
        directory.chmod(0o700)


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from cem.errors import CemError
from cem.ports import Registration
from cem.store import Store

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = Store(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    acknowledged, refused = [], 0
    for n in range(60):
        try:
            await store.commit([Registration(f"CS{n}", "1.6", {"filler": "x" * 8000})])
            acknowledged.append(f"CS{n}")
        except CemError:
            refused += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await asyncio.sleep(5.2)
    await store.commit([Registration("LAST", "1.6", {})])
    assert store.problems() == (), store.problems()
    store.close()
    print(refused)
    print("\\n".join([*acknowledged, "LAST"]))

asyncio.run(main())
"""


def test_l6_a_full_disk_refuses_and_recovers(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "var")], check=False, capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 0, result.stderr
    refused, *acknowledged = result.stdout.split()
    assert int(refused) > 0
    store = Store(tmp_path / "var")
    assert set(acknowledged) == set(store.registrations())
    store.close()
    assert result.stderr.count("records cannot be written") == 1, "an outage is logged once"


async def test_one_bad_record_does_not_take_the_others_with_it(store):
    bad = Registration("BAD", "1.6", {"not json": object()})
    results = await asyncio.gather(
        store.commit([Registration("CS1", "1.6", {}), bad]),
        store.commit([Registration("CS2", "1.6", {})]),
        return_exceptions=True,
    )
    assert isinstance(results[0], CemError)
    assert results[1] is None
    assert set(store.registrations()) == {"CS2"}, "a commit is whole or not at all"


async def test_a_record_that_makes_no_sense_fails_alone(store):
    results = await asyncio.gather(
        store.commit([Grant("CS1/1", 6.0, None)]),
        store.commit([Grant("CS1/2", object(), T0)]),
        store.commit([Grant("CS1/3", 6.0, T0)]),
        return_exceptions=True,
    )
    assert [type(r) for r in results] == [CemError, CemError, type(None)]
    assert set(store.grants()) == {"CS1/3"}


async def test_a_bug_in_the_writer_leaves_nobody_waiting(tmp_path, caplog):
    store = Store(tmp_path / "var", history_interval_s=0.05)
    store._history = None  # what a bug in there would do
    await asyncio.sleep(0.2)
    with pytest.raises(CemError):
        await asyncio.wait_for(store.commit([Registration("CS1", "1.6", {})]), 5)
    assert "the store's writer stopped" in caplog.text
    store.close()
    Store(tmp_path / "var").close()


async def test_only_one_controller_uses_a_directory(tmp_path, store):
    with pytest.raises(CemError, match="another controller"):
        Store(tmp_path / "var")


def test_files_are_for_their_owner_only(tmp_path, store):
    directory = tmp_path / "var"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert {"ledger.db", "history.db"} <= set(modes)
    assert set(modes.values()) == {0o600}


async def test_a_closed_store_refuses(tmp_path):
    store = Store(tmp_path / "var")
    store.close()
    with pytest.raises(CemError, match="closed"):
        await store.commit([Registration("CS1", "1.6", {})])


async def test_cancelled_waiter_does_not_take_the_record_back(store):
    task = asyncio.create_task(store.commit([Registration("CS1", "1.6", {})]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.commit([Registration("CS2", "1.6", {})])
    assert set(store.registrations()) == {"CS1", "CS2"}


def event(n, code="meter_lost"):
    return Event(T0 + timedelta(seconds=n), float(n), code, "grid_meter", f"text {n}", {"n": float(n)})


async def test_events_are_kept_newest_first(tmp_path):
    store = Store(tmp_path / "var")
    store.add_event(event(1))
    await store.audit(event(2, "external_limit"))
    store.add_event(event(3))
    assert [e.at_s for e in store.events()] == [3.0, 2.0, 1.0]
    store.close()
    again = Store(tmp_path / "var")
    assert again.events() == (event(3), event(2, "external_limit"), event(1))
    assert len(again.events(limit=1)) == 1
    again.close()


def test_history_queue_is_bounded_and_counts_what_it_drops(store):
    for n in range(2_100):
        store.add_event(event(n))
    assert store.dropped == 100
    assert len(store.events(limit=10_000)) == 2_000


def test_minute_rollups_go_to_disk_and_back(tmp_path):
    minutes = MinuteRollups()
    done = []
    for second in range(130):
        done.extend(minutes.turn(T0 + timedelta(seconds=second)))
        minutes.sample(
            "zone", "garage", measured_a=(10.0 + second % 2, 5.0, None), granted_a=(8.0, 8.0, 8.0),
            limit_a=(35.0 - (second == 30), 35.0, 35.0), binding="fuse" if second % 3 else "dso",
        )  # fmt: skip
        minutes.sample("evse", "CS1/1", measured_a=None, granted_a=(6.0,), limit_a=None, binding=None)
    assert len(done) == 4
    store = Store(tmp_path / "var")
    for rollup in done:
        store.add_rollup(rollup)
    store.close()
    store = Store(tmp_path / "var")
    rows = store.rollups(T0, T0 + timedelta(minutes=2))
    store.close()
    assert [r.minute_utc for r in rows] == [T0, T0, T0 + timedelta(minutes=1), T0 + timedelta(minutes=1)]
    evse, zone = rows[:2]
    assert zone.measured_mean_a == (10.5, 5.0, None)
    assert zone.measured_max_a == (11.0, 5.0, None)
    assert zone.limit_a == (34.0, 35.0, 35.0)
    assert zone.binding == "fuse"
    assert evse.measured_mean_a == (None, None, None), "missing is not 0"
    assert evse.granted_a == (6.0, None, None)
    assert evse.binding is None


def test_l7_a_day_of_a_hundred_stations_is_far_below_a_gigabyte(tmp_path):
    from cem.store.history import History

    path = tmp_path / "history.db"
    history = History(path, keep_days=90)
    minutes = MinuteRollups()
    for minute in range(61):  # one transaction a minute, as the writer does it
        assert history.write([], minutes.turn(T0 + timedelta(minutes=minute)), T0 + timedelta(minutes=minute))
        for subject in range(250):
            amps = (10.1 + subject % 7 + minute % 3, 11.3, 12.7)
            minutes.sample("evse", f"CS{subject}/1", measured_a=amps, granted_a=amps, limit_a=amps, binding="fuse")
    journal_bytes = path.with_name("history.db-wal").stat().st_size  # an hour fits in before it is folded in
    history.close()
    file_bytes = path.stat().st_size
    assert 24 * file_bytes < 50e6
    assert 24 * (journal_bytes + file_bytes) < 300e6, "everything is written twice: journal and file"


async def test_l8_a_clock_years_ahead_does_not_empty_the_history(tmp_path):
    from cem.store.history import History

    path = tmp_path / "history.db"
    history = History(path, keep_days=1)
    minutes = MinuteRollups()
    rollups = []
    for minute in range(0, 1000, 10):
        rollups.extend(minutes.turn(T0 + timedelta(minutes=minute)))
        minutes.sample("zone", "z", measured_a=(1.0,), granted_a=None, limit_a=None, binding=None)
    assert history.write([], rollups, T0)
    assert history.write([], [], T0 + timedelta(days=3650))
    history.close()
    (count,) = sqlite3.connect(path).execute("SELECT count(*) FROM rollup").fetchone()
    assert 0 < count < len(rollups)


async def test_commits_share_syncs_and_the_loop_stays_free(store):
    lag = 0.0

    async def watch():
        nonlocal lag
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            lag, last = max(lag, now - last - 0.005), now

    watcher = asyncio.create_task(watch())
    started = time.monotonic()
    ids = itertools.count()
    await asyncio.gather(*(store.commit([Registration(f"CS{next(ids)}", "1.6", {})]) for _ in range(500)))
    took = time.monotonic() - started
    watcher.cancel()
    assert len(store.registrations()) == 500
    assert took < 5
    assert lag < 0.5, "writing must not block the loop"


def test_state_must_be_json(store):
    with pytest.raises(ValueError, match="JSON"):
        store.save_state("x", float("nan"))
    with pytest.raises(TypeError):
        store.save_state("x", object())
    assert json.dumps(store.load_state("x")) == "null"
