"""Site files of the end-to-end tests, as data."""

from typing import Any

HOUSE_A = 63
FALLBACK_A = 12
FAILSAFE_A = 20.0


def house(
    meter_port: int, stations: tuple[str, ...] = ("A", "B"), *, dso_port: int | None = None, cloud: str | None = None
) -> dict[str, Any]:
    """One fuse, one meter (period 1 s), three-phase stations of 32 A, everything as quick as a site file may ask."""
    site: dict[str, Any] = {
        "version": 1,
        "site": {"name": "End to end", "grid_connection": {"fuse_a": HOUSE_A}},
        "zones": [
            {
                "id": "house",
                "protection": {"rating_a": HOUSE_A, "kind": "mcb", "curve": "C"},
                "meter": "grid",
                "fallback_limit_a": FALLBACK_A,
                "uncontrolled_max_a": 40,
            }
        ],
        "devices": [
            {"id": "grid", "role": "grid_meter", "model": "eastron_sdm630", "connection": modbus(meter_port)},
        ],
        "stations": [
            {"id": name, "zone": "house", "breaker_a": 32, "fallback_a": 6, "evses": [{"id": 1, "rotation": "RST"}]}
            for name in stations
        ],
        "csms": {"offline_authorization": "accept", "profile_duration_s": 30, "profile_refresh_s": 10},
        "control": {
            "hold_off_s": 3,
            "peak_hold_s": 10,
            "raise_interval_s": 1,
            "raise_rate_a_per_s": 32,
            "min_off_s": 0,
        },
    }
    if cloud is not None:
        site["csms"]["upstreams"] = [{"id": "cloud", "url": cloud}]
    if dso_port is not None:
        site["external_limits"] = [dso_limit(dso_port)]
    return site


def dso_limit(port: int) -> dict[str, Any]:
    return {
        "id": "dso",
        "kind": "import",
        "unit": "A",
        "connection": {
            "kind": "opcua",
            "endpoint": f"opc.tcp://127.0.0.1:{port}/dso",
            "namespace_uri": "urn:test:dso",
        },
        "nodes": {
            "limit": "Objects/DSO/ImportLimit",
            "enabled": "Objects/DSO/Enabled",
            "heartbeat": "Objects/DSO/Heartbeat",
        },
        "failsafe_a": FAILSAFE_A,
        "heartbeat_timeout_s": 15,
        "settle_s": 5,
        "release_ramp_s": 0,
    }


def modbus(port: int) -> dict[str, Any]:
    return {"kind": "modbus_tcp", "host": "127.0.0.1", "port": port}
