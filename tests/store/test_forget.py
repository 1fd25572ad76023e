"""Forgetting a token on disk: free pages, snapshot, damaged files; signed values stay as they are until they may go."""

import asyncio
import base64
import json
import os
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from cem import access
from cem.cli import make_app
from cem.csms.authorization import token_hash
from cem.csms.privacy import named, pseudonymised
from cem.csms.records import IdMap, JournalEntry, JournalMark, Kept, SessionUpdate, SignedValue, TokenKnown
from cem.ports import Event
from cem.store import Store

T0 = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
TAG = "04A1B2C3D4E5F6"
SITE = """\
version: 1
site: {name: Yard, grid_connection: {fuse_a: 63}}
zones: [{id: root, protection: {rating_a: 63}}]
stations: [{id: CS1, zone: root, breaker_a: 32}]
"""


def ocmf(tag):
    return f'OCMF|{{"ID":"{tag}","RD":[]}}|{{"SD":"00"}}'


def session(number, kind, token=TAG):
    return SessionUpdate(f"s{number}", "CS1", "CS1/1", kind, T0, str(number), 1000.0, token_hash(token))


def message(seq, text, **more):
    values = {"local_id": "7", "fingerprint": f"f{seq}"} | more
    return JournalEntry("CS1", "cloud", seq, f"m{seq}", "X", text, "update", ocpp_version="1.6", at_utc=T0, **values)


def start(tag):
    return f'[2,"a","StartTransaction",{{"connectorId":1, "idTag":"{tag}" , "meterStart":1.0e2}}]'


def holding(folder, *words):
    """Names of files that hold one of these words."""
    wanted = [word.lower().encode() for word in words]
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and any(w in p.read_bytes().lower() for w in wanted))


async def filled(directory, *, signed=()):
    """A storage directory where the tag is everywhere; closed."""
    store = Store(directory, history_interval_s=0.05)
    await store.commit([
        session(1, "start"), session(1, "stop"), session(2, "start"), session(3, "start", "OTHER"),
        message(1, start(TAG) * 40, local_id="1"), message(2, start(TAG.lower())), message(3, start("OTHER")),
        JournalMark("CS1", "cloud", 1, "delivered"), IdMap("CS1", "cloud", "1", "9", "of-the-start"),
        TokenKnown(token_hash(TAG), True, None, "FAMILY", "", None, T0),
        TokenKnown(token_hash("CHILD"), True, None, TAG, "", None, T0),
        Kept("CS1", "local_list", json.dumps({"version": 1, "tokens": {
            token_hash(TAG): [True, None, None, None], token_hash("C"): [True, None, TAG, "Central"],
        }})),
        *(SignedValue("s1", "t", json.dumps({"value": text})) for text in signed),
    ])  # fmt: skip
    store.note(Event(T0, 0.0, "strange", "CS1", f"a text with {TAG} in it", {}))
    store.note(Event(T0, 0.0, "station_unknown", "CS9", "in the audit", {}))
    await asyncio.sleep(0.3)
    os.utime(directory / "ledger-snapshot.db", (1, 1))
    await asyncio.sleep(0.3)
    store.close()
    with access.changing(directory) as content:
        content["tags"][token_hash(TAG)] = {"name": "Somebody", "until": None}
    (directory / "ledger.db.corrupt-20260101T000000000000Z").write_bytes(b"\x00" * 99 + TAG.encode() + b"\xff" * 99)


