"""The queue in the ledger: what the cloud has not heard comes back after a restart as it was, and the file stays small."""

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cem.csms.records import IdMap, JournalEntry, JournalMark, Kept, Noted, kept_key
from cem.store import Store
from cem.store.queue import DELIVERED_KEPT

T0 = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def entry(seq, *, station="CS1", upstream="cloud", **more):
    text = '[2,"m", "X", {"a":  1.0e2, "é": "\\u00e9"}]'
    made = JournalEntry(station, upstream, seq, f"m{seq}", "X", text, "update", "7", "1.6", f"f{seq}", T0, thin=2)
    return replace(made, **more)


@pytest.fixture
def reopen(tmp_path):
    stores = []

    def make():
        for store in stores:
            store.close()
        stores[:] = [Store(tmp_path / "var")]
        return stores[0]

    yield make
    stores[0].close()


async def test_entries_come_back_as_they_were_in_order_and_by_station(reopen):
    store = reopen()
    written = [entry(3), entry(1, live=True), entry(2, upstream="other", state="refused", thin=0, kind="stop")]
    await store.commit([*written, entry(1, station="CS2")])
    store = reopen()
    found = store.journal()
    assert found["CS1"] == [written[1], written[0], written[2]]
    assert found["CS2"] == [entry(1, station="CS2")]
    assert store.queue(2) == (written[1], written[0])
    assert store.queue(station_id="CS2") == (entry(1, station="CS2"),)


async def test_marks_of_one_queue_change_only_that_entry(reopen):
    store = reopen()
    await store.commit([entry(n) for n in range(1, 5)] + [entry(1, upstream="other")])
    await store.commit(
        [JournalMark("CS1", "cloud", n, s) for n, s in ((1, "delivered"), (2, "dropped"), (3, "refused"))]
    )
    store = reopen()
    states = {(e.upstream_id, e.seq): (e.state, bool(e.text)) for e in store.journal()["CS1"]}
    assert states == {
        ("cloud", 1): ("delivered", False), ("cloud", 2): ("delivered", False), ("cloud", 3): ("refused", True),
        ("cloud", 4): ("waiting", True), ("other", 1): ("waiting", True),
    }  # fmt: skip
    assert [e.seq for e in store.queue()] == [3, 4, 1]
    await store.commit([JournalMark("CS1", "cloud", 3, "waiting")])
    assert [e.state for e in store.queue()] == ["waiting"] * 3


async def test_why_a_message_is_set_aside_is_kept_until_it_is_told_again(reopen):
    store = reopen()
    await store.commit([entry(1), entry(2), entry(3, state="refused", why="its start is")])
    await store.commit([JournalMark("CS1", "cloud", 1, "refused", "left unanswered")])
    store = reopen()
    assert [e.why for e in store.queue()] == ["left unanswered", "", "its start is"]
    await store.commit([JournalMark("CS1", "cloud", 1, "waiting"), JournalMark("CS1", "cloud", 3, "delivered")])
    assert [(e.seq, e.why) for e in store.queue()] == [(1, ""), (2, "")]
    await store.commit([JournalMark("CS1", "cloud", 1, "refused")])
    assert [e.why for e in store.queue()] == ["", ""]


async def test_i11_of_what_is_delivered_only_the_latest_fingerprints_stay(reopen):
    store = reopen()
    for n in range(1, DELIVERED_KEPT + 51):
        await store.commit([entry(n)])
        await store.commit([JournalMark("CS1", "cloud", n, "delivered")])
    kept = store.journal()["CS1"]
    assert len(kept) == DELIVERED_KEPT
    assert kept[-1].fingerprint == f"f{DELIVERED_KEPT + 50}"
    assert store.queue() == ()


async def test_i11_of_what_is_thinned_out_only_the_latest_fingerprints_stay_beside_what_waits(reopen):
    store = reopen()
    for n in range(1, DELIVERED_KEPT + 51):
        await store.commit([entry(n)])
        if n > 1:
            await store.commit([JournalMark("CS1", "cloud", n, "dropped")])
    kept = store.journal()["CS1"]
    assert len(kept) == DELIVERED_KEPT + 1
    assert [e.seq for e in store.queue()] == [1]


async def test_id_maps_come_back_in_the_order_of_mapping(reopen):
    store = reopen()
    await store.commit(
        [IdMap("CS1", "cloud", "1", "9", "k1"), IdMap("CS1", "cloud", "2", "8"), IdMap("CS1", "b", "1", "5")]
    )
    await store.commit([IdMap("CS1", "cloud", "1", "10", "k1")])
    await store.commit([IdMap("CS1", "cloud", "2", None)])
    assert reopen().id_maps() == {"CS1": [IdMap("CS1", "b", "1", "5"), IdMap("CS1", "cloud", "1", "10", "k1")]}


async def test_values_by_name_are_on_disk_when_the_commit_returns(reopen, tmp_path):
    store = reopen()
    await store.commit([Kept("CS1", "profiles", "[1]"), Noted("CS1", T0, "token_rejected_later", "text")])
    with sqlite3.connect(f"file:{tmp_path}/var/ledger.db?mode=ro", uri=True) as ledger:
        assert ledger.execute("SELECT code, subject FROM audit").fetchall() == [("token_rejected_later", "CS1")]
    ledger.close()
    assert store.load_state(kept_key("CS1", "profiles")) == [1]
    assert reopen().load_state(kept_key("CS1", "profiles")) == [1]


async def test_l5_the_queue_is_saved_from_a_damaged_ledger(reopen, tmp_path, caplog):
    store = reopen()
    await store.commit([entry(1), entry(2), IdMap("CS1", "cloud", "1", "9")])
    store.close()
    path = tmp_path / "var" / "ledger.db"
    with sqlite3.connect(path) as ledger:
        (page,) = ledger.execute("SELECT rootpage FROM sqlite_master WHERE name = 'grant_in_force'").fetchone()
        (size,) = ledger.execute("PRAGMA page_size").fetchone()
    ledger.close()
    with path.open("r+b") as damaged:
        damaged.seek((page - 1) * size)
        damaged.write(b"\xa5" * size)
    again = Store(tmp_path / "var")
    try:
        assert again.problems()
        assert "damaged" in caplog.text
        assert again.journal() == {"CS1": [entry(1), entry(2)]}
        assert again.id_maps() == {"CS1": [IdMap("CS1", "cloud", "1", "9")]}
    finally:
        again.close()
