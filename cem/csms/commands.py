"""The cloud's commands: what is answered here in the station's place, and with which words the rest goes to it."""

from collections.abc import Callable, Sequence

from cem.csms.dialect import Ask, Dialect
from cem.csms.end_to_end import EndToEnd
from cem.csms.frames import Frame, result, with_value, without
from cem.csms.ids import Ids
from cem.csms.moment import Now
from cem.csms.picture import Picture
from cem.csms.profiles import Refusal
from cem.csms.smart_charging import SmartCharging


class Commands:
    """One station's side of what the cloud may ask.

    Args:
        smart: The cloud's charging profiles.
        picture: Transactions.
        journaled: Whether messages of a transaction, by the station's id, still wait for the cloud.
        end_to_end: Takes the cloud's profiles to the station (mode A); ``None``: they are kept here.
    """

    def __init__(
        self,
        smart: SmartCharging,
        picture: Picture,
        journaled: Callable[[str | None], bool],
        end_to_end: EndToEnd | None = None,
    ) -> None:
        self._end_to_end = end_to_end
        self._smart = smart
        self._picture = picture
        self._journaled = journaled

    def answer(self, frame: Frame, dialect: Dialect, ids: Ids, now: Now) -> tuple[str, Sequence[Ask]] | None:
        """Our answer and what else to tell the cloud; ``None`` where the station itself must answer."""
        if self._end_to_end is not None:
            judged = self._end_to_end.judge(frame, dialect, ids, now)
            if isinstance(judged, Refusal):
                return result(frame.message_id, dialect.profile_status(judged)), ()
            if judged:
                return None
        named = dialect.stop_id(frame.action, frame.payload)
        if frame.action != "GetTransactionStatus" or not self._journaled(named):
            return self._smart.answer(frame, dialect, ids, now)
        payload = {"messagesInQueue": True}
        if named is not None:
            payload["ongoingIndicator"] = named in self._picture.transactions.open
        return result(frame.message_id, payload), ()

    def deferred(self, frame: Frame, dialect: Dialect, ids: Ids, reply: Callable[[str], None], now: Now) -> bool:
        """Takes over what is answered only after questions of ours to the station."""
        if self._end_to_end is None:
            return False
        if frame.action == "SetChargingProfile":
            return self._end_to_end.replaces(frame, dialect, ids, reply, now)
        if frame.action != "ClearChargingProfile":
            return False
        self._end_to_end.clear(frame, dialect, reply)
        return True

    def forward(self, frame: Frame, dialect: Dialect, ids: Ids) -> str:
        """The text that goes to the station: unchanged, but for a mapped id or a profile that is kept here."""
        text = frame.text
        start = dialect.start_profile(frame.action, frame.payload)
        if frame.action == "SetChargingProfile" and self._end_to_end is not None:
            return self._end_to_end.text(frame, dialect, ids)
        if start is not None and self._end_to_end is None:
            text = without(text, start.key)
        named = dialect.stop_id(frame.action, frame.payload)
        if named is not None:
            local = ids.local_id(named)
            if local != named:
                text = with_value(text, "transactionId", dialect.wire_id(local))
        return text

    def answered(self, frame: Frame, dialect: Dialect, ids: Ids, answer: Frame | None, now: Now) -> None:
        """The station's answer to a command that went to it."""
        self._picture.reservations.answered(frame, answer, now)
        if frame.action == "SetChargingProfile" and self._end_to_end is not None:
            self._end_to_end.answered(frame, dialect, ids, answer, now)
        if dialect.start_profile(frame.action, frame.payload) is not None:
            self._smart.start_answered(frame, answer)
        if (
            frame.action == "NotifyAllowedEnergyTransfer"
            and answer is not None
            and answer.payload.get("status") == "Accepted"
        ):
            transaction = self._picture.transactions.open.get(str(frame.payload.get("transactionId")))
            allowed = frame.payload.get("allowedEnergyTransfer")
            if transaction is not None and isinstance(allowed, list):
                transaction.allowed_transfer = tuple(mode for mode in allowed if isinstance(mode, str))
