"""The site as built: zones, stations, meters, resources. Never changes while the controller runs."""

from dataclasses import dataclass
from datetime import UTC, tzinfo
from enum import Enum

from cem.core.schedules import ScheduledLimit
from cem.core.units import MIN_CURRENT_A


class ResourceKind(Enum):
    """What a flexible thing is (S2, EN 50491-12-2 resource)."""

    PV = "pv"
    BATTERY = "battery"


class Mode(Enum):
    """What an EVSE charges from."""

    FAST = "fast"
    """All that its limits allow."""
    MIN_SURPLUS = "min_surplus"
    """Its minimum always, more from surplus alone."""
    SURPLUS = "surplus"
    """Surplus alone."""
    OFF = "off"
    """Nothing."""


class Policy(Enum):
    """By what the room there is gets shared."""

    FAIR = "fair"
    """Max-min by weight and urgency."""
    THROUGHPUT = "throughput"
    """The most energy now."""


@dataclass(frozen=True, slots=True)
class SurplusRules:
    """When an EVSE in mode ``surplus`` starts and stops.

    Attributes:
        start_w: Surplus it needs to start; ``None``: what its minimum takes, and 200 W.
        stop_w: It stops below this; ``None``: what its minimum takes.
        start_delay_s: For so long before it starts.
        stop_delay_s: For so long before it stops; until then the grid gives what is missing to its minimum.
    """

    start_w: float | None = None
    stop_w: float | None = None
    start_delay_s: float = 60.0
    stop_delay_s: float = 60.0


@dataclass(frozen=True, slots=True)
class BatteryRules:
    """What batteries do beside the cars.

    Attributes:
        first_below_soc_percent: Below this charge a battery takes surplus before the cars: 100 always, 0 never.
        reserve_soc_percent: It gives nothing below this charge.
        hold_while_fast: While cars charge fast it gives no more than what the rest of the site draws.
    """

    first_below_soc_percent: float = 100.0
    reserve_soc_percent: float = 0.0
    hold_while_fast: bool = False


@dataclass(frozen=True, slots=True)
class Protection:
    """The fuse or breaker that feeds a zone.

    Attributes:
        rating_a: Rated current per phase.
        kind: ``mcb``, ``gg`` (fuse), ``sls`` (selective main switch) or ``cutoff`` (meter that disconnects).
        curve: Trip curve of an MCB: ``B``, ``C`` or ``D``; ``None`` for the others.
        guard_a: Kept free below the rating for continuous load.
    """

    rating_a: float
    kind: str = "mcb"
    curve: str | None = "B"
    guard_a: float = 0.0


@dataclass(frozen=True, slots=True)
class Zone:
    """A charging site zone (IEC 63110): what one protecting device feeds.

    Attributes:
        zone_id: Unique name.
        parent_id: The zone that feeds this one; ``None`` for the root, the grid connection point.
        protection: Its fuse or breaker.
        busbar_a: What the busbar carries, where generation may be credited to the fuse; ``None`` credits nothing.
        import_limit_w: Contract limit of power into the zone; ``None`` where there is none.
        export_limit_w: Contract limit of power out of the zone.
        meter_id: The device that measures everything flowing into the zone; ``None`` where there is none.
        fallback_limit_a: What our EVSEs together may draw per phase while that meter is lost; 0 is a proper value.
        uncontrolled_max_a: Worst-case load per phase in the zone (its children included) that is not ours.
        energy_budget_w: Most import in the mean of a clock quarter (contract peaks are measured so).
    """

    zone_id: str
    parent_id: str | None
    protection: Protection
    busbar_a: float | None = None
    import_limit_w: float | None = None
    export_limit_w: float | None = None
    meter_id: str | None = None
    fallback_limit_a: float = 0.0
    uncontrolled_max_a: float = 0.0
    energy_budget_w: float | None = None


@dataclass(frozen=True, slots=True)
class StationGroup:
    """A limit on EVSEs of several zones: a cable, a transformer's leg, a tenant's share.

    Attributes:
        group_id: Unique name.
        evse_ids: Its EVSEs.
        limit_a: Most current of them together, per phase.
        limit_w: Most power of them together.
    """

    group_id: str
    evse_ids: tuple[str, ...]
    limit_a: float | None = None
    limit_w: float | None = None


