"""The two policies: what each promises, on small sites, from the function that the running controller calls."""

import highspy
import numpy as np
import pytest

from cem.core.allocation import Request, feasible, share
from cem.core.columns import Columns
from cem.core.policy import share_by
from cem.core.site import Evse, Policy, Protection, Site, Zone
from cem.core.state import EvseState
from cem.core.topology import Topology, flatten
from cem.core.units import LOWEST_V
from cem.core.urgency import MET_WEIGHT, Urgency

THREE, ONE = (0, 1, 2), (0,)
FAIR, THROUGHPUT = Policy


def site(*rotations: tuple[int, ...]) -> Topology:
    evses = tuple(
        Evse(f"s{i}/1", f"s{i}", "grid", 1, phases=len(rotation), rotation=rotation)
        for i, rotation in enumerate(rotations)
    )
    return flatten(Site("test", 230.0, 3, (Zone("grid", None, Protection(63.0)),), evses))


def request(topology: Topology, **given: object) -> Request:
    n = topology.n
    fields: dict[str, object] = {
        "wants": np.ones(n, dtype=bool),
        "min_a": np.full(n, 6.0),
        "max_a": np.full(n, 32.0),
        "phases": topology.phases,
        "n_phases": topology.n_phases,
    }
    return Request(**(fields | given))


def cap_of(grid_a: float) -> np.ndarray:
    return np.array([grid_a, grid_a, grid_a, np.inf])


def car(needed_ah: float | None, hours: float | None) -> EvseState:
    """On one phase, at noon."""
    return EvseState(
        "s/1",
        online=True,
        connected=True,
        charging=True,
        in_force_a=0.0,
        needed_wh=None if needed_ah is None else needed_ah * LOWEST_V,
        departure_s=None if hours is None else 1000.0 + 3600.0 * hours,
    )


def urgency_of(*cars: EvseState) -> Urgency | None:
    return Urgency.of(
        Columns.of(tuple(cars)), np.full(len(cars), 6.0), np.full(len(cars), 32.0), np.ones(len(cars)), 1000.0
    )


def test_who_is_late_follows_from_target_and_departure():
    found = urgency_of(car(26, 2), car(28, 2), car(100, 1), car(None, 4), car(16, None), car(16, 0), car(0, 2))
    assert found is not None
    assert found.late.tolist() == [False, True, True, True, True, True, False]
    assert urgency_of(car(None, 1), car(16, None)) is None


def test_it_is_told_when_a_car_that_waits_starts_at_the_latest():
    found = urgency_of(car(27, 6), car(None, 3))
    assert found is not None
    assert found.start_by_s[0] == pytest.approx(1000.0 + 4 * 3600.0), "27 Ah at 13.5 A take two hours"
    assert np.isnan(found.start_by_s[1])


def test_relaxed_is_who_needs_little_has_hours_and_is_not_nearly_done():
    found = urgency_of(car(60, 6), car(80, 6), car(32, 5), car(33, 4.9), car(15, 10), car(None, 9))
    assert found is not None
    assert found.relaxed.tolist() == [True, False, False, False, False, False]


def test_hurry_and_little_weigh_more_unknown_is_ordinary_and_what_was_not_asked_for_comes_last():
    found = urgency_of(car(16, 0.5), car(16, 10.5), car(8, 10.25), car(24, 1.5), car(None, 3), car(0, 0.1))
    assert found is not None
    weight = [1 / (0.25**4 * 0.75**2), 1 / (10.25**4 * 0.75**2), 1 / (10.25**4 * 0.5**2), 1.0, 1.0, MET_WEIGHT]
    assert found.weight.tolist() == pytest.approx(weight)
    assert found.worth.tolist() == pytest.approx([2.0, 1 + np.exp(-5), 1 + np.exp(-5), 1 + np.exp(-3 / 8), 1.0, 1.0])


def test_a_car_with_time_waits_while_others_can_use_the_room_then_gets_what_is_left():
    topology = site(ONE, ONE)
    asked = request(topology, running=np.array([True, False]), waits=np.array([False, True]))
    for policy in Policy:
        scarce = share_by(policy, topology, asked, cap_of(32.0))
        assert scarce.current_a.tolist() == [32.0, 0.0]
        assert scarce.lacking[1] == topology.row("grid", "L1")
        ample = share_by(policy, topology, asked, cap_of(40.0))
        assert ample.current_a.tolist() == [32.0, 8.0]
        assert ample.admitted.all()


def test_who_needs_it_now_runs_its_turn_or_is_of_a_higher_class_does_not_wait():
    cars = [car(4, 2), car(26, 2), car(28, 2), car(60, 6), car(60, 6), car(4, 2)]
    found = urgency_of(*cars)
    assert found is not None
    running = np.array([False, False, False, True, True, False])
    given = {
        "wants": np.ones(6, dtype=bool),
        "running": running,
        "turn_over": np.array([False, False, False, False, True, False]),
    }
    same = found.can_wait(priority=np.zeros(6, dtype=int), **given)
    assert same.tolist() == [True, True, False, False, True, True]
    higher = found.can_wait(priority=np.array([0, 0, 0, 0, 0, 1]), **given)
    assert higher.tolist() == [True, True, False, False, True, False]


