"""What a CSMS above may not do to a station (fault C8): re-point it, re-credential it, or send it to strange hosts.

The station's leg ends here, so the cloud's credentials and addresses are not meant for it, and would take it off the
site's control. What is refused is answered in the station's place, told to people and put into the audit.
"""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from cem.csms.actions import Action, Emit, Persist
from cem.csms.frames import Frame, error, payload_text, result, with_value
from cem.csms.metering import items
from cem.csms.moment import Now
from cem.csms.pace import Pace
from cem.csms.parsing import member, words
from cem.csms.records import Noted
from cem.csms.settings import Settings

MOST_DELETABLE = 1000
RESETS, RESETS_WITHIN_S = 3.0, 600.0
MOST_PENDING = 64
_NAMES = {
    "authorizationkey", "basicauthpassword", "securityprofile", "identity", "networkconfigurationpriority",
    "activenetworkprofile", "chargepointid", "chargeboxid", "additionalrootcertificatecheck",
}  # fmt: skip
_NAME_PARTS = re.compile(
    r"url|uri(?![a-z])|endpoint|backend|backoffice|centralsystem|csms|serveraddress|serverhost|ocppserver|ocpphost|"
    r"ocppaddress|hostname|proxy|password|credential|networkprofile|networkconfig|apn"
)
_ADDRESS = re.compile(r"wss?\s*:\s*/|wss?%3a", re.IGNORECASE)
_FILES = {
    "UpdateFirmware": (("location",), ("firmware", "location")),
    "SignedUpdateFirmware": (("firmware", "location"),),
    "PublishFirmware": (("location",),),
    "GetDiagnostics": (("location",),),
    "GetLog": (("log", "remoteLocation"),),
}
_LEG_CERTIFICATES = {"CentralSystemRootCertificate", "CSMSRootCertificate"}
_HARMLESS_SIGNED = {"V2GCertificate", "V2G20Certificate"}
_GUARDED = {
    *_FILES, "ChangeConfiguration", "SetVariables", "SetNetworkProfile", "CertificateSigned", "InstallCertificate",
    "DeleteCertificate", "DataTransfer", "Reset", "GetConfiguration", "GetVariables", "GetInstalledCertificateIds",
}  # fmt: skip
_CONTENT_DOES_NOT_MATTER = {"DataTransfer", "Reset", "GetConfiguration", "GetVariables", "GetInstalledCertificateIds"}
_GUARDED_LOWER = {action.lower() for action in _GUARDED}


class _Refused(Exception):
    """Why; and the payload of the answer, or ``None`` where the message has no way to say no."""

    def __init__(self, why: str, payload: Mapping[str, Any] | None) -> None:
        super().__init__(why)
        self.payload = payload


