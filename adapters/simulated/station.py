"""A charging station: its cars, its transactions, and a connection that it keeps up by itself.

What both OCPP versions share; ``station_v16`` and ``station_v201`` know the words. Written on raw frames, so that it
shares nothing with the controller's own OCPP code.
"""

import asyncio
import math
import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from adapters.simulated.ev import PILOT_MIN_A, EvType
from adapters.simulated.personality import Personality
from adapters.simulated.plant import ChargePoint
from adapters.simulated.profiles import MAX, TX, Profile, ProfileStore
from adapters.simulated.station_link import Line, StationLink

Emit = Callable[..., None]
"""Called with the name of an event and its figures."""


@dataclass(slots=True)
class Transaction:
    """A charging transaction at one EVSE.

    Attributes:
        key: The station's own id (2.x: the transaction id).
        number: The id that the CSMS gave (1.6); ``None`` until it answered.
        start_utc_s: When it began.
        token: Who.
        seq: Next sequence number (2.x).
        state: Last charging state told.
    """

    key: str
    start_utc_s: float
    token: str
    meter_start_wh: float
    number: int | None = None
    seq: int = 0
    state: str = ""


@dataclass(slots=True)
class Connector:
    """One EVSE of the station.

    Attributes:
        number: OCPP 2.x evseId, OCPP 1.6 connectorId.
        point: The same EVSE in the plant.
        plugged: A car is connected.
        transaction: The running one.
        finished: Its transaction is over, the car has not left.
        status: Last status told.
        pilots: Limits on their way to the pilot of a slow station: (monotonic time it takes effect, amps).
    """

    number: int
    point: ChargePoint
    plugged: bool = False
    transaction: Transaction | None = None
    finished: bool = False
    status: str = ""
    next_sample_s: float = 0.0
    pilots: deque[tuple[float, float]] = field(default_factory=deque)


