"""The composition root: a site file in, a running controller out. Only this module joins concrete classes."""

import asyncio
import contextlib
import hashlib
import logging
import signal
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib import metadata
from math import inf
from pathlib import Path
from typing import Any

import adapters
from adapters.modbus.maps import known_models
from adapters.virtual import cars
from cem.battery_watch import BatteryWatch
from cem.clock import SystemClock
from cem.commanded import contactors_of, resource_commander, stations_of, wallbox_devices
from cem.config.channels import channels
from cem.config.contact_models import ContactorSection, ContactSection
from cem.config.formula import CARS
from cem.config.loader import LoadedSite, load_site_file
from cem.config.models import Device, ExternalLimit, SiteFile, Virtual, Web
from cem.contacts import Contacts
from cem.control import Control, Cycle
from cem.core.engine import Plan
from cem.core.limits import LimitKind
from cem.core.load_shed import Contact
from cem.core.site import Site
from cem.core.state import EvseState, Measurement
from cem.core.timings import Timings
from cem.csms.site_picture import SiteTold, site_told
from cem.loop import quieten
from cem.memory import settle
from cem.ports import Adapter, ContactReader, Event, FieldAdapter
from cem.replay import Recorder
from cem.sd_notify import SystemdNotifier
from cem.store import MinuteRollups, Store
from cem.supervise import keep_running
from cem.web.server import WebServer
from cem.web.snapshot import SnapshotCell
from cem.web.view import site_view, why_view
from cem.wishes import Wishes

log = logging.getLogger(__name__)
COMMAND_TIMEOUT_S = 240.0
PICTURE_S = 0.5
"""A picture is drawn at most this often: cycles that news start follow each other faster than anybody looks."""


def run_site(path: Path) -> int:
    """Run the controller of a site file until SIGTERM or SIGINT.

    Args:
        path: The site file.

    Returns:
        Exit code 0 after an orderly stop.

    Raises:
        ConfigError: The site file cannot be used.
        CemError: The storage or an address cannot be had.
    """
    loaded = load_site_file(path, known_models=known_models())
    for warning in loaded.warnings:
        log.warning("%s", warning)
    with contextlib.suppress(ImportError):  # the stock loop works too, with more memory a TLS connection
        import uvloop  # noqa: PLC0415 - 30 ms that `cem check` should not pay

        code: int = uvloop.run(_serve(loaded))
        return code
    return asyncio.run(_serve(loaded))


