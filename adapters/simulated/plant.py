"""The plant: everything electrical at a simulated site, in one process of thought and without any clock.

It is built from the same ``Site`` as the controller but shares no code with it: what it says is the truth by which the
controller is judged. Load convention: import, charging positive; production, discharging negative.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import replace

from adapters.simulated.ev import Ev, EvType
from adapters.simulated.household import Household, LoadStep, Sky
from cem.core.site import Evse, Resource, ResourceKind, Site
from cem.core.units import PerPhase

_ZERO = PerPhase.same(0.0)


def add(values: Iterable[PerPhase]) -> PerPhase:
    """Sum of values, phase by phase."""
    total = [0.0, 0.0, 0.0]
    for value in values:
        for p in range(3):
            total[p] += value[p]
    return PerPhase.of(total)


class ChargePoint:
    """One EVSE, its wiring, and the car at it.

    Attributes:
        evse: As built.
        rotation: Grid phase behind each of its own phases; drawn by the seed where the site file does not know it.
        pilot_a: Current per phase that its pilot offers now; below 6 A the car pauses.
        phases_on: Phases that its contactors close.
        ev: The car that is plugged in.
        register_wh: Its energy meter.
    """

    def __init__(self, evse: Evse, rng: random.Random) -> None:
        self.evse = evse
        wires = [0, 1, 2]
        rng.shuffle(wires)
        self.rotation = evse.rotation if evse.rotation is not None else tuple(wires[: evse.phases])
        self.pilot_a = 0.0
        self.phases_on = evse.phases
        self.ev: Ev | None = None
        self.register_wh = float(rng.randrange(10_000, 900_000))

    def plug(self, kind: EvType) -> None:
        """A car arrives."""
        self.ev = Ev(kind)

    def unplug(self) -> None:
        """The car leaves."""
        self.ev = None

    @property
    def charged_wh(self) -> float:
        """What the car that is plugged in has taken since it came; 0 without one."""
        return 0.0 if self.ev is None else self.ev.charged_wh

    @property
    def own_current_a(self) -> PerPhase:
        """Current on the EVSE's **own** phases, as its meter sees it."""
        if self.ev is None:
            return _ZERO
        used, each_a = min(self.ev.kind.phases, self.evse.phases, self.phases_on), self.ev.current_a
        return PerPhase(each_a if used > 0 else 0.0, each_a if used > 1 else 0.0, each_a if used > 2 else 0.0)

    @property
    def grid_current_a(self) -> PerPhase:
        """Current on each phase of the grid."""
        grid, own_a = [0.0, 0.0, 0.0], self.own_current_a
        for own, wire in enumerate(self.rotation):
            grid[wire] += own_a[own]
        return PerPhase(*grid)


class Inverter:
    """A PV inverter or a battery, three-phase and symmetric.

    Attributes:
        resource: As built.
        running: A tripped inverter gives and takes nothing.
        power_w: Load convention: production and discharging are negative.
        soc: Battery: charge, 0 to 1.
        capacity_wh: Battery: what it holds.
        produced_wh: Energy given since the start.
        consumed_wh: Energy taken since the start.
        bounds_w: It was told to stay between these; load convention.
    """

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.running = True
        self.power_w = 0.0
        self.soc = 0.6
        self.capacity_wh = 2.0 * resource.max_w
        self.produced_wh = 0.0
        self.consumed_wh = 0.0
        self.bounds_w = (-math.inf, math.inf)

    def step(self, wanted_w: float, dt_s: float, tau_s: float) -> None:
        """Moves towards a power with a time constant; a trip is instant."""
        most_w = self.resource.max_w
        if self.resource.kind is ResourceKind.BATTERY:
            if (wanted_w < 0 and self.soc <= 0.05) or (wanted_w > 0 and self.soc >= 1.0):
                wanted_w = 0.0
        else:
            wanted_w = min(0.0, wanted_w)
        lower_w, upper_w = self.bounds_w
        wanted_w = max(-most_w, lower_w, min(most_w, upper_w, wanted_w))
        self.power_w = wanted_w + (self.power_w - wanted_w) * math.exp(-dt_s / tau_s) if self.running else 0.0
        energy_wh = self.power_w * dt_s / 3600
        self.produced_wh += max(0.0, -energy_wh)
        self.consumed_wh += max(0.0, energy_wh)
        self.soc = max(0.0, min(1.0, self.soc + energy_wh / self.capacity_wh))

    def current_a(self, voltage_v: float, phases: int) -> PerPhase:
        """On each phase of the grid."""
        each_a = self.power_w / voltage_v / phases
        return PerPhase(each_a, each_a if phases > 1 else 0.0, each_a if phases > 2 else 0.0)


