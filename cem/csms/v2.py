"""OCPP 2.0.1 and 2.1: one module, for the messages we read and write differ in what they allow, not in what we send."""

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
from cem.csms.facts import (
    Booted,
    Fact,
    FaultsTold,
    MeterTold,
    NeedsTold,
    ProfilesReported,
    ReservationOver,
    ScheduleChosen,
    StatusTold,
    TokenAsked,
    TransactionTold,
    contract_digest,
)
from cem.csms.faults import of_events, of_status
from cem.csms.ladder import Purpose
from cem.csms.metering import instant, items
from cem.csms.moment import ocpp_time
from cem.csms.needs import read_needs
from cem.csms.parsing import NOTHING, criterion, member, whole, words
from cem.csms.profile_reading import RULES_21, RULES_201, chosen, read_composite, read_profile, tenths
from cem.csms.profile_writing import LOOK_S, live_id, live_schedule, period_of, safe_schedule, steps_told
from cem.csms.profiles import EXTERNAL, Clear, CompositeAsked, Profile, Refusal, Step

_WORDS = {
    Purpose.TX: "TxProfile",
    Purpose.TX_DEFAULT: "TxDefaultProfile",
    Purpose.STATION_MAX: "ChargingStationMaxProfile",
}

_KINDS = {"Started": "start", "Updated": "update", "Ended": "stop"}
_EMPTY = {
    "StatusNotification", "MeterValues", "NotifyReport", "NotifyEvent", "NotifyMonitoringReport",
    "FirmwareStatusNotification", "LogStatusNotification", "SecurityEventNotification", "NotifyChargingLimit",
    "ClearedChargingLimit", "ReportChargingProfiles", "NotifyCustomerInformation", "NotifyDisplayMessages",
    "PublishFirmwareStatusNotification", "ReservationStatusUpdate", "NotifyPriorityCharging", "NotifySettlement",
    "NotifyDERAlarm", "NotifyDERStartStop", "NotifyWebPaymentStarted", "ReportDERControl", "ClosePeriodicEventStream",
}  # fmt: skip


