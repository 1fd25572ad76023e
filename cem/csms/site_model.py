"""The device model of the site's own station: component LocalController, the tree of zones, and what may be set.

OCPP 2.0.1 Part 2 appendices: standard components and variables where there are any; a zone is component
``ChargingZone``, its instance the zone's id. In 1.6 the same are configuration keys.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cem.csms.metering import items, number
from cem.csms.parsing import member, words
from cem.csms.profile_reading import HIGHEST_STACK_LEVEL, MOST_PERIODS
from cem.csms.profile_store import MOST_PROFILES
from cem.csms.site_picture import SiteTold, ZoneTold

PAGE = 50
"""Variables in one report (DeviceDataCtrlr ItemsPerMessage)."""
SHORTEST_S, LONGEST_S = 1, 86_400


@dataclass(slots=True)
class Settings:
    """What a CSMS may set.

    Attributes:
        heartbeat_s: Between heartbeats.
        meter_s: Between meter values; 0: none.
        significance_percent: By how much a limit must change to be told again.
    """

    heartbeat_s: float = 60
    meter_s: float = 10
    significance_percent: float = 5


_NAMES = {
    ("ocppcommctrlr", "heartbeatinterval"): "heartbeat_s",
    ("aligneddatactrlr", "interval"): "meter_s",
    ("sampleddatactrlr", "txupdatedinterval"): "meter_s",
    ("smartchargingctrlr", "limitchangesignificance"): "significance_percent",
}
_KEYS_16 = {
    "heartbeatinterval": "heartbeat_s",
    "clockaligneddatainterval": "meter_s",
    "metervaluesampleinterval": "meter_s",
}


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable; ``writable`` and ``readable`` are its mutability."""

    component: str
    name: str
    value: str
    kind: str = "string"
    component_instance: str | None = None
    instance: str | None = None
    unit: str | None = None
    writable: bool = False
    readable: bool = True

    def named(self) -> dict[str, Any]:
        """Component and variable as messages name them."""
        component: dict[str, Any] = {"name": self.component}
        if self.component_instance is not None:
            component["instance"] = self.component_instance
        variable: dict[str, Any] = {"name": self.name}
        if self.instance is not None:
            variable["instance"] = self.instance
        return {"component": component, "variable": variable}

    def matches(self, component: Any, variable: Any) -> bool:
        """Whether a message names this one; names know no case (2.0.1 Part 2, 4.1 of appendix 1)."""
        return (
            self._component(component)
            and _same(member(variable, "name"), self.name)
            and member(variable, "instance") == self.instance
        )

    def _component(self, component: Any) -> bool:
        return (
            _same(member(component, "name"), self.component)
            and member(component, "instance") == self.component_instance
            and member(component, "evse") is None
        )


def _same(told: Any, name: str) -> bool:
    return isinstance(told, str) and told.lower() == name.lower()


def variables(settings: Settings, told: SiteTold, identity: str, about: Mapping[str, str]) -> list[Variable]:
    """The whole device model.

    Args:
        settings: What was set.
        told: The site.
        identity: Ours.
        about: Vendor, model and firmware version.
    """
    found = [
        Variable("LocalController", "Enabled", "true", "boolean"),
        Variable("LocalController", "Available", "true", "boolean"),
        Variable("LocalController", "VendorName", about["vendor"]),
        Variable("LocalController", "Model", about["model"]),
        Variable("LocalController", "FirmwareVersion", about["version"]),
        Variable("SecurityCtrlr", "Identity", identity),
        Variable("SecurityCtrlr", "BasicAuthPassword", "", readable=False),
        Variable(
            "OCPPCommCtrlr", "HeartbeatInterval", f"{settings.heartbeat_s:g}", "integer", unit="s", writable=True
        ),
        Variable("AlignedDataCtrlr", "Interval", f"{settings.meter_s:g}", "integer", unit="s", writable=True),
        Variable("SampledDataCtrlr", "TxUpdatedInterval", f"{settings.meter_s:g}", "integer", unit="s", writable=True),
        Variable("AlignedDataCtrlr", "Measurands", "Current.Import,Current.Export", "MemberList"),
        Variable("SmartChargingCtrlr", "Enabled", "true", "boolean"),
        Variable("SmartChargingCtrlr", "Available", "true", "boolean"),
        Variable("SmartChargingCtrlr", "RateUnit", "A,W", "MemberList"),
        Variable("SmartChargingCtrlr", "ProfileStackLevel", str(HIGHEST_STACK_LEVEL), "integer"),
        Variable("SmartChargingCtrlr", "PeriodsPerSchedule", str(MOST_PERIODS), "integer"),
        Variable("SmartChargingCtrlr", "Entries", str(MOST_PROFILES), "integer", instance="ChargingProfiles"),
        Variable(
            "SmartChargingCtrlr", "LimitChangeSignificance", f"{settings.significance_percent:g}", "decimal",
            unit="Percent", writable=True,
        ),
        Variable("SmartChargingCtrlr", "NotifyChargingLimitWithSchedules", "true", "boolean"),
        Variable("SmartChargingCtrlr", "ExternalControlSignalsEnabled", "true", "boolean"),
        *(
            Variable("DeviceDataCtrlr", "ItemsPerMessage", str(PAGE), "integer", instance=instance)
            for instance in ("GetReport", "GetVariables", "SetVariables")
        ),
    ]  # fmt: skip
    return found + [variable for zone in told.zones for variable in _zone(zone)]