class Filter:
    """One station's side of the policy.

    Args:
        station_id: Identity.
        allowed_hosts: Where firmware may come from and logs may go to.
        settings: What the cloud set that is kept here for it.
        out: Where actions go.
    """

    def __init__(self, station_id: str, allowed_hosts: Collection[str], settings: Settings, out: list[Action]) -> None:
        self._station_id = station_id
        self._allowed = {host.lower() for host in allowed_hosts}
        self._settings = settings
        self._out = out
        self._resets = Pace(RESETS / RESETS_WITHIN_S, RESETS, RESETS)
        self._deletable: set[str] = set()
        self._held_back: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
        self._made: dict[str, list[tuple[Any, Any]]] = {}

    def send(self, frame: Frame) -> bool:
        """Whether an unanswered message (2.1 SEND) may pass: commands in its clothes may not."""
        return frame.action.lower() not in _GUARDED_LOWER

    def answer(self, frame: Frame, now: Now) -> str | None:
        """Our answer in the station's place; ``None`` where the command may pass."""
        if frame.action not in _GUARDED:
            if frame.action.lower() in _GUARDED_LOWER:
                return error(frame.message_id, "NotImplemented", f"there is no action {frame.action[:40]}")
            return None
        try:
            payload = self._judge(frame, now)
        except _Refused as refused:
            text = f"{self._station_id}: the cloud's {frame.action} was refused: {refused}"
            self._out.append(Persist((Noted(self._station_id, now.utc, "cloud_refused", text),)))
            self._out.append(Emit("cloud_refused", text))
            if refused.payload is None:
                return error(frame.message_id, "SecurityError", "refused by the policy of the site")
            return result(frame.message_id, refused.payload)
        return None if payload is None else result(frame.message_id, payload)

    def _judge(self, frame: Frame, now: Now) -> dict[str, Any] | None:
        if frame.action not in _CONTENT_DOES_NOT_MATTER and _has_twins(frame):
            raise _Refused("it names a key twice, which stations may read either way", None)
        payload, rejected = frame.payload, {"status": "Rejected"}
        match frame.action:
            case "SetNetworkProfile":
                raise _Refused("it would point the station away from this controller", rejected)
            case "CertificateSigned" if str(payload.get("certificateType")) not in _HARMLESS_SIGNED:
                raise _Refused("the station's own certificate is that of its leg to this controller", rejected)
            case "InstallCertificate" if _of_the_leg(payload.get("certificateType")):
                raise _Refused("whom the station trusts as its CSMS is decided here", rejected)
            case "DeleteCertificate" if _hash(payload.get("certificateHashData")) not in self._deletable:
                raise _Refused("it is not known to be another than that of this controller", {"status": "Failed"})
            case "DataTransfer" if _ADDRESS.search(_decoded(frame)):
                raise _Refused("it carries the address of a CSMS", rejected)
            case "Reset" if not self._resets.take(now.s):
                raise _Refused(f"more than {RESETS:g} resets in {RESETS_WITHIN_S / 60:g} minutes", rejected)
            case "ChangeConfiguration":
                why = _protected(payload.get("key"), payload.get("value"))
                if why is not None:
                    raise _Refused(why, rejected)
                if self._settings.take(payload.get("key"), payload.get("value")):
                    return {"status": "Accepted"}
                self._remember(frame, [(payload.get("key"), payload.get("value"))])
            case "SetVariables":
                return self._set_variables(frame, now)
            case action if action in _FILES:
                self._hosts(action, payload)
            case _:
                pass
        return None

    def _hosts(self, action: str, payload: Mapping[str, Any]) -> None:
        for path in _FILES[action]:
            value: Any = payload
            for key in path:
                value = member(value, key)
            if value is None:
                continue
            if not isinstance(value, str) or (host := _host(value)) not in self._allowed:
                shown = host if isinstance(value, str) else "nothing readable"
                why = f"{shown[:80] or 'an unreadable address'} is not in csms.allowed_hosts"
                # 1.6 has no status in these two answers
                status = None if path == ("location",) and action != "PublishFirmware" else {"status": "Rejected"}
                raise _Refused(why, status)

    def _set_variables(self, frame: Frame, now: Now) -> dict[str, Any] | None:
        """Items are judged one by one; those that are answered here are held back from the station."""
        self._held_back.pop(frame.message_id, None)
        held: list[tuple[int, Mapping[str, Any]]] = []
        whys: list[str] = []
        told = frame.payload.get("setVariableData")
        data = list(items(told))
        if not isinstance(told, list) or len(data) != len(told):
            raise _Refused("it cannot be read", None)
        for index, item in enumerate(data):
            component, variable = item.get("component"), item.get("variable")
            name, value = member(variable, "name"), item.get("attributeValue")
            why = _protected(name, value) or _protected(member(component, "name"), None)
            if why is not None:
                whys.append(why)
                held.append((index, _set_result(item, "Rejected")))
            elif self._settings.take(name, value, member(component, "name"), item.get("attributeType")):
                held.append((index, _set_result(item, "Accepted")))
        if whys:
            text = f"{self._station_id}: the cloud's SetVariables was refused: {'; '.join(dict.fromkeys(whys))}"
            self._out.append(Persist((Noted(self._station_id, now.utc, "cloud_refused", text),)))
            self._out.append(Emit("cloud_refused", text))
        if len(held) == len(data):
            return {"setVariableResult": [answer for _, answer in held]} if held else None
        gone = {index for index, _ in held}
        rest = [item for index, item in enumerate(data) if index not in gone]
        self._remember(frame, [(member(item.get("variable"), "name"), item.get("attributeValue")) for item in rest])
        if held:
            while len(self._held_back) >= MOST_PENDING:
                del self._held_back[next(iter(self._held_back))]
            self._held_back[frame.message_id] = held
        return None

    def _remember(self, frame: Frame, made: list[tuple[Any, Any]]) -> None:
        """What the cloud sets, in the order in which the station will answer."""
        while len(self._made) >= MOST_PENDING:
            del self._made[next(iter(self._made))]
        self._made[frame.message_id] = made

    def _take_over(self, statuses: list[Any], message_id: str) -> None:
        """What the station accepted of it is what the cloud believes in."""
        for (name, value), status in zip(self._made.pop(message_id, ()), statuses, strict=False):
            if status in {"Accepted", "RebootRequired"}:
                self._settings.keep(name, value)

    def forward(self, frame: Frame, text: str) -> str:
        """The text for the station, without what was held back, and with our measurands beside the cloud's."""
        if frame.action == "ChangeConfiguration":
            value = self._settings.sent_down(frame.payload.get("key"), frame.payload.get("value"))
            return text if value is None else with_value(text, "value", value)
        held = {index for index, _ in self._held_back.get(frame.message_id, ())}
        if frame.action != "SetVariables":
            return text
        data = frame.payload["setVariableData"]
        rest = [self._with_ours(item) for index, item in enumerate(data) if index not in held]
        return text if rest == data else with_value(text, "setVariableData", rest)

    def _with_ours(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        name, component = member(item.get("variable"), "name"), member(item.get("component"), "name")
        value = self._settings.sent_down(name, item.get("attributeValue"), component, item.get("attributeType"))
        return item if value is None else {**item, "attributeValue": value}

    def returned(self, frame: Frame, answer: Frame) -> str:
        """The station's answer as the cloud should see it."""
        held = self._held_back.pop(frame.message_id, None)
        if not answer.payload or answer.code:
            self._made.pop(frame.message_id, None)
            return answer.text
        match frame.action:
            case "ChangeConfiguration":
                self._take_over([answer.payload.get("status")], frame.message_id)
            case "SetVariables":
                results = list(items(answer.payload.get("setVariableResult")))
                self._take_over([result.get("attributeStatus") for result in results], frame.message_id)
                if held is None:
                    return answer.text
                for index, ours in held:
                    results.insert(index, dict(ours))
                return with_value(answer.text, "setVariableResult", results)
            case "GetConfiguration" | "GetVariables":
                self._settings.told(answer)
                return self._settings.shown(answer)
            case "GetInstalledCertificateIds":
                self._learn_certificates(frame.payload.get("certificateType"), answer.payload)
        return answer.text

    def _learn_certificates(self, asked: Any, payload: Mapping[str, Any]) -> None:
        """Which certificates may be deleted: those that the station named as of another use."""
        if len(self._deletable) >= MOST_DELETABLE:
            return
        if asked is not None and not _of_the_leg(asked):  # 1.6: the answer names no types
            self._deletable |= {_hash(data) for data in items(payload.get("certificateHashData"))} - {""}
        for chain in items(payload.get("certificateHashDataChain")):
            if not _of_the_leg(chain.get("certificateType")):
                children = items(chain.get("childCertificateHashData"))
                self._deletable |= {_hash(data) for data in (chain.get("certificateHashData"), *children)} - {""}


def _of_the_leg(certificate_type: Any) -> bool:
    """Whether a certificate of this type decides whom the station trusts; so does one whose type cannot be read."""
    return certificate_type is not None and (
        not isinstance(certificate_type, str) or certificate_type in _LEG_CERTIFICATES
    )


def _protected(name: Any, value: Any) -> str | None:
    """Why a configuration key may not be set; ``None`` where it may."""
    if not isinstance(name, str):
        return "it names no key"
    bare = re.sub(r"[^a-z0-9]", "", name.lower())
    if bare in _NAMES or _NAME_PARTS.search(bare):
        return f"{name[:50]} belongs to the station's leg to this controller"
    if value is not None and _ADDRESS.search(str(value)):
        return f"{name[:50]} would be given the address of a CSMS"
    return None


def _set_result(item: Mapping[str, Any], status: str) -> dict[str, Any]:
    told = {key: item[key] for key in ("attributeType", "component", "variable") if key in item}
    return {"attributeStatus": status, **told}


def _host(location: str) -> str:
    """The host that a station would dial; empty where readers could disagree about it."""
    if any(c.isspace() or c in "\\@" or not c.isprintable() for c in location):
        return ""
    try:
        found = urlsplit(location)
        host = found.hostname or ""
    except ValueError:
        return ""
    return host.lower().rstrip(".") if found.scheme in {"http", "https", "ftp", "ftps", "sftp"} else ""


def _hash(data: Any) -> str:
    if not isinstance(data, Mapping):
        return ""
    parts = [words(data.get(key)) or "" for key in ("issuerNameHash", "issuerKeyHash", "serialNumber")]
    return "/".join(part.lower().lstrip("0") for part in parts) if all(parts) else ""


def _decoded(frame: Frame) -> str:
    """The payload, every member of a repeated name too, with escapes undone also where a text holds JSON itself."""
    try:
        everything = json.loads(payload_text(frame), object_pairs_hook=list)
    except (ValueError, RecursionError):
        everything = frame.payload
    return json.dumps(everything, ensure_ascii=False).replace("\\", "")


def _has_twins(frame: Frame) -> bool:
    """Whether some object of the payload names a member twice (or twice but for case, where readers ignore it)."""

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name.lower() for name, _ in pairs]
        if len(set(names)) != len(names):
            raise _Refused("twins", None)
        return dict(pairs)

    try:
        json.loads(payload_text(frame), object_pairs_hook=check)
    except _Refused:
        return True
    except (ValueError, RecursionError):
        return True  # what we cannot read, nobody should
    return False
