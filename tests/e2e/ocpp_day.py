"""A day of stations and their CSMS through the local CSMS: every message of the standard, and time that flies between.

Both outer sides validate strictly. What passes through must arrive as it was sent, and its answer must come back as it
was given; what is answered by the local CSMS itself must be valid for the side that hears it.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.adapters.ocpp_peers import Local, until
from tests.e2e.ocpp_examples import HOST, STAMP, down, example, up
from tests.e2e.strict_peers import Refused, Side

EITHER = object()
"""As ``arrives``: the policy of the site decides, or the pace; only what is answered is judged."""
STEP_S = 5.0
BAD = "BLOCKED"
ANSWERED_HERE = {
    "SetChargingProfile", "ClearChargingProfile", "GetCompositeSchedule", "GetChargingProfiles", "UpdateDynamicSchedule",
    "UsePriorityCharging", "SetNetworkProfile",
}  # fmt: skip
SIGNED = 'OCMF|{"FV":"1.0","GI":"ÄÖÜ","GS":"1","PG":"T1","RD":[{"TM":"%s S","RV":%.3f,"RU":"kWh"}]}|{"SD":"3045"}'


class Flying:
    """A clock that goes with the real one and can be moved on."""

    def __init__(self) -> None:
        self._flown_s = 0.0

    def fly(self, seconds: float) -> None:
        self._flown_s += seconds

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time() + self._flown_s

    def utc(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._flown_s)

    def stamp(self) -> str:
        return self.utc().isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Charger:
    """One station and what its CSMS does to it."""

    def __init__(self, day: "Day", who: str, version: str, *, picky: bool) -> None:
        self.who, self.version, self.picky = who, version, picky
        self._day = day
        self._count = itertools.count(1)
        self._energy_wh = 1000
        self.transaction: Any = None
        self.started = self.stopped = 0
        self.refused_here: Counter[str] = Counter()

    @property
    def is_16(self) -> bool:
        return self.version == "1.6"

    def payload(self, action: str, variant: int, **given: Any) -> dict[str, Any]:
        """An example with the time of day; the schemas' own values where nothing else is given."""
        made = example(self.version, action, variant, **given)
        return json.loads(json.dumps(made).replace(STAMP, self._day.clock.stamp()))

    # -- up ---------------------------------------------------------------------------------------------------------

    async def tell(self, action: str, payload: dict[str, Any], arrives: Any = "as sent") -> Any:
        """One CALL of the station; gives its answer."""
        day = self._day
        before = len(day.cloud.calls) if day.cloud_there else 0
        try:
            result = await day.stations.call(self.who, action, payload)
        except Refused as refused:
            result = refused
        if arrives is EITHER or not day.cloud_there:
            if isinstance(result, Refused):
                self.refused_here[action] += 1
                assert result.code == "NotImplemented", (self.who, action, result)
            return result
        seen = [call for call in day.cloud.calls[before:] if call[:3] == (self.who, action, payload)]
        assert len(seen) == 1, (self.who, action, payload, result)
        assert result == seen[0][3], (self.who, action, result, seen)
        return result

    async def everything_up(self, variant: int) -> None:
        """Every message of the version, but for those that belong to transactions."""
        for action in up(self.version):
            if action in {"StartTransaction", "StopTransaction"}:
                continue
            given: dict[str, Any] = {}
            if action == "TransactionEvent":
                given = {"seqNo": next(self._count), "eventType": "Updated"}
            if action in {"Authorize", "TransactionEvent"} and not self.is_16:
                given["idToken"] = {"idToken": "TAG", "type": "ISO14443"}
            if action == "MeterValues" and self.is_16:
                given["transactionId"] = None
            # samples are thinned, and the certificate of the station's leg is no concern of the cloud's
            ours = action in {"MeterValues", "TransactionEvent", "SignCertificate"}
            arrives = EITHER if ours else "as sent"
            await self.tell(action, self.payload(action, variant, **given), arrives)

    async def boot(self) -> None:
        result = await self.tell("BootNotification", self.payload("BootNotification", 0))
        assert result["status"] == "Accepted"
        await self._status("Available")

    async def _status(self, word: str) -> None:
        given: dict[str, Any] = {"connectorId": 1, "timestamp": self._day.clock.stamp()}
        if self.is_16:
            given |= {"status": word, "errorCode": "NoError"}
        else:
            given |= {"evseId": 1, "connectorStatus": "Available" if word == "Available" else "Occupied"}
        await self.tell("StatusNotification", example(self.version, "StatusNotification", 1, **given))

    async def start(self, tag: str = "TAG") -> None:
        await self._status("Preparing")
        token = {"idTag": tag} if self.is_16 else {"idToken": {"idToken": tag, "type": "ISO14443"}}
        await self.tell("Authorize", example(self.version, "Authorize", 1, **token))
        at = self._day.clock.stamp()
        if self.is_16:
            payload = {"connectorId": 1, **token, "meterStart": self._energy_wh, "timestamp": at}
            self.transaction = (await self.tell("StartTransaction", payload))["transactionId"]
            await self._status("Charging")
        else:
            self.transaction = f"{self.who}-{at}"
            await self._event("Started", "Authorized", "Transaction.Begin", **token)
        self.started += 1

    async def sample(self) -> None:
        self._energy_wh += 250
        if self.is_16:
            values = self._values("Sample.Periodic")
            payload = {"connectorId": 1, "transactionId": self.transaction, "meterValue": values}
            await self.tell("MeterValues", payload, EITHER)
        else:
            await self._event("Updated", "MeterValuePeriodic", "Sample.Periodic")

    async def stop(self) -> None:
        if self.is_16:
            data = self._values("Transaction.Begin") + self._values("Transaction.End")
            mapped = {
                "transactionId": self.transaction,
                "meterStop": self._energy_wh,
                "timestamp": self._day.clock.stamp(),
            }
            await self.tell(
                "StopTransaction",
                {**mapped, "idTag": "TAG", "reason": "EVDisconnected", "transactionData": data},
                EITHER,
            )
            await self._status("Finishing")
        else:
            await self._event("Ended", "EVDeparted", "Transaction.End")
        self.stopped += 1
        self.transaction = None
        await self._status("Available")

    async def stop_by_cloud(self) -> None:
        """The CSMS ends the transaction, in 1.6 by an id that may be its own alone."""
        known, action = self.transaction, "RequestStopTransaction"
        if self.is_16:
            action = "RemoteStopTransaction"
            known = [
                a["transactionId"] for w, c, _, a in self._day.cloud.calls if (w, c) == (self.who, "StartTransaction")
            ][-1]
            assert known != self.transaction, "began here, so the ids differ"
        await self.ask(action, {"transactionId": known}, {"transactionId": self.transaction})
        await self.sample()
        await self.stop()

    def _values(self, context: str) -> list[dict[str, Any]]:
        at, energy = self._day.clock.stamp(), self._energy_wh
        signed = SIGNED % (at, energy / 1000)
        currents = [("Current.Import", f"L{n}", "A", 9.5 + n / 10) for n in (1, 2, 3)]
        register = ("Energy.Active.Import.Register", None, "Wh", energy)
        told = []
        for measurand, phase, unit, value in [*currents, register]:
            sampled: dict[str, Any] = {"context": context, "measurand": measurand, "location": "Outlet"}
            sampled |= {} if phase is None else {"phase": phase}
            if self.is_16:
                told.append({**sampled, "value": str(value), "format": "Raw", "unit": unit})
            else:
                told.append({**sampled, "value": value, "unitOfMeasure": {"unit": unit, "multiplier": 0}})
        if context != "Sample.Periodic":
            if self.is_16:
                told.append({"value": signed, "format": "SignedData", "context": context})
            else:
                meter = {"signedMeterData": signed, "encodingMethod": "OCMF"}
                told[-1]["signedMeterValue"] = {**meter, "signingMethod": "", "publicKey": ""}
        return [{"timestamp": at, "sampledValue": told}]

    async def _event(self, kind: str, trigger: str, context: str, **token: Any) -> None:
        info = {"transactionId": self.transaction, "chargingState": "Idle" if kind == "Ended" else "Charging"}
        payload = {
            "eventType": kind, "timestamp": self._day.clock.stamp(), "triggerReason": trigger,
            "seqNo": next(self._count), "transactionInfo": info, "evse": {"id": 1, "connectorId": 1},
            "meterValue": self._values(context), **token,
        }  # fmt: skip
        await self.tell("TransactionEvent", payload, EITHER if kind == "Updated" else "as sent")

    # -- down -------------------------------------------------------------------------------------------------------

    async def ask(
        self, action: str, payload: dict[str, Any], arrives: Any = "as sent", *, altered: bool = False
    ) -> Any:
        """One CALL of the CSMS.

        Args:
            action: Which.
            payload: Of it.
            arrives: What the station must see of it; ``None``: nothing.
            altered: The answer may be another than the station's.
        """
        day = self._day
        before = len(day.stations.calls)
        try:
            result = await day.cloud.call(self.who, action, payload)
        except Refused as refused:
            result = refused
        if arrives is EITHER:
            day.relayed[self.who, action] += 1
            return result
        wanted = payload if arrives == "as sent" else arrives
        calls = [call for call in day.stations.calls[before:] if call[:2] == (self.who, action)]
        seen = [call for call in calls if call[2] == wanted]
        if wanted is None:
            assert not any(call[2] == payload for call in calls), (self.who, action, payload)
            return result
        assert len(seen) == 1, (self.who, action, wanted, calls, result)
        assert altered or result == seen[0][3], (self.who, action, result, seen)
        day.relayed[self.who, action] += 1
        return result

    async def everything_down(self, variant: int) -> None:
        """Every command of the version."""
        for action in down(self.version):
            payload = self.payload(action, variant)
            match action:
                case "SetChargingProfile":
                    await self._profiles(variant)
                case _ if action in ANSWERED_HERE:
                    await self.ask(action, payload, None)
                case "RemoteStopTransaction" | "RequestStopTransaction" | "GetTransactionStatus":
                    named = {} if self.transaction is None else {"transactionId": self.transaction}
                    await self.ask(action, payload | named, EITHER)
                case "RemoteStartTransaction" | "RequestStartTransaction":
                    without = {key: value for key, value in payload.items() if key != "chargingProfile"}
                    if variant % 2 == 0:
                        payload = without | {"chargingProfile": self._profile(9, "TxProfile")}
                    await self.ask(action, payload, without)
                case "Reset" | "DeleteCertificate":
                    await self.ask(action, payload, EITHER)
                case "CertificateSigned" if not payload.get("certificateType", "").startswith("V2G"):
                    assert (await self.ask(action, payload, None))["status"] == "Rejected"
                case "InstallCertificate" if payload["certificateType"] in {
                    "CentralSystemRootCertificate",
                    "CSMSRootCertificate",
                }:
                    assert (await self.ask(action, payload, None))["status"] == "Rejected"
                case _:
                    await self.ask(action, payload)
        await self._settings()
        await self._elsewhere(variant)

    async def _settings(self) -> None:
        if self.is_16:
            for key, status in (("MeterValueSampleInterval", "Accepted"), ("AuthorizationKey", "Rejected")):
                told = await self.ask("ChangeConfiguration", {"key": key, "value": "900"}, None)
                assert told == {"status": status}
            await self.ask("GetConfiguration", {"key": ["MeterValueSampleInterval"]}, EITHER)
            return
        names = [("SampledDataCtrlr", "TxUpdatedInterval"), ("SecurityCtrlr", "BasicAuthPassword"), ("X", "Y")]
        data = [{"component": {"name": c}, "variable": {"name": v}, "attributeValue": "900"} for c, v in names]
        told = await self.ask("SetVariables", {"setVariableData": data}, {"setVariableData": data[2:]}, altered=True)
        assert [r["attributeStatus"] for r in told["setVariableResult"]] == ["Accepted", "Rejected", "Accepted"]
        asked = [{"component": d["component"], "variable": d["variable"]} for d in data]
        await self.ask("GetVariables", {"getVariableData": asked}, EITHER)

    async def _elsewhere(self, variant: int) -> None:
        """Firmware and logs are for allowed hosts only."""
        for action in ("UpdateFirmware", "SignedUpdateFirmware", "PublishFirmware", "GetDiagnostics", "GetLog"):
            if action in down(self.version):
                text = json.dumps(self.payload(action, variant)).replace(HOST, "elsewhere.example")
                await self.ask(action, json.loads(text), None)

    async def _profiles(self, variant: int) -> None:
        """The CSMS's own charging profiles, what it then reads of them, and none of it at the station."""
        await self.ask("SetChargingProfile", self.payload("SetChargingProfile", variant), None)
        most = "ChargePointMaxProfile" if self.is_16 else "ChargingStationMaxProfile"
        for number, purpose in enumerate((most, "TxDefaultProfile", "TxProfile"), 1):
            profile = self._profile(number, purpose)
            if purpose == "TxProfile" and self.transaction is not None:
                profile["transactionId"] = self.transaction
            await self._set_profile(0 if purpose == most else 1, profile, surely=purpose != "TxProfile")
        if self.version == "2.1":
            dynamic = self._profile(4, "TxDefaultProfile")
            del (
                dynamic["chargingSchedule"][0]["startSchedule"],
                dynamic["chargingSchedule"][0]["chargingSchedulePeriod"][1],
            )
            await self._set_profile(
                1, dynamic | {"chargingProfileKind": "Dynamic", "dynUpdateInterval": 60}, surely=True
            )
            update = {"chargingProfileId": 4, "scheduleUpdate": {"limit": 11.3}}
            assert (await self.ask("UpdateDynamicSchedule", update, None))["status"] == "Accepted"
        key = "connectorId" if self.is_16 else "evseId"
        for where, unit in itertools.product((0, 1, 7), ("A", "W")):
            await self.ask("GetCompositeSchedule", {key: where, "duration": 86400, "chargingRateUnit": unit}, None)
        if not self.is_16:
            await self.ask("GetChargingProfiles", {"requestId": variant, "chargingProfile": {}}, None)
        if variant % 4 == 0:  # else they stay
            assert await self.ask("ClearChargingProfile", {}, None) == {"status": "Accepted"}

    async def _set_profile(self, where: int, profile: dict[str, Any], *, surely: bool) -> None:
        keys = ("connectorId", "csChargingProfiles") if self.is_16 else ("evseId", "chargingProfile")
        told = await self.ask("SetChargingProfile", dict(zip(keys, (where, profile), strict=True)), None)
        assert told["status"] == "Accepted" or not surely, (self.who, profile, told)

    def _profile(self, number: int, purpose: str) -> dict[str, Any]:
        periods = [{"startPeriod": 0, "limit": 9.7}, {"startPeriod": 1800, "limit": 7.1, "numberPhases": 1}]
        schedule: dict[str, Any] = {"chargingRateUnit": "A", "chargingSchedulePeriod": periods}
        schedule["startSchedule"] = self._day.clock.stamp()
        profile = {"stackLevel": number, "chargingProfilePurpose": purpose, "chargingProfileKind": "Absolute"}
        if self.is_16:
            return {**profile, "chargingProfileId": number, "chargingSchedule": schedule}
        return {**profile, "id": number, "chargingSchedule": [{"id": number, **schedule}]}


