"""A simulated station that speaks OCPP 1.6J."""

from typing import Any, ClassVar

from adapters.simulated.profiles import MAX, PURPOSES, TX, Profile, parse_profile
from adapters.simulated.station import Connector, SimulatedStation, Transaction, sampled, utc_text
from adapters.simulated.station_link import Refused


class Station16(SimulatedStation):
    """OCPP 1.6J: core, smart charging, remote trigger."""

    subprotocol = "ocpp1.6"
    defaults: ClassVar[dict[str, str]] = {
        "MeterValueSampleInterval": "60",
        "HeartbeatInterval": "300",
        "MeterValuesSampledData": "Current.Import,Voltage,Power.Active.Import,Energy.Active.Import.Register",
        "ClockAlignedDataInterval": "0",
        "WebSocketPingInterval": "0",
        "StopTransactionOnInvalidId": "true",
        "TransactionMessageAttempts": "3",
    }
    read_only: ClassVar[dict[str, str]] = {
        "ChargeProfileMaxStackLevel": "99",
        "ChargingScheduleAllowedChargingRateUnit": "Current,Power",
        "ChargingScheduleMaxPeriods": "24",
        "MaxChargingProfilesInstalled": "20",
        "SupportedFeatureProfiles": "Core,SmartCharging,RemoteTrigger",
    }

    def boot_payload(self) -> dict[str, Any]:
        return {
            "chargePointVendor": "Simulated",
            "chargePointModel": "S16",
            "chargePointSerialNumber": self.station_id[:25],
            "firmwareVersion": "1.0",
        }

    def status_of(self, connector: Connector) -> str:
        if connector.transaction is not None:
            return self.charging_state(connector)
        if connector.plugged:
            return "Finishing" if connector.finished else "Preparing"
        return "Available"

    def tell_status(self, connector: Connector) -> None:
        payload = {
            "connectorId": connector.number,
            "errorCode": "NoError",
            "status": connector.status,
            "timestamp": utc_text(self.utc_s()),
        }
        self.link.post("StatusNotification", lambda: payload)

    def authorize_payload(self, token: str) -> dict[str, Any]:
        return {"idTag": token}

    def is_authorized(self, answer: dict[str, Any]) -> bool:
        return bool(answer["idTagInfo"]["status"] == "Accepted")

    def tell_start(self, connector: Connector, transaction: Transaction) -> None:
        payload = {
            "connectorId": connector.number,
            "idTag": transaction.token,
            "meterStart": round(transaction.meter_start_wh),
            "timestamp": utc_text(transaction.start_utc_s),
        }

        def answered(answer: dict[str, Any]) -> None:
            transaction.number = int(answer["transactionId"])
            if not self.is_authorized(answer) and connector.transaction is transaction:
                self.end(connector, "DeAuthorized")

        self.link.post("StartTransaction", lambda: payload, keep=True, on_answer=answered)

    def tell_sample(self, connector: Connector, transaction: Transaction) -> None:
        values = self._meter_value(connector, "Sample.Periodic")

        def payload() -> dict[str, Any] | None:
            if transaction.number is None:  # the start was never answered
                return None
            return {"connectorId": connector.number, "transactionId": transaction.number, "meterValue": [values]}

        self.link.post("MeterValues", payload, keep=True, sample=True)

    def tell_state(self, connector: Connector, transaction: Transaction) -> None:
        """OCPP 1.6 tells the charging state by StatusNotification alone."""

    def tell_stop(self, connector: Connector, transaction: Transaction, reason: str) -> None:
        stopped = {
            "meterStop": round(connector.point.register_wh),
            "timestamp": utc_text(self.utc_s()),
            "reason": reason,
            "idTag": transaction.token,
        }
        self.link.post(
            "StopTransaction",
            lambda: None if transaction.number is None else stopped | {"transactionId": transaction.number},
            keep=True,
        )

    def profile_transaction_id(self, transaction: Transaction | None) -> str | None:
        return None if transaction is None or transaction.number is None else str(transaction.number)

    def _meter_value(self, connector: Connector, context: str) -> dict[str, Any]:
        wanted = self.settings["MeterValuesSampledData"].split(",")
        values = [
            {"value": f"{value:.2f}", "context": context, "measurand": measurand, "unit": unit}
            | ({"phase": phase} if phase else {})
            for measurand, phase, value, unit in sampled(connector, self.voltage_v)
            if measurand in wanted
        ]
        return {"timestamp": utc_text(self.utc_s()), "sampledValue": values}

    # ---- calls from the CSMS --------------------------------------------------------------------------------------
    def handle(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        match action:
            case "SetChargingProfile":
                return {"status": self._set_profile(int(payload["connectorId"]), payload["csChargingProfiles"])}
            case "ClearChargingProfile":
                return {"status": "Accepted" if self._clear_profiles(payload) else "Unknown"}
            case "GetCompositeSchedule":
                return self._composite(payload)
            case "ChangeConfiguration":
                return {"status": self._change_setting(payload["key"], payload["value"])}
            case "GetConfiguration":
                known = self.settings | self.read_only | {"NumberOfConnectors": str(len(self.connectors))}
                keys = payload.get("key") or list(known)
                return {
                    "configurationKey": [
                        {"key": k, "readonly": k not in self.settings, "value": known[k]} for k in keys if k in known
                    ],
                    "unknownKey": [k for k in keys if k not in known],
                }
            case "RemoteStartTransaction":
                return {"status": self._remote_start(payload)}
            case "RemoteStopTransaction":
                for connector in self.connectors.values():
                    running = connector.transaction
                    if running is not None and running.number == payload["transactionId"]:
                        self.later(self.end, connector, "Remote")
                        return {"status": "Accepted"}
                return {"status": "Rejected"}
            case "TriggerMessage":
                return {"status": self._trigger(payload["requestedMessage"], payload.get("connectorId"))}
            case "Reset":
                self.later(self.reset)
                return {"status": "Accepted"}
            case "ChangeAvailability" | "ClearCache":
                return {"status": "Accepted"}
            case "UnlockConnector":
                return {"status": "NotSupported"}
            case "DataTransfer":
                return {"status": "UnknownVendorId"}
        raise Refused("NotImplemented", f"{action} is not known here")

    def _set_profile(self, number: int, data: dict[str, Any]) -> str:
        purpose = PURPOSES[data["chargingProfilePurpose"]]
        connector = self.connectors.get(number)
        if (number != 0 and connector is None) or (purpose == MAX and number != 0):
            return "Rejected"
        if purpose == TX:
            running = connector.transaction if connector else None
            named = data.get("transactionId")
            if running is None or (named is not None and running.number is not None and named != running.number):
                return "Rejected"
        before_a = self.limits_now()
        profile = parse_profile(number, data, self.utc_s())
        if not self.takes(profile) or not self.store.install(profile, same_place_replaces=True):
            return "Rejected"
        self.switch_phases(profile)
        self.limits_changed(before_a)
        return "Accepted"

    def _clear_profiles(self, payload: dict[str, Any]) -> int:
        purpose = payload.get("chargingProfilePurpose")

        def matches(p: Profile) -> bool:
            if "id" in payload:
                return bool(p.profile_id == payload["id"])
            return bool(
                payload.get("connectorId") in {None, p.evse_id}
                and (purpose is None or p.purpose == PURPOSES[purpose])
                and payload.get("stackLevel") in {None, p.stack_level}
            )

        before_a = self.limits_now()
        cleared = self.store.clear(matches)
        if cleared:
            self.limits_changed(before_a)
        return cleared

    def _composite(self, payload: dict[str, Any]) -> dict[str, Any]:
        number, unit = int(payload["connectorId"]), payload.get("chargingRateUnit", "A")
        if number not in self.connectors:
            return {"status": "Rejected"}
        start_utc_s, periods = self.composite(number, float(payload["duration"]), unit)
        return {
            "status": "Accepted",
            "connectorId": number,
            "scheduleStart": utc_text(start_utc_s),
            "chargingSchedule": {
                "duration": payload["duration"],
                "chargingRateUnit": unit,
                "chargingSchedulePeriod": [{"startPeriod": s, "limit": v, "numberPhases": n} for s, v, n in periods],
            },
        }

    def _change_setting(self, key: str, value: str) -> str:
        if key in self.read_only:
            return "Rejected"
        if key not in self.settings:
            return "NotSupported"
        if key in {"MeterValueSampleInterval", "HeartbeatInterval"}:
            if not value.isdigit():
                return "Rejected"
            if key == "HeartbeatInterval":
                self.link.heartbeat_s = float(value)
            else:
                self.meter_interval_s = float(value) or float("inf")
        self.settings[key] = value
        return "Accepted"

    def _remote_start(self, payload: dict[str, Any]) -> str:
        free = [c for c in self.connectors.values() if c.plugged and c.transaction is None]
        chosen = [c for c in free if payload.get("connectorId") in {None, c.number}]
        if not chosen:
            return "Rejected"

        def start() -> None:
            if self.begin(chosen[0], payload["idTag"]) and "chargingProfile" in payload:
                self._set_profile(chosen[0].number, payload["chargingProfile"])

        self.later(start)
        return "Accepted"

    def _trigger(self, message: str, number: int | None) -> str:
        chosen = [c for c in self.connectors.values() if number in {None, 0, c.number}]
        match message:
            case "BootNotification":
                self.later(self.link.send_boot)
            case "Heartbeat":
                self.later(self.link.post, "Heartbeat", dict)
            case "StatusNotification":
                for connector in chosen:
                    self.later(self.tell_status, connector)
            case "MeterValues":
                for connector in chosen:
                    self.later(self._send_values, connector)
            case _:
                return "NotImplemented"
        return "Accepted"

    def _send_values(self, connector: Connector) -> None:
        payload: dict[str, Any] = {
            "connectorId": connector.number,
            "meterValue": [self._meter_value(connector, "Trigger")],
        }
        if connector.transaction is not None and connector.transaction.number is not None:
            payload["transactionId"] = connector.transaction.number
        self.link.post("MeterValues", lambda: payload)
