"""Stations of two other makes (``ocpp``, ``ocpp-rpc``) that take limits as a test says, over real sockets."""

import contextlib
import itertools
from types import SimpleNamespace

from ocpp.exceptions import NotSupportedError
from ocpp.routing import on
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp.v201 import call_result as result201

from tests.adapters.ocpp_peers import Station16, Station201, stamp, station
from tests.e2e.strict_peers import Refused, side

CALL_ERROR = "CALLERROR"
"""As an answer to a limit."""


class Habits:
    """How a station takes limits, and what it was sent.

    Attributes:
        answer: To each SetChargingProfile.
        tells_schedule: It tells a composite schedule, in which its fallback follows the live limit.
        limits: (purpose, amount), in order.
    """

    def __init__(self):
        self.answer, self.tells_schedule, self.limits = "Accepted", False, []

    def take(self, purpose, schedule):
        schedule = schedule[0] if isinstance(schedule, list) else schedule
        periods = schedule.get("chargingSchedulePeriod") or schedule["charging_schedule_period"]
        self.limits.append((purpose, float(periods[0]["limit"])))
        return self.answer

    def count(self, purpose, amount):
        return self.limits.count((purpose, amount))

    def steps(self):
        """(start, limit) of its composite schedule."""
        live = [amount for purpose, amount in self.limits if purpose == "TxProfile"]
        return [(0, live[-1]), (115, 6.0)] if live else [(0, 6.0)]


class _Odd16(Station16):
    @on("SetChargingProfile")
    def on_profile(self, cs_charging_profiles, **_):
        profile = cs_charging_profiles
        status = self.habits.take(profile["charging_profile_purpose"], profile["charging_schedule"])
        if status == CALL_ERROR:
            raise NotSupportedError
        return result16.SetChargingProfile(status=status)

    @on("GetConfiguration")
    def on_asked(self, key=(), **_):
        return result16.GetConfiguration(configuration_key=[], unknown_key=list(key))

    @on("GetCompositeSchedule")
    def on_schedule(self, **_):
        if not self.habits.tells_schedule:
            return result16.GetCompositeSchedule(status="Rejected")
        periods = [{"start_period": at, "limit": amps} for at, amps in self.habits.steps()]
        told = {"charging_rate_unit": "A", "charging_schedule_period": periods}
        return result16.GetCompositeSchedule(status="Accepted", connector_id=1, charging_schedule=told)

    async def state(self, word):
        await self.call(call16.StatusNotification(connector_id=1, error_code="NoError", status=word))


class _Odd201(Station201):
    @on("SetChargingProfile")
    def on_profile(self, charging_profile, **_):
        profile = charging_profile
        status = self.habits.take(profile["charging_profile_purpose"], profile["charging_schedule"])
        if status == CALL_ERROR:
            raise NotSupportedError
        return result201.SetChargingProfile(status="Rejected" if status == "NotSupported" else status)

    @on("GetVariables")
    def on_variables_asked(self, get_variable_data):
        told = [{**asked, "attribute_status": "UnknownVariable"} for asked in get_variable_data]
        return result201.GetVariables(get_variable_result=told)

    @on("GetCompositeSchedule")
    def on_schedule(self, **_):
        if not self.habits.tells_schedule:
            return result201.GetCompositeSchedule(status="Rejected")
        periods = [{"start_period": at, "limit": amps} for at, amps in self.habits.steps()]
        told = {
            "evse_id": 1, "duration": 86400, "schedule_start": stamp(), "charging_rate_unit": "A",
            "charging_schedule_period": periods,
        }  # fmt: skip
        return result201.GetCompositeSchedule(status="Accepted", schedule=told)

    async def state(self, word):
        await self.event("Updated", "ChargingStateChanged", charging_state=word)


class OcppCharger(Habits):
    """On the ``ocpp`` library."""

    def __init__(self, who, version, address):
        super().__init__()
        self.who, self._address, self._kind = who, address, _Odd16 if version == "1.6" else _Odd201
        self._stack, self._peer = contextlib.AsyncExitStack(), SimpleNamespace(transaction=None)

    async def connect(self):
        before, kind = self._peer, self._kind
        self._peer = await self._stack.enter_async_context(station(kind, self._address, self.who))
        self._peer.habits, self._peer.transaction = self, before.transaction
        self._peer.sequence = getattr(before, "sequence", 0)

    async def close(self):
        await self._stack.aclose()

    def __getattr__(self, name):  # boot, start, meter, state: as the library's stations have them
        return getattr(self._peer, name)


