"""The allocation by example: small sites whose right answer can be worked out on paper."""

import numpy as np
import pytest

from cem.core.allocation import (
    FITS,
    NOT_ADMITTED,
    NOT_WANTING,
    OWN_MAX,
    Request,
    feasible,
    raise_within,
    room,
    share,
    water_fill,
)
from cem.core.site import Evse, Protection, Site, Zone
from cem.core.topology import Group, Topology, flatten, grid_phases

ALL = (0, 1, 2)


def site(*evses: tuple[str, tuple[int, ...] | None, int]) -> Site:
    """A main zone ``main`` with two zones ``left`` and ``right``; EVSEs as (zone, rotation, phases)."""
    zones = (
        Zone("main", None, Protection(63.0)),
        Zone("left", "main", Protection(32.0)),
        Zone("right", "main", Protection(32.0)),
    )
    built = tuple(
        Evse(f"s{i}/1", f"s{i}", zone, 1, rotation=rotation, phases=phases)
        for i, (zone, rotation, phases) in enumerate(evses)
    )
    return Site("paper", 230.0, 3, zones, built)


def flat(*evses: tuple[str, tuple[int, ...] | None, int], groups: tuple[Group, ...] = ()) -> Topology:
    return flatten(site(*evses), groups)


def limits(topology: Topology, **amps: float | tuple[float, float, float]) -> np.ndarray:
    """Amps per phase by scope; ``main_sum`` and so on for power limits."""
    cap = np.full(topology.rows, np.inf)
    for name, value in amps.items():
        scope, _, family = name.partition("_")
        base = topology.row(scope, "L1")
        if family == "sum":
            cap[base + 3] = value
        else:
            cap[base : base + 3] = value
    return cap


def wanting(topology: Topology, **changes: object) -> Request:
    n = topology.n
    arrays: dict[str, object] = {
        "wants": np.ones(n, dtype=bool),
        "min_a": np.full(n, 6.0),
        "max_a": np.full(n, 32.0),
        "phases": topology.phases,
        "n_phases": topology.n_phases,
    }
    for name, value in changes.items():
        arrays[name] = np.array(value)
    return Request(**arrays)  # type: ignore[arg-type]


def test_rows_are_named_for_people() -> None:
    topology = flat(("left", ALL, 3), groups=(Group("cable", (0,)),))
    assert topology.row_name(topology.row("left", "L2")) == "left L2"
    assert topology.row_name(topology.row("cable", "SUM")) == "cable SUM"
    assert topology.parent.tolist() == [-1, 0, 0]


@pytest.mark.parametrize(
    ("rotation", "phases", "counts_on"),
    [
        ((1,), 1, (False, True, False)),
        ((2, 0), 2, (True, False, True)),
        ((2, 0, 1), 3, (True, True, True)),
        ((2, 0, 1), 1, (False, False, True)),
        (None, 1, (True, True, True)),
    ],
)
def test_unknown_wiring_counts_on_every_phase(
    rotation: tuple[int, ...] | None, phases: int, counts_on: tuple[bool, bool, bool]
) -> None:
    assert grid_phases(Evse("s/1", "s", "z", 1, rotation=rotation, phases=phases)) == counts_on


def test_a_tight_phase_spares_those_on_the_others() -> None:
    """Two cars on L1, one on L2: a limit of 20 A per phase gives 10, 10 and 20."""
    topology = flat(("left", (0,), 1), ("right", (0,), 1), ("right", (1,), 1))
    got = share(topology, wanting(topology), limits(topology, main=20.0))
    assert got.current_a.tolist() == [10.0, 10.0, 20.0]
    assert [topology.row_name(row) for row in got.binding] == ["main L1", "main L1", "main L2"]


def test_what_one_zone_cannot_use_goes_to_the_other() -> None:
    topology = flat(("left", ALL, 3), ("left", ALL, 3), ("right", ALL, 3))
    got = share(topology, wanting(topology), limits(topology, main=40.0, left=16.0))
    assert got.current_a.tolist() == [8.0, 8.0, 24.0]
    assert [topology.row_name(row)[:-3] for row in got.binding] == ["left", "left", "main"]


def test_a_power_limit_counts_every_phase() -> None:
    """30 A in sum over the phases: a three-phase car at 7 A takes 21 of them, a single-phase one gets 9, fair is 7.5."""
    topology = flat(("left", ALL, 3), ("right", (1,), 1))
    got = share(topology, wanting(topology), limits(topology, main_sum=30.0))
    assert got.level_a.tolist() == [7.5, 7.5]
    assert got.current_a.tolist() == [7.0, 9.0]


def test_unknown_single_phase_wiring_counts_on_each_phase_but_once_in_power() -> None:
    topology = flat(("left", None, 1))
    left = room(
        topology,
        np.array([10.0]),
        topology.phases,
        limits(topology, main=16.0, main_sum=48.0),
        n_phases=topology.n_phases,
    )
    assert left[:4].tolist() == [6.0, 6.0, 6.0, 38.0]


