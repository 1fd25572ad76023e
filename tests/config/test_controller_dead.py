"""The site with the controller dead, against every way the unknown phases could be wired."""

from itertools import product
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .sites import found

ZONES = {"a": None, "b": "a", "c": "b", "d": "a"}
LETTERS = {"R": 0, "S": 1, "T": 2}

evses = st.one_of(
    st.tuples(st.just(3), st.sampled_from(["RST", "STR", "TSR", "unknown"])),
    st.tuples(st.just(2), st.sampled_from(["RST", "STR", "TRS"])),
    st.tuples(st.just(1), st.sampled_from(["L1", "L2", "L3", "RST", "STR", "unknown"])),
)
stations = st.lists(
    st.tuples(st.sampled_from(sorted(ZONES)), st.sampled_from([0, 6, 10, 16]), st.lists(evses, min_size=1, max_size=2)),
    max_size=4,
)


def wirings(phases: int, rotation: str) -> list[tuple[int, ...]]:
    """Every way in which an EVSE may be on the grid's phases."""
    if phases == 3:
        return [(0, 1, 2)]
    if rotation == "unknown":
        return [(0,), (1,), (2,)]
    if rotation.startswith("L"):
        return [(int(rotation[1]) - 1,)]
    return [tuple(LETTERS[letter] for letter in rotation[:phases])]


def feeds(zone: str, inner: str | None) -> bool:
    while inner is not None and inner != zone:
        inner = ZONES[inner]
    return inner == zone


def worst_a(zone: str, built: list[tuple[str, int, list[tuple[int, str]]]]) -> int:
    """The highest sum of fallbacks on any phase of a zone, over all wirings."""
    loads = [(fallback, wirings(*evse)) for where, fallback, own in built for evse in own if feeds(zone, where)]
    worst = 0
    for wired in product(*(ways for _, ways in loads)):
        for phase in range(3):
            worst = max(worst, sum(a for (a, _), on in zip(loads, wired, strict=True) if phase in on))
    return worst


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stations, st.tuples(*[st.integers(8, 70)] * 4), st.integers(0, 8))
def test_a_zone_is_refused_exactly_where_some_wiring_overloads_it(
    tmp_path: Path,
    built: list[tuple[str, int, list[tuple[int, str]]]],
    ratings_a: tuple[int, ...],
    other_a: int,
) -> None:
    lines = ["version: 1", "site: {name: x, grid_connection: {fuse_a: 80}}", "zones:"]
    for (zone, parent), rating_a in zip(ZONES.items(), ratings_a, strict=True):
        lines.append(
            f"- {{id: {zone}, parent: {parent or '~'}, protection: {{rating_a: {rating_a}}}, uncontrolled_max_a: {other_a}}}"
        )
    lines.append("stations:" if built else "stations: []")
    for n, (zone, fallback_a, own) in enumerate(built):
        lines.append(f"- {{id: s{n}, zone: {zone}, breaker_a: 63, fallback_a: {fallback_a}, evses: [")
        lines += [f"    {{id: {k}, phases: {p}, rotation: {r}}}," for k, (p, r) in enumerate(own, 1)] + ["  ]}"]
    refused = {line.split("'")[1] for line in found(tmp_path, "\n".join(lines)) if "controller dead" in line}
    assert refused == {
        zone for zone, rating_a in zip(ZONES, ratings_a, strict=True) if worst_a(zone, built) + other_a > rating_a
    }
