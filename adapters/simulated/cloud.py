"""A small cloud CSMS for both OCPP versions: it accepts everybody, counts sessions and can be cut and come back."""

import asyncio
import json
import uuid
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from adapters.simulated.station import Emit, utc_text


@dataclass(slots=True)
class CloudSession:
    """One transaction as the cloud knows it.

    Attributes:
        station_id: Where.
        transaction_id: As both sides name it.
        start_wh: Meter at its start; ``None`` where not told.
        stop_wh: Meter at its end.
        stopped: It has ended.
        starts: How often its start was told (more than once is a repeat).
    """

    station_id: str
    transaction_id: str
    start_wh: float | None = None
    stop_wh: float | None = None
    stopped: bool = False
    starts: int = 0


class Cloud:
    """The operator's CSMS.

    Attributes:
        sessions: By station and transaction id.
        stations: Identity to its open connection.
        received: Every call received: station, action, payload.
    """

    def __init__(self, port: int, *, utc_s: Any, emit: Emit = lambda *_, **__: None) -> None:
        self.port = port
        self.sessions: dict[tuple[str, str], CloudSession] = {}
        self.stations: dict[str, ServerConnection] = {}
        self.received: list[tuple[str, str, dict[str, Any]]] = []
        self._utc_s, self._emit = utc_s, emit
        self._server: Server | None = None
        self._next_number = 1000
        self._starts_16: dict[tuple[str, str], int] = {}
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def start(self) -> None:
        """Begins to listen (again)."""
        if self._server is None:
            self._server = await serve(
                self._serve,
                "127.0.0.1",
                self.port,
                subprotocols=[Subprotocol("ocpp2.0.1"), Subprotocol("ocpp1.6")],
                compression=None,
            )
            self.port = int(next(iter(self._server.sockets)).getsockname()[1])

    async def cut(self) -> None:
        """Gone: connections break without a word and new ones are refused."""
        if self._server is not None:
            server, self._server = self._server, None
            for socket in list(self.stations.values()):
                socket.transport.abort()
            server.close()
            await server.wait_closed()

    stop = cut

    async def call(self, station_id: str, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Calls a station, for example to set a profile.

        Raises:
            KeyError: It is not connected.
            TimeoutError: No answer within 30 s.
        """
        socket, message_id = self.stations[station_id], str(uuid.uuid4())
        self._waiting[message_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(30):
                await socket.send(json.dumps([2, message_id, action, payload]))
                return await self._waiting[message_id]
        finally:
            self._waiting.pop(message_id, None)

    async def set_limit(self, station_id: str, limit_a: float, evse_id: int = 1) -> dict[str, Any]:
        """Installs a TxDefaultProfile without end in the version that the station speaks."""
        old = self.stations[station_id].subprotocol == "ocpp1.6"
        schedule = {
            "chargingRateUnit": "A",
            "startSchedule": utc_text(self._utc_s()),
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit_a}],
        }
        profile: dict[str, Any] = {
            "stackLevel": 1,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Absolute",
        }
        if old:
            profile |= {"chargingProfileId": 500, "chargingSchedule": schedule}
            return await self.call(
                station_id, "SetChargingProfile", {"connectorId": evse_id, "csChargingProfiles": profile}
            )
        profile |= {"id": 500, "chargingSchedule": [{"id": 1, **schedule}]}
        return await self.call(station_id, "SetChargingProfile", {"evseId": evse_id, "chargingProfile": profile})

    async def _serve(self, socket: ServerConnection) -> None:
        path = socket.request.path if socket.request else ""
        station_id = path.rstrip("/").rsplit("/", 1)[-1]
        self.stations[station_id] = socket
        try:
            async for text in socket:
                frame = json.loads(text)
                if frame[0] == 2:
                    _, message_id, action, payload = frame
                    self.received.append((station_id, action, payload))
                    answer = self._answer(station_id, action, payload, old=socket.subprotocol == "ocpp1.6")
                    await socket.send(json.dumps([3, message_id, answer]))
                elif frame[1] in self._waiting and not self._waiting[frame[1]].done():
                    self._waiting[frame[1]].set_result(frame[2] if frame[0] == 3 else {"error": frame[2]})
        except ConnectionClosed:
            pass
        finally:
            if self.stations.get(station_id) is socket:
                del self.stations[station_id]

    def _answer(self, station_id: str, action: str, payload: dict[str, Any], *, old: bool) -> dict[str, Any]:
        accepted = {"status": "Accepted"}
        match action:
            case "BootNotification":
                return accepted | {"currentTime": utc_text(self._utc_s()), "interval": 60}
            case "Heartbeat":
                return {"currentTime": utc_text(self._utc_s())}
            case "Authorize":
                return {"idTagInfo": accepted} if old else {"idTokenInfo": accepted}
            case "StartTransaction":
                # the same start told again keeps its id (OCPP 1.6 errata: retries are idempotent by their content)
                key = (station_id, f"{payload['connectorId']}/{payload['timestamp']}/{payload['meterStart']}")
                if key not in self._starts_16:
                    self._next_number += 1
                    self._starts_16[key] = self._next_number
                number = self._starts_16[key]
                self._started(station_id, str(number), float(payload["meterStart"]))
                return {"transactionId": number, "idTagInfo": accepted}
            case "StopTransaction":
                self._stopped(station_id, str(payload["transactionId"]), float(payload["meterStop"]))
                return {"idTagInfo": accepted}
            case "TransactionEvent":
                self._transaction_event(station_id, payload)
                return {"idTokenInfo": accepted} if "idToken" in payload else {}
            case "DataTransfer":
                return {"status": "UnknownVendorId"}
        return {}

    def _transaction_event(self, station_id: str, payload: dict[str, Any]) -> None:
        key = str(payload["transactionInfo"]["transactionId"])
        register_wh = None
        for sample in [v for m in payload.get("meterValue", ()) for v in m["sampledValue"]]:
            if sample.get("measurand", "Energy.Active.Import.Register") == "Energy.Active.Import.Register":
                register_wh = float(sample["value"])
        match payload["eventType"]:
            case "Started":
                self._started(station_id, key, register_wh)
            case "Ended":
                self._stopped(station_id, key, register_wh)

    def _started(self, station_id: str, key: str, register_wh: float | None) -> None:
        session = self.sessions.setdefault((station_id, key), CloudSession(station_id, key))
        session.start_wh = register_wh
        session.starts += 1
        self._emit("cloud_session", station=station_id, sessions=len(self.sessions))

    def _stopped(self, station_id: str, key: str, register_wh: float | None) -> None:
        session = self.sessions.setdefault((station_id, key), CloudSession(station_id, key))
        session.stop_wh, session.stopped = register_wh, True
        self._emit("cloud_session_stopped", station=station_id, sessions=len(self.sessions))
