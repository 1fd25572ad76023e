"""Two masters: a cloud and a site limit the same station; the lower holds, and each sees what it should."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.csms.two_masters import MOVES, Match

VERSIONS = ["1.6", "2.0.1", "2.1"]
STATIONS = [*((version, False) for version in VERSIONS), ("2.1", True)]
"""Version, and whether it knows dynamic profiles."""


@pytest.mark.parametrize(("version", "dynamic"), STATIONS)
def test_the_lower_of_two_masters_holds_and_the_cloud_reads_back_what_it_set(version, dynamic):
    match = Match(version, random.Random(f"two masters {version}"), dynamic=dynamic)
    for _ in range(500):
        match.step()
    assert match.checks > 1000
    assert (match.station.updates > 20) is dynamic


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(STATIONS),
    st.randoms(use_true_random=False),
    st.lists(st.sampled_from([*sorted(set(MOVES)), "restart", "reconnect"]), min_size=3, max_size=25),
)
def test_no_stack_lets_the_stations_own_merge_exceed_the_lower(station, rng, moves):
    match = Match(station[0], rng, dynamic=station[1])
    match.do("start")
    for move in moves:
        match.do(move)


@pytest.mark.soak
@pytest.mark.parametrize(("version", "dynamic"), STATIONS)
def test_two_masters_over_10000_steps(version, dynamic):
    match = Match(version, random.Random(f"long {version}"), dynamic=dynamic)
    for _ in range(10_000):
        match.step()
    print(f"{version}: 10,000 steps, {match.checks} checks, {match.station.updates} dynamic values")


@pytest.mark.soak
@pytest.mark.parametrize("version", VERSIONS)
def test_two_masters_end_to_end_over_10000_steps(version):
    match = Match(version, random.Random(f"long, end to end {version}"), end_to_end=True)
    for _ in range(10_000):
        match.step()
    assert match.checks > 20_000
    print(f"{version}, end to end: 10,000 steps, {match.checks} checks")
