"""The tree of zones: one root, no circles, ratings and meters that fit."""

from collections.abc import Iterator

from cem.config.draft import Draft, Finding
from cem.config.scalars import plain


def one_root(draft: Draft) -> Iterator[Finding]:
    roots = [(i, name) for i, name, parent in draft.parents if parent is None]
    if draft.parents and not roots and "zones" in draft.complete and len(draft.parents) == len(draft.ids["zones"]):
        yield Finding(("zones",), "no zone is the root: leave 'parent' out in the zone of the grid connection")
    for i, name in roots[1:]:
        first = roots[0][1]
        yield Finding(
            ("zones", i), f"zone '{name}' has no parent, but '{first}' is the root already: write 'parent: {first}'"
        )


def no_circles(draft: Draft) -> Iterator[Finding]:
    parent_of = {name: parent for _, name, parent in reversed(draft.parents)}  # of two of one name the first
    told: set[str] = set()
    for i, name, _ in draft.parents:
        way: list[str] = []
        here: str | None = name
        while here is not None and here not in way:
            way.append(here)
            here = parent_of.get(here)
        if here == name and not told & set(way):
            told |= set(way)
            yield Finding(("zones", i, "parent"), f"zones feed each other in a circle: {' < '.join([*way, name])}")


def root_within_grid_fuse(draft: Draft) -> Iterator[Finding]:
    for i, zone in draft.zones:
        rating_a = zone.protection.rating_a
        if zone.parent is None and draft.grid and rating_a > draft.grid.fuse_a:
            yield Finding(
                ("zones", i, "protection", "rating_a"),
                f"zone '{zone.id}' is rated {plain(rating_a)} A, above the fuse of the grid connection "
                f"({plain(draft.grid.fuse_a)} A)",
            )


def child_below_parent(draft: Draft) -> Iterator[Finding]:
    ratings_a = {zone.id: zone.protection.rating_a for _, zone in draft.zones}
    for i, zone in draft.zones:
        above = ratings_a.get(zone.parent or "")
        if above is not None and zone.parent != zone.id and zone.protection.rating_a > above:
            yield Finding(
                ("zones", i, "protection", "rating_a"),
                f"zone '{zone.id}' is rated {plain(zone.protection.rating_a)} A, above '{zone.parent}' that feeds it "
                f"({plain(above)} A)",
                "warning",
            )


def busbar_carries_rating(draft: Draft) -> Iterator[Finding]:
    for i, zone in draft.zones:
        if zone.busbar_a is not None and zone.busbar_a < zone.protection.rating_a:
            yield Finding(
                ("zones", i, "busbar_a"),
                f"the busbar of zone '{zone.id}' carries {plain(zone.busbar_a)} A, less than its rating of "
                f"{plain(zone.protection.rating_a)} A",
            )


def guard_below_rating(draft: Draft) -> Iterator[Finding]:
    for i, zone in draft.zones:
        if zone.protection.guard_a >= zone.protection.rating_a:
            yield Finding(
                ("zones", i, "protection", "guard_a"),
                f"zone '{zone.id}' keeps {plain(zone.protection.guard_a)} A free of "
                f"{plain(zone.protection.rating_a)} A, so nothing is left",
            )


def curve_is_of_an_mcb(draft: Draft) -> Iterator[Finding]:
    for i, zone in draft.zones:
        if zone.protection.curve and zone.protection.kind != "mcb":
            yield Finding(
                ("zones", i, "protection", "curve"),
                f"only an mcb has a curve; zone '{zone.id}' is protected by kind '{zone.protection.kind}'",
            )


def meter_has_fallback(draft: Draft) -> Iterator[Finding]:
    for i, zone in draft.zones:
        if zone.meter and zone.fallback_limit_a is None:
            yield Finding(
                ("zones", i, "meter"),
                f"zone '{zone.id}' has a meter and needs 'fallback_limit_a': what our EVSEs together may draw per "
                "phase while that meter is lost (0 is allowed)",
            )


def unmetered_zone_states_other_load(draft: Draft) -> Iterator[Finding]:
    for i, zone in draft.zones:
        if not zone.meter and "uncontrolled_max_a" not in zone.model_fields_set:
            yield Finding(
                ("zones", i),
                f"zone '{zone.id}' has no meter and no 'uncontrolled_max_a': nothing but our EVSEs may be connected "
                "there; write 'uncontrolled_max_a: 0' if that is so",
                "warning",
            )


def uncontrolled_includes_children(draft: Draft) -> Iterator[Finding]:
    known_a = {zone.id: zone.uncontrolled_max_a for _, zone in draft.zones}
    for i, zone in draft.zones:
        above = known_a.get(zone.parent or "")
        if above is not None and zone.uncontrolled_max_a > above:
            yield Finding(
                ("zones", i, "uncontrolled_max_a"),
                f"zone '{zone.id}' may hold {plain(zone.uncontrolled_max_a)} A of other load, more than '{zone.parent}' "
                f"that feeds it ({plain(above)} A, its children included)",
            )


RULES = (
    one_root,
    no_circles,
    root_within_grid_fuse,
    child_below_parent,
    busbar_carries_rating,
    guard_below_rating,
    curve_is_of_an_mcb,
    meter_has_fallback,
    unmetered_zone_states_other_load,
    uncontrolled_includes_children,
)
