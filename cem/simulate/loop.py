"""The closed loop: plant, meters, stations, engine, one step after the other."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from cem.core.engine import Decision, EngineMemory, Plan, decide
from cem.core.limits import Limit, LimitKind
from cem.core.state import Measurement, SiteState
from cem.core.units import PerPhase
from cem.simulate.judge import Judge
from cem.simulate.ports import Plant
from cem.simulate.sessions import Car, Tally
from cem.simulate.stations import StationHabits, VirtualStation

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

MOVING_S = 10.0
"""After a change of a setpoint the plant is watched in fine steps for this long: delivery and the slowest car."""

WARM_S = 1200.0
"""Without any transaction nothing that ``decide`` was told longer ago than this (a clock-aligned quarter of an hour,
the peak memory, hold-offs) makes a difference to what it decides."""

STILL_S = 10.0
"""Within all limits for this long, the site has settled; an excess after that has another cause."""


@dataclass(slots=True)
class LimitChange:
    """One change of the outside limits.

    Attributes:
        at_s: When.
        settled_s: How long after it every limit was held again; 0 where none was exceeded.
    """

    at_s: float
    settled_s: float = 0.0

    def exceeded(self, now_s: float) -> None:
        """Some limit is exceeded now."""
        if now_s - self.at_s - self.settled_s <= STILL_S:
            self.settled_s = now_s - self.at_s


class ClosedLoop:
    """A site under control in virtual time.

    Args:
        plan: The engine's view.
        plant: The truth.
        habits: For each EVSE how its station behaves; the default for those not named.
        step_s: Of the plant.
        calm_step_s: Of the plant while nothing moves; ``step_s`` where left out.
        cycle_s: Of the controller.
        skip_idle: Leave cycles out while no transaction is under way, but for ``WARM_S`` after the last and before
            the next call's end: nobody could tell.
        epoch: UTC at plant time 0.
        resources_follow: Batteries and inverters keep to their envelopes.
        record: Handed every cycle, as control hands it to the recorder.

    Attributes:
        cycles: Decided.
        skipped: Cycles left out.
        cycle_s: Of the controller.
        changes: Of the outside limits.
        watchers: Called after each step of the plant with its length.
    """

    def __init__(
        self,
        plan: Plan,
        plant: Plant,
        habits: Mapping[str, StationHabits] | None = None,
        *,
        step_s: float = 0.25,
        calm_step_s: float | None = None,
        cycle_s: float = 1.0,
        skip_idle: bool = False,
        epoch: datetime = EPOCH,
        resources_follow: bool = False,
        record: Callable[[int, SiteState, EngineMemory, Decision], None] | None = None,
    ) -> None:
        self.plan, self.plant = plan, plant
        self.memory = EngineMemory.none(plan)
        self.limits: tuple[Limit, ...] = ()
        self.cut_meters: set[str] = set()
        self.alive = True
        self.judge = Judge(plan.site, self._outside_a, self._outside_total_a)
        self.tally = Tally({evse.evse_id: 0.0 for evse in plan.site.evses})
        self.decision: Decision | None = None
        self.stations = {
            evse.evse_id: VirtualStation(
                evse, plant.points[evse.evse_id], (habits or {}).get(evse.evse_id, StationHabits()), 0.37 * i % 10
            )
            for i, evse in enumerate(plan.site.evses)
        }
        self.cycles = self.skipped = 0
        self.changes: list[LimitChange] = []
        self.watchers: list[Callable[[ClosedLoop, float], None]] = []
        self._ids = [evse.evse_id for evse in plan.site.evses]
        self._step_s, self._calm_s, self.cycle_s = step_s, calm_step_s or step_s, cycle_s
        self._skip_idle, self._epoch = skip_idle, epoch
        self._resources_follow = resources_follow
        self._record = record
        self._next_cycle_s = self._moving_until_s = self._busy_s = plant.t_s
        self._read: dict[str, Measurement] = {}
        self._limits_seen: tuple[Limit, ...] = ()

    def run(self, until_s: float, each_cycle: Callable[["ClosedLoop"], None] | None = None) -> None:
        """Live until the plant's clock shows ``until_s``; ``each_cycle`` is called after each decision."""
        plant, judge, tally = self.plant, self.judge, self.tally
        while plant.t_s < until_s - 1e-9:
            now_s = plant.t_s
            idle = self._idle(now_s, until_s)
            if not idle:
                self._read_meters(now_s)
            if now_s >= self._next_cycle_s - 1e-9:
                self._next_cycle_s += self.cycle_s
                if idle:
                    self.skipped += 1
                elif self.alive:
                    self._decide(now_s)
                    if each_cycle is not None:
                        each_cycle(self)
            for station in self.stations.values():
                station.step(now_s)
            step_s = self._step_s if now_s < self._moving_until_s else self._calm_s
            if now_s + step_s > until_s:
                step_s = self._step_s
            plant.step(step_s)
            judge.watch(plant.t_s, step_s, plant.zone_current_a)
            if judge.over and self.changes:
                self.changes[-1].exceeded(plant.t_s)
            for evse_id, station in self.stations.items():
                if station.charging:
                    tally.draws(evse_id, plant.points[evse_id].own_current_a.total, step_s, plant.t_s)
            for watcher in self.watchers:
                watcher(self, step_s)

    def plug(self, evse_id: str, car: Car) -> None:
        """A car arrives and its transaction begins."""
        self.plant.plug_car(evse_id, **asdict(car))
        self.stations[evse_id].begin(self.plant.t_s)
        self.tally.begin(evse_id, self.plant.t_s, car.need_wh if car.need_wh < 1e8 else None)
        self._moving_until_s = self.plant.t_s + MOVING_S

    def unplug(self, evse_id: str) -> None:
        """It leaves."""
        self.tally.end(evse_id, self.plant.t_s, self.plant.points[evse_id].charged_wh)
        self.plant.unplug_car(evse_id)
        self.stations[evse_id].end()

    def setpoint_a(self, evse_id: str) -> float:
        """What an EVSE was last given."""
        return float(self.memory.setpoint_a[self._ids.index(evse_id)])

    def _idle(self, now_s: float, until_s: float) -> bool:
        """Nobody could tell whether a cycle was decided now."""
        if not self._skip_idle:
            return False
        if any(station.charging for station in self.stations.values()) or self.limits != self._limits_seen:
            self._busy_s = now_s
            return False
        return now_s - self._busy_s > WARM_S and until_s - now_s > WARM_S

    def _read_meters(self, now_s: float) -> None:
        for zone, meter in zip(self.plan.site.zones, self.plan.zones.meters, strict=True):
            if meter is None or meter.meter_id in self.cut_meters:
                continue
            last = self._read.get(meter.meter_id)
            if last is not None and now_s - last.taken_s < meter.poll_s - 1e-9:
                continue
            amps = self.plant.zone_current_a(zone.zone_id)
            volts = PerPhase.same(self.plant.voltage_v)
            power = PerPhase.of(a * self.plant.voltage_v for a in amps)
            self._read[meter.meter_id] = Measurement(
                meter.meter_id, now_s, current_a=amps, power_w=power, total_power_w=power.total, voltage_v=volts
            )
        for resource in self.plan.site.resources:
            name = resource.resource_id
            if name not in self.cut_meters and (
                name not in self._read or now_s - self._read[name].taken_s >= 1.0 - 1e-9
            ):
                power_w, soc_percent = self.plant.resource_state(name)
                self._read[name] = Measurement(name, now_s, total_power_w=power_w, soc_percent=soc_percent)

    def _decide(self, now_s: float) -> None:
        memory = self.memory
        if self.limits != self._limits_seen:
            self._limits_seen = self.limits
            self.changes.append(LimitChange(now_s))
            self._moving_until_s = now_s + MOVING_S
        state = SiteState(
            now_s=now_s,
            utc=self._epoch + timedelta(seconds=now_s),
            measurements=dict(self._read),
            evses=tuple(self.stations[evse_id].state(now_s) for evse_id in self._ids),
            limits=self.limits,
        )
        self.decision, self.memory = decide(self.plan, state, memory)
        self.cycles += 1
        if self._record is not None:
            self._record(self.cycles, state, memory, self.decision)
        if self._resources_follow:
            for bound in self.decision.resources:
                self.plant.bound_resource(bound.resource_id, bound.lower_w, bound.upper_w)
        before = memory.setpoint_a.tolist()
        setpoints = self.decision.setpoint_a.tolist()
        for i in self.decision.sending_order().tolist():
            evse_id, now_a = self._ids[i], setpoints[i]
            self.stations[evse_id].apply(now_s, now_a, int(self.decision.phases_wanted[i]))
            if self.stations[evse_id].charging and now_a != before[i]:
                self._moving_until_s = now_s + MOVING_S
                self.tally.setpoint(evse_id, before[i], now_a)

    def _outside_a(self, zone_id: str) -> PerPhase | None:
        values = [limit.value_a for limit in self._imports(zone_id) if limit.value_a is not None]
        if not values:
            return None
        return PerPhase.of(min(value[phase] for value in values) for phase in range(3))

    def _outside_total_a(self, zone_id: str) -> float | None:
        watts = [limit.value_w for limit in self._imports(zone_id) if limit.value_w is not None]
        return min(watts) / self.plant.voltage_v if watts else None

    def _imports(self, zone_id: str) -> list[Limit]:
        if not self.limits:
            return []
        return [limit for limit in self.limits if limit.zone_id == zone_id and limit.kind is LimitKind.IMPORT]
