"""The audit's chain: a change in the middle shows; secrets are in no file and no log."""

import asyncio
import logging
import sqlite3

import pytest

from cem import access
from cem.errors import CemError
from cem.ports import Event
from cem.store import Store
from cem.store.audit import entries, verify
from cem.store.rows import drop_oldest
from tests.adapters.ocpp_peers import Station16, local_csms, station
from tests.adapters.test_ocpp_tls import basic
from tests.store.test_store import event


async def written(folder, count=5):
    store = Store(folder)
    for n in range(count):
        await store.audit(event(n, "station_unauthorized"))
    store.close()
    return folder / "ledger.db"


async def test_the_chain_holds_over_restarts(tmp_path):
    await written(tmp_path)
    path = await written(tmp_path)
    found = verify(path)
    assert (found.entries, found.older, found.problem) == (10, 0, None)
    assert found.head == entries(path, 1)[0]["digest"]
    assert [entry["number"] for entry in entries(path, 3)] == [10, 9, 8]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE audit SET text = 'nothing happened' WHERE rowid = 3", "entry 3"),
        ("UPDATE audit SET at_utc = '2026-01-01T00:00:00+00:00' WHERE rowid = 5", "entry 5"),
        ("DELETE FROM audit WHERE rowid = 2", "entry 2 is missing"),
        ("DELETE FROM audit WHERE rowid = 2; DELETE FROM audit_chain WHERE number = 2", "before entry 3"),
        (
            "INSERT INTO audit (at_utc, at_s, code, subject, text, data) VALUES ('2026', 0, 'x', 'y', 'z', '{}')",
            "entry 6 was put in",
        ),
        ("UPDATE audit SET rowid = 9 WHERE rowid = 4; UPDATE audit_chain SET number = 9 WHERE number = 4", "entry"),
    ],
)
async def test_a_change_shows(tmp_path, change, said):
    path = await written(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.executescript(change)
    connection.close()
    problem = verify(path).problem
    assert problem is not None
    assert said in problem


async def test_the_oldest_may_go(tmp_path):
    path = await written(tmp_path, 8)
    with sqlite3.connect(path) as connection:
        drop_oldest(connection, sessions=1, audited=3)
    connection.close()
    found = verify(path)
    assert (found.entries, found.problem) == (3, None)


async def test_entries_from_before_the_chain_are_counted_apart(tmp_path):
    path = await written(tmp_path, 2)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM audit_chain")
    connection.close()
    await written(tmp_path, 2)
    found = verify(path)
    assert (found.entries, found.older, found.problem) == (2, 2, None)


def test_no_ledger(tmp_path):
    with pytest.raises(CemError):
        verify(tmp_path / "ledger.db")


async def test_events_of_security_are_audited_others_are_not(tmp_path):
    store = Store(tmp_path)
    store.note(event(1, "station_twice"))
    store.note(event(2, "meter_lost"))
    assert len(store.events()) == 2
    store.close()
    assert [entry["code"] for entry in entries(tmp_path / "ledger.db", 9)] == ["station_twice"]


async def test_secrets_are_in_no_log_and_no_file(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = ["in-the-site-file-20", "set-by-a-command-20", "guessed-wrongly-20ch", "TAG-OF-A-PERSON"]
    site, command, guess, tag = secrets
    store = Store(tmp_path)
    told: list[Event] = []
    async with local_csms(("S1", "S2"), store=store, passwords={"S1": site, "S2": site}, directory=tmp_path) as local:
        with access.changing(tmp_path) as content:
            content["credentials"]["S2"] = access.hashed(command)
        for who, password in (("S1", guess), ("S2", guess), ("S1", site), ("S2", command)):
            try:
                async with station(Station16, local.address, name=who, headers=basic(who, password)) as peer:
                    await peer.boot()
                    await peer.start(token=tag)
            except Exception:
                assert password == guess
        await asyncio.sleep(0.1)
        told += local.events
    for found in told:
        store.note(found)
    store.close()
    assert "station_unauthorized" in {e.code for e in told}
    ours = [
        record.getMessage() for record in caplog.records if not record.name.startswith(("ocpp", "websockets.client"))
    ]
    text = "\n".join([*ours, *(str(e) for e in told)])
    for path in tmp_path.rglob("*"):
        if path.is_file():
            text += path.read_bytes().decode("latin-1")
    for secret in secrets:
        assert secret not in text, secret
