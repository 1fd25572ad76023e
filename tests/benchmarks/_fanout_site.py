"""The site of the fan-out benchmark."""

from pathlib import Path
from typing import Any

import yaml

from tests.adapters.ocpp_peers import free_port

PER_ZONE = 40
PHASES = ("L1", "L2", "L3")


def site_file(folder: Path, stations: int, *, dso_port: int, cloud_port: int) -> Path:
    """Car park of single-phase points, forty behind each breaker; the operator's limit is in kW for all together."""
    zones: list[dict[str, Any]] = [
        {
            "id": "site", "protection": {"rating_a": 6300, "kind": "mcb", "curve": "C"}, "meter": "grid",
            "fallback_limit_a": 2000, "uncontrolled_max_a": 100,
        }
    ]  # fmt: skip
    zones += [
        {"id": f"row{number}", "parent": "site", "protection": {"rating_a": 400}, "uncontrolled_max_a": 0}
        for number in range(-(-stations // PER_ZONE))
    ]
    site = {
        "version": 1,
        "site": {"name": "Fan-out", "grid_connection": {"fuse_a": 6300}},
        "zones": zones,
        "devices": [
            {
                "id": "grid", "role": "grid_meter", "model": "eastron_sdm630",
                "connection": {"kind": "modbus_tcp", "host": "127.0.0.1", "port": free_port()},
            }
        ],
        "stations": [
            {
                "id": f"CS{number:04d}", "zone": f"row{number // PER_ZONE}", "breaker_a": 32, "fallback_a": 0,
                "security_profile": 0, "evses": [{"id": 1, "phases": 1, "rotation": PHASES[number % 3]}],
            }
            for number in range(stations)
        ],
        "csms": {
            "listen": {"host": "127.0.0.1", "port": free_port()},
            "upstreams": [{"id": "cloud", "url": f"ws://127.0.0.1:{cloud_port}"}],
        },
        "external_limits": [
            {
                "id": "dso", "unit": "kW", "failsafe_w": 100_000,
                "connection": {
                    "kind": "opcua", "endpoint": f"opc.tcp://127.0.0.1:{dso_port}/dso", "namespace_uri": "urn:test:dso"
                },
                "nodes": {
                    "limit": "Objects/DSO/ImportLimit", "enabled": "Objects/DSO/Enabled",
                    "heartbeat": "Objects/DSO/Heartbeat",
                },
                "release_ramp_s": 0, "settle_s": 1, "heartbeat_timeout_s": 30,
            }
        ],
        "control": {"raise_interval_s": 1, "raise_rate_a_per_s": 16, "min_off_s": 0, "peak_hold_s": 10},
        "web": {"host": "127.0.0.1", "port": free_port()},
        "storage": {"directory": "var"},
    }  # fmt: skip
    file = folder / "site.yaml"
    file.write_text(yaml.safe_dump(site, sort_keys=False), encoding="utf-8")
    return file
