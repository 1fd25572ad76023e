"""Why each EVSE gets what it gets: stable codes, and one sentence for people."""

from dataclasses import dataclass
from enum import IntEnum

from cem.core.limits import Origin


class Reason(IntEnum):
    """What bound an EVSE in one cycle; exactly one. Names are stable, numbers only order the arrays."""

    NO_VEHICLE = 0
    AWAITING_TRANSACTION = 1
    OFFLINE = 2
    UNCONTROLLED = 3
    EVSE_MAXIMUM = 4
    VEHICLE_USE = 5
    CSMS_PROFILE = 6
    ZONE_CURRENT = 7
    ZONE_POWER = 8
    EXTERNAL_LIMIT = 9
    METER_LOST = 10
    METER_STALE = 11
    MINIMUM_OFF_TIME = 12
    NO_ROOM = 13
    RISING = 14
    AWAITING_OTHERS = 15
    SCHEDULED_LIMIT = 20
    ENERGY_BUDGET = 21
    GROUP_LIMIT = 22
    UNBALANCE = 23
    BUSBAR = 24
    SOURCE_LOSS = 25
    LOAD_SHED = 26
    METER_IMPLAUSIBLE = 27
    MODE_OFF = 30
    SURPLUS_WAIT = 31
    SURPLUS = 32
    PHASE_SWITCH = 33
    WISHED_LIMIT = 34
    VEHICLE_MAXIMUM = 35
    ROTATION_QUEUE = 40
    TIME_TO_SPARE = 41


TEXTS: dict[Reason, str] = {
    Reason.NO_VEHICLE: "no vehicle is plugged in",
    Reason.AWAITING_TRANSACTION: "the vehicle waits for authorisation or its start",
    Reason.OFFLINE: "the station is offline; what it may still draw stays reserved",
    Reason.UNCONTROLLED: "the station cannot be held by limits and counts as a load",
    Reason.EVSE_MAXIMUM: "charging at the most this EVSE can give",
    Reason.VEHICLE_USE: "the vehicle draws less than it was offered",
    Reason.VEHICLE_MAXIMUM: "the vehicle said that it takes no more",
    Reason.WISHED_LIMIT: "somebody at the site set a limit for this EVSE",
    Reason.CSMS_PROFILE: "the operator's charging profile allows no more",
    Reason.ZONE_CURRENT: "the current limit of a zone is shared",
    Reason.ZONE_POWER: "the power limit of a zone is shared",
    Reason.EXTERNAL_LIMIT: "an outside limit on a zone is shared",
    Reason.METER_LOST: "a zone's meter is lost; its fallback limit is shared",
    Reason.SCHEDULED_LIMIT: "a limit by the clock is shared",
    Reason.ENERGY_BUDGET: "what is left of this quarter of an hour's energy is shared",
    Reason.GROUP_LIMIT: "a limit on a group of stations is shared",
    Reason.UNBALANCE: "the phases at the grid connection may not differ more",
    Reason.BUSBAR: "the busbar of a zone carries no more",
    Reason.SOURCE_LOSS: "kept free in case a generator beneath the zone trips",
    Reason.ROTATION_QUEUE: "not all vehicles fit; they take turns, and this one waits for its own",
    Reason.TIME_TO_SPARE: "it has time to spare until its departure and lets others charge first",
    Reason.LOAD_SHED: "load is shed: a contact (fire alarm, generator, island mode) is active",
    Reason.METER_IMPLAUSIBLE: "a zone's meter contradicts what the stations do; its fallback limit is shared",
    Reason.METER_STALE: "a zone's meter is late; nothing is raised until it is back",
    Reason.MINIMUM_OFF_TIME: "paused; it starts again after the minimum off time",
    Reason.NO_ROOM: "a zone has no room for this EVSE's minimum",
    Reason.RISING: "rising step by step to its share",
    Reason.AWAITING_OTHERS: "its share is still drawn by others whose cut is not confirmed",
    Reason.MODE_OFF: "switched off by its mode",
    Reason.SURPLUS_WAIT: "waits for enough surplus",
    Reason.SURPLUS: "the surplus is shared",
    Reason.PHASE_SWITCH: "paused while the station switches phases",
}


REASON_OF = {
    Origin.FUSE: Reason.ZONE_CURRENT,
    Origin.CONTRACT: Reason.ZONE_POWER,
    Origin.EXTERNAL: Reason.EXTERNAL_LIMIT,
    Origin.SCHEDULE: Reason.SCHEDULED_LIMIT,
    Origin.BUDGET: Reason.ENERGY_BUDGET,
    Origin.FALLBACK: Reason.METER_LOST,
    Origin.IMPLAUSIBLE: Reason.METER_IMPLAUSIBLE,
    Origin.BUSBAR: Reason.BUSBAR,
    Origin.SOURCE_LOSS: Reason.SOURCE_LOSS,
    Origin.UNBALANCE: Reason.UNBALANCE,
    Origin.GROUP: Reason.GROUP_LIMIT,
    Origin.LOAD_SHED: Reason.LOAD_SHED,
    Origin.SURPLUS: Reason.SURPLUS,
}
"""What a limit of each origin is called where it binds an EVSE."""


def _minutes(seconds: float) -> int:
    return max(1, round(seconds / 60))


@dataclass(frozen=True, slots=True)
class Binding:
    """The limit that bound one EVSE.

    Attributes:
        reason: The code.
        zone_id: Where the limit lies; ``None`` where it is the EVSE's own or a group's.
        group: The group it binds, which may lie in several zones; ``None`` where it is a zone's or the EVSE's own.
        family: ``L1``, ``L2``, ``L3`` or ``SUM``.
        source: Who set the limit (``fuse``, ``contract``, ``fallback``, an external limit's id).
        room_a: What all our EVSEs may draw there together.
        place: Its place in the queue for a turn, 1 is next; ``None`` outside it.
        eta_s: Seconds until its turn is expected, or until it starts at the latest; ``None`` where nobody knows.
    """

    reason: Reason
    zone_id: str | None = None
    family: str | None = None
    source: str | None = None
    room_a: float | None = None
    group: str | None = None
    place: int | None = None
    eta_s: float | None = None

    @property
    def code(self) -> str:
        """The stable word for APIs and records."""
        return self.reason.name.lower()

    @property
    def text(self) -> str:
        """One sentence for people."""
        if self.zone_id is None and self.group is None:
            by = "" if self.eta_s is None else f"; it starts in {_minutes(self.eta_s)} min at the latest"
            return TEXTS[self.reason] + by
        where = f"group {self.group}" if self.zone_id is None else f"zone {self.zone_id}"
        phase = "all phases together" if self.family == "SUM" else self.family
        turn = ""
        if self.place is not None and self.eta_s is not None:
            turn = f"; place {self.place}, in about {_minutes(self.eta_s)} min"
        return f"{TEXTS[self.reason]}{turn} ({where}, {phase}, {self.source}, {self.room_a:.1f} A for charging)"
