"""The charging sessions of a wallbox without OCPP: from plugging in to leaving, with its energy register."""

from cem.core.site import Evse
from cem.csms.records import SessionUpdate
from cem.ports import Clock, StationStore

METER_EVERY_S = 60.0


class SessionLog:
    """Records one EVSE's sessions; one that was open when we stopped goes on where its car is still there.

    Args:
        evse: Whose.
        store: Where they are kept.
        clock: Time.
    """

    def __init__(self, evse: Evse, store: StationStore, clock: Clock) -> None:
        self._evse, self._store, self._clock = evse, store, clock
        left = [s for s in store.open_sessions() if s.evse_id == evse.evse_id]
        self._open: tuple[str, str] | None = (left[-1].session_id, left[-1].transaction_id) if left else None
        self._noted_s = clock.monotonic_s()

    async def note(self, plugged: bool | None, energy_wh: float | None) -> None:
        """Takes in what is seen now.

        Raises:
            CemError: It could not be kept; to be tried again.
        """
        now_s = self._clock.monotonic_s()
        if plugged and self._open is None:
            number = self._store.next_transaction_id()
            opened = (f"{self._evse.station_id}:{number}", str(number))
            await self._keep("start", opened, energy_wh)
            self._open, self._noted_s = opened, now_s
        elif plugged is False and self._open is not None:
            await self._keep("stop", self._open, energy_wh, reason="EVDisconnected")
            self._open = None
        elif self._open is not None and energy_wh is not None and now_s - self._noted_s >= METER_EVERY_S:
            await self._keep("meter", self._open, energy_wh)
            self._noted_s = now_s

    async def _keep(
        self, kind: str, session: tuple[str, str], energy_wh: float | None, reason: str | None = None
    ) -> None:
        await self._store.commit(
            [
                SessionUpdate(
                    session_id=session[0],
                    station_id=self._evse.station_id,
                    evse_id=self._evse.evse_id,
                    kind=kind,
                    at_utc=self._clock.utc(),
                    transaction_id=session[1],
                    meter_wh=energy_wh,
                    reason=reason,
                )
            ]
        )
