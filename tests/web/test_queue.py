"""The queue over HTTP and on the command line: who may see what, and what may be asked."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from typer.testing import CliRunner

from cem.cli import make_app
from cem.errors import CemError
from cem.ports import JournalEntry
from cem.web import SnapshotCell, WebServer

T0 = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def entry(seq, station="CS1", state="waiting"):
    text = f'[2,"m{seq}","StopTransaction",\n {{"idTag":"SECRET", "transactionId":{seq}}}]'
    return JournalEntry(
        station, "cloud", seq, f"m{seq}", "StopTransaction", text, "stop", str(seq), "1.6", "f", T0, state=state
    )


class Site:
    def __init__(self, *, allowed=True):
        self.entries = [entry(1), entry(2, state="refused"), entry(1, "CS2")]
        self.entries[1] = replace(self.entries[1], why="refused 3 times (InternalError)")
        self.asked = []
        view = SnapshotCell()
        first = {"seq": 1, "why": "left unanswered 2 times"}
        view.set({"csms": {"stations": [{"id": "CS1", "queues": [{"upstream": "cloud", "first": first}]}]}})
        self.web = WebServer("127.0.0.1", 0, view, queue=self.read, queue_commands=self if allowed else None)

    def read(self, limit, *, station_id=None):
        return tuple(e for e in self.entries if station_id in {None, e.station_id})[:limit]

    def retry(self, station_id):
        self.asked.append(station_id)
        return 2

    def set_aside(self, station_id, upstream_id, seq):
        self.asked.append((station_id, upstream_id, seq))
        if station_id == "CS9":
            raise CemError("there is no station CS9")
        return {"station_id": station_id, "upstream_id": "cloud", "seq": seq or 1, "action": "StopTransaction"}

    def cem(self, *words):
        return CliRunner().invoke(make_app(["queue"]), ["queue", *words, "--url", self.web.url])


@pytest.fixture
def site():
    made = Site()
    made.web.start()
    yield made
    made.web.stop()


def test_what_waits_is_listed_without_telling_who_charges(site):
    answer = httpx.get(f"{site.web.url}api/v1/queue", params={"limit": 2})
    body = answer.json()
    assert [(e["station_id"], e["seq"], e["state"]) for e in body["queue"]] == [
        ("CS1", 1, "waiting"),
        ("CS1", 2, "refused"),
    ]
    assert body["more"] is True
    assert "SECRET" not in answer.text
    assert httpx.get(f"{site.web.url}api/v1/queue", params={"station": "CS2"}).json()["more"] is False
    assert httpx.get(f"{site.web.url}api/v1/queue", params={"limit": 0}).status_code == 422


def test_the_list_as_a_person_reads_it(site):
    result = site.cem("list")
    assert result.exit_code == 0, result.output
    assert "CS1" in result.output
    assert "what is set aside is told again after `cem queue retry`" in result.output
    words = " ".join(result.output.replace("│", " ").split())
    assert "waiting: left" in words
    assert "set aside:" in words
    assert len(json.loads(site.cem("list", "--json").output)["queue"]) == 3
    assert "more than 1" in site.cem("list", "--limit", "1").output
    site.entries.clear()
    assert "nothing waits" in site.cem("list").output


def test_the_messages_are_exported_one_a_line(site):
    result = site.cem("export", "--station", "CS1")
    frames = [json.loads(line) for line in result.output.splitlines()]
    assert [f[3]["transactionId"] for f in frames] == [1, 2]
    assert json.loads(site.cem("export", "--json").output)["queue"][0]["text"] == site.entries[0].text


def test_what_was_set_aside_is_tried_again(site):
    result = site.cem("retry")
    assert (result.exit_code, result.output) == (0, "2 messages are told again\n")
    assert json.loads(site.cem("retry", "--station", "CS1", "--json").output) == {"count": 2}
    assert site.asked == [None, "CS1"]


def test_a_message_is_set_aside(site):
    result = site.cem("aside", "CS1")
    assert (result.exit_code, result.output) == (0, "StopTransaction (no. 1) of CS1 for cloud is set aside\n")
    told = json.loads(site.cem("aside", "CS1", "--for", "cloud", "--no", "4", "--json").output)
    assert told["seq"] == 4
    assert site.asked == [("CS1", None, None), ("CS1", "cloud", 4)]
    result = site.cem("aside", "CS9")
    assert result.exit_code == 1
    assert "there is no station CS9" in result.stderr


@pytest.mark.parametrize("path", ["retry", "export", "aside?station=CS1"])
def test_no_foreign_page_can_ask(site, path):
    for headers in (
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json", "Origin": "http://evil.example"},
    ):
        answer = httpx.post(f"{site.web.url}api/v1/queue/{path}", headers=headers)
        assert answer.status_code == 403
        assert "SECRET" not in answer.text
    assert site.asked == []


def test_where_the_site_file_does_not_allow_it_the_command_says_so():
    site = Site(allowed=False)
    site.web.start()
    try:
        for words in (["retry"], ["export"], ["aside", "CS1"]):
            result = site.cem(*words)
            assert result.exit_code == 1
            assert "web.allow_control" in result.stderr
        assert site.cem("list").exit_code == 0
    finally:
        site.web.stop()


def test_nobody_answers():
    result = CliRunner().invoke(make_app(["queue"]), ["queue", "list", "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 1
    assert "no controller answers" in result.stderr
