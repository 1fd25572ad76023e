"""Independent peers for the local CSMS: stations and a cloud made with the ``ocpp`` library, over real websockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace

import ocpp.messages
from ocpp.routing import on
from ocpp.v16 import ChargePoint as ChargePoint16
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp.v21 import call as call21
from ocpp.v21 import call_result as result21
from ocpp.v201 import ChargePoint as ChargePoint201
from ocpp.v201 import call as call201
from ocpp.v201 import call_result as result201
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from adapters.ocpp.server import OcppServer
from cem.config.csms_models import Csms, Listen, Upstream
from cem.config.models import StationSection
from cem.core.site import Evse, Protection, Site, Zone
from tests.fakes import MemoryStore, RealClock

ocpp.messages.ASYNC_VALIDATION = False  # a thread for each message is not worth it here


def stamp():
    return datetime.now(UTC).isoformat()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until(condition, timeout_s=8.0):
    """Waits for a condition; the time is long for slow machines only."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


class Local:
    """A running local CSMS."""

    def __init__(self, server, store, events, news):
        self.server, self.store, self.events, self.news = server, store, events, news
        self.task = None
        self.address = f"ws://127.0.0.1:{server.port}/ocpp"
        self.tls_address = f"wss://127.0.0.1:{server.tls_port}/ocpp"

    def state(self, evse_id):
        return self.server.evse_states(RealClock().monotonic_s())[evse_id]

    def codes(self):
        return [e.code for e in self.events]

    def apply(self, **setpoints):
        self.server.apply(0.0, {f"{station}/1": amps for station, amps in setpoints.items()})


@contextlib.asynccontextmanager
async def local_csms(
    stations=("S1",),
    *,
    store=None,
    upstream=None,
    passwords=None,
    port=None,
    host="127.0.0.1",
    observers=(),
    tls=None,
    directory=None,
    upstream_tls=None,
    clock=None,
    keys=None,
    **csms,
) -> AsyncIterator[Local]:
    store = store if store is not None else MemoryStore()
    events, news = [], []
    sections = [
        StationSection(
            id=s, zone="z", breaker_a=40, fallback_a=6, password=(passwords or {}).get(s), **(keys or {}).get(s, {})
        )
        for s in stations
    ]
    evses = tuple(Evse(evse_id=f"{s}/1", station_id=s, zone_id="z", number=1, max_a=32, fallback_a=6) for s in stations)
    site = Site("test", 230.0, 3, (Zone("z", None, Protection(63)),), evses)
    upstreams = (Upstream(id="cloud", url=upstream, **(upstream_tls or {})), *observers) if upstream else ()
    listen = Listen(host=host, port=port or free_port(), tls=tls)
    section = Csms(listen=listen, upstreams=upstreams, **csms)
    server = OcppServer(
        section, sections, site, store, clock or RealClock(), lambda: news.append(1), events.append, directory=directory
    )
    task = await running(server)
    local = Local(server, store, events, news)
    local.task = task
    try:
        yield local
    finally:
        local.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await local.task