class V2:
    """OCPP 2.0.1 or 2.1 messages."""

    bad_format = "FormatViolation"

    def __init__(self, version: str) -> None:
        self.version = version
        self.rules = RULES_21 if version == "2.1" else RULES_201

    def read(self, action: str, payload: Mapping[str, Any]) -> Fact | None:
        evse = whole(payload.get("evseId"))
        at = instant(payload.get("timestamp"))
        token = words(member(payload.get("idToken"), "idToken"))
        match action:
            case "BootNotification":
                return Booted(payload)
            case "StatusNotification" if evse is not None:
                status = str(payload.get("connectorStatus", ""))
                plugged = True if status == "Occupied" else False if status in {"Available", "Reserved"} else None
                connector = whole(payload.get("connectorId")) or 1
                fault = of_status(evse, connector, status if status == "Faulted" else None)
                return StatusTold(evse, connector, status, plugged, fault, at)
            case "NotifyEvent":
                return FaultsTold(tuple(of_events(payload)))
            case "ReservationStatusUpdate" if (reserved := whole(payload.get("reservationId"))) is not None:
                return ReservationOver(reserved)
            case "MeterValues" if evse is not None:
                return MeterTold(evse, payload.get("meterValue"))
            case "Authorize" if token is not None:
                return TokenAsked(token, contract_digest(payload))
            case "ReportChargingProfiles" if (request := whole(payload.get("requestId"))) is not None:
                told = [whole(p.get("id")) for p in items(payload.get("chargingProfile"))]
                return ProfilesReported(request, tuple(i for i in told if i is not None), payload.get("tbc") is True)
            case "NotifyEVChargingNeeds" if evse is not None:
                needs = read_needs(payload.get("chargingNeeds"))
                return None if needs is None else NeedsTold(evse, needs)
            case "NotifyEVChargingSchedule" if evse is not None and (number := chosen(payload)) is not None:
                return ScheduleChosen(evse, number)
            case "TransactionEvent":
                return self._transaction(payload, at, token)
        return None

    def _transaction(self, payload: Mapping[str, Any], at: datetime | None, token: str | None) -> Fact | None:
        info = payload.get("transactionInfo")
        transaction, kind = words(member(info, "transactionId")), _KINDS.get(str(payload.get("eventType")))
        if transaction is None or kind is None:
            return None
        return TransactionTold(
            kind,
            whole(member(payload.get("evse"), "id")),
            transaction,
            at,
            token=token,
            state=words(member(info, "chargingState")),
            reason=(words(member(info, "stoppedReason")) or "Local") if kind == "stop" else None,
            meter_values=payload.get("meterValue"),
            offline=payload.get("offline") is True,
            remote_start_id=whole(member(info, "remoteStartId")),
            reservation_id=whole(payload.get("reservationId")),
        )

    def answer(self, action: str, payload: Mapping[str, Any], local: LocalAnswer) -> dict[str, Any] | None:
        group = local.group
        family = {} if group is None else {"groupIdToken": {"idToken": group.token, "type": group.kind}}
        token_info: dict[str, Any] = {"idTokenInfo": {"status": "Accepted" if local.token_ok else "Unknown", **family}}
        match action:
            case "BootNotification":
                status = "Accepted" if local.accepted else "Pending"
                return {"status": status, "currentTime": ocpp_time(local.now.utc), "interval": local.interval_s}
            case "Heartbeat":
                return {"currentTime": ocpp_time(local.now.utc)}
            case "Authorize" if local.contract_ok is not None:  # C07: nobody here can check a chain or its revocation
                return {
                    **token_info,
                    "certificateStatus": "Accepted" if local.contract_ok else "NoCertificateAvailable",
                }
            case "Authorize":
                return token_info
            case "TransactionEvent":
                return token_info if "idToken" in payload else {}
            case "DataTransfer":
                return {"status": "UnknownVendorId"}
            case "SignCertificate":
                return {"status": "Accepted" if local.accepted else "Rejected"}
            case "OpenPeriodicEventStream" | "PullDynamicScheduleUpdate":
                return {"status": "Rejected"}
            case "VatNumberValidation":
                return {"vatNumber": words(payload.get("vatNumber")) or "", "status": "Rejected"}
            case "NotifyEVChargingNeeds" | "NotifyEVChargingSchedule":  # K15: our limits are a TxProfile
                return {"status": "Accepted"}
            case "GetCertificateStatus":
                return {"status": "Failed"}
            case "Get15118EVCertificate":
                return {"status": "Failed", "exiResponse": ""}
            case "GetCertificateChainStatus" if asked := list(items(payload.get("certificateStatusRequests"))):
                failed = {"status": "Failed", "nextUpdate": ocpp_time(local.now.utc)}
                kept = ("certificateHashData", "source")
                return {"certificateStatus": [{key: one.get(key) for key in kept} | failed for one in asked]}
        return {} if action in _EMPTY else None

    def boot_status(self, result: Mapping[str, Any]) -> str:
        return str(result.get("status"))

    def start_answer(self, result: Mapping[str, Any]) -> StartAnswer:
        return StartAnswer(None, self.token_accepted(result) is not False)

    def token_accepted(self, result: Mapping[str, Any]) -> bool | None:
        status = member(result.get("idTokenInfo"), "status")
        return None if status is None else status == "Accepted"

    def clear_foreign(self) -> Sequence[Ask]:
        # K10.FR.02: without an id there must be criteria. External constraints are not a CSMS's to clear.
        return [
            ("ClearChargingProfile", {"chargingProfileCriteria": {"chargingProfilePurpose": word}})
            for word, purpose in self.rules.purposes.items()
            if purpose != EXTERNAL
        ]

    def clear_profile(self, profile_id: int) -> Ask:
        return "ClearChargingProfile", {"chargingProfileId": profile_id}

    def ask_profiles(self, request_id: int) -> Ask | None:
        return "GetChargingProfiles", {"requestId": request_id, "chargingProfile": {"chargingLimitSource": ["CSO"]}}

    def ask_composite(self, evse: int) -> Ask:
        return "GetCompositeSchedule", {"evseId": evse, "duration": LOOK_S, "chargingRateUnit": "A"}

    def composite_steps(self, result: Mapping[str, Any]) -> Sequence[tuple[float, float]]:
        return steps_told(result.get("schedule"))

    def ask_capabilities(self) -> Ask:
        names = ["ProfileStackLevel", "RateUnit", "Phases3to1"]
        if self.version == "2.1":
            names.append("SupportsDynamicProfiles")
        asked = [{"component": {"name": "SmartChargingCtrlr"}, "variable": {"name": name}} for name in names]
        return "GetVariables", {"getVariableData": asked}

    def _ask(self, evse: int, number: int, purpose: Purpose, level: int, kind: str, schedule: dict[str, Any]) -> Any:
        return {
            "evseId": evse,
            "chargingProfile": {
                "id": number,
                "stackLevel": level,
                "chargingProfilePurpose": _WORDS[purpose],
                "chargingProfileKind": kind,
                "chargingSchedule": [{"id": number, **schedule}],
            },
        }

    def safe_default(
        self, evse: int, amount: float, *, unit: str = "A", maximum: bool = False, absolute: bool = False
    ) -> Ask:
        where, purpose = (0, Purpose.STATION_MAX) if maximum else (evse, Purpose.TX_DEFAULT)
        kind = "Absolute" if maximum or absolute else "Relative"  # K01.FR.38: a maximum is never relative
        schedule = safe_schedule(amount, unit, kind)
        return "SetChargingProfile", self._ask(where, SAFE_PROFILE_ID + evse, purpose, 0, kind, schedule)

    def live_limit(self, live: Live) -> Ask:
        rung = live.rung
        if not live.whole:
            update = {"limit": tenths(live.amount)}
            return "UpdateDynamicSchedule", {"chargingProfileId": live_id(live), "scheduleUpdate": update}  # K28.FR.06
        kind = "Relative" if rung.relative else "Dynamic" if rung.dynamic else "Absolute"
        where = 0 if rung.purpose is Purpose.STATION_MAX else live.evse
        ask = self._ask(where, live_id(live), rung.purpose, rung.stack_level, kind, live_schedule(live))
        if rung.purpose is Purpose.TX:
            ask["chargingProfile"]["transactionId"] = live.transaction_id
        if rung.dynamic:
            ask["chargingProfile"]["dynUpdateTime"] = ocpp_time(live.start)  # its duration counts from here (K28.FR.13)
        if live.offline_s is not None:
            ask["chargingProfile"]["maxOfflineDuration"] = live.offline_s
        return "SetChargingProfile", ask

    def limit_status(self, result: Mapping[str, Any]) -> str:
        return str(result.get("status"))

    def ask_settings(self) -> Ask:
        wanted = (
            ("SampledDataCtrlr", "TxUpdatedInterval"), ("SampledDataCtrlr", "TxUpdatedMeasurands"),
            ("TxCtrlr", "StopTxOnInvalidId"),
        )  # fmt: skip
        asked = [{"component": {"name": where}, "variable": {"name": name}} for where, name in wanted]
        return "GetVariables", {"getVariableData": asked}

    def set_password(self, password: str) -> Ask:
        return _set_variable("SecurityCtrlr", "BasicAuthPassword", password)  # A01

    def certificate_signed(self, chain: str) -> Ask:
        return "CertificateSigned", {"certificateChain": chain, "certificateType": "ChargingStationCertificate"}  # A02

    def ask_network_priority(self) -> Ask | None:
        asked = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "NetworkConfigurationPriority"}}
        return "GetVariables", {"getVariableData": [asked]}

    def repoint(
        self,
        url: str,
        key: str | None,  # noqa: ARG002 - of 1.6
        slot: int,
        security_profile: int,
        priority: Sequence[str],
    ) -> Sequence[Ask]:
        connection = {
            "ocppVersion": "OCPP20" if self.version == "2.0.1" else "OCPP21", "ocppTransport": "JSON", "ocppCsmsUrl": url,
            "messageTimeout": 30, "securityProfile": security_profile, "ocppInterface": "Wired0",
        }  # fmt: skip
        order = [str(slot), *(other for other in priority if other != str(slot))]
        return [
            ("SetNetworkProfile", {"configurationSlot": slot, "connectionData": connection}),  # B09
            _set_variable("OCPPCommCtrlr", "NetworkConfigurationPriority", ",".join(order)),  # B10
            ("Reset", {"type": "OnIdle"}),
        ]

    def ask_samples(self, interval_s: int, also: Sequence[str] = ()) -> Sequence[Sequence[Ask]]:
        return [
            [_set_sampling("TxUpdatedMeasurands", value) for value in measurand_lists(also)],
            [_set_sampling("TxUpdatedInterval", str(interval_s))],
        ]

    def accepted(self, result: Mapping[str, Any]) -> bool:
        results = list(items(result.get("setVariableResult")))
        return bool(results) and all(r.get("attributeStatus") in ("Accepted", "RebootRequired") for r in results)

    def ask_state(self, evses: Sequence[int]) -> Sequence[Ask]:
        asks: list[Ask] = []
        for evse in evses:
            status = {"requestedMessage": "StatusNotification", "evse": {"id": evse, "connectorId": 1}}
            event = {"requestedMessage": "TransactionEvent", "evse": {"id": evse}}
            asks += [("TriggerMessage", status), ("TriggerMessage", event)]
        return asks

    def ask_boot(self) -> Ask:
        return "TriggerMessage", {"requestedMessage": "BootNotification"}

    def set_profile(self, payload: Mapping[str, Any], received: datetime) -> Profile | Refusal:
        return read_profile(payload.get(self.rules.set_key), whole(payload.get("evseId")), self.rules, received)

    def profile_status(self, refusal: Refusal | None) -> dict[str, Any]:
        if refusal is None:
            return {"status": "Accepted"}
        return {"status": "Rejected", "statusInfo": {"reasonCode": refusal.code, "additionalInfo": refusal.text}}

    def clear_profiles(self, payload: Mapping[str, Any]) -> Clear:
        criteria = payload.get("chargingProfileCriteria")
        return Clear(
            profile_id=criterion(payload, "chargingProfileId"),
            evse=criterion(criteria, "evseId"),
            purpose=self.rules.purpose(member(criteria, "chargingProfilePurpose")),
            stack_level=criterion(criteria, "stackLevel"),
        )

    def composite_asked(self, payload: Mapping[str, Any]) -> CompositeAsked | Refusal:
        return read_composite(payload, "evseId")

    def composite(self, asked: CompositeAsked, start: datetime, steps: Sequence[Step]) -> dict[str, Any]:
        return {
            "status": "Accepted",
            "schedule": {
                "evseId": asked.evse,
                "duration": asked.duration_s,
                "scheduleStart": ocpp_time(start),
                "chargingRateUnit": asked.unit,
                "chargingSchedulePeriod": [_period(step) for step in steps],
            },
        }

    def profiles_asked(self, payload: Mapping[str, Any]) -> ProfilesAsked | None:
        request, criteria = whole(payload.get("requestId")), payload.get("chargingProfile")
        if request is None:
            return None
        listed, sources = member(criteria, "chargingProfileId"), member(criteria, "chargingLimitSource")
        ids = tuple(NOTHING if (i := whole(one)) is None else i for one in listed) if isinstance(listed, list) else ()
        return ProfilesAsked(
            request,
            criterion(payload, "evseId"),
            ids,
            self.rules.purpose(member(criteria, "chargingProfilePurpose")),
            criterion(criteria, "stackLevel"),
            tuple(str(source) for source in sources) if isinstance(sources, list) else (),
        )

    def report_profiles(self, asked: ProfilesAsked, found: Sequence[Profile]) -> Sequence[Ask]:
        # One report an EVSE, all but the last "to be continued" (K09.FR.03).
        evses = sorted({p.evse for p in found})
        return [
            (
                "ReportChargingProfiles",
                {
                    "requestId": asked.request_id,
                    "chargingLimitSource": "CSO",
                    "evseId": evse,
                    "chargingProfile": [dict(p.raw) for p in found if p.evse == evse],
                    "tbc": evse != evses[-1],
                },
            )
            for evse in evses
        ]

    def start_profile(self, action: str, payload: Mapping[str, Any]) -> StartProfile | None:
        key = "chargingProfile"
        if action != "RequestStartTransaction" or key not in payload:
            return None
        token = words(member(payload.get("idToken"), "idToken"))
        return StartProfile(
            key, whole(payload.get("evseId")) or 0, payload[key], token, whole(payload.get("remoteStartId"))
        )

    def stop_id(self, action: str, payload: Mapping[str, Any]) -> str | None:
        stops = action in {"RequestStopTransaction", "GetTransactionStatus"}
        return words(payload.get("transactionId")) if stops else None

    def remote_stop(self, transaction_id: str) -> Ask:
        return "RequestStopTransaction", {"transactionId": transaction_id}

    def wire_id(self, transaction_id: str) -> str | int:
        return transaction_id


def _period(step: Step) -> dict[str, Any]:
    """One period of a composite schedule; per phase since 2.1."""
    period = period_of(step)
    if len(step.limit) == 3:
        period |= {"limit_L2": tenths(step.limit[1]), "limit_L3": tenths(step.limit[2])}
    return period


def _set_sampling(variable: str, value: str) -> Ask:
    return _set_variable("SampledDataCtrlr", variable, value)


def _set_variable(component: str, variable: str, value: str) -> Ask:
    one = {"component": {"name": component}, "variable": {"name": variable}, "attributeValue": value}
    return "SetVariables", {"setVariableData": [one]}
