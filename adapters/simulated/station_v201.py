"""A simulated station that speaks OCPP 2.0.1."""

from typing import Any, ClassVar

from adapters.simulated.profiles import MAX, PURPOSES, TX, Profile, parse_profile
from adapters.simulated.station import Connector, SimulatedStation, Transaction, sampled, utc_text
from adapters.simulated.station_link import Refused


class Station201(SimulatedStation):
    """OCPP 2.0.1: core, smart charging."""

    subprotocol = "ocpp2.0.1"
    defaults: ClassVar[dict[str, str]] = {  # component.variable
        "SampledDataCtrlr.TxUpdatedInterval": "60",
        "SampledDataCtrlr.TxUpdatedMeasurands": "Current.Import,Voltage,Power.Active.Import,Energy.Active.Import.Register",
        "SampledDataCtrlr.TxEndedInterval": "0",
        "AlignedDataCtrlr.Interval": "0",
        "OCPPCommCtrlr.HeartbeatInterval": "300",
        "OCPPCommCtrlr.OfflineThreshold": "60",
        "OCPPCommCtrlr.WebSocketPingInterval": "0",
        "SmartChargingCtrlr.ProfileStackLevel": "99",
    }

    def boot_payload(self) -> dict[str, Any]:
        station = {"vendorName": "Simulated", "model": "S201", "serialNumber": self.station_id[:25]}
        return {"reason": "PowerUp", "chargingStation": station}

    def status_of(self, connector: Connector) -> str:
        return "Occupied" if connector.plugged else "Available"

    def tell_status(self, connector: Connector) -> None:
        payload = {
            "timestamp": utc_text(self.utc_s()),
            "connectorStatus": connector.status,
            "evseId": connector.number,
            "connectorId": 1,
        }
        self.link.post("StatusNotification", lambda: payload)

    def authorize_payload(self, token: str) -> dict[str, Any]:
        return {"idToken": {"idToken": token, "type": "ISO14443"}}

    def is_authorized(self, answer: dict[str, Any]) -> bool:
        return bool(answer.get("idTokenInfo", {}).get("status", "Accepted") == "Accepted")

    def tell_start(self, connector: Connector, transaction: Transaction) -> None:
        transaction.state = self.charging_state(connector)

        def answered(answer: dict[str, Any]) -> None:
            if not self.is_authorized(answer) and connector.transaction is transaction:
                self.end(connector, "DeAuthorized")

        token = {"idToken": {"idToken": transaction.token, "type": "ISO14443"}}
        self._event(connector, transaction, "Started", "Authorized", token, on_answer=answered)

    def tell_sample(self, connector: Connector, transaction: Transaction) -> None:
        values = {"meterValue": [self._meter_value(connector, "Sample.Periodic")]}
        self._event(connector, transaction, "Updated", "MeterValuePeriodic", values, sample=True)

    def tell_state(self, connector: Connector, transaction: Transaction) -> None:
        self._event(connector, transaction, "Updated", "ChargingStateChanged", {})

    def tell_stop(self, connector: Connector, transaction: Transaction, reason: str) -> None:
        transaction.state = "EVConnected"
        trigger = {"Remote": "RemoteStop", "DeAuthorized": "Deauthorized", "Reboot": "ResetCommand"}
        more = {"meterValue": [self._meter_value(connector, "Transaction.End")], "stoppedReason": reason}
        self._event(connector, transaction, "Ended", trigger.get(reason, "StopAuthorized"), more)

    def _event(
        self,
        connector: Connector,
        transaction: Transaction,
        kind: str,
        trigger: str,
        more: dict[str, Any],
        *,
        sample: bool = False,
        on_answer: Any = None,
    ) -> None:
        info = {"transactionId": transaction.key}
        if transaction.state:
            info["chargingState"] = transaction.state
        if "stoppedReason" in more:
            info["stoppedReason"] = more.pop("stoppedReason")
        payload: dict[str, Any] = {
            "eventType": kind,
            "timestamp": utc_text(self.utc_s()),
            "triggerReason": trigger,
            "seqNo": transaction.seq,
            "transactionInfo": info,
            "evse": {"id": connector.number, "connectorId": 1},
        } | more
        if not self.link.online:
            payload["offline"] = True
        transaction.seq += 1
        self.link.post("TransactionEvent", lambda: payload, keep=True, sample=sample, on_answer=on_answer)

    def _meter_value(self, connector: Connector, context: str) -> dict[str, Any]:
        wanted = self.settings["SampledDataCtrlr.TxUpdatedMeasurands"].split(",")
        values = [
            {"value": round(value, 2), "context": context, "measurand": measurand, "unitOfMeasure": {"unit": unit}}
            | ({"phase": phase} if phase else {})
            for measurand, phase, value, unit in sampled(connector, self.voltage_v)
            if measurand in wanted
        ]
        return {"timestamp": utc_text(self.utc_s()), "sampledValue": values}

    # ---- calls from the CSMS --------------------------------------------------------------------------------------
    def handle(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        match action:
            case "SetChargingProfile":
                return {"status": self._set_profile(int(payload["evseId"]), payload["chargingProfile"])}
            case "ClearChargingProfile":
                return {"status": "Accepted" if self._clear_profiles(payload) else "Unknown"}
            case "GetChargingProfiles":
                return {"status": self._report_profiles(payload)}
            case "GetCompositeSchedule":
                return self._composite(payload)
            case "SetVariables":
                return {"setVariableResult": [self._set_variable(v) for v in payload["setVariableData"]]}
            case "GetVariables":
                return {"getVariableResult": [self._get_variable(v) for v in payload["getVariableData"]]}
            case "RequestStartTransaction":
                return self._remote_start(payload)
            case "RequestStopTransaction":
                for connector in self.connectors.values():
                    running = connector.transaction
                    if running is not None and running.key == payload["transactionId"]:
                        self.later(self.end, connector, "Remote")
                        return {"status": "Accepted"}
                return {"status": "Rejected"}
            case "GetTransactionStatus":
                keys = [c.transaction.key for c in self.connectors.values() if c.transaction is not None]
                answer: dict[str, Any] = {"messagesInQueue": self.link.waiting > 0}
                if "transactionId" in payload:
                    answer["ongoingIndicator"] = payload["transactionId"] in keys
                return answer
            case "TriggerMessage":
                return {"status": self._trigger(payload["requestedMessage"], payload.get("evse", {}).get("id"))}
            case "Reset":
                self.later(self.reset)
                return {"status": "Accepted"}
            case "ChangeAvailability" | "ClearCache":
                return {"status": "Accepted"}
            case "GetBaseReport":
                return {"status": "NotSupported"}
            case "DataTransfer":
                return {"status": "UnknownVendorId"}
        raise Refused("NotImplemented", f"{action} is not known here")

    def _set_profile(self, number: int, data: dict[str, Any]) -> str:
        purpose = PURPOSES[data["chargingProfilePurpose"]]
        connector = self.connectors.get(number)
        if (number != 0 and connector is None) or (purpose == MAX and number != 0):
            return "Rejected"
        if purpose == TX:  # K01.FR.03, K01.FR.09: it names a transaction that runs at this EVSE
            running = connector.transaction if connector else None
            if running is None or data.get("transactionId") != running.key:
                return "Rejected"
        before_a = self.limits_now()
        profile = parse_profile(number, data, self.utc_s())
        if not self.takes(profile) or not self.store.install(profile, same_place_replaces=False):
            return "Rejected"
        self.switch_phases(profile)
        self.limits_changed(before_a)
        return "Accepted"

    def _clear_profiles(self, payload: dict[str, Any]) -> int:
        criteria = payload.get("chargingProfileCriteria", {})
        purpose = criteria.get("chargingProfilePurpose")

        def matches(p: Profile) -> bool:
            if "chargingProfileId" in payload:
                return bool(p.profile_id == payload["chargingProfileId"])
            return bool(
                criteria.get("evseId") in {None, p.evse_id}
                and (purpose is None or p.purpose == PURPOSES[purpose])
                and criteria.get("stackLevel") in {None, p.stack_level}
            )

        before_a = self.limits_now()
        cleared = self.store.clear(matches)
        if cleared:
            self.limits_changed(before_a)
        return cleared

    def _report_profiles(self, payload: dict[str, Any]) -> str:
        criteria = payload["chargingProfile"]
        purpose, ids = criteria.get("chargingProfilePurpose"), criteria.get("chargingProfileId")
        chosen = [
            p
            for p in self.store.profiles
            if payload.get("evseId") in {None, p.evse_id}
            and (purpose is None or p.purpose == PURPOSES[purpose])
            and (ids is None or p.profile_id in ids)
            and criteria.get("stackLevel") in {None, p.stack_level}
        ]
        for p in chosen:
            report = {
                "requestId": payload["requestId"],
                "chargingLimitSource": "CSO",
                "evseId": p.evse_id,
                "chargingProfile": [p.raw],
                "tbc": p is not chosen[-1],
            }
            self.later(self.link.post, "ReportChargingProfiles", lambda report=report: report)
        return "Accepted" if chosen else "NoProfiles"

    def _composite(self, payload: dict[str, Any]) -> dict[str, Any]:
        number, unit = int(payload["evseId"]), payload.get("chargingRateUnit", "A")
        if number not in self.connectors:
            return {"status": "Rejected"}
        start_utc_s, periods = self.composite(number, float(payload["duration"]), unit)
        schedule = {
            "evseId": number,
            "duration": payload["duration"],
            "scheduleStart": utc_text(start_utc_s),
            "chargingRateUnit": unit,
            "chargingSchedulePeriod": [{"startPeriod": s, "limit": v, "numberPhases": n} for s, v, n in periods],
        }
        return {"status": "Accepted", "schedule": schedule}

    def _set_variable(self, item: dict[str, Any]) -> dict[str, Any]:
        component, variable = item["component"], item["variable"]
        key, value = f"{component['name']}.{variable['name']}", str(item["attributeValue"])
        status = "Accepted"
        if key not in self.settings:
            names = {name.split(".")[0] for name in self.settings}
            status = "UnknownVariable" if component["name"] in names else "UnknownComponent"
        elif key.endswith("Interval") and not value.isdigit():
            status = "Rejected"
        else:
            self.settings[key] = value
            if key == "SampledDataCtrlr.TxUpdatedInterval":
                self.meter_interval_s = float(value) or float("inf")
            elif key == "OCPPCommCtrlr.HeartbeatInterval":
                self.link.heartbeat_s = float(value)
        return {"attributeStatus": status, "component": component, "variable": variable}

    def _get_variable(self, item: dict[str, Any]) -> dict[str, Any]:
        component, variable = item["component"], item["variable"]
        value = self.settings.get(f"{component['name']}.{variable['name']}")
        answer = {"component": component, "variable": variable}
        if value is None:
            return answer | {"attributeStatus": "UnknownVariable"}
        return answer | {"attributeStatus": "Accepted", "attributeValue": value}

    def _remote_start(self, payload: dict[str, Any]) -> dict[str, Any]:
        free = [c for c in self.connectors.values() if c.plugged and c.transaction is None]
        chosen = [c for c in free if payload.get("evseId") in {None, c.number}]
        if not chosen:
            return {"status": "Rejected"}
        self.later(self.begin, chosen[0], payload["idToken"]["idToken"])
        return {"status": "Accepted"}

    def _trigger(self, message: str, number: int | None) -> str:
        chosen = [c for c in self.connectors.values() if number in {None, 0, c.number}]
        running = [(c, c.transaction) for c in chosen if c.transaction is not None]
        match message:
            case "BootNotification":
                self.later(self.link.send_boot)
            case "Heartbeat":
                self.later(self.link.post, "Heartbeat", dict)
            case "StatusNotification":
                for connector in chosen:
                    self.later(self.tell_status, connector)
            case "TransactionEvent" if running:
                for connector, transaction in running:
                    values = {"meterValue": [self._meter_value(connector, "Trigger")]}
                    self.later(self._event, connector, transaction, "Updated", "Trigger", values)
            case "MeterValues":
                for connector in chosen:
                    sample = {"evseId": connector.number, "meterValue": [self._meter_value(connector, "Trigger")]}
                    self.later(self.link.post, "MeterValues", lambda sample=sample: sample)
            case _:
                return "NotImplemented"
        return "Accepted"