class Day:
    """Everybody, and what each side says.

    Attributes:
        cloud_there: The CSMS can be reached.
        port: Where it listens.
        relayed: How often an action of it may have reached each station.
    """

    def __init__(self, clock: Flying, versions: dict[str, str], picky: set[str]) -> None:
        self.clock = clock
        self.chargers = {who: Charger(self, who, v, picky=who in picky) for who, v in versions.items()}
        self.cloud_there = True
        self.port = 0
        self.relayed: Counter[tuple[str, str]] = Counter()
        self._ids = itertools.count(5001)
        self._variants: Counter[tuple[str, str]] = Counter()
        self.stations: Side
        self.cloud: Side
        self.observer: Side
        self.local: Local

    # -- what is answered -------------------------------------------------------------------------------------------

    def cloud_says(self, who: str, action: str, payload: dict[str, Any]) -> Any:
        version = self.chargers[who].version
        at = self.clock.stamp()
        given: dict[str, Any] = {}
        good = {"status": "Accepted" if BAD not in str(payload.get("idTag", payload.get("idToken"))) else "Blocked"}
        match action:
            case "BootNotification":
                return {"status": "Accepted", "currentTime": at, "interval": 300}
            case "Heartbeat":
                return {"currentTime": at}
            case "Authorize" | "StartTransaction" | "StopTransaction" if version == "1.6":
                given["idTagInfo"] = {**good, "parentIdTag": "GROUP"}
            case "Authorize" | "TransactionEvent":
                given["idTokenInfo"] = good
        if action == "StartTransaction":
            given["transactionId"] = next(self._ids)
        return self._example(version, who, action, given)

    def station_says(self, who: str, action: str, payload: dict[str, Any]) -> Any:
        charger = self.chargers[who]
        match action:
            case "SetChargingProfile":
                profile = payload.get("csChargingProfiles") or payload["chargingProfile"]
                live = profile["stackLevel"] > 0 or profile["chargingProfilePurpose"] == "TxProfile"
                return {"status": "Rejected" if charger.picky and live else "Accepted"}
            case "ChangeConfiguration" if charger.picky:
                return {"status": "NotSupported"}
            case "TriggerMessage" if charger.picky:
                return {"status": "NotImplemented"}
            case "SetVariables":
                data = payload["setVariableData"]
                no = charger.picky and all(d["component"]["name"] == "SampledDataCtrlr" for d in data)
                told = {"attributeStatus": "UnknownVariable" if no else "Accepted"}
                results = [{**told, "component": d["component"], "variable": d["variable"]} for d in data]
                return {"setVariableResult": results}
            case "UnlockConnector" if charger.picky:
                return Refused("InternalError", "der Bolzen klemmt")
        return self._example(charger.version, who, action, {})

    def _example(self, version: str, who: str, action: str, given: dict[str, Any]) -> Any:
        """Other words of the answer's enumerations each time."""
        self._variants[who, action] += 1
        return example(version, action, self._variants[who, action], answer=True, **given)

    # -- what happens -----------------------------------------------------------------------------------------------

    async def together(self, what: Callable[[Charger], Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for charger in self.chargers.values():
                tasks.create_task(what(charger))

    async def fly(self, seconds: float) -> None:
        """Lets time pass, step by step."""
        server = self.local.server
        for number in range(int(seconds / STEP_S)):
            self.clock.fly(STEP_S)
            self.local.apply(**dict.fromkeys(self.chargers, 6.0 + (number % 97) * 0.1037))
            for link in server._links.values():
                link.do(link.session.tick)
            await until(self._quiet, 20)

    def _quiet(self) -> bool:
        """Nothing is on its way, but for what waits for a CSMS that is away: time that flies loses no answer."""
        stations = self.local.server.status()["stations"]
        if any(station["queue_down"] for station in stations):
            return False
        queues = [queue for station in stations for queue in station["queues"]]
        return not any(queue["waiting"] for queue in queues if self.cloud_there or queue["upstream"] != "cloud")

    async def join(self, charger: Charger) -> None:
        """The station connects."""
        version = f"ocpp{charger.version}"
        await self.stations.do("connect", who=charger.who, url=self.local.address, version=version)

    async def rejoin(self, charger: Charger) -> None:
        """The station's line breaks; it is back without a boot."""
        await self.stations.do("close", who=charger.who)
        await until(lambda: charger.who not in self.cloud.open)
        await self.join(charger)
        await until(lambda: charger.who in self.cloud.open)

    async def everything(self, variant: int) -> None:
        """Every message of both directions at once, at every station."""

        async def both(charger: Charger) -> None:
            await asyncio.gather(charger.everything_up(variant), charger.everything_down(variant))

        await self.together(both)

    async def session(self, samples: int, every_s: float = 20.0) -> None:
        """One transaction at each station."""
        await self.together(Charger.start)
        for _ in range(samples):
            await self.fly(every_s)
            await self.together(Charger.sample)
        await self.together(Charger.stop)

    async def outage(self, variant: int) -> None:
        """The CSMS goes away in a transaction, misses one, and comes back in a third whose token it rejects."""
        await self.together(Charger.start)
        self.cloud_there = False
        await self.cloud.do("close", who=None)
        await until(lambda: self.local.server.status()["upstream"]["lost"])
        await self.fly(60)
        await self.together(Charger.sample)
        await self.together(Charger.stop)
        await self.session(2)
        await self.together(lambda charger: charger.everything_up(variant))
        await self.together(lambda charger: charger.start(BAD))
        before = len(self.stations.calls)
        await self.cloud.do("listen", port=self.port)
        await until(lambda: len(self.cloud.open) == len(self.chargers), 60)
        await until(lambda: not any(s["journal"] or s["queue_up"] for s in self.local.server.status()["stations"]), 60)
        self.cloud_there = True
        stops = {"RemoteStopTransaction", "RequestStopTransaction"}

        def asked(charger: Charger) -> list[Any]:
            calls = self.stations.calls[before:]
            return [payload for who, action, payload, _ in calls if who == charger.who and action in stops]

        await until(lambda: all(asked(charger) for charger in self.chargers.values()))
        for charger in self.chargers.values():
            assert asked(charger) == [{"transactionId": charger.transaction}], (
                charger.who,
                asked(charger),
                charger.transaction,
            )
        await self.together(Charger.stop_by_cloud)