class StrictCharger(Habits):
    """On ``ocpp-rpc``, in a node process that it may share with others."""

    def __init__(self, who, version, address, peers):
        super().__init__()
        self.who, self._version, self._address, self._peers = who, version, address, peers
        self._transaction, self._numbers = None, itertools.count()

    async def connect(self):
        await self._peers.do("connect", who=self.who, url=self._address, version=f"ocpp{self._version}")

    async def close(self):
        await self._peers.do("close", who=self.who)

    async def tell(self, action, **payload):
        return await self._peers.call(self.who, action, payload)

    async def boot(self):
        told = {"chargePointVendor": "V", "chargePointModel": "M"}
        if self._version != "1.6":
            told = {"reason": "PowerUp", "chargingStation": {"vendorName": "V", "model": "M"}}
        return (await self.tell("BootNotification", **told))["status"]

    async def start(self):
        if self._version == "1.6":
            await self.state("Preparing")
            begun = await self.tell("StartTransaction", connectorId=1, idTag="TAG", meterStart=1, timestamp=stamp())
            self._transaction = begun["transactionId"]
            await self.state("Charging")
            return
        self._transaction = f"tx-{self.who}"
        await self._event("Started", "Authorized", idToken={"idToken": "TAG", "type": "ISO14443"})

    async def _event(self, kind, trigger, state="Charging", **more):
        told = {"transactionId": self._transaction, "chargingState": state}
        await self.tell(
            "TransactionEvent", eventType=kind, timestamp=stamp(), triggerReason=trigger, seqNo=next(self._numbers),
            transactionInfo=told, evse={"id": 1, "connectorId": 1}, **more,
        )  # fmt: skip

    async def state(self, word):
        if self._version == "1.6":
            await self.tell("StatusNotification", connectorId=1, errorCode="NoError", status=word)
        else:
            await self._event("Updated", "ChargingStateChanged", word)

    async def meter(self, *amps):
        old = self._version == "1.6"
        sampled = [
            {"value": str(a) if old else a, "measurand": "Current.Import", "phase": f"L{i}"}
            for i, a in enumerate(amps, 1)
        ]
        values = [{"timestamp": stamp(), "sampledValue": sampled}]
        if old:
            await self.tell("MeterValues", connectorId=1, transactionId=self._transaction, meterValue=values)
        else:
            await self._event("Updated", "MeterValuePeriodic", meterValue=values)

    def says(self, action, payload):
        """Its answer to a CALL."""
        old = self._version == "1.6"
        match action:
            case "SetChargingProfile":
                profile = payload["csChargingProfiles" if old else "chargingProfile"]
                status = self.take(profile["chargingProfilePurpose"], profile["chargingSchedule"])
                if status == CALL_ERROR:
                    return Refused("NotSupported")
                return {"status": status if old or status != "NotSupported" else "Rejected"}
            case "GetCompositeSchedule" if self.tells_schedule:
                periods = [{"startPeriod": at, "limit": amps} for at, amps in self.steps()]
                told = {"chargingRateUnit": "A", "chargingSchedulePeriod": periods}
                if old:
                    return {"status": "Accepted", "connectorId": 1, "chargingSchedule": told}
                told |= {"evseId": 1, "duration": 86400, "scheduleStart": stamp()}
                return {"status": "Accepted", "schedule": told}
            case "GetConfiguration":
                return {"configurationKey": [], "unknownKey": payload["key"]}
            case "GetVariables":
                asked = payload["getVariableData"]
                return {"getVariableResult": [{**data, "attributeStatus": "UnknownVariable"} for data in asked]}
            case "SetVariables":
                told = [{k: d[k] for k in ("component", "variable")} for d in payload["setVariableData"]]
                return {"setVariableResult": [{**each, "attributeStatus": "Accepted"} for each in told]}
            case "GetChargingProfiles":
                return {"status": "NoProfiles"}
            case "ChangeConfiguration":
                return {"status": "Accepted"}
            case "ClearChargingProfile":
                return {"status": "Unknown"}
            case "TriggerMessage":
                return {"status": "NotImplemented"}
            case _:
                return {"status": "Rejected"}


@contextlib.asynccontextmanager
async def chargers(make, version, address, names):
    """Stations of one make, by name, not connected yet; what strict validation objects to fails in the end."""
    async with contextlib.AsyncExitStack() as stack:
        made = {}
        if make == "ocpp":
            made |= {name: OcppCharger(name, version, address) for name in names}
            for one in made.values():
                stack.push_async_callback(one.close)
            yield made
            return
        peers = await stack.enter_async_context(side(lambda who, action, payload: made[who].says(action, payload)))
        made |= {name: StrictCharger(name, version, address, peers) for name in names}
        yield made
        assert peers.faults == []
