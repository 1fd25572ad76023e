"""The HTTP API of a real running server."""

import socket
import threading
import time
from datetime import UTC, datetime

import httpx
import pytest

from cem.errors import CemError
from cem.store import Session
from cem.web import SnapshotCell, WebServer
from tests.web.conftest import make_view

T0 = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.web.url, timeout=5) as opened:
        yield opened


def test_site_is_the_latest_snapshot(server, client):
    assert client.get("/api/v1/site").status_code == 503, "before the first cycle there is nothing to show"
    for setpoint_a in (6.0, 10.0):
        server.cell.set(make_view(setpoint_a))
        response = client.get("/api/v1/site")
        assert response.status_code == 200
        assert response.json() == make_view(setpoint_a)
        assert response.headers["cache-control"] == "no-store"


def test_health_follows_the_control_cycle(server, client):
    starting = client.get("/healthz")
    assert (starting.status_code, starting.json()) == (503, {"status": "starting", "cycle_age_s": None})
    server.cell.set(make_view())
    well = client.get("/healthz")
    assert (well.status_code, well.json()["status"]) == (200, "ok")
    assert well.json()["cycle_age_s"] < 1.0
    time.sleep(1.6)  # three cycles of 0.5 s
    stalled = client.get("/healthz")
    assert (stalled.status_code, stalled.json()["status"]) == (503, "stalled")
    assert stalled.json()["cycle_age_s"] > 1.5


def test_sessions_and_events(server, client):
    server.sessions = [
        Session("s2", "CS1", "CS1/1", "8", open=True, updated_utc=T0, energy_wh=1250.5, token_hash="who"),
        Session("s1", "CS1", "CS1/1", "7", open=False, updated_utc=T0, reason="Local"),
    ]
    sessions = client.get("/api/v1/sessions").json()["sessions"]
    assert [s["session_id"] for s in sessions] == ["s2", "s1"]
    assert sessions[0]["energy_wh"] == 1250.5
    assert sessions[1]["energy_wh"] is None, "missing is not 0"
    assert "token_hash" not in sessions[0], "who charged is nobody's business without a login"
    assert len(client.get("/api/v1/sessions?limit=1").json()["sessions"]) == 1
    assert client.get("/api/v1/sessions?limit=0").status_code == 422
    (event,) = client.get("/api/v1/events").json()["events"]
    assert (event["code"], event["subject"], event["at_utc"]) == ("external_limit", "dso", "2026-11-22T10:14:00+00:00")


def test_api_describes_itself_without_other_hosts(client):
    description = client.get("/api/v1/openapi.json").json()
    assert set(description["paths"]) == {
        "/api/v1/site",
        "/api/v1/evses/{station}/{evse}/why",
        "/api/v1/evses/{station}/{evse}/wish",
        "/api/v1/stations",
        "/api/v1/stations/{station}/rotate-credentials",
        "/api/v1/stations/{station}/migrate",
        "/api/v1/queue",
        "/api/v1/queue/export",
        "/api/v1/queue/retry",
        "/api/v1/queue/aside",
        "/api/v1/privacy/forget",
        "/healthz",
        "/api/v1/sessions",
        "/api/v1/events",
    }
    assert description["info"]["version"] == "1.2.3"
    assert client.get("/docs").status_code == 404


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/v1/nothing", "/api/v2/site", "/.env", "/admin/../../etc/passwd", "/_nicegui/../secret"]
)
def test_unknown_paths_are_not_found(client, path):
    assert client.get(path).status_code == 404


def test_nothing_can_be_changed_through_the_api(server, client):
    server.cell.set(make_view())
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("/api/v1/site", "/api/v1/sessions", "/healthz"):
            assert client.request(method, path).status_code == 405
    assert "default-src 'self'" in client.get("/").headers["content-security-policy"]


def test_port_in_use_is_said_for_an_installer():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CemError, match=rf"cannot listen at 127\.0\.0\.1:{port}.*another program"):
            WebServer("127.0.0.1", port, SnapshotCell()).start()


def test_stops_at_once_and_can_start_again():
    for _ in range(2):
        web = WebServer("127.0.0.1", 0, SnapshotCell())
        web.start()
        assert web.alive
        assert httpx.get(web.url, timeout=5).status_code == 200
        started = time.monotonic()
        web.stop()
        web.stop()
        assert time.monotonic() - started < 2
        assert not web.alive
        with pytest.raises(httpx.ConnectError):
            httpx.get(web.url)


def test_l15_viewers_are_bounded(server, monkeypatch):
    monkeypatch.setattr("cem.web.page.MAX_OPENING", 10)
    server.cell.set(make_view())
    with httpx.Client(base_url=server.web.url, timeout=10) as client:
        codes = [client.get("/").status_code for _ in range(11)]
        assert codes[0] == 200
        assert codes[-1] == 503, "pages that were asked for and never opened are bounded too"
        assert client.get("/api/v1/site").status_code == 200, "the API goes on"


def test_runs_in_a_thread_of_its_own(server):
    assert "web" in {thread.name for thread in threading.enumerate()}
    assert server.web.url == f"http://127.0.0.1:{server.web.port}/"