async def running(server):
    task = asyncio.create_task(server.run())
    ready = asyncio.create_task(server.listening.wait())
    await asyncio.wait({task, ready}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if task.done():
        task.result()
    return task


@contextlib.asynccontextmanager
async def running_task(work):
    """The work goes on until the block ends."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Limits:
    """What a station was told to hold, by purpose."""

    def __init__(self):
        self.limits = []
        self.configured = []
        self.other = []

    def take(self, evse, profile):
        schedule = profile.get("charging_schedule")
        schedule = schedule[0] if isinstance(schedule, list) else schedule
        amps = float(schedule["charging_schedule_period"][0]["limit"])
        self.limits.append((evse, profile["charging_profile_purpose"], amps))

    def has(self, purpose, amps):
        return (1, purpose, amps) in self.limits


class Station16(ChargePoint16):
    version = "ocpp1.6"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = Limits()

    @on("SetChargingProfile")
    def on_profile(self, connector_id, cs_charging_profiles):
        self.seen.take(connector_id, cs_charging_profiles)
        return result16.SetChargingProfile(status="Accepted")

    @on("ClearChargingProfile")
    def on_clear(self, **_):
        return result16.ClearChargingProfile(status="Unknown")

    @on("ChangeConfiguration")
    def on_configuration(self, key, value):
        self.seen.configured.append((key, value))
        return result16.ChangeConfiguration(status="Accepted")

    @on("TriggerMessage")
    def on_trigger(self, **_):
        return result16.TriggerMessage(status="NotImplemented")

    @on("RemoteStopTransaction")
    def on_remote_stop(self, transaction_id):
        self.seen.other.append(("RemoteStopTransaction", transaction_id))
        return result16.RemoteStopTransaction(status="Accepted")

    @on("RemoteStartTransaction")
    def on_remote_start(self, **payload):
        self.seen.other.append(("RemoteStartTransaction", payload))
        return result16.RemoteStartTransaction(status="Accepted")

    async def boot(self):
        return (await self.call(call16.BootNotification(charge_point_vendor="V", charge_point_model="M"))).status

    async def start(self, token="TAG", meter=100):
        await self.call(call16.StatusNotification(connector_id=1, error_code="NoError", status="Preparing"))
        answer = await self.call(
            call16.StartTransaction(connector_id=1, id_tag=token, meter_start=meter, timestamp=stamp())
        )
        self.transaction = answer.transaction_id
        await self.call(call16.StatusNotification(connector_id=1, error_code="NoError", status="Charging"))
        return answer

    async def meter(self, *amps):
        sampled = [
            {"value": str(a), "measurand": "Current.Import", "phase": f"L{i}", "unit": "A"}
            for i, a in enumerate(amps, 1)
        ]
        value = [{"timestamp": stamp(), "sampled_value": sampled}]
        await self.call(call16.MeterValues(connector_id=1, transaction_id=self.transaction, meter_value=value))

    async def stop(self, meter=900):
        return await self.call(
            call16.StopTransaction(transaction_id=self.transaction, meter_stop=meter, timestamp=stamp(), id_tag="TAG")
        )


class Station201(ChargePoint201):
    version = "ocpp2.0.1"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = Limits()
        self.transaction = None
        self.sequence = 0

    @on("SetChargingProfile")
    def on_profile(self, evse_id, charging_profile):
        self.seen.take(evse_id, charging_profile)
        return result201.SetChargingProfile(status="Accepted")

    @on("ClearChargingProfile")
    def on_clear(self, **_):
        return result201.ClearChargingProfile(status="Unknown")

    @on("GetChargingProfiles")
    def on_profiles_asked(self, **_):
        return result201.GetChargingProfiles(status="NoProfiles")

    @on("SetVariables")
    def on_variables(self, set_variable_data):
        self.seen.configured += [(d["variable"]["name"], d["attribute_value"]) for d in set_variable_data]
        results = [
            {"attribute_status": "Accepted", "component": d["component"], "variable": d["variable"]}
            for d in set_variable_data
        ]
        return result201.SetVariables(set_variable_result=results)

    @on("TriggerMessage")
    def on_trigger(self, **_):
        return result201.TriggerMessage(status="NotImplemented")

    async def boot(self):
        station = {"vendor_name": "V", "model": "M"}
        return (await self.call(call201.BootNotification(charging_station=station, reason="PowerUp"))).status

    async def event(self, kind, trigger, *, meter=None, token=None, **info):
        self.sequence += 1
        extra = {} if token is None else {"id_token": {"id_token": token, "type": "ISO14443"}}
        if meter is not None:
            extra["meter_value"] = [{"timestamp": stamp(), "sampled_value": meter}]
        return await self.call(
            call201.TransactionEvent(
                event_type=kind, timestamp=stamp(), trigger_reason=trigger, seq_no=self.sequence,
                transaction_info={"transaction_id": self.transaction, **info}, evse={"id": 1, "connector_id": 1}, **extra,
            )
        )  # fmt: skip

    async def start(self, token="TAG", meter=100):
        self.transaction = f"tx-{self.id}-{stamp()}"[:36]
        status = call201.StatusNotification(timestamp=stamp(), connector_status="Occupied", evse_id=1, connector_id=1)
        await self.call(status)
        sampled = [{"value": meter, "measurand": "Energy.Active.Import.Register"}]
        return await self.event("Started", "Authorized", token=token, meter=sampled, charging_state="Charging")

    async def meter(self, *amps):
        sampled = [{"value": a, "measurand": "Current.Import", "phase": f"L{i}-N"} for i, a in enumerate(amps, 1)]
        await self.event("Updated", "MeterValuePeriodic", meter=sampled, charging_state="Charging")

    async def stop(self, meter=900):
        sampled = [{"value": meter, "measurand": "Energy.Active.Import.Register"}]
        return await self.event("Ended", "StopAuthorized", meter=sampled, stopped_reason="Local")


@contextlib.asynccontextmanager
async def station(kind, address, name="S1", headers=None, **options) -> AsyncIterator:
    """A connected station; what it is asked it answers in the background."""
    async with connect(
        f"{address}/{name}", subprotocols=[kind.version], proxy=None, additional_headers=headers or {}, **options
    ) as ws:
        peer = kind(name, ws)
        peer.ws = ws
        task = asyncio.create_task(peer.start_reading())
        try:
            yield peer
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


class Station21(Station201):
    """The library's messages of 2.0.1, which it checks against the schemas of 2.1.

    In 2.1 the library leaves unanswered what it has no handler for, so there is one for all that it is asked.
    """

    version = "ocpp2.1"
    _ocpp_version, _call, _call_result = "2.1", call21, result21

    @on("GetVariables")
    def on_variables_asked(self, get_variable_data):
        told = [{**asked, "attribute_status": "UnknownVariable"} for asked in get_variable_data]
        return result21.GetVariables(get_variable_result=told)

    @on("GetCompositeSchedule")
    def on_composite_asked(self, **_):
        return result21.GetCompositeSchedule(status="Rejected")


def _readable(kind):
    """The library calls its reading loop ``start``, a word our stations need for transactions."""
    kind.start_reading = kind.__mro__[1].start
    return kind


_readable(Station16)
_readable(Station201)


class Cloud16(ChargePoint16):
    """The cloud's side of one 1.6 connection."""

    def __init__(self, *args, book, **kwargs):
        super().__init__(*args, **kwargs)
        self.book = book

    @on("BootNotification")
    def on_boot(self, **payload):
        self.book.messages.append((self.id, "BootNotification", payload))
        return result16.BootNotification(current_time=stamp(), interval=300, status="Accepted")

    @on("Heartbeat")
    def on_heartbeat(self):
        return result16.Heartbeat(current_time=stamp())

    @on("Authorize")
    def on_authorize(self, id_tag):
        return result16.Authorize(id_tag_info={"status": "Accepted" if id_tag == "TAG" else "Invalid"})

    @on("StatusNotification")
    def on_status(self, **payload):
        self.book.messages.append((self.id, "StatusNotification", payload))
        return result16.StatusNotification()

    @on("MeterValues")
    def on_meter(self, **payload):
        self.book.messages.append((self.id, "MeterValues", payload))
        return result16.MeterValues()

    @on("StartTransaction")
    def on_start(self, **payload):
        self.book.next_id += 1
        self.book.messages.append((self.id, "StartTransaction", payload | {"given": self.book.next_id}))
        return result16.StartTransaction(transaction_id=self.book.next_id, id_tag_info={"status": "Accepted"})

    @on("StopTransaction")
    def on_stop(self, **payload):
        self.book.messages.append((self.id, "StopTransaction", payload))
        return result16.StopTransaction()


class Cloud201(ChargePoint201):
    """The cloud's side of one 2.0.1 connection."""

    def __init__(self, *args, book, **kwargs):
        super().__init__(*args, **kwargs)
        self.book = book

    @on("BootNotification")
    def on_boot(self, **payload):
        self.book.messages.append((self.id, "BootNotification", payload))
        return result201.BootNotification(current_time=stamp(), interval=300, status="Accepted")

    @on("Heartbeat")
    def on_heartbeat(self):
        return result201.Heartbeat(current_time=stamp())

    @on("Authorize")
    def on_authorize(self, id_token, **_):
        return result201.Authorize(id_token_info={"status": "Accepted" if id_token["id_token"] == "TAG" else "Unknown"})

    @on("StatusNotification")
    def on_status(self, **payload):
        self.book.messages.append((self.id, "StatusNotification", payload))
        return result201.StatusNotification()

    @on("TransactionEvent")
    def on_event(self, **payload):
        self.book.messages.append((self.id, "TransactionEvent", payload))
        return result201.TransactionEvent()

    @on("ReportChargingProfiles")
    def on_report(self, **payload):
        self.book.messages.append((self.id, "ReportChargingProfiles", payload))
        return result201.ReportChargingProfiles()


class Cloud21(Cloud201):
    _ocpp_version, _call, _call_result = "2.1", call21, result21


CLOUDS = {"ocpp1.6": Cloud16, "ocpp2.0.1": Cloud201, "ocpp2.1": Cloud21}


class Cloud:
    """A cloud that can be stopped and started again on the same port."""

    def __init__(self, tls=None):
        self.port = free_port()
        self.tls = tls
        self.url = f"{'ws' if tls is None else 'wss'}://127.0.0.1:{self.port}/cloud"
        self.requests = []
        self.book = SimpleNamespace(messages=[], next_id=7000)
        self.peers = {}
        self._server = None

    def count(self, action, **match):
        return len([m for m in self.messages(action) if all(m.get(k) == v for k, v in match.items())])

    def messages(self, action):
        return [payload for _, name, payload in self.book.messages if name == action]

    async def start(self):
        self._server = await serve(
            self._serve, "127.0.0.1", self.port, subprotocols=list(CLOUDS), close_timeout=0.5, ssl=self.tls
        )

    async def _serve(self, ws):
        name = ws.request.path.rsplit("/", 1)[-1]
        self.requests.append((ws.request.headers, ws.transport.get_extra_info("peercert")))
        self.peers[name] = peer = CLOUDS[ws.subprotocol](name, ws, book=self.book)
        with contextlib.suppress(Exception):
            await peer.start()

    async def stop(self):
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None


@contextlib.asynccontextmanager
async def cloud(tls=None) -> AsyncIterator[Cloud]:
    running = Cloud(tls)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
