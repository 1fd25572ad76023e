"""Wishes over HTTP: what is taken, what is refused, and what no foreign page can do."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from typer.testing import CliRunner

from cem.cli import make_app
from cem.cli.wish import departure
from cem.core.site import Mode
from cem.core.wish import Wish
from cem.errors import CemError
from cem.web import SnapshotCell, WebServer
from tests.web.conftest import make_view

PATH = "api/v1/evses/CS1/1/wish"


class Taking:
    """A server that takes wishes, and the wishes."""

    def __init__(self, *, allowed=True):
        self.taken = []
        self.room = 100
        cell = SnapshotCell()
        cell.set(make_view())
        self.web = WebServer("127.0.0.1", 0, cell, wish=self.take if allowed else None)

    def take(self, evse_id, wish):
        if len(self.taken) >= self.room:
            return False
        self.taken.append((evse_id, wish))
        return True

    def post(self, body, path=PATH, **headers):
        content = {"content": body} if isinstance(body, (str, bytes)) else {"json": body}
        return httpx.post(f"{self.web.url}{path}", headers=headers, **content)


@pytest.fixture
def server():
    taking = Taking()
    taking.web.start()
    yield taking
    taking.web.stop()


def test_a_wish_is_handed_in(server):
    by = datetime.now(UTC) + timedelta(hours=8)
    answer = server.post({"mode": "surplus", "target_kwh": 20, "departure": by.isoformat()})
    assert (answer.status_code, answer.json()) == (202, {"evse": "CS1/1", "accepted": True})
    [(evse_id, wish)] = server.taken
    assert (evse_id, wish.mode, wish.target_wh, wish.departure_utc) == ("CS1/1", Mode.SURPLUS, 20_000, by)


def test_a_limit_is_handed_in(server):
    assert server.post({"limit_a": 10}).status_code == 202
    assert server.taken == [("CS1/1", Wish(limit_a=10.0))]


def test_a_charge_in_percent(server):
    assert server.post({"soc_percent": 30, "target_soc_percent": 80, "battery_kwh": 60}).status_code == 202
    assert server.taken[0][1].target_wh == pytest.approx(30_000)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"mode": "solar"}, "mode"),
        ({"target_kwh": -1}, "target_kwh"),
        ({"target_kwh": 1e999}, "target_kwh"),
        ({"departure": "2999-01-01T00:00:00Z"}, "needs target_kwh"),
        ({"target_kwh": 1, "departure": "2020-01-01T00:00:00Z"}, "in the past"),
        ({"target_kwh": 1, "departure": "2999-01-01T00:00:00"}, "departure"),
        ({"target_soc_percent": 80}, "battery_kwh"),
        ({"speed": 1}, "speed"),
        ({"limit_a": 5}, "limit_a"),
        ("{", "body"),
        ("[]", "body"),
    ],
)
def test_what_makes_no_sense_is_refused(server, body, told):
    if isinstance(body, dict) and body.get("target_kwh") == float("inf"):
        body = '{"target_kwh": 1e999}'
    answer = server.post(body, **{"content-type": "application/json"})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert server.taken == []


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "origin": "http://evil.example"},
        {"content-type": "application/json", "origin": "null"},
        {"content-type": "application/json", "sec-fetch-site": "cross-site"},
        {"content-type": "application/json", "host": "evil.example", "origin": "http://evil.example"},
    ],
)
def test_no_foreign_page_can_wish(server, headers):
    assert server.post('{"mode": "off"}', **headers).status_code == 403
    assert server.taken == []


def test_its_own_page_can(server):
    own = server.web.url.rstrip("/")
    answer = server.post('{"mode": "off"}', **{"content-type": "application/json", "origin": own})
    assert answer.status_code == 202


def test_unknown_evse_flood_and_bulk(server):
    assert server.post({"mode": "off"}, "api/v1/evses/CS9/1/wish").status_code == 404
    assert server.post('{"mode": "' + "x" * 5000 + '"}', **{"content-type": "application/json"}).status_code == 413
    server.room = 0
    assert server.post({"mode": "off"}).status_code == 503


def test_other_addresses_only_read(server):
    assert httpx.post(f"{server.web.url}api/v1/site").status_code == 405
    assert httpx.put(f"{server.web.url}{PATH}").status_code == 405


def test_not_where_the_site_file_does_not_allow_it():
    taking = Taking(allowed=False)
    taking.web.start()
    try:
        answer = taking.post({"mode": "off"})
        assert (answer.status_code, "allow_control" in answer.text) == (403, True)
    finally:
        taking.web.stop()


def test_the_command(server):
    runner = CliRunner()
    app = make_app(["set"])
    done = runner.invoke(
        app, ["set", "CS1/1", "--mode", "surplus", "--target-kwh", "20", "--by", "07:00", "--url", server.web.url]
    )
    assert done.exit_code == 0, done.output
    assert server.taken[0][1].mode is Mode.SURPLUS
    assert server.taken[0][1].departure_utc > datetime.now(UTC)
    charge = ["--soc", "40", "--target-soc", "80", "--battery-kwh", "60"]
    assert runner.invoke(app, ["set", "CS1/1", *charge, "--url", server.web.url]).exit_code == 0
    assert server.taken.pop()[1].target_wh == pytest.approx(24_000)
    half = runner.invoke(app, ["set", "CS1/1", *charge[2:4], "--url", server.web.url])
    assert half.exit_code == 1
    assert "needs soc_percent" in half.output
    refused = runner.invoke(app, ["set", "CS1/1", "--mode", "solar", "--url", server.web.url])
    assert refused.exit_code == 1
    unknown = runner.invoke(app, ["set", "nobody", "--url", server.web.url])
    assert unknown.exit_code == 1


def test_times_of_the_command():
    now = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
    assert departure("07:00", now) == datetime(2026, 11, 23, 7, 0, tzinfo=UTC)
    assert departure("19:30", now) == datetime(2026, 11, 22, 19, 30, tzinfo=UTC)
    assert departure("2026-12-24T07:00+01:00", now) == datetime(2026, 12, 24, 6, 0, tzinfo=UTC)
    with pytest.raises(CemError, match="07:00"):
        departure("soon", now)
