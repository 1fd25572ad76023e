"""The loop: every second, and at once on news, one picture of the site, one decision, applied and recorded."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from cem.contactors import Contactors
from cem.contacts import Contacts
from cem.core import grid_channel
from cem.core.engine import Decision, EngineMemory, Plan, decide
from cem.core.grid_channel import Channel, ChannelMemory
from cem.core.limits import Limit, LimitSignal
from cem.core.meter_health import MeterHealth, why_lost
from cem.core.state import EvseState, Measurement, SiteState
from cem.ports import Clock, Event, EvseControl, FieldAdapter, ResourceControl
from cem.wishes import Wishes

log = logging.getLogger(__name__)

NEWS_SPACING_S = 0.05
NEWS_PART = 2.0
"""Events may start a cycle at most this often, and never before the rest of the loop had twice as long as the last cycle
took: a flood of news, such as the answers of a thousand stations to a cut, starves no meter and no station (I9)."""

CHANNEL_SAVE_S = 60.0
"""How often an unchanged channel's timers are persisted."""

TIMED_CYCLES = 3600

FIRST_SAMPLES_S = 5.0
"""Shorter than the time after which a silent meter is lost (8 s at least)."""


class StateStore(Protocol):
    """Small persisted values, by name."""

    def save_state(self, key: str, value: Any) -> None: ...
    def load_state(self, key: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Cycle:
    """One completed control cycle, for records and pages.

    Attributes:
        number: Counts from 1.
        at_utc: When it was taken.
        state: The picture it saw.
        decision: What it decided.
        channels: Each external limit with where its channel stands.
        duration_ms: Snapshot to setpoints handed over.
        p50_ms: Median of the last hour's cycles.
        p99_ms: 99th percentile of the last hour's cycles.
    """

    number: int
    at_utc: datetime
    state: SiteState
    decision: Decision
    channels: tuple[tuple[Channel, ChannelMemory], ...]
    duration_ms: float
    p50_ms: float
    p99_ms: float


class Control:
    """Owns the engine's memory and the external limits' channels.

    Args:
        plan: The site, flattened.
        clock: Time.
        fields: Every adapter that measures or hears limits.
        stations: The EVSEs.
        channels: External limits as configured.
        states: Where channels persist.
        on_event: Told of meters lost and back and of limits that change.
        on_cycle: Handed every completed cycle; must not block.
        record: Handed what ``decide`` saw and what came of it (``None`` where it failed); must not block.
        cycle_s: Period.
        resumed_a: Setpoints that stations may still hold from before a restart.
        wishes: Modes and targets that people ask for.
        resources: Batteries and inverters; ``None``: their envelopes are only shown.
        contacts: Digital inputs.
        contactors: Outputs that take stations off the supply.
    """

    def __init__(
        self,
        plan: Plan,
        clock: Clock,
        fields: Sequence[FieldAdapter],
        stations: EvseControl,
        channels: Sequence[Channel],
        states: StateStore,
        on_event: Callable[[Event], None],
        on_cycle: Callable[[Cycle], None],
        *,
        cycle_s: float = 1.0,
        resumed_a: Mapping[str, float] | None = None,
        record: Callable[[int, SiteState, EngineMemory, Decision | None], None] | None = None,
        wishes: Wishes | None = None,
        resources: ResourceControl | None = None,
        contacts: Contacts | None = None,
        contactors: Contactors | None = None,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._fields = tuple(fields)
        self._stations = stations
        self._states = states
        self._on_event = on_event
        self._on_cycle = on_cycle
        self._record = record
        self._wishes = wishes
        self._resources = resources
        self._contacts = contacts
        self._contactors = contactors
        self._cycle_s = cycle_s
        self._ids = tuple(evse.evse_id for evse in plan.site.evses)
        grants = np.array([(resumed_a or {}).get(i, 0.0) for i in self._ids], dtype=np.float64)
        self._memory = EngineMemory.none(plan, np.floor(np.minimum(grants, plan.max_a)), clock.monotonic_s())
        self._channels = [(channel, self._resume(channel)) for channel in channels]
        self._saved_s: dict[str, float] = {}
        self._health: dict[str, MeterHealth] = {}
        self._durations_ms: deque[float] = deque(maxlen=TIMED_CYCLES)
        self._number = 0
        self._news = asyncio.Event()

    def news(self) -> None:
        """Something happened that should not wait for the next second."""
        self._news.set()

    async def run(self) -> None:
        """Cycle until cancelled, aligned to the period; a late cycle is skipped, never queued.

        The first cycle waits a moment for the meters that guard zones: stations still hold what they had, and a cut
        to the fallback for want of a first sample would pause cars for nothing.
        """
        await self._first_samples()
        while True:
            self._news.clear()
            began_s = self._clock.monotonic_s()
            self.step()
            now_s = self._clock.monotonic_s()
            next_s = (math.floor(now_s / self._cycle_s) + 1) * self._cycle_s
            await asyncio.sleep(min(max(NEWS_SPACING_S, NEWS_PART * (now_s - began_s)), next_s - now_s))
            wait_s = next_s - self._clock.monotonic_s()
            if wait_s > 0 and not self._news.is_set():
                try:
                    async with asyncio.timeout(wait_s):
                        await self._news.wait()
                except TimeoutError:
                    pass

    async def _first_samples(self) -> None:
        guarding = {meter.meter_id for meter in self._plan.zones.meters if meter is not None}
        until_s = self._clock.monotonic_s() + FIRST_SAMPLES_S
        while self._clock.monotonic_s() < until_s:
            if guarding <= {name for field in self._fields for name in field.measurements()}:
                return
            await asyncio.sleep(NEWS_SPACING_S)

    def step(self) -> Cycle:
        """One cycle: snapshot, decide, apply, record."""
        started_s = self._clock.monotonic_s()
        state = self._snapshot(started_s)
        decision = self._decide(state)
        setpoints = {self._ids[i]: float(decision.setpoint_a[i]) for i in decision.sending_order().tolist()}
        switching = decision.phases_wanted.nonzero()[0].tolist()
        if switching:
            phases = {self._ids[i]: int(decision.phases_wanted[i]) for i in switching}
            self._stations.apply(started_s, setpoints, phases)
        else:
            self._stations.apply(started_s, setpoints)
        if self._resources is not None:
            self._resources.apply(started_s, decision.resources)
        if self._contactors is not None:
            self._contactors.apply(state, decision)
        self._durations_ms.append((self._clock.monotonic_s() - started_s) * 1000)
        p50_ms, p99_ms = np.percentile(self._durations_ms, (50, 99)).tolist()
        self._number += 1
        cycle = Cycle(
            self._number,
            state.utc,
            state,
            decision,
            tuple(self._channels),
            self._durations_ms[-1],
            p50_ms,
            p99_ms,
        )
        self._tell_meters(cycle)
        self._on_cycle(cycle)
        return cycle

    def _decide(self, state: SiteState) -> Decision:
        number, memory = self._number + 1, self._memory
        try:
            decision, self._memory = decide(self._plan, state, memory)
        except Exception:
            if self._record is not None:
                self._record(number, state, memory, None)  # what brought it down is what somebody will want to see
            raise
        if self._record is not None:
            self._record(number, state, memory, decision)
        return decision

    def _snapshot(self, now_s: float) -> SiteState:
        measurements: dict[str, Measurement] = {}
        signals: dict[str, LimitSignal] = {}
        for field in self._fields:
            measurements.update(field.measurements())
            signals.update(field.signals())
        utc = self._clock.utc()
        states = self._stations.evse_states(now_s)
        if self._wishes is not None:
            states = self._wishes.take(states, now_s, utc)
        return SiteState(
            now_s=now_s,
            utc=utc,
            measurements=measurements,
            evses=tuple(
                states.get(evse.evse_id) or _unknown(evse.evse_id, evse.max_a) for evse in self._plan.site.evses
            ),
            limits=self._outside_limits(signals, now_s, utc)
            + (() if self._contacts is None else self._contacts.limits(now_s, utc)),
        )

    def _outside_limits(self, signals: Mapping[str, LimitSignal], now_s: float, utc: datetime) -> tuple[Limit, ...]:
        limits: list[Limit] = []
        for index, (channel, memory) in enumerate(self._channels):
            after, limit = grid_channel.step(channel, memory, signals.get(channel.limit_id), now_s)
            self._channels[index] = channel, after
            if limit is not None:
                limits.append(limit)
            changed = (after.state, after.written, after.problem) != (memory.state, memory.written, memory.problem)
            if changed:
                self._tell_channel(channel, after, utc, now_s)
            if changed or now_s - self._saved_s.get(channel.limit_id, -math.inf) >= CHANNEL_SAVE_S:
                self._saved_s[channel.limit_id] = now_s
                record = {"saved_utc": utc.isoformat(), **grid_channel.to_record(after, now_s)}
                self._states.save_state(_channel_key(channel), record)
        return tuple(limits)

    def _resume(self, channel: Channel) -> ChannelMemory:
        """The persisted state with its remaining time; a restart never escapes a limit (fault D3)."""
        now_s = self._clock.monotonic_s()
        record = self._states.load_state(_channel_key(channel))
        if not isinstance(record, dict):
            return grid_channel.start(channel, now_s)
        try:
            away_s = max(0.0, (self._clock.utc() - datetime.fromisoformat(str(record["saved_utc"]))).total_seconds())
        except (KeyError, ValueError, TypeError):
            away_s = 0.0
        return grid_channel.from_record(channel, record, away_s, now_s)

    def _tell_channel(self, channel: Channel, memory: ChannelMemory, utc: datetime, now_s: float) -> None:
        value = memory.in_force
        held = "no limit" if value is None else f"{value:.5g} {channel.unit}"
        text = f"external limit {channel.limit_id}: {memory.state.value}, {held}"
        if memory.problem is not None:
            text += f"; refused: {memory.problem}"
        data: dict[str, float | str | None] = {
            "state": memory.state.value,
            "value": value,
            "problem": memory.problem,
        }
        self._on_event(Event(utc, now_s, "external_limit", channel.limit_id, text, data))

    def _tell_meters(self, cycle: Cycle) -> None:
        """One event when a meter is lost, one when it is trusted again; nothing in between."""
        envelopes, state = cycle.decision.envelopes, cycle.state
        for z, (zone, health) in enumerate(zip(self._plan.site.zones, envelopes.health, strict=True)):
            if zone.meter_id is None:
                continue
            before = self._health.get(zone.zone_id)
            if health is MeterHealth.LOST and before is not MeterHealth.LOST:
                why = why_lost(
                    self._memory.zones.meters[z],
                    state.measurements.get(zone.meter_id),
                    state.now_s,
                    implausible=bool(envelopes.implausible[z]),
                )
                text = f"{zone.meter_id}: {why}; zone {zone.zone_id} is held at its fallback limit"
                data: dict[str, float | str | None] = {
                    "zone": zone.zone_id,
                    "fallback_limit_a": zone.fallback_limit_a,
                }
                self._on_event(Event(cycle.at_utc, cycle.decision.now_s, "meter_lost", zone.meter_id, text, data))
            elif health is MeterHealth.GOOD and before is not MeterHealth.GOOD:
                text = f"{zone.meter_id}: measuring; zone {zone.zone_id} follows it"
                event = Event(
                    cycle.at_utc, cycle.decision.now_s, "meter_back", zone.meter_id, text, {"zone": zone.zone_id}
                )
                self._on_event(event)
            elif health is MeterHealth.HOLD:
                continue  # on the way down or up: the last word said stands
            self._health[zone.zone_id] = health


def _channel_key(channel: Channel) -> str:
    return f"external_limit/{channel.limit_id}"


def _unknown(evse_id: str, max_a: float) -> EvseState:
    """An EVSE that no station speaks for may draw all it can."""
    return EvseState(evse_id, online=False, connected=None, charging=False, in_force_a=max_a)
