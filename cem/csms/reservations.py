"""Which EVSEs are reserved: learned from what the cloud asks and the station takes, never decided here (IEC 63110-1 8.4.3)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cem.csms.frames import Frame, Kind
from cem.csms.metering import instant
from cem.csms.moment import Now, ocpp_time
from cem.csms.parsing import whole

MOST = 50


@dataclass(frozen=True, slots=True)
class Reservation:
    """One EVSE is kept free for somebody.

    Attributes:
        evse: 0: any one of the station.
        until_s: Monotonic.
    """

    evse: int
    until_utc: datetime | None
    until_s: float | None


class Reservations:
    """Those of one station, by the cloud's id."""

    def __init__(self) -> None:
        self._held: dict[int, Reservation] = {}

    def answered(self, frame: Frame, answer: Frame | None, now: Now) -> None:
        """The station answered a command of a CSMS."""
        if answer is None or answer.kind is not Kind.RESULT or answer.payload.get("status") != "Accepted":
            return
        asked = frame.payload
        if frame.action == "ReserveNow":
            number = whole(asked.get("id", asked.get("reservationId")))  # 2.x says id and expiryDateTime
            until = instant(asked.get("expiryDateTime", asked.get("expiryDate")))
            if number is not None:
                self._held.pop(number, None)
                if len(self._held) >= MOST:
                    del self._held[next(iter(self._held))]
                until_s = None if until is None else now.s + (until - now.utc).total_seconds()
                evse = whole(asked.get("evseId", asked.get("connectorId"))) or 0
                self._held[number] = Reservation(evse, until, until_s)
        elif frame.action == "CancelReservation":
            self.over(whole(asked.get("reservationId")))

    def over(self, number: int | None) -> None:
        """A reservation was used, has expired or was removed."""
        if number is not None:
            self._held.pop(number, None)

    def tick(self, now: Now) -> None:
        """Time passed: what has expired holds no more, whether or not its station says so (1.6 does not)."""
        if not self._held:
            return
        for number in [n for n, held in self._held.items() if held.until_s is not None and held.until_s <= now.s]:
            del self._held[number]

    def status(self) -> list[dict[str, Any]]:
        """Those that hold, for the API."""
        return [
            {"id": number, "evse": held.evse or None, "until": held.until_utc and ocpp_time(held.until_utc)}
            for number, held in self._held.items()
        ]
