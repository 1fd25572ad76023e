"""Which journaled messages may be dropped: samples in the middle of a transaction, and nothing else (I11)."""

from collections.abc import Mapping
from typing import Any

from cem.csms.metering import items
from cem.csms.parsing import member

NEVER, WHERE_SHORT, WHERE_DENSE = 0, 1, 2
_SAMPLES = {"Sample.Periodic": WHERE_DENSE, "Sample.Clock": WHERE_SHORT}
_TRIGGERS = {"MeterValuePeriodic": WHERE_DENSE, "MeterValueClock": WHERE_SHORT}
_PLAIN_EVENT = {"eventType", "timestamp", "triggerReason", "seqNo", "offline", "transactionInfo", "evse", "meterValue",
                "numberOfPhasesUsed", "cableMaxCurrent"}  # fmt: skip


def thin(kind: str, text: str, payload: Mapping[str, Any]) -> int:
    """How readily a message may go.

    OCPP 2.0.1 E04 allows a station itself to drop intermediate events, never those that say more than a sample does.
    A signed value is a legal record.
    """
    if kind != "update" or signed(text):
        return NEVER
    trigger = payload.get("triggerReason")
    if trigger is not None:
        info = payload.get("transactionInfo")
        says_more = payload.keys() - _PLAIN_EVENT or member(info, "stoppedReason") or member(info, "remoteStartId")
        return NEVER if says_more else _TRIGGERS.get(str(trigger), NEVER)
    told = {
        str(sample.get("context", "Sample.Periodic"))
        for value in items(payload.get("meterValue"))
        for sample in items(value.get("sampledValue"))
    }
    return min((_SAMPLES.get(context, NEVER) for context in told), default=NEVER)


def signed(text: str) -> bool:
    """Whether a message carries a signed meter value (1.6 ``SignedData``, 2.x ``signedMeterValue``)."""
    return '"SignedData"' in text or '"signedMeterValue"' in text