def test_weights_share_and_minima_hold() -> None:
    """Shares 1 : 3 of 20 A would be 5 and 15; nobody gets less than 6."""
    topology = flat(("left", (0,), 1), ("right", (0,), 1))
    got = share(topology, wanting(topology, weight=[1.0, 3.0]), limits(topology, main=20.0))
    assert got.current_a.tolist() == [6.0, 14.0]


def test_a_higher_class_is_filled_first_but_minima_stay() -> None:
    topology = flat(("left", (0,), 1), ("right", (0,), 1))
    got = share(topology, wanting(topology, priority=[0, 5]), limits(topology, main=30.0))
    assert got.current_a.tolist() == [6.0, 24.0]
    assert got.binding.tolist() == [topology.row("main", "L1")] * 2


def test_who_runs_stays_on_before_anybody_starts() -> None:
    topology = flat(("left", (0,), 1), ("right", (0,), 1))
    got = share(topology, wanting(topology, running=[False, True], priority=[5, 0]), limits(topology, main=11.0))
    assert got.current_a.tolist() == [0.0, 11.0]
    assert got.binding[0] == NOT_ADMITTED
    assert topology.row_name(got.lacking[0]) == "main L1"
    assert got.lacking[1] == FITS


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({}, 0),
        ({"waiting_s": [0.0, 60.0]}, 1),
        ({"waiting_s": [0.0, 60.0], "urgency": [1.0, 2.0]}, 0),
        ({"urgency": [1.0, 2.0], "priority": [0, 1]}, 1),
        ({"priority": [0, 1], "running": [True, False]}, 0),
    ],
)
def test_the_order_of_admission(changes: dict[str, list[float]], first: int) -> None:
    """Index, then waiting, then urgency, then class, then running: each outweighs the one before."""
    topology = flat(("left", (0,), 1), ("right", (0,), 1))
    got = share(topology, wanting(topology, **changes), limits(topology, main=8.0))
    assert got.admitted.tolist() == [first == 0, first == 1]


def test_a_start_needs_the_margin_and_a_running_car_does_not() -> None:
    topology = flat(("left", (0,), 1))
    cap = limits(topology, main=6.5)
    assert share(topology, wanting(topology), cap, start_margin_a=1.0).current_a.tolist() == [0.0]
    assert share(topology, wanting(topology, running=[True]), cap, start_margin_a=1.0).current_a.tolist() == [6.0]
    assert share(topology, wanting(topology), cap).current_a.tolist() == [6.0]


def test_who_does_not_want_gets_nothing_and_is_named_so() -> None:
    topology = flat(("left", (0,), 1), ("right", (0,), 1))
    got = share(topology, wanting(topology, wants=[False, True]), limits(topology, main=20.0))
    assert got.current_a.tolist() == [0.0, 20.0]
    assert got.binding[0] == NOT_WANTING


def test_a_maximum_below_the_minimum_is_the_evses_own_limit() -> None:
    topology = flat(("left", (0,), 1))
    got = share(topology, wanting(topology, max_a=[4.0]), limits(topology, main=20.0))
    assert got.current_a.tolist() == [0.0]
    assert got.binding.tolist() == [OWN_MAX]
    assert not got.admitted[0]


def test_minimum_and_maximum_off_the_steps_are_moved_inwards() -> None:
    """Steps of 4 A, 6 to 15 A: it can be set to 8 and 12 only."""
    topology = flat(("left", (0,), 1))
    for cap, expected in ((7.9, 0.0), (8.0, 8.0), (11.9, 8.0), (99.0, 12.0)):
        got = share(topology, wanting(topology, step_a=[4.0], max_a=[15.0]), limits(topology, main=cap))
        assert got.current_a.tolist() == [expected]


def test_what_rounding_left_goes_to_the_lowest_first() -> None:
    """Fair is 10.5, 7.5 and 7.5; rounded down 1.5 A remain, one step: it goes to one of those at 7 and not to the 10."""
    topology = flat(("right", (0,), 1), ("left", (0,), 1), ("left", (0,), 1))
    got = share(topology, wanting(topology), limits(topology, main=25.5, left=15.0))
    assert got.level_a.tolist() == [10.5, 7.5, 7.5]
    assert got.current_a.tolist() == [10.0, 8.0, 7.0]


def test_without_steps_the_share_is_exact_and_takes_what_steps_leave() -> None:
    topology = flat(("left", (0,), 1), ("right", (0,), 1))
    got = share(topology, wanting(topology, step_a=[0.0, 1.0]), limits(topology, main=25.0))
    assert got.current_a.tolist() == [13.0, 12.0] or got.current_a.tolist() == [12.0, 13.0]
    got = share(topology, wanting(topology, step_a=[0.0, 0.0]), limits(topology, main=25.0))
    assert got.current_a.tolist() == [12.5, 12.5]


def test_an_overdrawn_limit_admits_nobody_beneath_and_leaves_others_alone() -> None:
    topology = flat(("left", ALL, 3), ("right", (1,), 1))
    got = share(topology, wanting(topology), limits(topology, left=-4.0, right=20.0))
    assert got.current_a.tolist() == [0.0, 20.0]
    assert topology.row_name(got.lacking[0]).startswith("left")


