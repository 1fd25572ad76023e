"""The closed loop: plant, meters, stations, engine, one step after the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cem.core.engine import Decision, EngineMemory, Plan, decide
from cem.core.limits import Limit
from cem.core.state import Measurement, SiteState
from cem.core.units import PerPhase
from cem.simulate.judge import Judge
from cem.simulate.ports import Plant
from cem.simulate.stations import StationHabits, VirtualStation

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Tally:
    """What the drivers got.

    Attributes:
        served_ah: Per EVSE, over the phases.
        pauses: Times a running EVSE was set to 0 in its transaction.
        reversals: Times a setpoint turned from rising to falling or back.
    """

    served_ah: dict[str, float]
    pauses: int = 0
    reversals: int = 0


class ClosedLoop:
    """A site under control in virtual time.

    Args:
        plan: The engine's view.
        plant: The truth.
        habits: For each EVSE how its station behaves; the default for those not named.
        step_s: Of the plant.
        cycle_s: Of the controller.
        record: Handed every cycle, as control hands it to the recorder.
    """

    def __init__(
        self,
        plan: Plan,
        plant: Plant,
        habits: Mapping[str, StationHabits] | None = None,
        *,
        step_s: float = 0.25,
        cycle_s: float = 1.0,
        record: Callable[[int, SiteState, EngineMemory, Decision], None] | None = None,
    ) -> None:
        self.plan, self.plant = plan, plant
        self.memory = EngineMemory.none(plan)
        self.limits: tuple[Limit, ...] = ()
        self.cut_meters: set[str] = set()
        self.alive = True
        self.judge = Judge(plan.site, self._outside_a)
        self.tally = Tally({evse.evse_id: 0.0 for evse in plan.site.evses})
        self.decision: Decision | None = None
        self.stations = {
            evse.evse_id: VirtualStation(
                evse, plant.points[evse.evse_id], (habits or {}).get(evse.evse_id, StationHabits()), 0.37 * i % 10
            )
            for i, evse in enumerate(plan.site.evses)
        }
        self.cycles = 0
        self._step_s, self._cycle_s = step_s, cycle_s
        self._record = record
        self._next_cycle_s = plant.t_s
        self._read: dict[str, Measurement] = {}
        self._direction: dict[str, int] = {}

    def run(self, until_s: float, each_cycle: Callable[["ClosedLoop"], None] | None = None) -> None:
        """Live until the plant's clock shows ``until_s``; ``each_cycle`` is called after each decision."""
        while self.plant.t_s < until_s - 1e-9:
            now_s = self.plant.t_s
            self._read_meters(now_s)
            if now_s >= self._next_cycle_s - 1e-9:
                self._next_cycle_s += self._cycle_s
                if self.alive:
                    self._decide(now_s)
                    if each_cycle is not None:
                        each_cycle(self)
            for station in self.stations.values():
                station.step(now_s)
            self.plant.step(self._step_s)
            self.judge.watch(self.plant.t_s, self._step_s, self.plant.zone_current_a)
            for evse_id, point in self.plant.points.items():
                self.tally.served_ah[evse_id] += point.own_current_a.total * self._step_s / 3600

    def setpoint_a(self, evse_id: str) -> float:
        """What an EVSE was last given."""
        index = next(i for i, evse in enumerate(self.plan.site.evses) if evse.evse_id == evse_id)
        return float(self.memory.setpoint_a[index])

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

    def _decide(self, now_s: float) -> None:
        memory = self.memory
        before = memory.setpoint_a
        state = SiteState(
            now_s=now_s,
            utc=EPOCH + timedelta(seconds=now_s),
            measurements=dict(self._read),
            evses=tuple(self.stations[evse.evse_id].state(now_s) for evse in self.plan.site.evses),
            limits=self.limits,
        )
        self.decision, self.memory = decide(self.plan, state, memory)
        self.cycles += 1
        if self._record is not None:
            self._record(self.cycles, state, memory, self.decision)
        for i in self.decision.sending_order().tolist():
            evse_id = self.plan.site.evses[i].evse_id
            now_a, before_a = float(self.decision.setpoint_a[i]), float(before[i])
            self.stations[evse_id].apply(now_s, now_a)
            if not self.stations[evse_id].charging or now_a == before_a:
                continue
            self.tally.pauses += now_a == 0.0
            turn = 1 if now_a > before_a else -1
            self.tally.reversals += self._direction.get(evse_id, turn) != turn
            self._direction[evse_id] = turn

    def _outside_a(self, zone_id: str) -> PerPhase | None:
        values = [limit.value_a for limit in self.limits if limit.zone_id == zone_id and limit.value_a is not None]
        if not values:
            return None
        return PerPhase.of(min(value[phase] for value in values) for phase in range(3))
