"""The site's own station towards one upstream: its websocket, its records, and its limit as control hears it."""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from adapters.ocpp.tls import upstream_context
from adapters.ocpp.upstream import UpstreamLink
from cem.config.channels import built_most
from cem.config.csms_models import OwnIdentity, Upstream
from cem.core.limits import LimitSignal
from cem.core.site import Site
from cem.core.state import Measurement
from cem.csms.actions import Action, Emit, Persist, SendUp
from cem.csms.actions import News as Woken
from cem.csms.moment import Now
from cem.csms.records import kept_key
from cem.csms.site_limit import OtherLimit, SiteLimit, SiteMaximum
from cem.csms.site_picture import SiteTold
from cem.csms.site_station import NAME, SiteStation
from cem.csms.versions import DIALECTS
from cem.errors import CemError
from cem.ports import Clock, Event, News, StationStore

TICK_S = 1.0
MOST_BATCHES = 500
"""Actions that wait for the disk; a CSMS that asks faster is cut off (I11)."""
BEATS = 3
"""Heartbeats in the time after which the upstream counts as away."""


class OwnIdentityAdapter:
    """Implements ``ports.FieldAdapter``: two limit signals, one in A and one in W, of which one is active.

    Args:
        upstream: Where to, with its ``own_identity``.
        site: For the grid connection.
        store: Where its profiles are kept.
        clock: Time.
        news: Wakes control.
        on_event: Told what is worth telling people.
        picture: The site now, without limits that this upstream has set; ``None`` before the first cycle.
        folder: What paths in the section are relative to.
        version: Ours, for the upstream.
    """

    def __init__(
        self,
        upstream: Upstream,
        site: Site,
        store: StationStore,
        clock: Clock,
        news: News,
        on_event: Callable[[Event], None],
        picture: Callable[[], SiteTold | None],
        *,
        folder: Path = Path(),
        version: str = "",
    ) -> None:
        own = upstream.own_identity
        if own is None:
            raise CemError(f"upstream {upstream.id} has no own_identity")
        self.name = f"ocpp {own.id} at {upstream.id}"
        self._own: OwnIdentity = own
        self._upstream = upstream if own.password is None else upstream.model_copy(update={"password": own.password})
        self._store = store
        self._clock = clock
        self._news = news
        self._on_event = on_event
        self._picture = picture
        self._folder = folder
        rating_a = site.root.protection.rating_a
        self._most = built_most(site.root, site)
        built = [OtherLimit("EMS", rating_a, "A")]
        if site.root.import_limit_w is not None:
            built.append(OtherLimit("EMS", site.root.import_limit_w, "W"))
        self._subprotocol = f"ocpp{own.ocpp_version}"
        dialect = DIALECTS[self._subprotocol]()
        self._station = SiteStation(
            own.id,
            dialect,
            SiteLimit(dialect, site.nominal_voltage_v, site.phases, built),
            {"vendor": "cem", "model": "Local Controller", "version": version},
            lambda: str(uuid.uuid4()),
            heartbeat_most_s=own.contact_timeout_s / BEATS,
            meter_s=own.meter_interval_s,
        )
        self._station.restore(store.load_state(kept_key(own.id, NAME)), self._now())
        self._link: UpstreamLink | None = None
        self._batches: asyncio.Queue[Sequence[Action]] = asyncio.Queue(MOST_BATCHES)
        self._alive_s: float | None = None
        self._written_s: float | None = self._clock.monotonic_s() if self._station.commanded else None
        self._held: SiteMaximum | None = None
        self._away: str | None = None

    def _now(self) -> Now:
        return Now(self._clock.monotonic_s(), self._clock.utc())

    # -- what control hears -----------------------------------------------------------------------------------------

    def measurements(self) -> Mapping[str, Measurement]:
        """None: it measures nothing."""
        return {}

    def signals(self) -> Mapping[str, LimitSignal]:
        """The limit of this moment, by the schedules that are set; nothing before the upstream was ever heard."""
        if self._alive_s is None and not self._station.commanded:
            return {}
        held = self._station.limit.now(self._clock.utc())
        if held != self._held:
            self._held = held
            self._written_s = self._clock.monotonic_s()
        written_s = self._written_s if self._station.commanded else None
        found = {}
        for unit, limit_id in self._upstream.limit_names.items():
            active = held is not None and held.unit == unit
            # A maximum above what is built limits nothing, which is no reason to refuse it.
            value = min(held.value, self._most[unit]) if held is not None and active else None
            found[limit_id] = LimitSignal(limit_id, value, active, written_s, self._alive_s)
        return found

    def problems(self) -> Mapping[str, str]:
        """Why the upstream cannot be reached now."""
        return {} if self._away is None else {self._own.id: self._away}

    # -- the connection ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Dials and serves until cancelled."""
        link = self._link = UpstreamLink(
            self._upstream,
            self._own.id,
            self._subprotocol,
            tls=upstream_context(self._upstream, self._folder),
            opened=self._opened,
            closed=self._closed,
            frame=self._frame,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(link.run())
                tasks.create_task(self._carry_out())
                tasks.create_task(self._tick())
        finally:
            self._link = None
            self._station.closed(self._now())

    def _opened(self) -> None:
        if self._away is not None:
            self._away = None
            self._tell("site_identity_back", f"{self._own.id} is connected to upstream {self._upstream.id} again")
        self._do(self._station.opened(self._now()))

    def _closed(self, reason: str, _unspoken: bool) -> None:
        text = f"{self._own.id} cannot reach upstream {self._upstream.id} at {self._upstream.url}: {reason}"
        if self._away is None:
            self._tell("site_identity_lost", f"{text}. What it set holds until its own end")
        self._away = text
        self._do(self._station.closed(self._now()))

    def _frame(self, text: str) -> None:
        now = self._now()
        self._do(self._station.frame(text, now))
        if self._station.accepted:
            first = self._alive_s is None
            self._alive_s = now.s
            if first:
                self._news()

    async def _tick(self) -> None:
        while True:
            self._do(self._station.tick(self._now(), self._picture() or SiteTold()))
            await asyncio.sleep(TICK_S)

    def _do(self, actions: Sequence[Action]) -> None:
        if not actions:
            return
        try:
            self._batches.put_nowait(actions)
        except asyncio.QueueFull:
            if self._link is not None:
                self._link.abort()

    async def _carry_out(self) -> None:
        """In order; what follows a record goes out only once that is on disk (D3), and nothing once the link is gone."""
        while True:
            written = True
            for action in await self._batches.get():
                match action:
                    case Persist(records):
                        try:
                            await self._store.commit(records)
                        except CemError as problem:
                            written = False
                            self._tell("records_unwritable", f"{self._own.id}: its limit cannot be kept: {problem}")
                    case SendUp(text, _, durable) if self._link is not None and (written or not durable):
                        self._link.send(text)
                    case Emit(code, text):
                        self._tell(code, text)
                    case Woken():
                        self._written_s = self._clock.monotonic_s()
                        self._news()

    def _tell(self, code: str, text: str) -> None:
        now = self._now()
        self._on_event(Event(now.utc, now.s, code, self._own.id, text))