class SimulatedStation(ABC):
    """One station with its EVSEs.

    Args:
        station_id: OCPP identity.
        url: The CSMS's address without the identity.
        points: Its EVSEs in the plant.
        emit: Hears ``limit_received``, ``session_started``, ``session_stopped``, ``station_online``, ``station_offline``.
        utc_s: The station's clock.
        password: For HTTP Basic.
        personality: Its quirks.
        now_s: Its monotonic clock.
        line: Makes its connection; a websocket where left out.
    """

    subprotocol: ClassVar[str]
    defaults: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        station_id: str,
        url: str,
        points: list[ChargePoint],
        *,
        emit: Emit = lambda *_, **__: None,
        utc_s: Callable[[], float] = time.time,
        password: str | None = None,
        personality: Personality | None = None,
        voltage_v: float = 230.0,
        now_s: Callable[[], float] = time.monotonic,
        line: Callable[["SimulatedStation"], Line] | None = None,
    ) -> None:
        self.station_id, self.emit, self.utc_s, self.voltage_v = station_id, emit, utc_s, voltage_v
        self.settings = dict(self.defaults)
        self.connectors = {p.evse.number: Connector(p.evse.number, p) for p in points}
        self.personality = personality or Personality()
        own = self.personality
        self.store = ProfileStore(one_default=own.one_default, keeps_ended=own.keeps_ended)
        self.sessions = 0
        self.meter_interval_s = 60.0
        self.now_s = now_s
        self._beat_s = now_s()
        if self.personality.phases is not None:
            for point in points:
                point.phases_on = self.personality.phases
        if self.personality.rotation is not None:
            for point in points:
                point.rotation = self.personality.rotation[: point.evse.phases]
        self.link: Line
        if line is not None:
            self.link = line(self)
            return
        self.link = StationLink(
            f"{url.rstrip('/')}/{station_id}",
            self.subprotocol,
            boot=self.boot_payload,
            handle=self.hear,
            changed=self.connection_changed,
            password=password,
            pause_s=self.personality.reconnect_s,
            pipelines=self.personality.pipelines,
            boots_once=self.personality.boots_once,
        )

    # ---- what the versions say ------------------------------------------------------------------------------------
    @abstractmethod
    def boot_payload(self) -> dict[str, Any]: ...
    @abstractmethod
    def tell_status(self, connector: Connector) -> None: ...
    @abstractmethod
    def tell_start(self, connector: Connector, transaction: Transaction) -> None: ...
    @abstractmethod
    def tell_sample(self, connector: Connector, transaction: Transaction) -> None: ...
    @abstractmethod
    def tell_state(self, connector: Connector, transaction: Transaction) -> None: ...
    @abstractmethod
    def tell_stop(self, connector: Connector, transaction: Transaction, reason: str) -> None: ...
    @abstractmethod
    def authorize_payload(self, token: str) -> dict[str, Any]: ...
    @abstractmethod
    def is_authorized(self, answer: dict[str, Any]) -> bool: ...
    @abstractmethod
    def handle(self, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Answers a call from the CSMS; raises ``Refused`` to answer with CALLERROR."""

    def hear(self, action: str, payload: dict[str, Any]) -> dict[str, Any] | None:
        """The same; ``None`` where this station never answers."""
        return None if action in self.personality.mute else self.handle(action, payload)

    # ---- cars -----------------------------------------------------------------------------------------------------
    def plug(self, number: int, kind: EvType, token: str) -> None:
        """A car arrives at an EVSE and its driver presents a token."""
        connector = self.connectors[number]
        connector.point.plug(kind)
        connector.plugged = True
        self._tell_status_if_new(connector)
        if not self.link.online:  # offline: starts by itself, the CSMS hears of it later
            self.begin(connector, token)
            return

        def answered(answer: dict[str, Any]) -> None:
            if self.is_authorized(answer) and connector.plugged:
                self.begin(connector, token)

        self.link.post("Authorize", lambda: self.authorize_payload(token), on_answer=answered)

    def begin(self, connector: Connector, token: str) -> bool:
        """A transaction begins; ``False`` where there is no car or one is running."""
        if connector.transaction is not None or not connector.plugged:
            return False
        transaction = Transaction(str(uuid.uuid4()), self.utc_s(), token, connector.point.register_wh)
        connector.transaction, connector.finished = transaction, False
        connector.next_sample_s = self.now_s() + self.meter_interval_s
        self.sessions += 1
        self.emit("session_started", station=self.station_id, evse=connector.number)
        self.tell_start(connector, transaction)
        self.update_pilots()
        self._tell_status_if_new(connector)
        return True

    def end(self, connector: Connector, reason: str) -> None:
        """The transaction ends; the car stays plugged in."""
        transaction = connector.transaction
        if transaction is None:
            return
        connector.transaction, connector.finished = None, True
        self.store.clear(lambda p: p.purpose == "Tx" and p.evse_id == connector.number)
        self.tell_stop(connector, transaction, reason)
        self.emit("session_stopped", station=self.station_id, evse=connector.number)
        self.update_pilots()
        self._tell_status_if_new(connector)

    def unplug(self, number: int, reason: str = "Local") -> None:
        """The car leaves."""
        connector = self.connectors[number]
        self.end(connector, reason)
        connector.point.unplug()
        connector.plugged = connector.finished = False
        self._tell_status_if_new(connector)

    # ---- limits ---------------------------------------------------------------------------------------------------
    def limit_a(self, connector: Connector, utc_s: float, began_utc_s: float | None = None) -> float:
        """Amps per phase that its profiles allow at a time, as if one had begun where it is idle; its maximum where none do."""
        transaction = connector.transaction
        limit_a = self.store.limit_a(
            connector.number,
            utc_s,
            transaction_id=self.profile_transaction_id(transaction),
            transaction_start_utc_s=transaction.start_utc_s if transaction else began_utc_s,
            voltage_v=self.voltage_v,
            phases=connector.point.evse.phases,
            sharing=max(1, sum(c.transaction is not None for c in self.connectors.values())),
        )
        most_a = connector.point.evse.max_a
        return most_a if limit_a is None else min(limit_a, most_a)

    def profile_transaction_id(self, transaction: Transaction | None) -> str | None:
        """The id by which a TxProfile names this transaction."""
        return transaction.key if transaction else None

    def update_pilots(self) -> None:
        """Gives every EVSE the pilot that its profiles allow now."""
        utc_s, now_s = self.utc_s(), self.now_s()
        for connector in self.connectors.values():
            limit_a = self.limit_a(connector, utc_s)
            if self.personality.ignore_limits:
                limit_a = connector.point.evse.max_a
            if connector.transaction is None or limit_a < PILOT_MIN_A:
                limit_a = 0.0
            paused = connector.transaction is not None and connector.transaction.state == "SuspendedEVSE"
            if self.personality.forgets_on_resume and paused and limit_a > 0:
                self.store.clear(lambda _p: True)
                limit_a = connector.point.evse.max_a
            if not connector.pilots or connector.pilots[-1][1] != limit_a:
                connector.pilots.append((now_s + self.personality.slow_s, limit_a))
            while connector.pilots and connector.pilots[0][0] <= now_s:
                connector.point.pilot_a = connector.pilots[0][1]
                if len(connector.pilots) == 1:
                    break
                connector.pilots.popleft()

    def takes(self, profile: Profile) -> bool:
        """Whether this station has such profiles at all; a pause may end its transactions (``zero_ends``)."""
        own = self.personality
        if (
            profile.purpose in own.refuses
            or profile.stack_level > own.highest_level
            or profile.unit not in own.units
            or (profile.purpose == MAX and profile.evse_id != 0)
        ):
            return False
        if own.zero_ends and profile.purpose == TX and profile.periods[0][1] == 0:
            self.later(self.end, self.connectors[profile.evse_id], "Other")
        return True

    def switch_phases(self, profile: Profile) -> None:
        """Charges on as many phases as a TxProfile says, where it can."""
        point = self.connectors[profile.evse_id].point if profile.evse_id in self.connectors else None
        if point is not None and point.evse.phase_switching and profile.purpose == TX:
            point.phases_on = min(profile.periods[0][2], point.evse.phases)

    def limits_changed(self, before_a: dict[int, float]) -> None:
        """After a profile came or went: new pilots, and word of what it did."""
        self.update_pilots()
        for connector in self.connectors.values():
            self.emit(
                "limit_received",
                station=self.station_id,
                evse=connector.number,
                before_a=before_a[connector.number],
                limit_a=self.limit_a(connector, self.utc_s()),
                running=connector.transaction is not None,
            )

    def limits_now(self) -> dict[int, float]:
        """EVSE number to the amps it is allowed now."""
        return {c.number: self.limit_a(c, self.utc_s()) for c in self.connectors.values()}

    def composite(self, number: int, duration_s: float, unit: str) -> tuple[float, list[tuple[int, float, int]]]:
        """The composite schedule of one EVSE: its start, and (seconds from then, limit, phases)."""
        connector, now_s = self.connectors[number], self.utc_s()
        phases = connector.point.evse.phases
        running = connector.transaction
        began_s = running.start_utc_s if running else now_s if self.personality.idle_as_started else None
        periods = self.store.schedule(now_s, duration_s, lambda t: self.limit_a(connector, t, began_s), began_s)
        each = 1.0 if unit == "A" else self.voltage_v * phases
        return now_s, [(math.ceil(since_s), round(limit_a * each, 1), phases) for since_s, limit_a in periods]

    # ---- life -----------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Lives until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._live())
            group.create_task(self.link.run())

    def later(self, what: Callable[..., object], *arguments: object) -> None:
        """Does something after the answer to the present call is out."""
        self.link.later(what, *arguments)

    def reset(self) -> None:
        """Boots again: transactions end (OCPP: Reboot), profiles stay, the connection begins anew."""
        for connector in self.connectors.values():
            self.end(connector, "Reboot")
        self.link.power_cycle()

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            self.live()

    def live(self) -> None:
        """To be called now and then: does all that is due, heartbeats included."""
        self.step()
        now_s = self.now_s()
        if now_s >= self._beat_s + self.link.heartbeat_s:
            self._beat_s = now_s
            self.link.post("Heartbeat", dict)

    def step(self) -> None:
        """Follows its profiles, and tells what is due."""
        self.update_pilots()
        now_s = self.now_s()
        for connector in self.connectors.values():
            transaction = connector.transaction
            if transaction is None:
                continue
            state = self.charging_state(connector)
            if state != transaction.state:
                transaction.state = state
                self.tell_state(connector, transaction)
            self._tell_status_if_new(connector)
            connector.next_sample_s = min(connector.next_sample_s, now_s + self.meter_interval_s)
            if now_s >= connector.next_sample_s:
                connector.next_sample_s += self.meter_interval_s
                self.tell_sample(connector, transaction)

    def charging_state(self, connector: Connector) -> str:
        """``Charging``, ``SuspendedEVSE`` or ``SuspendedEV``."""
        if connector.point.pilot_a < PILOT_MIN_A:
            return "SuspendedEVSE"
        return "SuspendedEV" if connector.point.ev is None or connector.point.ev.full else "Charging"

    @abstractmethod
    def status_of(self, connector: Connector) -> str:
        """The version's word for what the connector is now."""

    def connection_changed(self) -> None:
        """The connection is up and accepted, or gone."""
        online = self.link.online
        if online and self.personality.forgets_on_reconnect:
            self.store.clear(lambda _p: True)
        self.emit("station_online" if online else "station_offline", station=self.station_id)
        for connector in self.connectors.values():
            connector.status = ""
            self._tell_status_if_new(connector)

    def _tell_status_if_new(self, connector: Connector) -> None:
        status = self.status_of(connector)
        if status != connector.status and self.link.online:
            connector.status = status
            self.tell_status(connector)


def sampled(connector: Connector, voltage_v: float) -> list[tuple[str, str | None, float, str]]:
    """What the EVSE's meter reads: measurand, phase (the EVSE's own order), value, unit."""
    amps = connector.point.own_current_a
    values: list[tuple[str, str | None, float, str]] = []
    for p in range(connector.point.evse.phases):
        values.append(("Current.Import", f"L{p + 1}", amps[p], "A"))
        values.append(("Voltage", f"L{p + 1}-N", voltage_v, "V"))
    values.append(("Power.Active.Import", None, amps.total * voltage_v, "W"))
    values.append(("Energy.Active.Import.Register", None, connector.point.register_wh, "Wh"))
    return values


def utc_text(utc_s: float) -> str:
    """An OCPP date-time."""
    return datetime.fromtimestamp(utc_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