def test_one_that_runs_and_could_wait_stays_where_there_is_room_without_the_margin_of_a_start():
    topology = site(ONE, ONE)
    longest = np.array([0.0, 1.0])  # who can wait comes last, however long it has waited
    asked = request(topology, running=np.ones(2, dtype=bool), waits=np.array([False, True]), waiting_s=longest)
    for policy in Policy:
        assert share_by(policy, topology, asked, cap_of(38.0), 1.0).current_a.tolist() == [32.0, 6.0]
        assert share_by(policy, topology, asked, cap_of(37.0), 1.0).current_a.tolist() == [32.0, 0.0]


def test_throughput_prefers_what_yields_more_and_pauses_nobody():
    # One ampere of the three-phase car is three; but the single-phase car runs and keeps its minimum.
    topology = site(THREE, ONE)
    asked = request(topology, running=np.array([True, True]))
    assert share_by(THROUGHPUT, topology, asked, cap_of(32.0)).current_a.tolist() == [26.0, 6.0]
    late = request(topology, running=np.array([False, False]))
    assert share_by(THROUGHPUT, topology, late, cap_of(32.0)).current_a.tolist() == [32.0, 0.0]


def test_throughput_serves_the_higher_class_first():
    topology = site(THREE, ONE)
    asked = request(topology, running=np.array([True, True]), priority=np.array([0, 1]))
    assert share_by(THROUGHPUT, topology, asked, cap_of(32.0)).current_a.tolist() == [6.0, 26.0]


def test_throughput_moves_nobody_for_little():
    topology = site(ONE, ONE)
    had = np.array([20.0, 12.0])
    for worth, becomes in ((1.03, [20.0, 12.0]), (1.10, [6.0, 26.0])):
        asked = request(topology, running=np.ones(2, dtype=bool), weight=np.array([1.0, worth]), had_a=had)
        assert share_by(THROUGHPUT, topology, asked, cap_of(32.0)).current_a.tolist() == becomes


def test_throughput_when_even_the_minima_do_not_fit():
    topology = site(ONE, ONE)
    asked = request(topology, running=np.ones(2, dtype=bool), urgency=np.array([2.0, 1.0]))
    assert share_by(THROUGHPUT, topology, asked, cap_of(7.0)).current_a.tolist() == [0.0, 7.0]
    assert share_by(THROUGHPUT, topology, asked, cap_of(-3.0)).current_a.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(40))
def test_both_policies_on_random_sites(seed: int):
    rng = np.random.default_rng(seed)
    topology = site(*(THREE if rng.random() < 0.5 else (int(rng.integers(3)),) for _ in range(12)))
    n = topology.n
    running = rng.random(n) < 0.4
    step = rng.choice([1.0, 8.0, 0.0], n)
    wants = rng.random(n) < 0.8
    asked = request(
        topology,
        wants=wants,
        min_a=np.where(step == 8.0, 8.0, 6.0),
        max_a=rng.choice([16.0, 24.0, 32.0], n),
        step_a=step,
        running=running,
        urgency=rng.uniform(-1, 10, n),
        weight=rng.uniform(0.05, 16, n),
        priority=rng.integers(0, 2, n),
        had_a=np.where(running, 10.0, 0.0),
        waits=wants & ~running & (rng.random(n) < 0.5),
    )
    cap = np.append(rng.uniform(0, 160, 3), np.inf if seed % 2 else rng.uniform(0, 300))
    runs_alone = share(topology, asked, cap).admitted & running
    for policy in Policy:
        shares = share_by(policy, topology, asked, cap)
        got = shares.current_a
        assert feasible(topology, got, topology.phases, cap, n_phases=topology.n_phases)
        assert ((got == 0) | ((got >= asked.min_a) & (got <= asked.max_a + 1e-9))).all()
        whole = step > 0
        assert np.allclose(got[whole] / step[whole], np.round(got[whole] / step[whole]))
        assert (got[runs_alone] > 0).all(), "a running car was paused"
        assert not got[~asked.wants].any()
        assert (shares.admitted == (got > 0)).all()
        # Nobody left out has room for his minimum.
        left = cap - topology.wired.load(got)
        for i in (asked.wants & (got == 0)).nonzero()[0]:
            mine = topology.wired.evse == i
            need = np.ceil(asked.min_a[i] / step[i]) * step[i] if step[i] else asked.min_a[i]
            assert (left[topology.wired.row[mine]] < topology.wired.coef[mine] * need).any()


@pytest.mark.parametrize("seed", range(10))
def test_throughput_is_never_less_than_fairness_with_continuous_currents(seed: int):
    rng = np.random.default_rng(100 + seed)
    topology = site(*(THREE if rng.random() < 0.5 else (int(rng.integers(3)),) for _ in range(10)))
    n = topology.n
    asked = request(topology, step_a=np.zeros(n), running=np.ones(n, dtype=bool))
    cap = np.append(rng.uniform(80, 200, 3), np.inf)
    most, fair = (share_by(policy, topology, asked, cap).current_a for policy in (THROUGHPUT, FAIR))
    assert (topology.n_phases * most).sum() >= (topology.n_phases * fair).sum() - 1e-6


def test_another_solver_in_the_process_changes_nothing():
    """One that was started with threads of its own once made every later one fail, without a word."""
    highspy.Highs.resetGlobalScheduler(True)
    other = highspy.Highs()
    other.silent()
    other.setOptionValue("threads", 2)
    other.addVars(1, np.zeros(1), np.ones(1))
    other.run()
    line = site(ONE, ONE)
    asked = request(line, weight=np.array([1.0, 2.0]), running=np.ones(2, dtype=bool))
    assert share_by(THROUGHPUT, line, asked, cap_of(30.0)).current_a.tolist() == [6.0, 24.0]
