"""What the site's own station says by itself, as each version writes it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from cem.csms.dialect import Ask
from cem.csms.moment import ocpp_time
from cem.csms.profile_reading import tenths
from cem.csms.site_limit import OtherLimit

VENDOR_ID = "cem"
"""Of our DataTransfer in 1.6, which has no word for external limits."""


def boot(version: str, about: Mapping[str, str], reason: str = "PowerUp") -> Ask:
    """BootNotification of a station without EVSEs."""
    if version == "1.6":
        return "BootNotification", {
            "chargePointVendor": about["vendor"][:20],
            "chargePointModel": about["model"][:20],
            "firmwareVersion": about["version"][:50],
        }
    station = {"vendorName": about["vendor"], "model": about["model"], "firmwareVersion": about["version"][:50]}
    return "BootNotification", {"reason": reason, "chargingStation": station}


def status(version: str, at: datetime) -> Ask | None:
    """Of the station as a whole; 2.x has it of connectors alone."""
    if version != "1.6":
        return None
    payload = {"connectorId": 0, "errorCode": "NoError", "status": "Available", "timestamp": ocpp_time(at)}
    return "StatusNotification", payload


def meter_values(version: str, at: datetime, amps: Sequence[float | None]) -> Ask | None:
    """What flows into the site: import and export are two measurands, both without sign; ``None`` without a value."""
    sampled: list[dict[str, Any]] = []
    for index, value in enumerate(amps, 1):
        if value is None:
            continue
        for name, flow in (("Current.Import", value), ("Current.Export", -value)):
            told = round(max(0.0, flow), 2)
            sample: dict[str, Any] = {
                "measurand": name,
                "phase": f"L{index}",
                "location": "Inlet",
                "context": "Sample.Periodic",
            }
            if version == "1.6":
                sampled.append({**sample, "value": f"{told:g}", "unit": "A"})
            else:
                sampled.append({**sample, "value": told, "unitOfMeasure": {"unit": "A"}})
    if not sampled:
        return None
    where = "connectorId" if version == "1.6" else "evseId"
    return "MeterValues", {where: 0, "meterValue": [{"timestamp": ocpp_time(at), "sampledValue": sampled}]}


def limited(version: str, at: datetime, limit: OtherLimit) -> Ask:
    """Another source limits the site (2.x K12, K13); in 1.6 by DataTransfer."""
    schedule = {
        "id": 1,
        "startSchedule": ocpp_time(at),
        "chargingRateUnit": limit.unit,
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": tenths(limit.value)}],
    }
    told = {
        "chargingLimit": {"chargingLimitSource": limit.source, "isGridCritical": False},
        "chargingSchedule": [schedule],
    }
    return ("NotifyChargingLimit", told) if version != "1.6" else _transfer("NotifyChargingLimit", told)


def released(version: str, source: str) -> Ask:
    """That limit is gone."""
    told = {"chargingLimitSource": source}
    return ("ClearedChargingLimit", told) if version != "1.6" else _transfer("ClearedChargingLimit", told)


def _transfer(what: str, told: Mapping[str, Any]) -> Ask:
    return "DataTransfer", {"vendorId": VENDOR_ID, "messageId": what, "data": orjson.dumps(told).decode()}
