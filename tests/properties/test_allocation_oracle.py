"""The allocation against answers found in other ways: linear programs, plain loops, trying every subset."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings

from cem.core.admission import FITS, take_in_order
from cem.core.allocation import OWN_MAX, share
from cem.core.filling import in_rounds, row_by_row
from cem.core.steps import Steps, hand_out
from cem.core.topology import EPS_A, uses
from tests.properties.lp_oracle import coefficients, max_min_by_lps
from tests.properties.random_trees import Case, cases, random_case
from tests.properties.test_allocation_properties import classes_of, least_most, weights_of

TREES = 500


def _sizes(seed: int) -> tuple[int, int]:
    rng = np.random.default_rng(10**6 + seed)
    return int(rng.integers(1, 61)), int(rng.integers(1, 13))


@pytest.mark.parametrize("tenth", range(10))
def test_levels_equal_a_sequence_of_linear_programs(tenth: int) -> None:
    """500 random three-phase trees, up to 60 EVSEs and 12 zones; strict classes one after the other."""
    worst = 0.0
    for seed in range(tenth * TREES // 10, (tenth + 1) * TREES // 10):
        case = random_case(seed, *_sizes(seed), whole=seed % 2 == 0, classes=3)
        got = share(case.topology, case.request, case.cap)
        matrix, weight, rank = coefficients(case.site, case.groups), weights_of(case.request), classes_of(case.request)
        least, most = least_most(case.request)
        lb, ub = np.where(got.admitted, least, 0.0), np.where(got.admitted, most, 0.0)
        expected = lb.copy()
        for one in sorted(np.unique(rank[got.admitted]).tolist(), reverse=True):
            mine = got.admitted & (rank == one)
            left = case.cap - matrix[:, ~mine] @ expected[~mine]
            expected[mine] = max_min_by_lps(matrix[:, mine], lb[mine], ub[mine], weight[mine], left)
        worst = max(worst, float(np.max(np.abs(got.level_a - expected))))
    assert worst < 1e-6


def _admit_by_hand(case: Case, margin_a: float = 0.0) -> np.ndarray:
    """The stated order, one EVSE after the other, on the dense matrix."""
    request, matrix, rank = case.request, coefficients(case.site, case.groups), classes_of(case.request)
    least, most = least_most(request)
    assert request.running is not None
    assert request.urgency is not None
    assert request.waiting_s is not None
    order = sorted(
        np.flatnonzero(request.wants & (least <= most)).tolist(),
        key=lambda i: (not request.running[i], -rank[i], request.urgency[i], -request.waiting_s[i], i),  # type: ignore[index]
    )
    left, admitted = case.cap.copy(), np.zeros(case.topology.n, dtype=bool)
    for i in order:
        need = least[i] + (0.0 if request.running[i] else margin_a)
        rows = matrix[:, i] > 0
        if np.all(matrix[rows, i] * need <= left[rows] + EPS_A):
            admitted[i] = True
            left[rows] -= matrix[rows, i] * least[i]
    return admitted


@settings(max_examples=150, deadline=None)
@given(cases(whole=False))
def test_admission_follows_the_stated_order(case: Case) -> None:
    assert np.array_equal(share(case.topology, case.request, case.cap).admitted, _admit_by_hand(case))


@settings(max_examples=80, deadline=None)
@given(cases(whole=False))
def test_a_start_needs_more_room_than_staying_on(case: Case) -> None:
    got = share(case.topology, case.request, case.cap, start_margin_a=1.0)
    assert np.array_equal(got.admitted, _admit_by_hand(case, 1.0))


@pytest.mark.parametrize("seed", range(40))
def test_admission_of_hundreds_follows_the_stated_order(seed: int) -> None:
    """Beyond a hundred contenders many are settled at once; the outcome is that of one after the other."""
    case = random_case(seed, 400, 12, whole=seed % 2 == 0)
    for margin_a in (0.0, 1.0):
        got = share(case.topology, case.request, case.cap * 0.5, start_margin_a=margin_a)
        halved = Case(case.site, case.groups, case.topology, case.request, case.cap * 0.5)
        assert np.array_equal(got.admitted, _admit_by_hand(halved, margin_a))


@settings(max_examples=60, deadline=None)
@given(cases(max_evses=10, max_zones=5))
def test_admission_is_the_best_subset_for_its_order(case: Case) -> None:
    """Brute force over all subsets: of those whose minima fit, the one that is first in the order wins."""
    request, matrix, rank = case.request, coefficients(case.site, case.groups), classes_of(case.request)
    least, most = least_most(request)
    asks = np.flatnonzero(request.wants & (least <= most)).tolist()
    assert request.running is not None
    assert request.urgency is not None
    assert request.waiting_s is not None
    keys = {i: (not request.running[i], -rank[i], request.urgency[i], -request.waiting_s[i], i) for i in asks}
    order = sorted(asks, key=keys.__getitem__)
    best: tuple[int, ...] = ()
    for chosen in itertools.product((1, 0), repeat=len(order)):
        picked = np.array([i for i, yes in zip(order, chosen, strict=True) if yes], dtype=int)
        rows = matrix[:, picked].any(axis=1)
        if np.all((matrix[:, picked] @ least[picked])[rows] <= case.cap[rows] + EPS_A):
            best = max(best, chosen)
    expected = {i for i, yes in zip(order, best, strict=True) if yes}
    assert set(np.flatnonzero(share(case.topology, request, case.cap).admitted).tolist()) == expected


@settings(max_examples=60, deadline=None)
@given(cases(whole=False, max_evses=40))
def test_lacking_names_a_row_of_that_evse(case: Case) -> None:
    request = case.request
    use = uses(case.topology, request.phases, request.n_phases)
    taken, lacking = take_in_order(
        use, request.wants, [-request.max_a], take_a=request.min_a, need_a=request.min_a, room_a=case.cap
    )
    matrix = coefficients(case.site, case.groups)
    for i in np.flatnonzero(request.wants):
        assert taken[i] == (lacking[i] == FITS)
        assert taken[i] or matrix[lacking[i], i] > 0


@pytest.mark.parametrize("seed", range(60))
def test_loops_and_arrays_settle_alike(seed: int) -> None:
    """Small sites go row by row, large ones many rows at once: on the same site both find the same point."""
    case = random_case(seed, *_sizes(seed))
    use = uses(case.topology, case.topology.phases, case.topology.n_phases)
    lb, ub, weight = np.full(case.topology.n, 6.0), case.request.max_a + 6.0, weights_of(case.request)
    slack = np.random.default_rng(seed).uniform(0.0, 1.0, use.rows) * use.load(ub - lb)
    answers = []
    for settle in (row_by_row, partial(in_rounds, few=0)):
        current, binding = ub.copy(), np.full(use.n, OWN_MAX)
        settle(use, lb, ub, weight, slack.copy(), current, binding)
        answers.append((current, binding))
    assert np.allclose(answers[0][0], answers[1][0], atol=1e-9)
    assert np.array_equal(answers[0][1] == OWN_MAX, answers[1][1] == OWN_MAX)


@pytest.mark.parametrize("seed", range(30))
def test_loops_and_arrays_hand_out_the_same_steps(seed: int) -> None:
    case = random_case(seed, 150, 12, whole=seed % 2 == 0)
    got = share(case.topology, case.request, case.cap * 0.7)
    steps = Steps.of(case.request.step_a, case.topology.n)
    _, most = least_most(case.request)
    answers = [
        hand_out(
            uses(case.topology, case.topology.phases, case.topology.n_phases),
            np.where(got.admitted, steps.down(got.level_a), 0.0),
            most,
            np.zeros(case.topology.n),
            fair=got.level_a,
            steps=steps,
            weight=weights_of(case.request),
            priority=classes_of(case.request),
            room_a=case.cap * 0.7,
            few=few,
        )
        for few in (0, 10**6)
    ]
    assert np.allclose(*answers, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_hundreds_of_evses_equal_the_linear_programs_too(seed: int) -> None:
    case = random_case(seed, 300, 25, classes=1)
    case = replace(case, cap=np.where(case.cap < 0, np.inf, case.cap))  # an overdrawn root would admit nobody
    got = share(case.topology, case.request, case.cap)
    least, most = least_most(case.request)
    mine, matrix = got.admitted, coefficients(case.site, case.groups)
    expected = max_min_by_lps(matrix[:, mine], least[mine], most[mine], weights_of(case.request)[mine], case.cap)
    assert np.max(np.abs(got.level_a[mine] - expected)) < 1e-6
    # and rounding at that size leaves nothing that somebody could take
    left = case.cap - matrix @ got.current_a
    more = mine & (got.current_a + 1 <= most)
    assert np.all((matrix[:, more] > left[:, None] + EPS_A / 2).any(axis=0))
    rows = matrix[:, mine].any(axis=1)
    assert np.all(left[rows] > -1e-6)
