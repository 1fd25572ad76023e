"""``cem station``, ``cem pki`` and ``cem audit`` as an installer uses them."""

import csv
import io
import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from typer.testing import CliRunner

from cem import access
from cem.cli import make_app
from cem.config.loader import load_site_file
from cem.csms.authorization import token_hash
from cem.ports import Event, SessionUpdate
from cem.store import Store
from tests.web.conftest import make_view

SITE = """\
version: 1
site: {name: Yard, grid_connection: {fuse_a: 63}}
zones: [{id: root, protection: {rating_a: 63}}]
stations:
  - {id: CS1, zone: root, breaker_a: 32, security_profile: 1}
web: {port: 9}
"""


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(SITE)

    def run(*words, code=0):
        answer = CliRunner().invoke(make_app(words), [*words, *(() if "--url" in words else ("--site", str(path)))])
        assert answer.exit_code == code, answer.output
        return answer.output

    return SimpleNamespace(path=path, run=run, directory=tmp_path / "var")


def test_on_a_new_site_there_is_nothing_yet_and_that_is_no_error(site):
    for made in (False, True):  # what commands leave there before the first run changes nothing
        assert json.loads(site.run("audit", "list", "--json")) == []
        assert "nothing has happened yet" in site.run("audit", "list")
        assert "there is nothing yet" in site.run("audit", "verify")
        assert json.loads(site.run("audit", "verify", "--json"))["entries"] == 0
        for form, printed in (("--json", "[]\n"), ("--csv", 1)):
            told = CliRunner().invoke(make_app(("sessions",)), ["sessions", "export", form, "--site", str(site.path)])
            assert told.exit_code == 0
            assert told.stdout == printed or (printed == 1 and told.stdout.count("\n") == 1)  # the line of names
            assert "there is nothing yet" in told.stderr
        if not made:
            site.run("pki", "init")
    Store(site.directory).close()
    (site.directory / "ledger.db").unlink()  # a ledger that is gone is no new site
    assert "cannot be read" in site.run("audit", "verify", code=1)


def test_a_ca_is_made_once_and_its_files_are_private(site):
    site.run("pki", "list", code=1)
    root = json.loads(site.run("pki", "init", "--json"))["certificate"]
    assert "has a CA already" in site.run("pki", "init", code=1)
    issued = json.loads(site.run("pki", "issue", "CS1", "--json"))
    server = json.loads(site.run("pki", "issue", "10.0.0.1", "--server", "--rsa", "--json"))
    for path in site.directory.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    ca = x509.load_pem_x509_certificate(Path(root).read_bytes())
    for told in (issued, server):
        x509.load_pem_x509_certificate(Path(told["certificate"]).read_bytes()).verify_directly_issued_by(ca)
    assert site.run("pki", "revoke", "CS1") == "CS1: 1 certificate revoked\n"
    assert "no certificate of this identity is in force" in site.run("pki", "revoke", "CS1", code=1)
    listed = {item["identity"]: item for item in json.loads(site.run("pki", "list", "--json"))}
    assert listed["CS1"]["revoked_utc"] is not None
    assert listed["10.0.0.1"]["server"] is True
    assert "revoked" in site.run("pki", "list")


@pytest.mark.parametrize("identity", ["../x", "", "a" * 49, "a\nb", ".hidden"])
def test_no_certificate_for_what_is_no_identity(site, identity):
    site.run("pki", "init")
    assert "cannot be the identity" in site.run("pki", "issue", identity, code=1)


def test_a_password_is_shown_once_and_kept_as_a_hash(site):
    told = json.loads(site.run("station", "set-password", "CS1", "--json"))
    assert 16 <= len(told["password"]) <= 40
    file = site.directory / access.FILE
    assert told["password"] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = access.load(file)["credentials"]["CS1"]
    assert access.matches(told["password"].encode(), kept)
    assert not access.matches(b"another", kept)
    key = json.loads(site.run("station", "set-password", "CS1", "--hex", "--json"))["password"]
    assert access.matches(bytes.fromhex(key), access.load(file)["credentials"]["CS1"])
    site.run("station", "set-password", "CS1", "--remove")
    assert access.load(file)["credentials"] == {}
    assert "is not in" in site.run("station", "set-password", "CS2", code=1)