def _zone(zone: ZoneTold) -> Iterable[Variable]:
    def one(
        name: str, value: str, kind: str = "decimal", instance: str | None = None, unit: str | None = "A"
    ) -> Variable:
        return Variable("ChargingZone", name, value, kind, zone.zone_id, instance, unit)

    yield one("RatedCurrent", f"{zone.rating_a:g}")
    if zone.parent_id is not None:
        yield one("ParentZone", zone.parent_id, "string", unit=None)
    yield one("LimitSource", zone.limit_source, "string", unit=None)
    if zone.limit_w is not None:
        yield one("PowerLimit", f"{zone.limit_w:g}", unit="W")
    for name, amps in (("CurrentLimit", zone.limit_a), ("Current", zone.measured_a), ("Granted", zone.granted_a)):
        for index, value in enumerate(amps or (), 1):
            if value is not None:  # what nobody knows has no variable
                yield one(name, f"{value:g}", instance=f"L{index}")


# -- 2.x ------------------------------------------------------------------------------------------------------------


def get_variables(model: Sequence[Variable], payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results of GetVariables, in the order asked."""
    return [_got(model, asked) for asked in items(payload.get("getVariableData"))]


def _got(model: Sequence[Variable], asked: Mapping[str, Any]) -> dict[str, Any]:
    component, name, attribute = asked.get("component"), asked.get("variable"), asked.get("attributeType")
    told = {key: asked[key] for key in ("component", "variable", "attributeType") if key in asked}
    found = next((v for v in model if v.matches(component, name)), None)
    if found is None:
        known = any(v.matches(component, v.named()["variable"]) for v in model)
        return told | {"attributeStatus": "UnknownVariable" if known else "UnknownComponent"}
    if attribute not in {None, "Actual"}:
        return told | {"attributeStatus": "NotSupportedAttributeType"}
    if not found.readable:
        return told | {"attributeStatus": "Rejected"}  # B06.FR.09: write-only
    return told | {"attributeStatus": "Accepted", "attributeValue": found.value}


def set_variables(model: Sequence[Variable], settings: Settings, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Sets what may be set; the results in the order asked."""
    return [_set(model, settings, asked) for asked in items(payload.get("setVariableData"))]


def _set(model: Sequence[Variable], settings: Settings, asked: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: asked[key] for key in ("component", "variable", "attributeType") if key in asked}
    read = _got(model, asked)["attributeStatus"]
    found = next((v for v in model if v.matches(asked.get("component"), asked.get("variable"))), None)
    if found is None or read == "NotSupportedAttributeType":
        return told | {"attributeStatus": read}
    key = _NAMES.get((found.component.lower(), found.name.lower()))
    taken = key is not None and _take(settings, key, asked.get("attributeValue"))
    return told | {"attributeStatus": "Accepted" if taken else "Rejected"}


def _take(settings: Settings, key: str, told: Any) -> bool:
    value = number(told)
    if value is None:
        return False
    least = {"meter_s": 0, "heartbeat_s": SHORTEST_S, "significance_percent": 0}[key]
    most = 100 if key == "significance_percent" else LONGEST_S
    if not least <= value <= most or (key != "significance_percent" and value != int(value)):
        return False
    setattr(settings, key, value)
    return True


def reports(found: Sequence[Variable], request_id: int, at: str) -> list[dict[str, Any]]:
    """NotifyReport payloads, in pages."""
    pages = [found[i : i + PAGE] for i in range(0, len(found), PAGE)]
    return [
        {
            "requestId": request_id,
            "generatedAt": at,
            "seqNo": index,
            "tbc": index < len(pages) - 1,
            "reportData": [_reported(variable) for variable in page],
        }
        for index, page in enumerate(pages)
    ]


def _reported(variable: Variable) -> dict[str, Any]:
    mutability = "WriteOnly" if not variable.readable else "ReadWrite" if variable.writable else "ReadOnly"
    attribute: dict[str, Any] = {"type": "Actual", "mutability": mutability}
    if variable.readable:
        attribute["value"] = variable.value
    characteristics: dict[str, Any] = {"dataType": variable.kind, "supportsMonitoring": False}
    if variable.unit is not None:
        characteristics["unit"] = variable.unit
    return variable.named() | {"variableAttribute": [attribute], "variableCharacteristics": characteristics}


def select(model: Sequence[Variable], payload: Mapping[str, Any]) -> list[Variable]:
    """What GetReport asks for; criteria on states select what is there and enabled, which all of ours is."""
    criteria = payload.get("componentCriteria")
    if isinstance(criteria, list) and criteria and set(criteria) <= {"Problem"}:
        return []
    asked = payload.get("componentVariable")
    if not isinstance(asked, list):
        return list(model)
    return [v for v in model if any(_asked(v, one) for one in items(asked))]


def _asked(variable: Variable, asked: Mapping[str, Any]) -> bool:
    component = asked.get("component")
    named = words(member(component, "instance"))
    if not _same(member(component, "name"), variable.component) or named not in {None, variable.component_instance}:
        return False
    wanted = asked.get("variable")
    instance = words(member(wanted, "instance"))
    return wanted is None or (_same(member(wanted, "name"), variable.name) and instance in {None, variable.instance})


# -- 1.6 ------------------------------------------------------------------------------------------------------------


def keys_16(settings: Settings, told: SiteTold) -> list[dict[str, Any]]:
    """Everything that GetConfiguration tells."""
    found = [
        ("SupportedFeatureProfiles", "Core,SmartCharging,RemoteTrigger", True),
        ("NumberOfConnectors", "0", True),
        ("HeartbeatInterval", f"{settings.heartbeat_s:g}", False),
        ("ClockAlignedDataInterval", f"{settings.meter_s:g}", False),
        ("MeterValueSampleInterval", f"{settings.meter_s:g}", False),
        ("MeterValuesSampledData", "Current.Import,Current.Export", True),
        ("ChargeProfileMaxStackLevel", str(HIGHEST_STACK_LEVEL), True),
        ("ChargingScheduleAllowedChargingRateUnit", "Current,Power", True),
        ("ChargingScheduleMaxPeriods", str(MOST_PERIODS), True),
        ("MaxChargingProfilesInstalled", str(MOST_PROFILES), True),
    ]
    for zone in told.zones:
        for variable in _zone(zone):
            where = f".{variable.instance}" if variable.instance is not None else ""
            key = f"{zone.zone_id}.{variable.name}{where}"
            if len(key) <= 50:  # CiString50Type
                found.append((key, variable.value, True))
    return [{"key": key, "readonly": fixed, "value": value} for key, value, fixed in found]


def get_configuration(known: Sequence[Mapping[str, Any]], payload: Mapping[str, Any]) -> dict[str, Any]:
    """GetConfiguration: what was asked for, or everything."""
    asked = payload.get("key")
    if not isinstance(asked, list) or not asked:
        return {"configurationKey": [dict(entry) for entry in known]}
    names = {str(entry["key"]).lower(): entry for entry in known}
    return {
        "configurationKey": [dict(names[str(key).lower()]) for key in asked if str(key).lower() in names],
        "unknownKey": [str(key)[:50] for key in asked if str(key).lower() not in names],
    }


def change_configuration(known: Sequence[Mapping[str, Any]], settings: Settings, payload: Mapping[str, Any]) -> str:
    """ChangeConfiguration: its status."""
    key = str(payload.get("key")).lower()
    if key not in {str(entry["key"]).lower() for entry in known}:
        return "NotSupported"
    name = _KEYS_16.get(key)
    return "Accepted" if name is not None and _take(settings, name, payload.get("value")) else "Rejected"
