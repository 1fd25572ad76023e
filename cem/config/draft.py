"""As much of a site file as can be understood, so that the checks run beside errors elsewhere in the file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cem.config.build import rotation_of
from cem.config.contact_models import ContactorSection, ContactSection
from cem.config.csms_models import Csms
from cem.config.limit_models import GroupSection, ScheduledLimit
from cem.config.models import (
    Control,
    Device,
    ExternalLimit,
    GridConnection,
    SiteSection,
    StationSection,
    Web,
    ZoneSection,
)
from cem.config.tree import Path
from cem.config.typed import UNUSABLE

M = TypeVar("M", bound=BaseModel)

REFERENCES = {
    ("zones", "parent"): "zones",
    ("zones", "meter"): "devices",
    ("devices", "zone"): "zones",
    ("stations", "zone"): "zones",
    ("external_limits", "zone"): "zones",
    ("scheduled_limits", "zone"): "zones",
    ("contacts", "zone"): "zones",
}
"""Keys that name an entry of another list."""

LISTS = ("zones", "devices", "stations", "external_limits", "scheduled_limits", "groups", "contacts", "contactors")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, at a path of the document."""

    path: Path
    message: str
    severity: str = "error"


@dataclass(frozen=True, slots=True)
class Draft:
    """The readable parts of a site file; each entry of a list with its index there.

    Attributes:
        ids: For each list the ids written there with their indexes, readable or not: what is named there exists.
        parents: For each zone written there its index, id and parent.
        loose_devices: Devices without their unreadable keys: for checks that no default can mislead.
        loose_stations: Stations likewise.
        no_dead_man: Stations that were learned not to fall back by themselves, and why.
        references: For each list, key and entry the name written there, readable entry or not.
        complete: Lists in which every entry has a readable id, so that what is not named there does not exist.
    """

    site: SiteSection | None
    grid: GridConnection | None
    zones: tuple[tuple[int, ZoneSection], ...]
    devices: tuple[tuple[int, Device], ...]
    stations: tuple[tuple[int, StationSection], ...]
    limits: tuple[tuple[int, ExternalLimit], ...]
    schedules: tuple[tuple[int, ScheduledLimit], ...]
    groups: tuple[tuple[int, GroupSection], ...]
    contacts: tuple[tuple[int, ContactSection], ...]
    contactors: tuple[tuple[int, ContactorSection], ...]
    csms: Csms | None
    control: Control | None
    web: Web | None
    ids: dict[str, tuple[tuple[int, str], ...]]
    parents: tuple[tuple[int, str, str | None], ...]
    loose_devices: tuple[tuple[int, Device], ...]
    loose_stations: tuple[tuple[int, StationSection], ...]
    references: tuple[tuple[str, str, int, str], ...]
    complete: frozenset[str]
    no_dead_man: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Any) -> "Draft":
        """From a document as ``Typed`` made it."""
        data = data if isinstance(data, dict) else {}
        site = data.get("site")
        grid = site.get("grid_connection") if isinstance(site, dict) else None
        return cls(
            site=_one(SiteSection, site),
            grid=_one(GridConnection, grid),
            zones=tuple(_many(ZoneSection, data.get("zones"))),
            devices=tuple(_many(Device, data.get("devices"))),
            stations=tuple(_many(StationSection, data.get("stations"))),
            limits=tuple(_many(ExternalLimit, data.get("external_limits"))),
            schedules=tuple(_many(ScheduledLimit, data.get("scheduled_limits"))),
            groups=tuple(_many(GroupSection, data.get("groups"))),
            contacts=tuple(_many(ContactSection, data.get("contacts"))),
            contactors=tuple(_many(ContactorSection, data.get("contactors"))),
            csms=_one(Csms, data.get("csms", {})),
            control=_one(Control, data.get("control", {})),
            web=_one(Web, data.get("web", {})),
            ids={name: tuple(_ids(data.get(name))) for name in LISTS},
            parents=tuple(_parents(data.get("zones"))),
            loose_devices=tuple(_many(Device, without_unusable(data.get("devices")))),
            loose_stations=tuple(_many(StationSection, without_unusable(data.get("stations")))),
            references=tuple(_references(data)),
            complete=frozenset(name for name in LISTS if _all_named(data.get(name, []))),
        )

    def names(self, kind: str) -> list[str]:
        """Ids of one list, each once, in the file's order."""
        return list(dict.fromkeys(name for _, name in self.ids[kind]))

    @property
    def phases(self) -> int:
        """Phases of the site."""
        return self.grid.phases if self.grid else 3

    def inside(self, zone_id: str) -> set[str]:
        """The zone and all that it feeds, over any number of levels."""
        found = {zone_id}
        while more := {name for _, name, parent in self.parents if parent in found} - found:
            found |= more
        return found

    def fallback_a(self, station: StationSection) -> list[float]:
        """What a station draws per grid phase when we are gone: its maximum where it was learned not to fall back."""
        if station.id in self.no_dead_man:
            return self.per_phase(station, [evse.max_a for evse in station.evses])
        return self.per_phase(station, [station.fallback_a] * len(station.evses))

    def per_phase(self, station: StationSection, currents_a: list[float]) -> list[float]:
        """One current per EVSE, summed on each grid phase; an unknown rotation counts on every phase."""
        loads_a = [0.0] * self.phases
        for evse, current_a in zip(station.evses, currents_a, strict=True):
            rotation = rotation_of(evse, self.phases)
            for phase in range(self.phases) if rotation is None else set(rotation):
                loads_a[phase] += current_a
        return loads_a


def _one(model: type[M], data: Any) -> M | None:
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _many(model: type[M], data: Any) -> Iterator[tuple[int, M]]:
    for i, entry in enumerate(data if isinstance(data, list) else ()):
        if (item := _one(model, entry)) is not None:
            yield i, item


def without_unusable(data: Any) -> Any:
    """The data without what was reported as unreadable."""
    if isinstance(data, dict):
        return {key: without_unusable(value) for key, value in data.items() if value is not UNUSABLE}
    if isinstance(data, list):
        return [None if value is UNUSABLE else without_unusable(value) for value in data]
    return data


def _references(data: dict[str, Any]) -> Iterator[tuple[str, str, int, str]]:
    for kind, key in REFERENCES:
        entries = data.get(kind)
        for i, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict) and isinstance(entry.get(key), str):
                yield kind, key, i, entry[key]


def _ids(data: Any) -> Iterator[tuple[int, str]]:
    for i, entry in enumerate(data if isinstance(data, list) else ()):
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            yield i, entry["id"]


def _all_named(data: Any) -> bool:
    return isinstance(data, list) and len(list(_ids(data))) == len(data)


def _parents(data: Any) -> Iterator[tuple[int, str, str | None]]:
    for i, name in _ids(data):
        parent = data[i].get("parent")
        if parent is None or isinstance(parent, str):
            yield i, name, parent