@pytest.fixture
def cem(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(SITE)

    def run(*words, code=0):
        answer = CliRunner().invoke(make_app(words), [*words, "--site", str(path)])
        assert answer.exit_code == code, answer.output
        return answer.output

    return run


async def test_nothing_of_a_forgotten_tag_is_left_in_any_file(tmp_path, cem):
    await filled(tmp_path / "var")
    before = holding(tmp_path / "var", TAG, token_hash(TAG))
    assert {"ledger.db", "ledger-snapshot.db", "history.db", "access.json"} <= set(before)
    told = json.loads(await asyncio.to_thread(cem, "privacy", "forget", TAG, "--json"))
    assert holding(tmp_path / "var", TAG, token_hash(TAG), "of-the-start") == []
    assert told == {
        "pseudonym": told["pseudonym"], "sessions": 2, "messages": 1, "tokens": 4, "events": 1, "damaged": 1,
        "signed_kept": 0,
    }  # fmt: skip
    assert len(told["pseudonym"]) == 20
    store = Store(tmp_path / "var")
    try:
        waiting = {entry.seq: entry.text for entry in store.queue()}
        assert waiting == {2: start(told["pseudonym"]), 3: start("OTHER")}
        hashes = {s.session_id: s.token_hash for s in store.sessions()}
        assert hashes == {"s1": told["pseudonym"], "s2": told["pseudonym"], "s3": token_hash("OTHER")}
        fingerprints = {e.seq: e.fingerprint for e in store.journal()["CS1"]}
        assert fingerprints[1] != "f1"
        assert (fingerprints[2], fingerprints[3]) == ("f2", "f3"), "a repeat of what is not over is still known"
    finally:
        store.close()
    assert "whole" in await asyncio.to_thread(cem, "audit", "verify")
    assert token_hash("OTHER") in await asyncio.to_thread(cem, "sessions", "export", "--csv")


async def test_signed_values_that_name_the_tag_are_kept_word_for_word_until_they_may_go(tmp_path, cem):
    wrapped = base64.b64encode(ocmf(TAG).encode()).decode()
    await filled(tmp_path / "var", signed=(ocmf(TAG), wrapped, ocmf("OTHER")))
    told = json.loads(await asyncio.to_thread(cem, "privacy", "forget", TAG, "--keep-local-tag", "--json", code=3))
    assert told["signed_kept"] == 2
    assert holding(tmp_path / "var", TAG) == ["ledger-snapshot.db", "ledger.db"]
    assert holding(tmp_path / "var", token_hash(TAG)) == ["access.json"]
    rows = {row["session_id"]: row for row in json.loads(await asyncio.to_thread(cem, "sessions", "export", "--json"))}
    kept = [value["sampled_value"]["value"] for value in rows["s1"]["signed_values"]]
    assert kept == [ocmf(TAG), wrapped, ocmf("OTHER")]


async def test_signed_values_go_where_that_is_asked_for(tmp_path, cem):
    wrapped = base64.b64encode(ocmf(TAG).encode()).decode()
    await filled(tmp_path / "var", signed=(ocmf(TAG), wrapped, ocmf("OTHER")))
    await asyncio.to_thread(cem, "privacy", "forget", TAG, "--signed-too")
    assert holding(tmp_path / "var", TAG, token_hash(TAG), wrapped) == []
    rows = {row["session_id"]: row for row in json.loads(await asyncio.to_thread(cem, "sessions", "export", "--json"))}
    assert [value["sampled_value"]["value"] for value in rows["s1"]["signed_values"]] == [ocmf("OTHER")]


def test_only_the_token_in_its_places_is_replaced():
    text = (
        '[2,"04A1B2C3D4E5F6","X",{ "idToken" : {"idToken":"04a1b2c3d4e5f6","type":"ISO14443"}, "n": 1.10,'
        '"groupIdToken":{"idToken":"04A1B2C3D4E5F6"},"vendor":"04A1B2C3D4E5F6","signed":"ID:04A1B2C3D4E5F6"}]'
    )
    changed = pseudonymised(text, TAG, "NOBODY")
    assert changed == text.replace('"idToken":"04a1b2c3d4e5f6"', '"idToken":"NOBODY"').replace(
        '"idToken":"04A1B2C3D4E5F6"', '"idToken":"NOBODY"'
    )
    assert named(json.dumps({"d": ocmf(TAG).encode().hex()}), TAG)
    assert not named(json.dumps({"d": ocmf("OTHER").encode().hex()}), TAG)
