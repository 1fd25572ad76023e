"""What stations say in the proxy benchmark: one OCPP 1.6 session after the other, and what the cloud answers."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any

SUBPROTOCOL = "ocpp1.6"
BOOT = {"chargePointVendor": "Bench", "chargePointModel": "One", "firmwareVersion": "1.0"}
JOURNALED = frozenset({"StartTransaction", "StopTransaction"})
"""What waits for the disk while the cloud is there: which transaction runs under which id, and that it is over."""
STEPS = (
    "Preparing", "Authorize", "StartTransaction", "Charging", *("MeterValues",) * 53, "Heartbeat", "StopTransaction",
    "Available",
)  # fmt: skip
"""One session of about an hour with a sample each minute; a word that is no action is a status."""
_IDS = itertools.count(1)


def now() -> str:
    """As stations write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Talk:
    """What one station says next.

    Args:
        number: Of the station.
    """

    def __init__(self, number: int) -> None:
        self._tag = f"TAG{number:05d}"
        self._transaction = 0
        self._wh = 0
        self._step = number % len(STEPS)  # not all start at once

    def next(self) -> tuple[str, dict[str, Any]]:
        """Action and payload of the next CALL."""
        step = STEPS[self._step]
        if step in {"MeterValues", "StopTransaction"} and not self._transaction:
            step = "StartTransaction"  # begun in the middle of a session
        else:
            self._step = (self._step + 1) % len(STEPS)
        match step:
            case "Authorize":
                return "Authorize", {"idTag": self._tag}
            case "StartTransaction":
                started = {"connectorId": 1, "idTag": self._tag, "meterStart": self._wh, "timestamp": now()}
                return "StartTransaction", started
            case "MeterValues":
                self._wh += 30
                return "MeterValues", self._sample()
            case "Heartbeat":
                return "Heartbeat", {}
            case "StopTransaction":
                stop = {"transactionId": self._transaction, "idTag": self._tag, "meterStop": self._wh}
                self._transaction = 0
                return "StopTransaction", {**stop, "timestamp": now()}
            case status:
                return "StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": status}

    def told(self, answer: dict[str, Any]) -> None:
        """The answer to the last CALL."""
        self._transaction = answer.get("transactionId", self._transaction)

    def _sample(self) -> dict[str, Any]:
        common = {"context": "Sample.Periodic", "location": "Outlet"}
        samples = [
            {"value": str(self._wh), "measurand": "Energy.Active.Import.Register", "unit": "Wh", **common},
            {"value": "11040", "measurand": "Power.Active.Import", "unit": "W", **common},
        ]
        amps = {"value": "16.0", "measurand": "Current.Import", "unit": "A", **common}
        samples += [{**amps, "phase": phase} for phase in ("L1", "L2", "L3")]
        values = [{"timestamp": now(), "sampledValue": samples}]
        return {"connectorId": 1, "transactionId": self._transaction, "meterValue": values}


def answer(action: str) -> dict[str, Any]:
    """The cloud's."""
    match action:
        case "BootNotification":
            return {"status": "Accepted", "currentTime": now(), "interval": 300}
        case "Heartbeat":
            return {"currentTime": now()}
        case "Authorize" | "StopTransaction":
            return {"idTagInfo": {"status": "Accepted"}}
        case "StartTransaction":
            return {"idTagInfo": {"status": "Accepted"}, "transactionId": next(_IDS)}
    return {}


def answer_text(call: str) -> str | None:
    """The cloud's answer to a frame; ``None`` where it is no CALL."""
    frame = json.loads(call)
    return json.dumps([3, frame[1], answer(frame[2])]) if frame[0] == 2 else None
