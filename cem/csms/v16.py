"""OCPP 1.6J. Its "connectorId" is our EVSE; only this module knows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cem.csms.dialect import (
    SAFE_PROFILE_ID,
    Ask,
    Live,
    LocalAnswer,
    ProfilesAsked,
    StartAnswer,
    StartProfile,
    measurand_lists,
)
from cem.csms.facts import Booted, Fact, MeterTold, StatusTold, TokenAsked, TransactionTold
from cem.csms.faults import of_status
from cem.csms.ladder import Purpose
from cem.csms.metering import instant, number
from cem.csms.moment import ocpp_time
from cem.csms.parsing import criterion, member, whole, words
from cem.csms.profile_reading import RULES_16, read_composite, read_profile
from cem.csms.profile_writing import LOOK_S, live_id, live_schedule, period_of, safe_schedule, steps_told
from cem.csms.profiles import Clear, CompositeAsked, Profile, Refusal, Step

_WORDS = {
    Purpose.TX: "TxProfile",
    Purpose.TX_DEFAULT: "TxDefaultProfile",
    Purpose.STATION_MAX: "ChargePointMaxProfile",
}
_PLUGGED = {"Preparing", "Charging", "SuspendedEV", "SuspendedEVSE", "Finishing"}
_EMPTY = {
    "MeterValues", "StatusNotification", "DiagnosticsStatusNotification", "FirmwareStatusNotification",
    "LogStatusNotification", "SecurityEventNotification", "SignedFirmwareStatusNotification",
}  # fmt: skip


class V16:
    """OCPP 1.6J messages."""

    version = "1.6"
    bad_format = "FormationViolation"
    rules = RULES_16

    def read(self, action: str, payload: Mapping[str, Any]) -> Fact | None:
        match action:
            case "MeterValues":
                connector, transaction = whole(payload.get("connectorId")), whole(payload.get("transactionId"))
                values = payload.get("meterValue")
                if connector is None:
                    return None
                if transaction is None:
                    return MeterTold(connector, values)
                return TransactionTold("update", connector, str(transaction), None, meter_values=values)
            case "StatusNotification":
                return _status(payload)
            case "StartTransaction":
                connector = whole(payload.get("connectorId"))
                meter, at = number(payload.get("meterStart")), instant(payload.get("timestamp"))
                if connector is None:
                    return None
                token, reserved = words(payload.get("idTag")), whole(payload.get("reservationId"))
                return TransactionTold(
                    "start", connector, None, at, token=token, meter_wh=meter, reservation_id=reserved
                )
            case "StopTransaction":
                return _stop(payload)
            case "Authorize" if (token := words(payload.get("idTag"))) is not None:
                return TokenAsked(token)
            case "BootNotification":
                return Booted(payload)
        return None

    def answer(self, action: str, payload: Mapping[str, Any], local: LocalAnswer) -> dict[str, Any] | None:
        family = {} if local.group is None else {"parentIdTag": local.group.token}
        token_info = {"idTagInfo": {"status": "Accepted" if local.token_ok else "Invalid", **family}}
        match action:
            case "BootNotification":
                status = "Accepted" if local.accepted else "Pending"
                return {"status": status, "currentTime": ocpp_time(local.now.utc), "interval": local.interval_s}
            case "Heartbeat":
                return {"currentTime": ocpp_time(local.now.utc)}
            case "Authorize":
                return token_info
            case "StartTransaction":
                return {**token_info, "transactionId": int(local.transaction_id or 0)}
            case "StopTransaction":
                return token_info if payload.get("idTag") else {}
            case "DataTransfer":
                return {"status": "UnknownVendorId"}
            case "SignCertificate":
                return {"status": "Accepted" if local.accepted else "Rejected"}
        return {} if action in _EMPTY else None

    def boot_status(self, result: Mapping[str, Any]) -> str:
        return str(result.get("status"))

    def start_answer(self, result: Mapping[str, Any]) -> StartAnswer:
        transaction = whole(result.get("transactionId"))
        return StartAnswer(None if transaction is None else str(transaction), self.token_accepted(result) is not False)

    def token_accepted(self, result: Mapping[str, Any]) -> bool | None:
        status = member(result.get("idTagInfo"), "status")
        return None if status is None else status == "Accepted"

    def clear_foreign(self) -> Sequence[Ask]:
        return [("ClearChargingProfile", {})]  # section 5.2: no criteria clears everything

    def clear_profile(self, profile_id: int) -> Ask:
        return "ClearChargingProfile", {"id": profile_id}

    def ask_profiles(self, request_id: int) -> Ask | None:  # noqa: ARG002 - 1.6 has no list of profiles
        return None

    def ask_composite(self, evse: int) -> Ask:
        return "GetCompositeSchedule", {"connectorId": evse, "duration": LOOK_S, "chargingRateUnit": "A"}

    def composite_steps(self, result: Mapping[str, Any]) -> Sequence[tuple[float, float]]:
        return steps_told(result.get("chargingSchedule"))

    def ask_capabilities(self) -> Ask:
        keys = [
            "ChargeProfileMaxStackLevel", "ChargingScheduleAllowedChargingRateUnit", "ConnectorSwitch3to1PhaseSupported"
        ]  # fmt: skip
        return "GetConfiguration", {"key": keys}

    def _profile(
        self, number: int, purpose: Purpose, level: int, kind: str, schedule: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "chargingProfileId": number,
            "stackLevel": level,
            "chargingProfilePurpose": _WORDS[purpose],
            "chargingProfileKind": kind,
            "chargingSchedule": schedule,
        }

    def safe_default(
        self, evse: int, amount: float, *, unit: str = "A", maximum: bool = False, absolute: bool = False
    ) -> Ask:
        purpose = Purpose.STATION_MAX if maximum else Purpose.TX_DEFAULT
        kind = "Absolute" if maximum or absolute else "Relative"
        body = self._profile(SAFE_PROFILE_ID + evse, purpose, 0, kind, safe_schedule(amount, unit, kind))
        return "SetChargingProfile", {"connectorId": 0 if maximum else evse, "csChargingProfiles": body}

    def live_limit(self, live: Live) -> Ask:
        rung = live.rung
        kind = "Relative" if rung.relative else "Absolute"
        body = self._profile(live_id(live), rung.purpose, rung.stack_level, kind, live_schedule(live))
        if rung.purpose is Purpose.TX:
            body["transactionId"] = int(live.transaction_id)
        connector = 0 if rung.purpose is Purpose.STATION_MAX else live.evse
        return "SetChargingProfile", {"connectorId": connector, "csChargingProfiles": body}

    def limit_status(self, result: Mapping[str, Any]) -> str:
        return str(result.get("status"))

    def ask_settings(self) -> Ask:
        keys = ["MeterValueSampleInterval", "MeterValuesSampledData", "StopTransactionOnInvalidId"]
        return "GetConfiguration", {"key": keys}

    def set_password(self, password: str) -> Ask:
        return "ChangeConfiguration", {"key": "AuthorizationKey", "value": password}  # security whitepaper A01

    def certificate_signed(self, chain: str) -> Ask:
        return "CertificateSigned", {"certificateChain": chain}  # security whitepaper A02

    def ask_network_priority(self) -> Ask | None:
        return None

    def repoint(
        self,
        url: str,
        key: str | None,
        slot: int,  # noqa: ARG002 - of 2.x
        security_profile: int,  # noqa: ARG002 - of 2.x
        priority: Sequence[str],  # noqa: ARG002 - of 2.x
    ) -> Sequence[Ask]:
        if key is None:
            return []
        return [("ChangeConfiguration", {"key": key, "value": url}), ("Reset", {"type": "Soft"})]

    def ask_samples(self, interval_s: int, also: Sequence[str] = ()) -> Sequence[Sequence[Ask]]:
        lists = measurand_lists(also)
        return [
            [("ChangeConfiguration", {"key": "MeterValuesSampledData", "value": value}) for value in lists],
            [("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": str(interval_s)})],
        ]

    def accepted(self, result: Mapping[str, Any]) -> bool:
        return result.get("status") in ("Accepted", "RebootRequired")

    def ask_state(self, evses: Sequence[int]) -> Sequence[Ask]:
        return [
            ("TriggerMessage", {"requestedMessage": message, "connectorId": evse})
            for evse in evses
            for message in ("StatusNotification", "MeterValues")
        ]

    def ask_boot(self) -> Ask:
        return "TriggerMessage", {"requestedMessage": "BootNotification"}

    def set_profile(self, payload: Mapping[str, Any], received: datetime) -> Profile | Refusal:
        return read_profile(payload.get(self.rules.set_key), whole(payload.get("connectorId")), self.rules, received)

    def profile_status(self, refusal: Refusal | None) -> dict[str, Any]:
        return {"status": "Accepted" if refusal is None else "Rejected"}

    def clear_profiles(self, payload: Mapping[str, Any]) -> Clear:
        return Clear(
            profile_id=criterion(payload, "id"),
            evse=criterion(payload, "connectorId"),
            purpose=self.rules.purpose(payload.get("chargingProfilePurpose")),
            stack_level=criterion(payload, "stackLevel"),
        )

    def composite_asked(self, payload: Mapping[str, Any]) -> CompositeAsked | Refusal:
        return read_composite(payload, "connectorId")

    def composite(self, asked: CompositeAsked, start: datetime, steps: Sequence[Step]) -> dict[str, Any]:
        return {
            "status": "Accepted",
            "connectorId": asked.evse,
            "scheduleStart": ocpp_time(start),
            "chargingSchedule": {
                "duration": asked.duration_s,
                "startSchedule": ocpp_time(start),
                "chargingRateUnit": asked.unit,
                "chargingSchedulePeriod": [period_of(step) for step in steps],
            },
        }

    def profiles_asked(self, payload: Mapping[str, Any]) -> ProfilesAsked | None:  # noqa: ARG002 - not in 1.6
        return None

    def report_profiles(self, asked: ProfilesAsked, found: Sequence[Profile]) -> Sequence[Ask]:  # noqa: ARG002 - not in 1.6
        return []

    def start_profile(self, action: str, payload: Mapping[str, Any]) -> StartProfile | None:
        key = "chargingProfile"
        if action != "RemoteStartTransaction" or key not in payload:
            return None
        evse = whole(payload.get("connectorId"))
        return StartProfile(key, evse or 0, payload[key], words(payload.get("idTag")))

    def stop_id(self, action: str, payload: Mapping[str, Any]) -> str | None:
        transaction = whole(payload.get("transactionId"))
        return str(transaction) if action == "RemoteStopTransaction" and transaction is not None else None

    def remote_stop(self, transaction_id: str) -> Ask:
        return "RemoteStopTransaction", {"transactionId": int(transaction_id)}

    def wire_id(self, transaction_id: str) -> str | int:
        return int(transaction_id)


def _status(payload: Mapping[str, Any]) -> Fact | None:
    connector, status = whole(payload.get("connectorId")), str(payload.get("status", ""))
    if connector is None:
        return None
    plugged = True if status in _PLUGGED else False if status in {"Available", "Reserved"} else None
    code = words(payload.get("errorCode"))
    if code in {None, "NoError"}:
        code = "Faulted" if status == "Faulted" else None
    more = payload.get("vendorErrorCode"), payload.get("info")
    fault = of_status(connector, 1, code, *more)
    return StatusTold(connector, 1, status, plugged, fault, instant(payload.get("timestamp")))


def _stop(payload: Mapping[str, Any]) -> Fact | None:
    transaction = whole(payload.get("transactionId"))
    if transaction is None:
        return None
    return TransactionTold(
        "stop",
        None,
        str(transaction),
        instant(payload.get("timestamp")),
        token=words(payload.get("idTag")),
        meter_wh=number(payload.get("meterStop")),
        reason=words(payload.get("reason")) or "Local",  # section 6.49: Local where left out
        closing_values=payload.get("transactionData"),
    )
