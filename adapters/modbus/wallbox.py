"""Modbus wallboxes as EVSEs, behind the same port as OCPP stations: limits written and read back, watchdogs fed."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from adapters.modbus.adapter import ModbusAdapter
from adapters.modbus.sessions import SessionLog
from cem.config.maps import MapState, RegisterMap
from cem.config.models import Device, StationSection
from cem.core.site import Evse
from cem.core.state import EvseState, Measurement
from cem.errors import AdapterError, CemError, DeviceMisconfigured, DeviceRefused, DeviceUnavailable
from cem.ports import Clock, Event, Grant, News, StationStore

WATCHDOG_S = 60
"""A station that hears nothing from us for so long falls back by itself."""

FEED_S = 12.0
"""More often than four times in ``WATCHDOG_S``, with a margin: a Webasto Unite wants its alive register so."""

EXPIRY_MARGIN_S = 10.0
UNHURRIED_S = 300.0
"""How often a limit is written again that does not lapse: the station may have been restarted."""

KEPT = timedelta(days=1)
"""Longer than that nobody vouches for what a station still holds from before a restart."""

STALE_S = 8.0
RETRY_S = 5.0
TICK_S = 1.0


def device_of(station: StationSection) -> Device:
    """The station as a device to read; a dead voltage is no fault in it: some measure behind their contactor."""
    assert station.modbus is not None  # noqa: S101 - for the type checker
    return Device(
        id=station.id,
        role="battery",
        connection=station.modbus.connection,
        model=station.modbus.model,
        poll_s=station.modbus.poll_s,
        phases=1 if station.evses[0].phases == 1 else 3,
    )


@dataclass
class _Box:
    """One station: what it is to hold, what it holds by what it said, and its car."""

    evse: Evse
    map: RegisterMap
    adapter: ModbusAdapter
    poll_s: float
    log: SessionLog
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    want_a: float | None = None
    held_a: float | None = None
    pending_a: float = 0.0
    enabled: bool = False
    guarded: bool = False
    unguarded: str | None = None
    ready: bool = False
    confirmed_s: float | None = None
    kept_a: float | None = None
    fed_s: float = -math.inf
    written_s: float = -math.inf
    plugged: bool | None = None
    since_s: float | None = None
    problem: str | None = None
    refuses: bool = False

    @property
    def name(self) -> str:
        return self.evse.station_id


class ModbusStations:
    """Implements ``ports.Adapter`` and ``ports.EvseControl`` for the stations of a site that have ``modbus``.

    Args:
        evses: Their EVSEs, one each.
        maps: The map of each.
        adapters: Who reads and writes each.
        poll_s: How often each is read.
        store: For sessions.
        clock: Time.
        news: Wakes control when a car comes or goes.
        on_event: Told once when a station cannot be commanded, and once when it can again.
    """

    name = "wallboxes"

    def __init__(
        self,
        evses: Sequence[Evse],
        maps: Sequence[RegisterMap],
        adapters: Sequence[ModbusAdapter],
        poll_s: Sequence[float],
        store: StationStore,
        clock: Clock,
        news: News,
        on_event: Callable[[Event], None],
    ) -> None:
        self._clock, self._news, self._on_event, self._store = clock, news, on_event, store
        self._boxes = {
            evse.evse_id: _Box(evse, found, adapter, period_s, SessionLog(evse, store, clock))
            for evse, found, adapter, period_s in zip(evses, maps, adapters, poll_s, strict=True)
        }
        granted = store.grants()
        for box in self._boxes.values():
            grant = granted.get(box.evse.evse_id)
            if grant is not None and grant.expires_utc > clock.utc():  # it may have fallen back while we were away
                box.held_a, box.fed_s = max(grant.limit_a, box.evse.fallback_a), clock.monotonic_s()

    def problems(self) -> Mapping[str, str]:
        """What is wrong with commanding, by station."""
        return {box.name: box.problem for box in self._boxes.values() if box.problem is not None}

    def evse_states(self, now_s: float) -> Mapping[str, EvseState]:
        """Every wallbox, reachable or not."""
        return {name: self._state(box, now_s) for name, box in self._boxes.items()}

    def apply(self, now_s: float, setpoints_a: Mapping[str, float], phases: Mapping[str, int] | None = None) -> None:
        """Notes what each may draw; written by its own task."""
        del now_s, phases  # a Modbus station is not switched between phases
        for evse_id, amps in setpoints_a.items():
            box = self._boxes.get(evse_id)
            if box is not None and box.want_a != amps:
                box.want_a = amps
                box.changed.set()

    async def run(self) -> None:
        """Command until cancelled."""
        async with asyncio.TaskGroup() as group:
            for box in self._boxes.values():
                group.create_task(self._drive(box))

    # -- what control sees ------------------------------------------------------------------------------------------

    def _state(self, box: _Box, now_s: float) -> EvseState:
        sample = box.adapter.measurements().get(box.name)
        fresh = _fresh(box, sample, now_s)
        drawing = _is(box.map.charging, box.adapter.values(box.name), "charging")
        plugged = box.plugged
        return EvseState(
            box.evse.evse_id,
            online=fresh and box.ready and (box.held_a is not None or box.refuses),
            connected=plugged,
            charging=plugged is not False,
            in_force_a=self._in_force_a(box, sample, now_s),
            confirmed_a=box.held_a,
            confirmed_s=box.confirmed_s,
            measured_a=None if sample is None else sample.current_a,
            measured_s=None if sample is None or sample.current_a is None else sample.taken_s,
            report_interval_s=box.poll_s,
            since_s=box.since_s,
            status=_word(fresh, plugged, drawing),
            fault=box.problem if box.refuses else None,
        )

    def _in_force_a(self, box: _Box, sample: Measurement | None, now_s: float) -> float:
        """The most that may be in force: its fallback only once its watchdog must have run out."""
        known_a = box.evse.max_a if box.held_a is None else max(box.held_a, box.pending_a)
        heard_s = max(box.fed_s, -math.inf if sample is None else sample.taken_s)
        silent_s = now_s - heard_s
        if not box.guarded:
            return known_a if silent_s < WATCHDOG_S / 2 else box.evse.max_a
        if silent_s > WATCHDOG_S + EXPIRY_MARGIN_S:
            return box.evse.fallback_a
        return known_a if silent_s < WATCHDOG_S / 2 else max(known_a, box.evse.fallback_a)

    # -- one station ------------------------------------------------------------------------------------------------

    async def _drive(self, box: _Box) -> None:
        while True:
            box.changed.clear()
            self._look(box)
            try:
                await self._command(box)
                await box.log.note(box.plugged, self._energy_wh(box))
            except DeviceUnavailable as error:
                box.ready = False
                self._tell(box, str(error), refuses=False)
            except AdapterError as error:
                self._tell(box, str(error), refuses=True)
                await asyncio.sleep(RETRY_S)
            except CemError as error:
                self._tell(box, f"its records cannot be kept: {error}", refuses=False)
                await asyncio.sleep(RETRY_S)
            else:
                if box.ready:
                    self._tell(box, box.unguarded, refuses=False)
            try:
                async with asyncio.timeout(TICK_S):
                    await box.changed.wait()
            except TimeoutError:
                pass

    def _look(self, box: _Box) -> None:
        """Is a car there?"""
        now_s = self._clock.monotonic_s()
        if not _fresh(box, box.adapter.measurements().get(box.name), now_s):
            return
        before = box.plugged
        box.plugged = _is(box.map.plugged, box.adapter.values(box.name), "plugged")
        if box.plugged != before:
            box.since_s = now_s if box.plugged is not False else None
            self._news()

    def _energy_wh(self, box: _Box) -> float | None:
        sample = box.adapter.measurements().get(box.name)
        return None if sample is None else sample.energy_wh

    async def _command(self, box: _Box) -> None:
        writes = box.adapter.writes(box.name)
        if writes is None:  # away: it may come back without what it was told
            box.ready = False
            return
        if not box.ready:
            await self._guard(box)
            box.ready, box.written_s = True, -math.inf
        now_s = self._clock.monotonic_s()
        wanted_a = None if box.want_a is None else _resolved(box, box.want_a)
        if wanted_a is None:
            return
        again_s = FEED_S if box.map.lapses_s is None else min(FEED_S, box.map.lapses_s / 3)
        if "watchdog_s" not in writes and box.map.lapses_s is None:
            again_s = UNHURRIED_S
        if wanted_a != box.held_a or now_s - box.written_s >= again_s:
            await self._set(box, wanted_a)
        if now_s - box.fed_s >= FEED_S:
            await self._feed(box)

    async def _guard(self, box: _Box) -> None:
        """Tells it what to fall back to, and when; both are read back. One that refuses is held without it."""
        writes, write = box.map.writes, box.adapter.write
        box.guarded, box.unguarded = False, None
        try:
            if "watchdog_current_a" in writes:
                await write(box.name, "watchdog_current_a", box.evse.fallback_a)
            if "watchdog_s" in writes:
                await write(box.name, "watchdog_s", WATCHDOG_S)
            box.guarded = {"watchdog_current_a", "watchdog_s"} <= set(writes)
        except (DeviceRefused, DeviceMisconfigured) as error:
            box.unguarded = f"{error}; what it does when we are gone is not known"
        box.fed_s = self._clock.monotonic_s()

    async def _set(self, box: _Box, amps: float) -> None:
        write, switched = box.adapter.write, "enable" in box.map.writes
        box.pending_a = max(amps, box.pending_a)
        if amps != box.held_a:
            await self._keep(box, box.evse.max_a if box.held_a is None else max(amps, box.held_a))
        if switched and amps == 0:
            await write(box.name, "enable", 0)
            box.enabled = False
        else:
            if switched and not box.enabled:
                with contextlib.suppress(DeviceRefused):  # first the limit: some show it only when they are enabled
                    await write(box.name, "current_a", amps)
                await write(box.name, "enable", 1)
                box.enabled = True
            await write(box.name, "current_a", amps)
        now_s = self._clock.monotonic_s()
        if box.held_a != amps:
            box.confirmed_s = now_s
            await self._keep(box, amps)
        box.held_a, box.pending_a, box.written_s = amps, 0.0, now_s

    async def _keep(self, box: _Box, amps: float) -> None:
        """On disk, so that a restart knows what may be in force: what a raise goes to before it is sent."""
        if box.kept_a != amps:
            await self._store.commit([Grant(box.evse.evse_id, amps, self._clock.utc() + KEPT)])
            box.kept_a = amps

    async def _feed(self, box: _Box) -> None:
        name, value = ("alive", 1.0) if "alive" in box.map.writes else ("watchdog_s", float(WATCHDOG_S))
        if name in box.map.writes:
            await box.adapter.write(box.name, name, value)
        box.fed_s = self._clock.monotonic_s()

    def _tell(self, box: _Box, problem: str | None, *, refuses: bool) -> None:
        before, box.problem, box.refuses = box.problem, problem, refuses
        if (before is None) == (problem is None):
            return
        text = f"{box.name}: " + (
            "takes its limits again" if problem is None else problem.removeprefix(f"{box.name}: ")
        )
        data: dict[str, float | str | None] = {"problem": problem}
        self._on_event(Event(self._clock.utc(), self._clock.monotonic_s(), "wallbox", box.name, text, data))


def _fresh(box: _Box, sample: Measurement | None, now_s: float) -> bool:
    return sample is not None and now_s - sample.taken_s <= max(STALE_S, 3 * box.poll_s)


def _is(state: MapState | None, values: Mapping[str, float], name: str) -> bool | None:
    return None if state is None or name not in values else state.holds(values[name])


def _word(fresh: bool, plugged: bool | None, drawing: bool | None) -> str:
    if not fresh:
        return "offline"
    if drawing:
        return "charging"
    return "unknown" if plugged is None else "plugged in" if plugged else "free"


def _resolved(box: _Box, amps: float) -> float:
    """What its register can hold, never more; below its least it pauses."""
    register = box.map.writes["current_a"]
    if amps < box.evse.min_a:
        return 0.0
    step_a = 0.0 if register.type.startswith("float") else abs(register.scale)
    floored = amps if step_a == 0 else math.floor(amps / step_a + 1e-6) * step_a
    return min(floored, register.valid[1])
