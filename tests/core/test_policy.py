"""Urgency and the throughput policy: what each promises, on small sites."""

import numpy as np
import pytest

from cem.core.allocation import Request, feasible, share
from cem.core.policy import Urgency, due, laxity, needed_rate, share_by_urgency, urgency
from cem.core.site import Evse, Protection, Site, Zone
from cem.core.throughput import Throughput
from cem.core.topology import Topology, flatten

THREE, ONE = (0, 1, 2), (0,)


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


def test_needed_rate_and_laxity():
    remaining = np.array([16.0, 16.0, 100.0, np.nan, 16.0, 16.0, -1.0])
    hours = np.array([2.0, 1.0, 1.0, 4.0, np.nan, 0.0, 2.0])
    most = np.full(7, 32.0)
    assert needed_rate(remaining, hours, most).tolist() == [8.0, 16.0, 32.0, 32.0, 32.0, 32.0, 0.0]
    assert laxity(remaining, hours, most).tolist() == [1.5, 0.5, 1 - 100 / 32, np.inf, np.inf, -0.5, 2.0]


def test_hurry_and_little_weigh_more_and_unknown_is_ordinary():
    remaining = np.array([16.0, 16.0, 8.0, 24.0, np.nan, 24.0])
    hours = np.array([0.5, 10.5, 10.25, 1.5, 3.0, np.nan])
    weight = urgency(remaining, hours, np.full(6, 32.0)).weight
    assert weight.tolist() == pytest.approx([1 / (0.25 * 0.75), 1 / (10.25 * 0.75), 1 / (10.25 * 0.5), 1.0, 1.0, 1.0])


def test_a_car_with_time_waits_while_others_can_use_the_room_then_gets_what_is_left():
    topology = site(ONE, ONE)
    given = {"running": np.array([True, False])}
    needed, lax = np.array([20.0, 2.0]), np.array([0.1, 20.0])
    scarce = share_by_urgency(
        topology, request(topology, **given), cap_of(32.0), Urgency(needed, lax, 1 / (0.25 + np.maximum(lax, 0)))
    )
    assert scarce.current_a.tolist() == [32.0, 0.0]
    assert scarce.lacking[1] == topology.row("grid", "L1")
    ample = share_by_urgency(
        topology, request(topology, **given), cap_of(40.0), Urgency(needed, lax, 1 / (0.25 + np.maximum(lax, 0)))
    )
    assert ample.current_a.tolist() == [32.0, 8.0]
    assert ample.admitted.all()


def test_a_car_that_needs_it_starts_at_the_others_cost_and_a_running_one_is_kept():
    topology = site(ONE, ONE, ONE)
    given = {"running": np.array([True, True, False])}
    needed, lax = np.array([1.0, 1.0, 30.0]), np.array([9.0, 9.0, 0.0])
    got = share_by_urgency(
        topology, request(topology, **given), cap_of(32.0), Urgency(needed, lax, 1 / (0.25 + np.maximum(lax, 0)))
    ).current_a
    assert got.tolist() == [6.0, 6.0, 20.0]
    assert due(request(topology, **given), needed).all()


def test_throughput_prefers_what_yields_more_and_pauses_nobody():
    # One ampere of the three-phase car is three; but the single-phase car runs and keeps its minimum.
    topology = site(THREE, ONE)
    asked = request(topology, running=np.array([True, True]))
    got = Throughput(topology).share(asked, cap_of(32.0), Urgency(np.full(2, 16.0), np.full(2, 5.0), np.ones(2)))
    assert got.current_a.tolist() == [26.0, 6.0]
    late = request(topology, running=np.array([False, False]), max_a=np.array([32.0, 32.0]))
    got = Throughput(topology).share(late, cap_of(32.0), Urgency(np.full(2, 16.0), np.full(2, 5.0), np.ones(2)))
    assert got.current_a.tolist() == [32.0, 0.0]


def test_throughput_when_even_the_minima_do_not_fit():
    topology = site(ONE, ONE)
    asked = request(topology, running=np.ones(2, dtype=bool), urgency=np.array([2.0, 1.0]))
    got = Throughput(topology).share(asked, cap_of(7.0), Urgency(np.full(2, 30.0), np.zeros(2), np.ones(2)))
    assert got.current_a.tolist() == [0.0, 7.0]
    nobody = Throughput(topology).share(asked, cap_of(-3.0), Urgency(np.full(2, 30.0), np.zeros(2), np.ones(2)))
    assert nobody.current_a.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(40))
def test_both_policies_on_random_sites(seed: int):
    rng = np.random.default_rng(seed)
    topology = site(*(THREE if rng.random() < 0.5 else (int(rng.integers(3)),) for _ in range(12)))
    n = topology.n
    running = rng.random(n) < 0.4
    step = rng.choice([1.0, 8.0, 0.0], n)
    asked = request(
        topology,
        wants=rng.random(n) < 0.8,
        min_a=np.where(step == 8.0, 8.0, 6.0),
        max_a=rng.choice([16.0, 24.0, 32.0], n),
        step_a=step,
        running=running,
        urgency=rng.uniform(-1, 10, n),
    )
    cap = np.append(rng.uniform(0, 160, 3), np.inf if seed % 2 else rng.uniform(0, 300))
    needed, lax = rng.uniform(0, 32, n), rng.uniform(-1, 10, n)
    runs_alone = share(topology, asked, cap).admitted & running
    for shares in (
        share_by_urgency(topology, asked, cap, Urgency(needed, lax, 1 / (0.25 + np.maximum(lax, 0)))),
        Throughput(topology).share(asked, cap, Urgency(needed, lax, 1 / (0.25 + np.maximum(lax, 0)))),
    ):
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
    relaxed = np.full(n, np.inf)
    most = Throughput(topology).share(asked, cap, Urgency(np.full(n, 32.0), relaxed, np.ones(n))).current_a
    fair = share(topology, asked, cap).current_a
    assert (topology.n_phases * most).sum() >= (topology.n_phases * fair).sum() - 1e-6
