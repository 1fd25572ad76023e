"""A real server on 127.0.0.1 with a site in it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from cem.ports import Event
from cem.web import SnapshotCell, WebServer


def make_view(setpoint_a=13.0, *, stale=False):
    return {
        "time": "2026-11-22T10:15:30.250000+00:00",
        "cycle": {"count": 42, "p50_ms": 2.1, "p99_ms": 8.4, "last_ms": 2.0},
        "zones": {
            "site": {
                "parent": None,
                "limit_a": [35.0, 35.0, 35.0],
                "limit_w": 24150.0,
                "limit_source": "dso",
                "measured_a": [31.2, -4.5, 12.0],
                "granted_a": [setpoint_a, setpoint_a, 0.0],
                "reserved_a": [0.0, 6.0, 0.0],
                "stale": False,
            },
            "garage": {
                "parent": "site",
                "limit_a": [20.0, 20.0, 20.0],
                "limit_w": None,
                "limit_source": "fallback",
                "measured_a": [22.5, None, 3.0],
                "granted_a": [setpoint_a, setpoint_a, 0.0],
                "reserved_a": [0.0, 6.0, 0.0],
                "meter": "lost" if stale else "good",
                "stale": stale,
            },
        },
        "evses": {
            "CS1/1": {
                "status": "Charging",
                "phases": 3,
                "setpoint_a": setpoint_a,
                "measured_a": [12.8, 12.9, 12.7],
                "reason": "zone_current",
                "binding": {"text": "held to 13 A by the main fuse on L1", "zone": "site", "source": "fuse"},
            },
            "CS2/1": {
                "status": "SuspendedEV",
                "phases": 1,
                "setpoint_a": 0.0,
                "measured_a": None,
                "reason": "<script>alert(1)</script> paused",
                "binding": "dso",
            },
        },
        "external_limits": {
            "dso": {"zone": "site", "kind": "import", "unit": "W", "state": "limited", "value": 4200.0, "failsafe": 0.0}
        },
        "devices": {"grid_meter": {"age_s": 0.4, "total_power_w": -820.0, "soc_percent": None}},
        "csms": {
            "listen": "ws://0.0.0.0:9000/ocpp",
            "stations": [
                {"id": "CS1", "online": True, "ocpp_version": "2.0.1", "vendor": None, "queue_up": 0},
                {"id": "CS2", "online": False, "ocpp_version": "1.6", "vendor": None, "queue_up": 3},
            ],
            "waiting_room": [],
            "upstream": {"id": "cloud", "up": False},
        },
        "problems": ["the disk is 91 % full"] if stale else [],
    }


class Server:
    """A running server and what it shows."""

    def __init__(self) -> None:
        self.cell = SnapshotCell()
        self.events = [Event(datetime(2026, 11, 22, 10, 14, tzinfo=UTC), 1.0, "external_limit", "dso", "limit 4.2 kW")]
        self.sessions = []
        self.web = WebServer(
            "127.0.0.1",
            0,
            self.cell,
            site_name="Home & <b>Garage</b>",
            cycle_s=0.5,
            sessions=lambda limit: self.sessions[:limit],
            events=lambda limit: self.events[:limit],
            version="1.2.3",
        )


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    running.web.start()
    yield running
    running.web.stop()
