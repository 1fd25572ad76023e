"""Home Assistant's MQTT device discovery: one device for the site and one for each EVSE.

https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload. What is published here is retained; an empty
payload on the same topic takes the device away again.
"""

import re
import zlib
from collections.abc import Mapping
from typing import Any

from cem.core.site import Mode

MAKER = "cem site controller"
_STAMP = "'ts': utcnow().isoformat()"
_CURRENT = {"device_class": "current", "state_class": "measurement", "unit_of_measurement": "A"}
_POWER = {"device_class": "power", "state_class": "measurement", "unit_of_measurement": "W"}


def mine(base: str) -> str:
    """How the ids of all our devices begin: other sites on the same broker have other base topics."""
    return f"cem_{zlib.crc32(base.encode()):08x}_"


def is_mine(topic: str, prefix: str, base: str) -> bool:
    """Whether a discovery topic is one of ours, of today or of before."""
    return topic.startswith(f"{prefix}/device/{mine(base)}") and topic.endswith("/config")


def devices(view: Mapping[str, Any], base: str, prefix: str, version: str, *, control: bool) -> dict[str, Any]:
    """Discovery payloads by topic.

    Args:
        view: The picture of a control cycle.
        base: Our base topic.
        prefix: Home Assistant's discovery prefix.
        version: Ours, for people.
        control: Commands are taken, so mode and target may be set.
    """
    site_id = f"{mine(base)}site"
    common = {
        "availability_topic": f"{base}/status",
        "origin": {"name": MAKER, "sw_version": version},
    }
    made = {
        f"{prefix}/device/{site_id}/config": {
            **common,
            "device": {
                "identifiers": [site_id],
                "name": view["name"],
                "manufacturer": MAKER,
                "model": "charging site",
                "sw_version": version,
            },
            "components": _site(view, base, site_id),
        }
    }
    for evse_id in view["evses"]:
        unique = f"{mine(base)}{_slug(evse_id)}"
        made[f"{prefix}/device/{unique}/config"] = {
            **common,
            "device": {
                "identifiers": [unique],
                "name": f"{view['name']} {evse_id}",
                "manufacturer": MAKER,
                "model": "charging point",
                "via_device": site_id,
            },
            "components": _evse(f"{base}/evse/{evse_id}", unique, control=control),
        }
    return made


def _site(view: Mapping[str, Any], base: str, site_id: str) -> dict[str, Any]:
    made = {}
    for zone_id in view["zones"]:
        for phase in range(3):
            key = f"{_slug(zone_id)}_l{phase + 1}"
            made[key] = {
                **_sensor(f"{site_id}_{key}", f"{zone_id} L{phase + 1}", f"{base}/zone/{zone_id}"),
                "value_template": "{{ (value_json.measured_a or [none, none, none])[" + str(phase) + "] }}",
                **_CURRENT,
            }
        key = f"{_slug(zone_id)}_limit"
        made[key] = {
            **_sensor(f"{site_id}_{key}", f"{zone_id} limit set by", f"{base}/zone/{zone_id}"),
            "value_template": "{{ value_json.limit_source }}",
            "entity_category": "diagnostic",
        }
    made["surplus"] = {
        **_sensor(f"{site_id}_surplus", "Surplus", f"{base}/site"),
        "value_template": "{{ value_json.surplus_w }}",
        **_POWER,
    }
    made["problems"] = {
        **_sensor(f"{site_id}_problems", "Problems", f"{base}/site"),
        "value_template": "{{ value_json.problems | length }}",
        "entity_category": "diagnostic",
    }
    return made


def _evse(topic: str, unique: str, *, control: bool) -> dict[str, Any]:
    def sensor(key: str, name: str, template: str, **more: str) -> dict[str, Any]:
        return {**_sensor(f"{unique}_{key}", name, topic), "value_template": template, **more}

    made = {
        "setpoint": sensor("setpoint", "Setpoint", "{{ value_json.setpoint_a }}", **_CURRENT),
        "measured": sensor("measured", "Measured", "{{ (value_json.measured_a or [none]) | max }}", **_CURRENT),
        "reason": sensor("reason", "Limited by", "{{ value_json.reason }}"),
        "state": sensor("state", "State", "{{ value_json.status or 'offline' }}"),
    }
    if not control:
        return made
    command = {"state_topic": topic, "command_topic": f"{topic}/set", "retain": False, "qos": 1}
    made["mode"] = {
        "platform": "select",
        "unique_id": f"{unique}_mode",
        "name": "Mode",
        "options": [mode.value for mode in Mode],
        "value_template": "{{ value_json.mode }}",
        "command_template": "{{ {'mode': value, " + _STAMP + "} | to_json }}",
        **command,
    }
    made["target"] = {
        "platform": "number",
        "unique_id": f"{unique}_target",
        "name": "Target",
        "min": 0,
        "max": 200,
        "step": 0.5,
        "mode": "box",
        "unit_of_measurement": "kWh",
        "value_template": "{{ ((value_json.target or {}).needed_wh or 0) / 1000 }}",
        "command_template": "{{ {'target_kwh': value, " + _STAMP + "} | to_json }}",
        **command,
    }
    made["limit"] = {
        "platform": "number",
        "unique_id": f"{unique}_limit",
        "name": "Limit",
        "min": 0,
        "max": 80,
        "step": 1,
        "mode": "box",
        "unit_of_measurement": "A",
        "value_template": "{{ value_json.wished_a or 0 }}",
        "command_template": "{{ {'limit_a': value, " + _STAMP + "} | to_json }}",
        **command,
    }
    return made


def _sensor(unique: str, name: str, topic: str) -> dict[str, Any]:
    return {"platform": "sensor", "unique_id": unique, "name": name, "state_topic": topic}


def _slug(name: str) -> str:
    """For ids, which have letters, digits, _ and - only; what had to be changed is told apart by a sum."""
    slug = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return slug if slug == name else f"{slug}_{zlib.crc32(name.encode()) & 0xFFFF:04x}"
