"""The address stations dial: handshakes, credentials, the waiting room, and one link per station of the site file."""

import asyncio
import itertools
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from adapters.ocpp.buckets import source
from adapters.ocpp.carrier import Carrier, carried_by
from adapters.ocpp.direct import StationConnection
from adapters.ocpp.door import Door, names_versions
from adapters.ocpp.link import StationLink
from adapters.ocpp.listener import listen
from adapters.ocpp.options import options_of
from adapters.ocpp.privacy import Forgetter
from adapters.ocpp.pulse import Pulse
from adapters.ocpp.queues import Queues
from adapters.ocpp.reader import StationReader
from adapters.ocpp.tls import Revoked, ServerTls, upstream_context
from adapters.ocpp.waiting_room import WaitingRoom
from adapters.ocpp.workflows import Workflows
from cem import pki
from cem.access import Access
from cem.config.csms_models import Csms
from cem.config.models import StationSection
from cem.core.site import Site
from cem.core.state import EvseState
from cem.csms.actions import PRIMARY
from cem.csms.moment import Now
from cem.csms.pace import Room, Shared
from cem.csms.records import kept_key
from cem.csms.session import StationSession
from cem.csms.token_cache import TokenCache
from cem.csms.twins import Twins
from cem.csms.versions import DIALECTS
from cem.ports import Clock, Event, News, StationStore

TICK_S = 0.25
IDLE_TICKS = 4
"""A station that waits for nothing is looked at every so many ticks."""
PING_STATIONS_S, PING_CLOUDS_S = 14, 30
"""A dead station is cut off after one to two of these times: within the 30 s in which S1 must be seen."""
CHALLENGE_S = 5.0
LONGEST_ID = 48
MOST_TOLD = 1000
REFRESH_S = 5.0
"""How often renewed and revoked certificates and decisions by command are looked for."""


def _kept(store: StationStore, station_id: str, name: str) -> Any:
    return store.load_state(kept_key(station_id, name))


def identity(path: str) -> str:
    """The station's identity: the last part of the path, percent-decoded; empty where there is none."""
    parts = [part for part in urlsplit(path).path.split("/") if part]
    return unquote(parts[-1]) if parts else ""


