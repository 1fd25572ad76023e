"""The waiting room: stations that the site file does not name. They have no rights; nothing of them goes anywhere."""

from collections.abc import Mapping
from typing import Any

from cem.csms.dialect import Dialect, LocalAnswer
from cem.csms.frames import BadFrame, Kind, error, parse, result
from cem.csms.moment import Now

ROOM = 50
RETRY_S = 300
"""A pending station asks again after this."""


class WaitingStation:
    """One unknown station: its boot is answered Pending (OCPP B02), everything else is refused."""

    def __init__(self, station_id: str, dialect: Dialect, now: Now) -> None:
        self.station_id = station_id
        self.since_utc = now.utc
        self._dialect = dialect
        self._boot: Mapping[str, Any] = {}

    def frame(self, text: str, now: Now) -> str | None:
        """What to answer; ``None`` for nothing."""
        try:
            frame = parse(text)
        except BadFrame as problem:
            return None if problem.message_id is None else error(problem.message_id, self._dialect.bad_format)
        if frame.kind is not Kind.CALL:
            return None
        if frame.action == "BootNotification":
            self._boot = frame.payload
            payload = self._dialect.answer(frame.action, frame.payload, LocalAnswer(now, RETRY_S, accepted=False))
            return result(frame.message_id, payload)
        return error(frame.message_id, "SecurityError", "this station is not known here yet")

    def status(self) -> dict[str, Any]:
        """For the API."""
        return {
            "id": self.station_id,
            "ocpp_version": self._dialect.version,
            "since": self.since_utc.isoformat(),
            **describe(self._boot),
        }


def describe(boot: Mapping[str, Any]) -> dict[str, str | None]:
    """Vendor and model from a boot notification of either version."""
    inner = boot.get("chargingStation")
    told = inner if isinstance(inner, Mapping) else boot
    vendor, model = (
        told.get("vendorName", told.get("chargePointVendor")),
        told.get("model", told.get("chargePointModel")),
    )
    return {"vendor": None if vendor is None else str(vendor)[:60], "model": None if model is None else str(model)[:60]}


def identity(boot: Mapping[str, Any]) -> tuple[str, str, str]:
    """Vendor, model and firmware; empty where not told."""
    found, inner = describe(boot), boot.get("chargingStation")
    firmware = (inner if isinstance(inner, Mapping) else boot).get("firmwareVersion")
    return found["vendor"] or "", found["model"] or "", "" if firmware is None else str(firmware)[:60]
