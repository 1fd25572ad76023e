"""What the site's own station answers to commands for things that it has not: EVSEs, firmware of its own, a display.

A command that has a status is answered by it. One that has none, or is of a block that we do not serve, is
``NotSupported``; what the version does not know at all ``NotImplemented`` (OCPP-J 4.3 in 2.x, 4.2.3 in 1.6).
"""

from collections.abc import Mapping
from typing import Any

_NO: Mapping[str, Any] = {"status": "Rejected"}
_ANSWERS_16: Mapping[str, Mapping[str, Any]] = {
    "RemoteStartTransaction": _NO,
    "RemoteStopTransaction": _NO,
    "Reset": _NO,
    "ChangeAvailability": _NO,
    "UnlockConnector": {"status": "NotSupported"},
    "ClearCache": _NO,
    "GetLocalListVersion": {"listVersion": -1},  # section 5.10: not supported
    "SendLocalList": {"status": "NotSupported"},
    "ReserveNow": _NO,
    "CancelReservation": _NO,
    "GetDiagnostics": {},  # section 5.9: nothing to upload
    "DataTransfer": {"status": "UnknownVendorId"},
    "ExtendedTriggerMessage": {"status": "NotImplemented"},
    "GetLog": _NO,
    "InstallCertificate": _NO,
    "DeleteCertificate": {"status": "Failed"},
    "GetInstalledCertificateIds": {"status": "NotFound"},
    "CertificateSigned": _NO,
    "SignedUpdateFirmware": _NO,
}
_ANSWERS_2: Mapping[str, Mapping[str, Any]] = {
    "RequestStartTransaction": _NO,
    "RequestStopTransaction": _NO,
    "Reset": {"status": "Rejected", "statusInfo": {"reasonCode": "NotEnabled", "additionalInfo": "it serves a site"}},
    "ChangeAvailability": _NO,
    "UnlockConnector": {"status": "UnknownConnector"},
    "ClearCache": _NO,
    "GetLocalListVersion": {"versionNumber": 0},
    "SendLocalList": {"status": "Failed"},
    "ReserveNow": _NO,
    "CancelReservation": _NO,
    "GetTransactionStatus": {"messagesInQueue": False},
    "DataTransfer": {"status": "UnknownVendorId"},
    "GetLog": _NO,
    "UpdateFirmware": _NO,
    "PublishFirmware": _NO,
    "UnpublishFirmware": {"status": "NoFirmware"},
    "InstallCertificate": _NO,
    "DeleteCertificate": {"status": "Failed"},
    "GetInstalledCertificateIds": {"status": "NotFound"},
    "CertificateSigned": _NO,
    "SetNetworkProfile": _NO,
    "CustomerInformation": _NO,
    "GetMonitoringReport": {"status": "NotSupported"},
    "SetMonitoringBase": {"status": "NotSupported"},
    "SetMonitoringLevel": _NO,
}
_UNSERVED_16 = frozenset({"UpdateFirmware"})
_UNSERVED_201 = frozenset({
    "SetVariableMonitoring", "ClearVariableMonitoring", "CostUpdated", "SetDisplayMessage", "GetDisplayMessages",
    "ClearDisplayMessage",
})  # fmt: skip
_UNSERVED_21 = _UNSERVED_201 | {
    "AFRRSignal", "AdjustPeriodicEventStream", "ChangeTransactionTariff", "ClearDERControl", "ClearTariffs",
    "GetDERControl", "GetPeriodicEventStream", "GetTariffs", "NotifyAllowedEnergyTransfer", "NotifyWebPaymentStarted",
    "RequestBatterySwap", "SetDERControl", "SetDefaultTariff", "UsePriorityCharging",
}  # fmt: skip
_UNSERVED = {"1.6": _UNSERVED_16, "2.0.1": _UNSERVED_201, "2.1": _UNSERVED_21}


def refusal(version: str, action: str) -> Mapping[str, Any] | str:
    """The payload to answer with, or the code of the CALLERROR."""
    payload = (_ANSWERS_16 if version == "1.6" else _ANSWERS_2).get(action)
    if payload is not None:
        return payload
    return "NotSupported" if action in _UNSERVED[version] else "NotImplemented"