def test_approving_prints_lines_that_make_a_good_site_file(site):
    site.run("station", "reject", "NEW")
    assert access.Access(site.directory).rejected("NEW")
    assert "no zone 'roof'" in site.run("station", "approve", "NEW", "--zone", "roof", code=1)
    text = site.run("station", "approve", "NEW", "--zone", "root")
    assert not access.Access(site.directory).rejected("NEW")
    site.path.write_text(SITE.replace("web:", "").replace(" {port: 9}\n", "") + text + "web: {port: 9}\n")
    loaded = load_site_file(site.path)
    assert [s.id for s in loaded.file.stations] == ["CS1", "NEW"]
    assert "already" in site.run("station", "approve", "NEW", "--zone", "root", code=1)


def test_who_waits_is_listed(server, site):
    view = make_view(13.0)
    station = {"id": "CS1", "online": True, "ocpp_version": "1.6", "vendor": "V", "model": None}
    waiting = {"id": "NEW", "ocpp_version": "2.0.1", "vendor": "W", "model": "M", "since": "2026-01-01T00:00:00+00:00"}
    view["csms"] = {"stations": [station], "waiting_room": [waiting], "upstreams": []}
    server.cell.set(view)
    text = site.run("station", "list", "--url", server.web.url)
    assert "NEW" in text
    assert "waits" in text
    assert json.loads(site.run("station", "list", "--json", "--url", server.web.url))["waiting_room"] == [waiting]
    answer = CliRunner().invoke(
        make_app(["station"]),
        ["station", "approve", "NEW", "--zone", "root", "--url", server.web.url, "--site", str(site.path)],
    )
    assert "# W M, OCPP 2.0.1" in answer.output


def test_a_damaged_file_is_not_overwritten(site):
    site.run("station", "reject", "NEW")
    (site.directory / access.FILE).write_text("{")
    assert "is damaged" in site.run("station", "reject", "NEW2", code=1)
    assert (site.directory / access.FILE).read_text() == "{"


async def test_the_audit_is_listed_and_verified(site):
    store = Store(site.directory)
    await store.audit(Event(datetime.now(UTC), 1.0, "station_twice", "CS1", "two of them"))
    store.close()
    assert "CS1: two of them" in site.run("audit", "list")
    head = json.loads(site.run("audit", "list", "--json"))[0]["digest"]
    assert f"head {head}" in site.run("audit", "verify")
    import sqlite3

    connection = sqlite3.connect(site.directory / "ledger.db")
    with connection:
        connection.execute("UPDATE audit SET text = 'one of them'")
    connection.close()
    assert "NOT whole" in site.run("audit", "verify", code=1)


def test_tags_are_kept_as_hashes(site):
    assert "everybody may charge" in site.run("tag", "add", "04A1B2C3D4", "--name", "Ada")
    site.run("tag", "add", "04FFFFFFFF", "--until", "2026-12-24T07:00")
    file = site.directory / access.FILE
    assert "04A1B2C3D4" not in file.read_text()
    assert "Ada" in site.run("tag", "list")
    listed = json.loads(site.run("tag", "list", "--json"))
    assert {entry["name"] for entry in listed} == {"Ada", ""}
    tags = access.Access(site.directory).tags()
    assert token_hash("04a1b2c3d4") in tags
    site.run("tag", "remove", "04a1b2c3d4")
    assert "no tag" in site.run("tag", "remove", "04A1B2C3D4", code=1)
    site.run("tag", "remove", next(iter(access.Access(site.directory).tags()))[:12])
    assert json.loads(site.run("tag", "list", "--json")) == []
    assert "--until" in site.run("tag", "add", "X", "--until", "soon", code=1)


async def test_sessions_are_exported(site):
    store = Store(site.directory)
    at = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    start = SessionUpdate("s1", "CS1", "CS1/1", "start", at, "7", 1000.0, token_hash("TAG"))
    stop = SessionUpdate("s1", "CS1", "CS1/1", "stop", at, "7", 3500.0, None, "=HYPERLINK(1)")
    await store.commit([start, stop])
    assert "say --csv or --json" in site.run("sessions", "export", code=1)
    (row,) = json.loads(site.run("sessions", "export", "--json"))
    assert row["energy_wh"] == 2500
    assert row["reason"] == "=HYPERLINK(1)"
    (line,) = csv.DictReader(io.StringIO(site.run("sessions", "export", "--csv")))
    assert line["energy_wh"] == "2500.0"
    assert line["reason"] == "'=HYPERLINK(1)"
    store.close()
