"""The site as measured: one immutable picture per cycle. Missing is ``None`` with a time, never 0."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cem.core.limits import Limit
from cem.core.site import Mode
from cem.core.units import PerPhase


@dataclass(frozen=True, slots=True)
class Measurement:
    """The latest good values of one device, load convention (import +, production -).

    Attributes:
        device_id: The device's name in the site file.
        taken_s: Monotonic time at the *start* of the read.
        current_a: Signed current per grid phase.
        power_w: Signed power per grid phase.
        total_power_w: Signed total power.
        voltage_v: Per grid phase.
        energy_wh: Running counter of energy into the device.
        soc_percent: State of charge, batteries only.
    """

    device_id: str
    taken_s: float
    current_a: PerPhase | None = None
    power_w: PerPhase | None = None
    total_power_w: float | None = None
    voltage_v: PerPhase | None = None
    energy_wh: float | None = None
    soc_percent: float | None = None


@dataclass(frozen=True, slots=True)
class EvseState:
    """One EVSE as its station last told us.

    Attributes:
        evse_id: As in the site.
        online: The station's connection is up and it has been accepted.
        connected: A vehicle is plugged in; ``None`` where unknown.
        charging: A transaction that may draw power is under way: the EVSE wants current.
        in_force_a: The most current per phase that may be in force at the station by what was sent, acknowledged and
            not yet expired: its full maximum where nothing is known, its fallback once an expiry is proven. Never
            ``None``: where in doubt it is the EVSE's maximum.
        confirmed_a: The limit the station last acknowledged; ``None`` where it never did.
        confirmed_s: When it did.
        measured_a: Current per phase of the EVSE's **own** wiring order, as the station reports it.
        measured_s: Monotonic time the values were taken; ``None`` with no value.
        report_interval_s: How often the station reports.
        cloud_limit_a: The cloud's composite schedule now; ``None`` where the cloud set no limit.
        since_s: When the present transaction began; ``None`` outside one.
        status: The station's own word (OCPP status or charging state), for people.
        fault: Why the station cannot be held by limits, for people; ``None`` where it can.
        mode: What somebody wished it to charge from; ``None``: as the site says.
        needed_wh: Energy still wanted by the departure; ``None`` where no target is known.
        departure_s: Monotonic time by which it is wanted; ``None`` where unknown.
        shared: Many cars draw through it (a site below): what it leaves unused it may take at any moment, on any phase.
        wished_a: Somebody at the site wants no more per phase; ``None`` where nobody does.
        car_a: The most per phase that its car said it takes; ``None`` where it said nothing.
        phases_in_force: Phases it was confirmed to be switched to; ``None`` where it cannot switch or nobody knows.
        by_power: Its station takes limits in W: what guards the lowest voltage gives less current at any higher one.
    """

    evse_id: str
    online: bool
    connected: bool | None
    charging: bool
    in_force_a: float
    confirmed_a: float | None = None
    confirmed_s: float | None = None
    measured_a: PerPhase | None = None
    measured_s: float | None = None
    report_interval_s: float = 10.0
    cloud_limit_a: float | None = None
    wished_a: float | None = None
    car_a: float | None = None
    since_s: float | None = None
    status: str = ""
    fault: str | None = None
    mode: Mode | None = None
    needed_wh: float | None = None
    departure_s: float | None = None
    phases_in_force: int | None = None
    shared: bool = False
    by_power: bool = False


@dataclass(frozen=True, slots=True)
class SiteState:
    """One picture of the whole site.

    Attributes:
        now_s: Monotonic time; every age is counted from it.
        utc: Aware UTC; used for schedules and clock-aligned budgets only.
        measurements: Device id to its latest measurement; a device that never answered is absent.
        evses: In the order of ``Site.evses``.
        limits: Every outside limit in force now.
    """

    now_s: float
    utc: datetime
    measurements: Mapping[str, Measurement]
    evses: tuple[EvseState, ...]
    limits: tuple[Limit, ...] = ()
