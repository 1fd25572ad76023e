"""What cars charge from: rules over stations, meters and the control section."""

from collections.abc import Iterator

from cem.config.draft import Draft, Finding
from cem.config.scalars import plain

THREE = 3


def surplus_can_be_measured(draft: Draft) -> Iterator[Finding]:
    """Without a meter at the grid connection there never is any surplus."""
    roots = [zone for _, zone in draft.zones if zone.parent is None]
    if not roots or roots[0].meter is not None:
        return
    for i, station in draft.stations:
        if station.mode in {"surplus", "min_surplus"}:
            yield Finding(
                ("stations", i, "mode"),
                f"station '{station.id}' is to charge from surplus, but the root zone '{roots[0].id}' has no 'meter' "
                "that could show any: it would never get some",
            )


def phases_can_be_switched(draft: Draft) -> Iterator[Finding]:
    for i, station in draft.stations:
        for k, evse in enumerate(station.evses):
            if evse.phase_switching and (evse.phases != THREE or draft.phases != THREE):
                phases = min(evse.phases, draft.phases)
                yield Finding(
                    ("stations", i, "evses", k, "phase_switching"),
                    f"EVSE {station.id}/{evse.id} cannot switch between three phases and one: it has {phases}",
                )


def profiles_end_to_end(draft: Draft) -> Iterator[Finding]:
    """A station's maximum binds its EVSEs together, so it can hold no single one of several."""
    for i, station in draft.stations:
        if station.cloud_profiles == "end_to_end" and len(station.evses) > 1:
            yield Finding(
                ("stations", i, "cloud_profiles"),
                f"station '{station.id}' has {len(station.evses)} EVSEs; profiles go end to end only where there is one. "
                "Leave it at kept_here",
            )


def outlets(draft: Draft) -> Iterator[Finding]:
    for i, station in draft.stations:
        for k, evse in enumerate(station.evses):
            if evse.max_w is not None and not evse.dc:
                yield Finding(
                    ("stations", i, "evses", k, "max_w"),
                    f"'max_w' is the output of a DC outlet; EVSE {station.id}/{evse.id} has no 'dc: true' (an AC one "
                    "is bounded by 'max_a')",
                )


def surplus_thresholds(draft: Draft) -> Iterator[Finding]:
    surplus = None if draft.control is None else draft.control.surplus
    if surplus is None or surplus.start_w is None or surplus.stop_w is None or surplus.stop_w <= surplus.start_w:
        return
    yield Finding(
        ("control", "surplus", "stop_w"),
        f"cars would stop below {plain(surplus.stop_w)} W and start above {plain(surplus.start_w)} W: 'stop_w' must "
        "not be above 'start_w'",
    )


RULES = (surplus_can_be_measured, phases_can_be_switched, profiles_end_to_end, outlets, surplus_thresholds)