class Plant:
    """A site that behaves.

    Args:
        site: As built.
        seed: Same seed and same pilots, same plant.
        appliances: ``False``: the buildings' base load alone (the same day without outside steps).
        quiet: Times (from, to) in which no appliance is on.
        households: ``False``: no load at all but what ``add_load`` switches on.
        sky: Light on the roofs; by the seed where left out.
        length_s: For how long appliances and clouds are laid out.
    """

    def __init__(
        self,
        site: Site,
        seed: int = 1,
        *,
        appliances: bool = True,
        quiet: tuple[tuple[float, float], ...] = (),
        households: bool = True,
        sky: Sky | None = None,
        length_s: float = 3600.0,
    ) -> None:
        self.site = site
        self.t_s = 0.0
        self.voltage_v = site.nominal_voltage_v
        self.sky = sky or Sky(seed, length_s=length_s, own=appliances)
        self.extra: dict[str, list[LoadStep]] = {zone.zone_id: [] for zone in site.zones}
        self.import_wh = {zone.zone_id: 0.0 for zone in site.zones}
        self.export_wh = {zone.zone_id: 0.0 for zone in site.zones}
        self.points = {e.evse_id: ChargePoint(e, random.Random(f"{seed}/{e.evse_id}")) for e in site.evses}
        self.inverters = {r.resource_id: Inverter(r) for r in site.resources}
        self.households: dict[str, Household] = {}
        for zone in site.zones:
            children_a = sum(z.uncontrolled_max_a for z in site.zones if z.parent_id == zone.zone_id)
            own_a = zone.uncontrolled_max_a - children_a  # the site file's figure includes the children
            if own_a > 0 and households:
                self.households[zone.zone_id] = Household(
                    hash_of(seed, zone.zone_id),
                    own_a,
                    self.voltage_v,
                    length_s,
                    appliances=appliances,
                    quiet=quiet,
                )
        self._parent = {zone.zone_id: zone.parent_id for zone in site.zones}
        self._zone_a: dict[str, PerPhase] = {}
        self._flow()

    def step(self, dt_s: float) -> None:
        """Lives for ``dt_s`` seconds; any step gives the same plant but for the battery's feedback."""
        for point in self.points.values():
            if point.ev is not None:
                point.ev.step(point.pilot_a, dt_s, self.voltage_v, point.phases_on)
                point.register_wh += point.own_current_a.total * self.voltage_v * dt_s / 3600
        net_w = self.zone_power_w(self.site.root.zone_id).total
        for inverter in self.inverters.values():
            if inverter.resource.kind is ResourceKind.BATTERY:  # self-consumption: brings the grid meter towards 0
                inverter.step(inverter.power_w - net_w, dt_s, tau_s=4.0)
            else:
                inverter.step(-inverter.resource.max_w * self.sky.light(self.t_s), dt_s, tau_s=1.0)
        self.t_s += dt_s
        self._flow()
        for zone_id, amps in self._zone_a.items():
            energy_wh = amps.total * self.voltage_v * dt_s / 3600
            self.import_wh[zone_id] += max(0.0, energy_wh)
            self.export_wh[zone_id] += max(0.0, -energy_wh)

    def plug_car(
        self, evse_id: str, *, phases: int, max_a: float, settle_s: float, draw: float, need_wh: float
    ) -> None:
        """A car arrives; it uses no more phases than the EVSE has."""
        point = self.points[evse_id]
        point.plug(EvType(min(phases, point.evse.phases), max_a, settle_s, draw, need_wh))

    def unplug_car(self, evse_id: str) -> None:
        """The car leaves."""
        self.points[evse_id].unplug()

    def set_car_max(self, evse_id: str, max_a: float) -> None:
        """The car falls asleep (0) or wakes."""
        ev = self.points[evse_id].ev
        if ev is not None:
            ev.kind = replace(ev.kind, max_a=max_a)

    def trip_inverter(self, resource_id: str) -> None:
        """An inverter gives and takes nothing from now on."""
        self.inverters[resource_id].running = False

    def power_w(self, kind: ResourceKind) -> float:
        """All resources of one kind together, load convention."""
        return sum(i.power_w for i in self.inverters.values() if i.resource.kind is kind)

    def resource_state(self, resource_id: str) -> tuple[float, float | None]:
        """Power of one resource, load convention, and the charge of a battery in percent."""
        inverter = self.inverters[resource_id]
        battery = inverter.resource.kind is ResourceKind.BATTERY
        return inverter.power_w, 100 * inverter.soc if battery else None

    def bound_resource(self, resource_id: str, lower_w: float, upper_w: float) -> None:
        """A resource is told to stay between two powers."""
        self.inverters[resource_id].bounds_w = (lower_w, upper_w)

    def add_load(self, zone_id: str, power_w: PerPhase, length_s: float) -> None:
        """A load is switched on now for a while, beyond the household's own."""
        self.extra[zone_id].append(LoadStep(self.t_s, self.t_s + length_s, power_w))

    def household_power_w(self, zone_id: str) -> PerPhase:
        """Load directly in a zone that nobody controls, on each phase."""
        household = self.households.get(zone_id)
        power_w = household.power_w(self.t_s) if household else _ZERO
        switched = self.extra[zone_id]
        if switched:
            power_w = add((power_w, add(s.power_w for s in switched if s.start_s <= self.t_s < s.end_s)))
        if self.site.phases == 3:
            return power_w
        return PerPhase.of(v if p < self.site.phases else 0.0 for p, v in enumerate(power_w))

    def zone_current_a(self, zone_id: str) -> PerPhase:
        """Current into a zone through its protecting device: the truth."""
        return self._zone_a[zone_id]

    def zone_power_w(self, zone_id: str) -> PerPhase:
        """Power into a zone, on each phase."""
        l1, l2, l3 = self._zone_a[zone_id]
        return PerPhase(l1 * self.voltage_v, l2 * self.voltage_v, l3 * self.voltage_v)

    def _flow(self) -> None:
        totals = {zone.zone_id: [0.0, 0.0, 0.0] for zone in self.site.zones}
        sources = []
        for z in totals:
            l1, l2, l3 = self.household_power_w(z)
            sources.append((z, PerPhase(l1 / self.voltage_v, l2 / self.voltage_v, l3 / self.voltage_v)))
        sources += [(p.evse.zone_id, p.grid_current_a) for p in self.points.values() if p.ev is not None]
        sources += [
            (i.resource.zone_id, i.current_a(self.voltage_v, self.site.phases)) for i in self.inverters.values()
        ]
        for where, amps in sources:
            zone_id: str | None = where
            while zone_id is not None:
                total = totals[zone_id]
                total[0] += amps[0]
                total[1] += amps[1]
                total[2] += amps[2]
                zone_id = self._parent[zone_id]
        self._zone_a = {zone_id: PerPhase(*amps) for zone_id, amps in totals.items()}


def hash_of(seed: int, name: str) -> int:
    """A seed for one part of the plant; the same in every process (unlike ``hash``)."""
    return random.Random(f"{seed}/{name}").getrandbits(32)
