"""What ``decide`` itself does with session targets under each policy, on sessions that never change."""

import numpy as np
import pytest

from cem.core.engine import Plan
from cem.core.site import Evse, Policy, Protection, Site, Zone
from cem.core.timings import Timings
from cem.core.topology import feasible
from tests.benchmarks._controller import Drive, Driver
from tests.benchmarks._plant import PERIODS_PER_HOUR, Outcome, Sessions, judge


def drive(policy: Policy, evses: tuple[Evse, ...], grid_a: float, rows: list[tuple[int, int, int, float]]) -> Drive:
    """Sessions as EVSE, first period, period after the last, and amperes for how many hours."""
    zones = (Zone("grid", None, Protection(grid_a)), Zone("board", "grid", Protection(40.0)))
    plan = Plan.of(Site("small", 230.0, 3, zones, evses, policy=policy), Timings())
    cap = np.full(plan.topology.rows, np.inf)
    cap[0:3], cap[4:7] = grid_a, 40.0

    def fits(current_a: np.ndarray) -> bool:
        return feasible(plan.topology, current_a, plan.topology.phases, cap, n_phases=plan.topology.n_phases)

    return Driver(plan, sessions_of(rows), fits).run()


def sessions_of(rows: list[tuple[int, int, int, float]]) -> Sessions:
    evse, arrival, departure, want_ah = (np.array(column) for column in zip(*rows, strict=True))
    phases = np.where(evse % 2, 3, 1)  # in the car park; elsewhere all are alike
    return Sessions(evse, arrival, departure, want_ah * PERIODS_PER_HOUR, 0.23 * want_ah * phases)


def park(n: int, **given: float) -> tuple[Evse, ...]:
    """Every second EVSE on three phases, the others on one after the other."""
    return tuple(
        Evse(
            f"s{i}/1",
            f"s{i}",
            "board" if i % 3 == 0 else "grid",
            1,
            phases=3 if i % 2 else 1,
            rotation=(0, 1, 2) if i % 2 else ((i // 2) % 3,),
            **given,
        )
        for i in range(n)
    )


def beside(n: int, **given: float) -> tuple[Evse, ...]:
    """All on the same phase."""
    return tuple(Evse(f"s{i}/1", f"s{i}", "grid", 1, phases=1, rotation=(0,), **given) for i in range(n))


@pytest.fixture(scope="module")
def crowded() -> dict[Policy, tuple[Outcome, Drive]]:
    """Ten EVSEs at 50 A a phase, 30 sessions in twelve hours that want about a third more than there is."""
    rng = np.random.default_rng(5)
    evses, rows = park(10), []
    for i in range(10):
        for shift in range(3):
            came = 48 * shift + int(rng.integers(0, 16))
            stays = int(rng.integers(10, 30))
            rows.append((i, came, came + stays, float(rng.uniform(0.3, 0.9)) * 32.0 * stays / PERIODS_PER_HOUR))
    found = {}
    for policy in Policy:
        drove = drive(policy, evses, 50.0, rows)
        found[policy] = judge(sessions_of(rows), drove.draws, np.full(10, 6.0), np.ones(10)), drove
    return found


def test_each_policy_delivers_what_it_is_for(crowded: dict[Policy, tuple[Outcome, Drive]]):
    fair, throughput = crowded[Policy.FAIR][0], crowded[Policy.THROUGHPUT][0]
    assert throughput.energy > fair.energy > 50.0
    assert fair.jain > throughput.jain


def test_nobody_is_paused_but_for_anothers_turn(crowded: dict[Policy, tuple[Outcome, Drive]]):
    for _, drove in crowded.values():
        assert drove.pauses == 0


@pytest.mark.parametrize("policy", Policy)
def test_who_leaves_soon_gets_the_rate_that_it_needs(policy: Policy):
    # 18 Ah in an hour; the others have ten hours for 20 Ah and hold their minimum meanwhile.
    drove = drive(policy, beside(3), 32.0, [(0, 0, 120, 20.0), (1, 0, 120, 20.0), (2, 1, 13, 18.0)])
    assert drove.draws[2].sum() == pytest.approx(18.0 * PERIODS_PER_HOUR)
    assert (drove.pilots[:2, 2] == 6).all()
    assert drove.draws[:2].sum(axis=1) == pytest.approx(20.0 * PERIODS_PER_HOUR)


def test_without_hurry_the_fair_policy_shares_alike():
    drove = drive(Policy.FAIR, beside(3), 33.0, [(i, 0, 24, 20.0) for i in range(3)])
    assert drove.pilots[:, 1].tolist() == [11.0, 11.0, 11.0]


@pytest.mark.parametrize("policy", Policy)
def test_a_station_of_coarse_steps_is_set_to_nothing_else(policy: Policy):
    rows = [(i, i, 40 + i, 60.0) for i in range(3)]
    drove = drive(policy, beside(3, min_a=8.0, step_a=8.0), 45.0, rows)
    assert set(np.unique(drove.pilots)) <= {0.0, 8.0, 16.0, 24.0, 32.0}
    assert drove.pilots[:, 5].sum() == 40.0


@pytest.mark.parametrize("seed", [1, 4])
def test_without_steps_no_limit_is_exceeded_by_a_hair(seed: int):
    """Turns among ten cars at 30 A a phase; each set of setpoints is held against the limits, see ``Driver``."""
    rng = np.random.default_rng(seed)
    rows = [
        (i, 40 * k, 40 * k + int(rng.integers(10, 30)), float(rng.uniform(8, 60))) for i in range(10) for k in (0, 1)
    ]
    drove = drive(Policy.FAIR, park(10, step_a=0.0), 30.0, rows)
    assert drove.turns > 10