class OcppServer:
    """Serves stations over OCPP 1.6J, 2.0.1 and 2.1; implements ``ports.Adapter`` and ``ports.EvseControl``.

    Args:
        csms: The section of the site file.
        stations: Those that may connect.
        site: For the EVSEs and the nominal voltage.
        store: Records, and what was on record when we start.
        clock: Time.
        news: Wakes control.
        on_event: Told what is worth telling people.
        folder: What paths in the section are relative to.
        directory: The storage directory: what was decided by command, and the site's own CA; ``None``: nothing.
    """

    name = "ocpp"

    def __init__(
        self,
        csms: Csms,
        stations: Sequence[StationSection],
        site: Site,
        store: StationStore,
        clock: Clock,
        news: News,
        on_event: Callable[[Event], None],
        *,
        folder: Path = Path(),
        directory: Path | None = None,
    ) -> None:
        self._csms = csms
        self._clock = clock
        self._on_event = on_event
        self._folder = folder
        self._pki = None if directory is None else pki.folder(directory)
        self._access = Access(directory)
        revoked = Revoked(None if self._pki is None else self._pki / pki.CRL, pki.revoked_serials)
        self._links: dict[str, StationLink] = {}
        self._restless: dict[StationLink, None] = {}
        self._pulse_down, self._pulse_up = Pulse(PING_STATIONS_S), Pulse(PING_CLOUDS_S)
        self.forgetter = Forgetter(self._links.values(), store, directory)
        self.queues = Queues(self._links)
        self.workflows = Workflows(self._links, self.forgetter, directory, self._emit)
        self._door = Door(
            stations,
            csms.security_profile,
            self._access,
            revoked,
            clock,
            self._tell_once,
            self._over,
            self.workflows.came_in_with_next,
            carried_by(stations),
        )
        self._tls: ServerTls | None = None
        self._twins: dict[str, Twins] = {station.id: Twins() for station in stations}
        self._room = WaitingRoom(self._now, self._tell_once)
        self._told: set[tuple[str, str]] = set()
        self._upstreams = {PRIMARY if up.role == "primary" else up.id: up for up in csms.upstreams if up.role != "site"}
        self._carrier = Carrier(carried_by(stations), self._upstreams.get(PRIMARY))
        self._up: dict[str, set[str]] = {name: set() for name in self._upstreams}
        self._lost: set[str] = set()
        self.port: int | None = None
        self.tls_port: int | None = None
        self.listening = asyncio.Event()
        signs = self._pki is not None and (self._pki / pki.CA_KEY).exists()
        options = options_of(csms, self._upstreams, self._access.tags, signs=signs)
        now = self._now()
        registrations, grants, open_sessions = store.registrations(), store.grants(), store.open_sessions()
        journal, id_maps = store.journal(), store.id_maps()
        shared = Shared(
            Room(stations=max(1, len(stations))), csms.replay_per_s,
            TokenCache(timedelta(days=csms.authorization_cache_days)),
        )  # fmt: skip
        shared.cache.restore(store.tokens())
        self._evse_links: dict[str, tuple[StationLink, int]] = {}
        for station in stations:
            evses = [evse for evse in site.evses if evse.station_id == station.id]
            own = replace(options, end_to_end=station.cloud_profiles == "end_to_end")
            session = StationSession(
                station.id, evses, site.nominal_voltage_v, own, lambda: str(uuid.uuid4()),
                store.next_transaction_id, shared,
            )  # fmt: skip
            session.restore(
                registrations.get(station.id), grants, open_sessions, partial(_kept, store, station.id), now,
                journal.get(station.id, ()), id_maps.get(station.id, ()),
            )  # fmt: skip
            link = StationLink(
                session,
                self._upstreams,
                store,
                self._now,
                lambda emit, who=station.id: self._emit(emit.code, who, emit.text, emit.data),  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                news,
                lambda name, up, why, who=station.id: self._uplink_changed(name, who, up, why),  # type: ignore[misc]  # as above
                partial(self.workflows.aside, station.id),
            )
            link.restless, link.pulse = self._restless, self._pulse_up
            self._links[station.id] = link
            self._evse_links.update({evse.evse_id: (link, evse.number) for evse in evses})

    def _now(self) -> Now:
        return Now(self._clock.monotonic_s(), self._clock.utc())

    # -- what control sees ------------------------------------------------------------------------------------------

    def evse_states(self, now_s: float) -> Mapping[str, EvseState]:
        """Every EVSE of the site file, connected or not."""
        found = {s.evse_id: s for link in self._links.values() for s in link.session.evse_states(now_s)}
        for station_id, twins in self._twins.items():
            if twins.suspected(now_s):
                fault = f"two stations dial as {station_id}; neither can be held"
                states = self._links[station_id].session.evse_states(now_s)
                found.update({s.evse_id: replace(s, fault=fault) for s in states})
        return found

    def apply(self, now_s: float, setpoints_a: Mapping[str, float], phases: Mapping[str, int] | None = None) -> None:
        """Hands each setpoint to its session, in the order given; delivery is theirs."""
        del now_s  # sessions read both clocks together
        for evse_id, amps in setpoints_a.items():
            found = self._evse_links.get(evse_id)
            if found is not None:
                link, number = found
                link.do(partial(link.session.set_limit, number, amps, phases=(phases or {}).get(evse_id, 0)))

    def status(self) -> Mapping[str, Any]:
        """For the API: stations, the waiting room, and whether the cloud is there."""
        return {
            "port": self.port,
            "stations": [
                link.session.status() | {"security_profile": self._door.profile(who)}
                for who, link in self._links.items()
            ],
            "waiting_room": self._room.status(),
            "carried": self._carrier.status(),
            "upstream": self._upstream_status(PRIMARY) if PRIMARY in self._upstreams else None,
            "observers": [self._upstream_status(name) for name in self._upstreams if name != PRIMARY],
        }

    # -- telling people ---------------------------------------------------------------------------------------------

    def _emit(self, code: str, subject: str, text: str, data: Mapping[str, float | str | None] | None = None) -> None:
        now = self._now()
        self._on_event(Event(now.utc, now.s, code, subject, text, data or {}))

    def _first(self, matter: str, who: str) -> bool:
        """Whether this matter of this station is new; told once, however often it knocks."""
        if (matter, who) in self._told:
            return False
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told.add((matter, who))
        return True

    def _upstream_status(self, name: str) -> dict[str, Any]:
        return {"id": self._upstreams[name].id, "lost": name in self._lost, "uplinks": len(self._up[name])}

    def _tell_once(self, code: str, who: str, text: str) -> None:
        if self._first(code, who):
            self._emit(code, who, text)

    def _over(self, code: str, who: str) -> None:
        self._told.discard((code, who))

    def _uplink_changed(self, name: str, station_id: str, up: bool | None, why: str) -> None:
        """A CSMS counts as lost when no uplink is left, and as back with the first one."""
        upstream, uplinks = self._upstreams[name], self._up[name]
        if up:
            uplinks.add(station_id)
            if name in self._lost:
                self._lost.discard(name)
                self._emit("csms_back", upstream.id, f"Upstream {upstream.id} is back")
        else:
            uplinks.discard(station_id)
            if up is not None and not uplinks and name not in self._lost:
                self._lost.add(name)
                text = f"Upstream {upstream.id} at {upstream.url} is away: {why}. Stations are served here meanwhile"
                self._emit("csms_lost", upstream.id, text)

    # -- sockets ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serves until cancelled.

        Raises:
            DeviceMisconfigured: The address cannot be listened on.
        """
        place = self._csms.listen
        if place.tls is not None:
            site_ca = None if self._pki is None else self._pki / pki.CA_CERTIFICATE
            self._tls = ServerTls(place.tls, self._folder, site_ca)
        contexts = {name: upstream_context(upstream, self._folder) for name, upstream in self._upstreams.items()}
        self._carrier.tls = contexts.get(PRIMARY)
        try:
            async with AsyncExitStack() as stack:
                judge, handler = self._process_request, self._serve_station
                if place.tls is None or place.tls.port is not None:
                    self.port = await listen(stack, place.host, place.port, None, judge, handler)
                if place.tls is not None:
                    port = place.tls.port or place.port
                    self.tls_port = await listen(stack, place.host, port, self._tls, judge, handler)
                async with asyncio.TaskGroup() as tasks:
                    self.listening.set()
                    for link in self._links.values():
                        link.upstream_tls = contexts
                        tasks.create_task(link.run(tasks))
                    tasks.create_task(self._tick())
                    tasks.create_task(self._pulse_down.run())
                    tasks.create_task(self._pulse_up.run())
                    tasks.create_task(self._renew())
                    tasks.create_task(self.forgetter.run())
        finally:
            self.listening.clear()

    async def _renew(self) -> None:
        while True:
            for text in self._access.changes():
                self._emit("access_changed", "csms", text)
            self._room.turn_away(self._access.rejected)
            for who, link in self._links.items():
                if link.socket is not None and not self._door.still_good(link.socket.transport, who):
                    link.socket.transport.abort()
            await asyncio.sleep(REFRESH_S)
            problem = None if self._tls is None else self._tls.refresh()
            if problem is not None:
                self._tell_once("certificate_unusable", "csms", problem)

    async def _tick(self) -> None:
        """Who waits for something each time, all others a quarter at a time."""
        links, restless = list(self._links.values()), self._restless
        for turn in itertools.count():
            waiting = [link for link in restless if link.waits]
            restless.clear()
            restless.update(dict.fromkeys(waiting))
            # Another one first each time, so that what all share, the pace of a replay, is shared evenly.
            first = turn % max(1, len(waiting))
            for link in (*waiting[first:], *waiting[:first], *links[turn % IDLE_TICKS :: IDLE_TICKS]):
                link.tick()
            await asyncio.sleep(TICK_S)

    async def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuses before the handshake: who knocks too often, who is not wanted, and wrong credentials."""
        who = identity(request.path)
        host = _host(connection)
        refusal = self._door.too_often(host, who[:LONGEST_ID])
        if refusal is None and who in self._links:
            refusal = await self._door.refusal(connection.transport, request.headers, host, who)
        elif refusal is None and who in self._carrier:
            refusal = await self._door.refusal(connection.transport, request.headers, host, who)
            refusal = refusal or await self._carrier.reach(connection, request, who)
        elif refusal is None:
            known_shape = 0 < len(who) <= LONGEST_ID and who.isprintable() and not self._access.rejected(who)
            if not known_shape or not self._csms.waiting_room or not self._room.admits(who):
                refusal = HTTPStatus.NOT_FOUND, "no such charging station\n"
        if refusal is None:
            return None
        status, text = refusal
        response = connection.respond(status, text)
        if status is HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = 'Basic realm="OCPP", charset="UTF-8"'
        elif status is HTTPStatus.TOO_MANY_REQUESTS:
            response.headers["Retry-After"] = "30"
        return response

    async def _serve_station(self, socket: StationConnection) -> None:
        with self._pulse_down.watches(socket):
            await self._serve(socket)

    async def _serve(self, socket: StationConnection) -> None:
        who = identity(socket.request.path) if socket.request is not None else ""
        subprotocol = socket.subprotocol or self._door.assumed(socket.request, who)
        if subprotocol is None:
            if self._first("subprotocol", who):
                does = f"it speaks none of {', '.join(DIALECTS)}"
                if not names_versions(socket.request):
                    does = "it names no version of OCPP; assume_subprotocol in the site file says which one it speaks"
                self._emit("station_subprotocol", who, f"{who} was refused: {does}")
            await socket.close(1002, "no common subprotocol")
            return
        link = self._links.get(who)
        if who in self._carrier:
            await self._carrier.serve(socket, who)
        elif link is None:
            await self._room.serve(socket, who, subprotocol)
        elif await self._replaces(socket, link):
            await self._serve_known(socket, link, subprotocol)

    async def _replaces(self, socket: ServerConnection, link: StationLink) -> bool:
        """S11: a second connection takes over only where the first no longer answers a ping."""
        old = link.socket
        if old is None:
            return True
        try:
            async with asyncio.timeout(CHALLENGE_S):
                await (await old.ping())
        except (TimeoutError, ConnectionClosed):
            old.transport.abort()
            await link.free.wait()  # its handler still has to say goodbye
            return link.socket is None
        who = link.session.station_id
        self._emit("station_duplicate", who, f"A second connection as {who} was refused: the first one is alive")
        self._twins[who].refused(self._clock.monotonic_s())
        self._tell_twins(who)
        await socket.close(1008, "already connected")
        return False

    def _tell_twins(self, who: str) -> None:
        """S12."""
        if not self._twins[who].suspected(self._clock.monotonic_s()):
            self._over("station_twice", who)
        elif self._first("station_twice", who):
            text = f"Two stations dial as {who}: give one of them another identity. Until then neither is controlled"
            self._emit("station_twice", who, text)

    async def _serve_known(self, socket: StationConnection, link: StationLink, subprotocol: str) -> None:
        who = link.session.station_id
        self._twins[who].connected(source(_host(socket)), self._clock.monotonic_s())
        self._tell_twins(who)
        link.opened(socket, subprotocol)
        reader = StationReader(who, self._clock.monotonic_s, link.frame, self._emit, self._tell_once)
        try:
            await reader.run(socket)
        finally:
            link.closed()


def _host(connection: ServerConnection) -> str:
    address = connection.remote_address
    return str(address[0]) if address else ""