def test_a_fixed_draw_counts_and_a_discharging_one_makes_room() -> None:
    topology = flat(("left", (0,), 1), ("right", (0,), 1))
    cap = limits(topology, main=20.0)
    reserve = wanting(topology, wants=[True, False], fixed_a=[0.0, 8.0])
    assert share(topology, reserve, cap).current_a.tolist() == [12.0, 0.0]
    discharge = wanting(topology, wants=[True, False], fixed_a=[0.0, -8.0])
    assert share(topology, discharge, cap).current_a.tolist() == [28.0, 0.0]


def test_a_group_cuts_across_the_tree() -> None:
    cable = Group("cable", (0, 2), (1.0, 2.0))
    topology = flat(("left", (0,), 1), ("left", (0,), 1), ("right", (0,), 1), groups=(cable,))
    got = share(topology, wanting(topology), limits(topology, cable=24.0))
    assert got.current_a.tolist() == [8.0, 32.0, 8.0]
    assert topology.row_name(got.binding[2]) == "cable L1"


def test_room_and_feasible() -> None:
    topology = flat(("left", (0,), 1), ("right", ALL, 3))
    cap = limits(topology, main=20.0, main_sum=40.0)
    left = room(topology, np.array([12.0, 8.0]), topology.phases, cap)
    assert left[:4].tolist() == [0.0, 12.0, 12.0, 4.0]
    assert np.isinf(left[4:]).all()
    assert feasible(topology, np.array([12.0, 8.0]), topology.phases, cap)
    assert not feasible(topology, np.array([12.1, 8.0]), topology.phases, cap)


def test_water_fill_accepts_currents_below_zero() -> None:
    """A car that may discharge shares from its lower bound upwards like any other."""
    topology = flat(("left", (0,), 1), ("right", (0,), 1))
    level, binding = water_fill(
        topology,
        np.array([-16.0, -6.0]),
        np.array([32.0, 32.0]),
        np.ones(2),
        topology.phases,
        limits(topology, main=-10.0),
    )
    assert level.tolist() == pytest.approx([-5.0, -5.0])
    assert binding.tolist() == [0, 0]


@pytest.mark.parametrize("broken", ["cap", "lb", "ub", "weight"])
def test_what_is_not_a_number_is_refused_and_never_granted(broken: str) -> None:
    topology = flat(("left", (0,), 1), ("right", (0,), 1))
    given = {
        "lb": np.full(2, 6.0),
        "ub": np.full(2, 32.0),
        "weight": np.ones(2),
        "cap": limits(topology, main=20.0),
    }
    given[broken][0] = np.nan
    with pytest.raises(ValueError, match="not a number"):
        water_fill(topology, given["lb"], given["ub"], given["weight"], topology.phases, given["cap"])


def test_an_empty_site_is_shared_by_nobody() -> None:
    topology = flat()
    got = share(topology, wanting(topology), limits(topology, main=20.0))
    assert got.current_a.size == 0


# The transition guard: 32 A on L1, two cars


def rise(start: list[float], target: list[float], occupied: list[float], cap_a: float = 32.0) -> list[float]:
    topology = flat(("left", (0,), 1), ("right", (0,), 1))
    now = raise_within(
        topology,
        np.array(start),
        np.array(target),
        np.array(occupied),
        topology.phases,
        limits(topology, main=cap_a),
        min_a=np.full(2, 6.0),
    )
    return now.tolist()


def test_a_rise_waits_until_the_cut_is_obeyed() -> None:
    assert rise([10.0, 6.0], [22.0, 10.0], [10.0, 26.0], 36.0) == [10.0, 10.0]  # below what it occupies it is free
    assert rise([10.0, 10.0], [22.0, 10.0], [10.0, 22.0]) == [10.0, 10.0]
    assert rise([10.0, 10.0], [22.0, 10.0], [10.0, 15.0]) == [17.0, 10.0]
    assert rise([10.0, 10.0], [22.0, 10.0], [10.0, 10.0]) == [22.0, 10.0]


def test_a_start_finds_room_for_its_minimum_or_waits() -> None:
    assert rise([0.0, 10.0], [16.0, 10.0], [0.0, 27.0]) == [0.0, 10.0]
    assert rise([0.0, 10.0], [16.0, 10.0], [0.0, 26.0]) == [6.0, 10.0]


def test_nobody_is_lowered_and_nobody_rises_in_an_exceeded_limit() -> None:
    assert rise([20.0, 20.0], [6.0, 26.0], [0.0, 0.0]) == [20.0, 20.0]


def test_a_fraction_on_the_way_is_rounded_down_to_a_whole_step() -> None:
    assert rise([10.0, 10.0], [22.0, 10.0], [10.0, 15.4]) == [16.0, 10.0]
    assert rise([6.0, 6.0], [20.0, 20.0], [6.0, 6.0], 25.0) == [13.0, 12.0]