@dataclass(frozen=True, slots=True)
class Evse:
    """One EVSE: a point that charges one EV at a time.

    Attributes:
        evse_id: ``STATION/NUMBER``, unique in the site.
        station_id: The charging station it belongs to.
        zone_id: The zone that feeds it.
        number: Its number at the station (OCPP 2.x evseId, OCPP 1.6 connectorId); 0: the connection of a whole site.
        min_a: Least current per phase it can offer; 0 pauses.
        max_a: Most current per phase it can draw.
        phases: Phases wired, 1 to 3.
        rotation: For each of the EVSE's own phases the grid phase (0, 1, 2) it is wired to; ``None`` where unknown:
            then it counts on every phase.
        priority: Strict classes, higher first.
        weight: Share inside a class.
        fallback_a: What it falls to by itself when we are gone.
        mode: What it charges from, unless somebody wishes otherwise.
        phase_switching: Its station can charge on one phase instead of three, on command.
        efficiency: A DC outlet's output over its AC input; ``None`` for AC. Currents are always those of the AC side.
        discharge_a: Most current per phase that an EV may feed back through it, a magnitude; 0: it never does.
        step_a: Steps it can be set in.
    """

    evse_id: str
    station_id: str
    zone_id: str
    number: int
    min_a: float = MIN_CURRENT_A
    max_a: float = 32.0
    phases: int = 3
    rotation: tuple[int, ...] | None = None
    priority: int = 0
    weight: float = 1.0
    fallback_a: float = 0.0
    mode: Mode = Mode.FAST
    phase_switching: bool = False
    efficiency: float | None = None
    discharge_a: float = 0.0
    step_a: float = 1.0


@dataclass(frozen=True, slots=True)
class Meter:
    """A device that measures the current into a zone, or a load.

    Attributes:
        meter_id: The device's name in the site file.
        poll_s: Its period; freshness bounds follow from it (``T_stale``, ``T_safe``).
    """

    meter_id: str
    poll_s: float = 1.0

    @property
    def stale_after_s(self) -> float:
        """No raises from here on: ``max(3p, 3 s)``."""
        return max(3 * self.poll_s, 3.0)

    @property
    def safe_after_s(self) -> float:
        """Fallback from here on: ``min(max(8 s, 5p), 60 s)``."""
        return min(max(8.0, 5 * self.poll_s), 60.0)


@dataclass(frozen=True, slots=True)
class Resource:
    """A flexible thing beside the charging zone: PV inverter or battery.

    Attributes:
        resource_id: The device's name in the site file.
        zone_id: The zone that feeds it.
        max_w: Nameplate power, a magnitude.
    """

    resource_id: str
    kind: ResourceKind
    zone_id: str
    max_w: float


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that is built at one grid connection.

    Attributes:
        zones: Parents before children; the first is the root.
        evses: In a fixed order: index i of every array in the engine is ``evses[i]``.
        surplus: When cars start and stop on surplus.
        battery: What batteries do beside the cars.
        groups: Limits that cut across the zones.
        schedules: Limits by the clock.
        time_zone: The clock they follow.
        unbalance_a: Most difference between two phases at the connection (VDE-AR-N 4100: 20 A); ``None``: any.
        least_load_w: What the DSO must leave to controllable load (§ 14a EnWG); a lower limit is obeyed and told.
        policy: By what the room is shared among the EVSEs.
    """

    name: str
    nominal_voltage_v: float
    phases: int
    zones: tuple[Zone, ...]
    evses: tuple[Evse, ...]
    meters: tuple[Meter, ...] = ()
    resources: tuple[Resource, ...] = ()
    surplus: SurplusRules = SurplusRules()
    battery: BatteryRules = BatteryRules()
    groups: tuple[StationGroup, ...] = ()
    schedules: tuple[ScheduledLimit, ...] = ()
    time_zone: tzinfo = UTC
    unbalance_a: float | None = None
    least_load_w: float | None = None
    policy: Policy = Policy.FAIR

    @property
    def root(self) -> Zone:
        """The zone of the grid connection point."""
        return self.zones[0]