class _Minutes:
    """Counts the history's minutes from control's cycles."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan, self._store = plan, store
        self._rollups = MinuteRollups()

    def take(self, cycle: Cycle, view: dict[str, Any]) -> None:
        for rollup in self._rollups.turn(cycle.at_utc):
            self._store.add_rollup(rollup)
        for zone_id, zone in view["zones"].items():
            self._rollups.sample(
                "zone",
                zone_id,
                measured_a=zone["measured_a"],
                granted_a=zone["granted_a"],
                limit_a=zone["limit_a"],
                binding=zone["limit_source"],
            )
        for evse_id, evse in view["evses"].items():
            self._rollups.sample(
                "evse",
                evse_id,
                measured_a=evse["measured_a"],
                granted_a=(evse["setpoint_a"],),
                limit_a=(evse["target_a"],),
                binding=evse["reason"],
            )


async def _serve(loaded: LoadedSite) -> int:
    file, site = loaded.file, loaded.site
    clock = SystemClock()
    plan = Plan.of(site, timings(file))
    directory = (loaded.path.parent / file.storage.directory).resolve()
    store = Store(directory, history_days=file.storage.history_days)
    notifier = SystemdNotifier()
    view = SnapshotCell()
    minutes = _Minutes(plan, store)

    def on_event(event: Event) -> None:
        log.info("%s", event.text)
        store.note(event)

    cycles: deque[Cycle] = deque(maxlen=1)
    batteries = BatteryWatch(site.resources, on_event)
    apart_s, drawn_s = min(PICTURE_S, file.control.cycle_s / 2), -inf

    def on_cycle(cycle: Cycle) -> None:
        nonlocal drawn_s
        cycles.append(cycle)
        batteries.take(cycle.state, cycle.decision)
        notifier.cycle_done()
        if cycle.state.now_s < drawn_s + apart_s:
            return
        drawn_s = cycle.state.now_s
        told = [field.problems() for field in fields] + [each.problems() for each in commanders]
        troubles = [f"{device}: {text}" for each in told for device, text in sorted(each.items())]
        picture = site_view(plan, cycle, stations.status(), (*store.problems(), *troubles))
        view.set(picture, partial(why_view, plan, cycle))
        minutes.take(cycle, picture)

    news: list[Control] = []

    def on_news() -> None:
        for control in news:
            control.news()

    fields = field_adapters(file, clock, on_news)
    fields += virtual_meters(file, clock, on_news, tuple(fields), lambda: evses.evse_states(clock.monotonic_s()))
    commander = resource_commander(file, site, fields, clock, on_event)
    stations = adapters.create(
        "ocpp", file.csms, [s for s in file.stations if s.modbus is None], site, store, clock, on_news, on_event,
        folder=loaded.path.parent, directory=directory,
    )  # fmt: skip
    fields += _identities(loaded, store, clock, on_news, on_event, lambda own: _told(plan, cycles, own))
    evses, wallboxes = stations_of(file, site, fields, stations, store, clock, on_news, on_event)
    commanders = [each for each in (commander, wallboxes) if each is not None]
    utc = clock.utc()
    recorder = _recorder(loaded, plan, directory)
    loop = asyncio.get_running_loop()
    wishes = Wishes(site, store, lambda: loop.call_soon_threadsafe(on_news))
    control = Control(
        plan,
        clock,
        fields,
        evses,
        channels(file, site),
        store,
        on_event,
        on_cycle,
        cycle_s=file.control.cycle_s,
        resumed_a={grant.evse_id: grant.limit_a for grant in store.grants().values() if grant.expires_utc > utc},
        record=None if recorder is None else recorder.take,
        wishes=wishes,
        resources=commander,
        contactors=contactors_of(file, plan, fields, on_event),
        contacts=Contacts(contacts(file, site), partial(_read_contacts, fields), store, on_event, clock.monotonic_s()),
    )
    news.append(control)
    commands = _Commands(loop, stations) if _control_allowed(file.web) else None
    web = WebServer(
        file.web.host,
        file.web.port,
        view,
        site_name=site.name,
        cycle_s=file.control.cycle_s,
        sessions=store.sessions,
        events=store.events,
        version=metadata.version("cem-site-controller"),
        wish=wishes.hand_in if _control_allowed(file.web) else None,
        queue=store.queue,
        forget=partial(_forget, loop, stations.forgetter) if _control_allowed(file.web) else None,
        commands=commands,
        queue_commands=commands,
    )
    outward = _outward(file, view, wishes, clock)
    stop = asyncio.Event()
    settle()
    quieten(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await asyncio.to_thread(web.start)
        log.info("page and API at %s", web.url)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(keep_running(adapter, clock), name=adapter.name)
                for adapter in (*fields, stations, *outward, *commanders)
            ]
            tasks.append(group.create_task(control.run(), name="control"))
            notifier.ready()
            await stop.wait()
            notifier.stopping()
            for task in tasks:
                task.cancel()
    finally:
        await asyncio.to_thread(web.stop)
        if recorder is not None:
            await asyncio.to_thread(recorder.close)
        await asyncio.to_thread(store.close)
    return 0


class _Commands:
    """The operator's commands to stations and queues, from the web's threads, which wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stations: Any) -> None:
        self._loop, self._stations = loop, stations

    def rotate(self, station_id: str) -> dict[str, Any]:
        return {"id": station_id, "state": self._wait(self._stations.workflows.rotate(station_id))}

    def migrate(self, station_id: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": station_id, "done": self._wait(self._stations.workflows.migrate(station_id, **asked))}

    def retry(self, station_id: str | None) -> int:
        return int(self._wait(self._stations.queues.retry(station_id)))

    def set_aside(self, station_id: str, upstream_id: str | None, seq: int | None) -> dict[str, Any]:
        return dict(self._wait(self._stations.queues.set_aside(station_id, upstream_id, seq)))

    def _wait(self, asked: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result(COMMAND_TIMEOUT_S)


def _forget(
    loop: asyncio.AbstractEventLoop, forgetter: Any, tag: str, keep_local_tag: bool, signed_too: bool
) -> dict[str, Any]:
    """Has a tag forgotten by the running controller; from another thread, which waits."""
    asked = forgetter.forget([tag], by="command", keep_local_tag=keep_local_tag, signed_too=signed_too)
    return asdict(asyncio.run_coroutine_threadsafe(asked, loop).result(COMMAND_TIMEOUT_S)[tag])


def _recorder(loaded: LoadedSite, plan: Plan, directory: Path) -> Recorder | None:
    megabytes = loaded.file.storage.replay_mb
    if megabytes == 0:
        return None
    return Recorder(
        directory / "replay",
        plan,
        version=metadata.version("cem-site-controller"),
        site_file_sha256=hashlib.sha256(loaded.path.read_bytes()).hexdigest(),
        max_bytes=megabytes * 1_000_000,
    )


def _control_allowed(web: Web) -> bool:
    """Setting modes needs no login yet, so where nobody said so it is for this machine alone."""
    return web.host in {"127.0.0.1", "::1", "localhost"} if web.allow_control is None else web.allow_control


def timings(file: SiteFile) -> Timings:
    """The control section as the engine wants it."""
    control = file.control
    return Timings(
        raise_interval_s=control.raise_interval_s,
        raise_rate_a_per_s=control.raise_rate_a_per_s,
        hold_off_s=control.hold_off_s,
        peak_hold_s=control.peak_hold_s,
        min_off_s=control.min_off_s,
        rotation_s=control.rotation_s,
        reaction_s=control.reaction_s,
    )


def contacts(file: SiteFile, site: Site) -> tuple[Contact, ...]:
    """The digital inputs as their state machine wants them."""
    return tuple(
        Contact(
            contact.id,
            contact.zone or site.root.zone_id,
            release_delay_s=contact.release_delay_s,
            lost_after_s=contact.lost_after_s,
            value_w=contact.limit_w,
            kind=LimitKind(contact.limits) if contact.kind == "ripple_control" else LimitKind.LOAD,
            lost_is_active=contact.missing == "active",
        )
        for contact in file.contacts
    )


def _read_contacts(fields: Sequence[FieldAdapter]) -> dict[str, bool | None]:
    return {
        name: acts for field in fields if isinstance(field, ContactReader) for name, acts in field.contacts().items()
    }


def field_adapters(file: SiteFile, clock: SystemClock, news: Any) -> list[FieldAdapter]:
    """One adapter for each connection; devices and contacts behind one address share it."""
    groups: dict[tuple[object, ...], _Group] = defaultdict(lambda: ([], [], []))
    for device in (d for d in (*file.devices, *wallbox_devices(file)) if not isinstance(d.connection, Virtual)):
        groups[device.connection.line][0].append(device)
    for contact in file.contacts:
        groups[contact.connection.line][1].append(contact)
    for contactor in file.contactors:
        groups[contactor.connection.line][2].append(contactor)
    made = [_field(group, clock, news) for group in groups.values()]
    return made + [_limit(limit, clock, news) for limit in file.external_limits]


def virtual_meters(
    file: SiteFile,
    clock: SystemClock,
    news: Any,
    fields: Sequence[FieldAdapter],
    evses: Callable[[], Mapping[str, EvseState]],
) -> list[FieldAdapter]:
    """The adapter that works meters out from those of the others; none where the site has none."""
    devices = [device for device in file.devices if isinstance(device.connection, Virtual)]
    if not devices:
        return []
    nominal_v = file.site.grid_connection.nominal_voltage_v

    def read() -> dict[str, Measurement]:
        found = {name: one for field in fields for name, one in field.measurements().items()}
        drawn = cars(evses().values(), clock.monotonic_s(), nominal_v)
        return found if drawn is None else {**found, CARS: drawn}

    return [adapters.create("virtual", devices, clock, news, read)]


_Group = tuple[list[Device], list[ContactSection], list[ContactorSection]]
"""What is behind one connection."""


def _field(group: _Group, clock: SystemClock, news: Any) -> FieldAdapter:
    devices = group[0]
    anyone: Device | ContactSection | ContactorSection = (devices or group[1] or group[2])[0]
    connection = anyone.connection
    more = group[1:] if group[2] else group[1:2] if group[1] else ()
    adapter: FieldAdapter = adapters.create(connection.kind, connection, devices, clock, news, *more)
    return adapter


def _outward(file: SiteFile, view: SnapshotCell, wishes: Wishes, clock: SystemClock) -> list[Adapter]:
    """What tells others of the site, besides the web."""
    if file.mqtt_out is None:
        return []

    def picture() -> Any:
        snapshot = view.get()
        return None if snapshot is None else snapshot.view

    version = metadata.version("cem-site-controller")
    made: Adapter = adapters.create(
        "mqtt_out", file.mqtt_out, picture, wishes.latest, wishes.hand_in, clock, version=version
    )
    return [made]


def _told(plan: Plan, cycles: Sequence[Cycle], own: Collection[str]) -> SiteTold | None:
    return site_told(plan, cycles[-1].decision, own) if cycles else None


def _identities(
    loaded: LoadedSite, store: Store, clock: SystemClock, news: Any, on_event: Any, told: Callable[..., SiteTold | None]
) -> list[FieldAdapter]:
    """The site's own stations, one towards each upstream that knows it."""
    return [
        adapters.create(
            "ocpp_identity", upstream, loaded.site, store, clock, news, on_event,
            partial(told, upstream.limit_names.values()),
            folder=loaded.path.parent, version=metadata.version("cem-site-controller"),
        )
        for upstream in loaded.file.csms.upstreams
        if upstream.own_identity is not None
    ]  # fmt: skip


def _limit(limit: ExternalLimit, clock: SystemClock, news: Any) -> FieldAdapter:
    adapter: FieldAdapter = adapters.create("opcua_limit", limit, clock, news)
    return adapter
