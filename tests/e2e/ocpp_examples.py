"""An example of every OCPP message, made from the schemas of the standard."""

import functools
import json
from importlib.resources import files
from typing import Any

VERSIONS = ("1.6", "2.0.1", "2.1")
HOST = "files.example"
STAMP = "2026-11-22T10:00:00Z"
_UP_16 = {
    "Authorize", "BootNotification", "DataTransfer", "DiagnosticsStatusNotification", "FirmwareStatusNotification",
    "Heartbeat", "LogStatusNotification", "MeterValues", "SecurityEventNotification", "SignCertificate",
    "SignedFirmwareStatusNotification", "StartTransaction", "StatusNotification", "StopTransaction",
}  # fmt: skip
_UP_2 = {
    "Authorize", "BootNotification", "ClearedChargingLimit", "DataTransfer", "FirmwareStatusNotification",
    "Get15118EVCertificate", "GetCertificateStatus", "Heartbeat", "LogStatusNotification", "MeterValues",
    "NotifyChargingLimit", "NotifyCustomerInformation", "NotifyDisplayMessages", "NotifyEVChargingNeeds",
    "NotifyEVChargingSchedule", "NotifyEvent", "NotifyMonitoringReport", "NotifyReport",
    "PublishFirmwareStatusNotification", "ReportChargingProfiles", "ReservationStatusUpdate",
    "SecurityEventNotification", "SignCertificate", "StatusNotification", "TransactionEvent",
}  # fmt: skip
_UP_21 = {
    "BatterySwap", "ClosePeriodicEventStream", "GetCertificateChainStatus", "NotifyDERAlarm", "NotifyDERStartStop",
    "NotifyPriorityCharging", "NotifySettlement", "NotifyWebPaymentStarted", "OpenPeriodicEventStream",
    "PullDynamicScheduleUpdate", "ReportDERControl", "VatNumberValidation",
}  # fmt: skip


def _folder(version: str) -> Any:
    return files("ocpp") / f"v{version.replace('.', '')}" / "schemas"


@functools.cache
def _schema(version: str, action: str, *, answer: bool) -> dict[str, Any]:
    kind = "Response" if answer else "" if version == "1.6" else "Request"
    return json.loads((_folder(version) / f"{action}{kind}.json").read_text("utf-8-sig"))


def _actions(version: str) -> set[str]:
    names = {file.name for file in _folder(version).iterdir()}
    return {name.removesuffix("Response.json") for name in names if name.endswith("Response.json")}


def up(version: str) -> list[str]:
    """What a station may ask its CSMS."""
    return sorted({"1.6": _UP_16, "2.0.1": _UP_2, "2.1": _UP_2 | _UP_21}[version])


def down(version: str) -> list[str]:
    """What a CSMS may ask a station."""
    return sorted(_actions(version) - set(up(version)) | {"DataTransfer"})


def example(version: str, action: str, variant: int = 0, *, answer: bool = False, **given: Any) -> dict[str, Any]:
    """A payload that the standard allows.

    Args:
        version: Of OCPP.
        action: Which message.
        variant: Even: with everything that is optional, odd: the least; each one with other words of its enumerations.
        answer: The answer rather than the message itself.
        given: Members that shall have these values; ``None`` leaves one out.
    """
    root = _schema(version, action, answer=answer)
    made = _object(root, root, variant) | given
    return {key: value for key, value in made.items() if value is not None}


def _object(node: dict[str, Any], root: dict[str, Any], variant: int) -> dict[str, Any]:
    wanted = node.get("properties", {}) if variant % 2 == 0 else node.get("required", ())
    return {name: _value(node["properties"][name], root, variant, name) for name in wanted}


def _value(node: dict[str, Any], root: dict[str, Any], variant: int, name: str) -> Any:
    if "$ref" in node:
        return _value(root["definitions"][node["$ref"].rsplit("/", 1)[-1]], root, variant, name)
    if "enum" in node:
        return node["enum"][variant // 2 % len(node["enum"])]
    match node.get("type"):
        case "object":
            return _object(node, root, variant)
        case "array":
            return [_value(node["items"], root, variant, name)] * max(1, node.get("minItems", 1))
        case "integer":
            return max(1, node.get("minimum", 1))
        case "number":
            return min(max(7.3, node.get("minimum", 7.3)), node.get("maximum", 7.3))
        case "boolean":
            return variant % 4 == 0
        case "string" if node.get("format") == "date-time":
            return STAMP
        case "string" if node.get("format") == "uri" or name in {"location", "remoteLocation"}:
            return f"https://{HOST}/x"
        case "string":
            return f"Zürich {name}"[: node.get("maxLength", 40)]
        case _:
            return {"any": [1]}  # the data of a DataTransfer
