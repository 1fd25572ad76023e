"""What every allocation must be, on random three-phase trees with groups, unknown wiring, classes and odd steps."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cem.core.allocation import NOT_ADMITTED, NOT_WANTING, OWN_MAX, Request, Shares, raise_within, share, water_fill
from cem.core.policy import share_by
from cem.core.site import Policy
from cem.core.topology import EPS_A, feasible, flatten
from tests.properties.lp_oracle import coefficients
from tests.properties.random_trees import Case, cases, random_cap, random_case

FINE = 1e-6
QUICK = settings(max_examples=80, deadline=None)
POLICIES = st.sampled_from(Policy)


def steps_of(request: Request) -> np.ndarray:
    return np.ones(request.wants.size) if request.step_a is None else request.step_a


def weights_of(request: Request) -> np.ndarray:
    return np.ones(request.wants.size) if request.weight is None else request.weight


def classes_of(request: Request) -> np.ndarray:
    return np.zeros(request.wants.size, dtype=np.int64) if request.priority is None else request.priority


def least_most(request: Request) -> tuple[np.ndarray, np.ndarray]:
    """Least and most settable current, one EVSE at a time."""
    least, most = request.min_a.copy(), request.max_a.copy()
    for i, step in enumerate(steps_of(request)):
        if step > 0:
            least[i] = np.ceil(round(least[i] / step, 6)) * step
            most[i] = np.floor(round(most[i] / step, 6)) * step
    return least, most


def shared(case: Case, policy: Policy) -> Shares:
    """As the running controller shares, with some who can wait and some who have current already."""
    rng = np.random.default_rng(case.topology.n)
    waits = rng.random(case.topology.n) < rng.choice([0.0, 0.5])
    had_a = np.where(case.request.running, rng.uniform(0, 32, waits.size), 0.0)
    return share_by(policy, case.topology, replace(case.request, waits=waits, had_a=had_a), case.cap)


def loads(case: Case, current_a: np.ndarray) -> np.ndarray:
    return coefficients(case.site, case.groups) @ current_a


def rows_that_count(case: Case, who: np.ndarray) -> np.ndarray:
    """Rows in which one of these counts; an overdrawn row where nobody counts is nobody's fault."""
    return coefficients(case.site, case.groups)[:, who].sum(axis=1) > 0


@QUICK
@given(cases(whole=False), POLICIES)
def test_feasible_in_every_zone_phase_and_power_limit(case: Case, policy: Policy) -> None:
    got = shared(case, policy)
    for current in (got.current_a, got.level_a):
        rows = rows_that_count(case, current > 0)
        assert np.all(loads(case, current)[rows] <= case.cap[rows] + FINE)


@QUICK
@given(cases(whole=False), POLICIES)
def test_zero_or_from_minimum_to_maximum_in_steps(case: Case, policy: Policy) -> None:
    got = shared(case, policy)
    step = steps_of(case.request)
    for current, least, most, by in zip(got.current_a, case.request.min_a, case.request.max_a, step, strict=True):
        assert current == 0 or least - FINE <= current <= most + FINE
        if by > 0:
            assert abs(current / by - round(current / by)) < FINE
    assert np.all((got.current_a > 0) == got.admitted)
    assert not np.any(got.admitted & ~case.request.wants)


@QUICK
@given(cases(whole=False), POLICIES)
def test_nothing_is_left_that_somebody_could_take(case: Case, policy: Policy) -> None:
    got = shared(case, policy)
    matrix, step = coefficients(case.site, case.groups), steps_of(case.request)
    _, most = least_most(case.request)
    left = case.cap - matrix @ got.current_a
    for i in np.flatnonzero(got.admitted):
        more = step[i] or 1e-4
        if got.current_a[i] + more <= most[i] + FINE:
            assert np.any(matrix[:, i] * more > left + EPS_A / 2), f"EVSE {i} could take {more} A more"


@QUICK
@given(cases(whole=False))
def test_each_level_is_at_its_bound_or_highest_under_a_tight_limit(case: Case) -> None:
    """The max-min certificate, class by class."""
    got = share(case.topology, case.request, case.cap)
    matrix, weight, rank = coefficients(case.site, case.groups), weights_of(case.request), classes_of(case.request)
    least, most = least_most(case.request)
    for one in np.unique(rank[got.admitted]):
        mine = got.admitted & (rank == one)
        below = got.admitted & (rank < one)
        settled = np.where(below, least, got.level_a)  # a lower class holds its minimum while this one shares
        left = case.cap - matrix @ settled
        for i in np.flatnonzero(mine & (got.level_a < most - FINE)):
            tight = np.flatnonzero((matrix[:, i] > 0) & (left < FINE))
            level = got.level_a[i] / weight[i]
            others = [np.flatnonzero((matrix[row] > 0) & mine & (got.level_a > least + FINE)) for row in tight]
            assert any(np.all(got.level_a[o] / weight[o] <= level + FINE) for o in others)
            assert got.binding[i] in tight


@QUICK
@given(cases(whole=False))
def test_every_paused_evse_has_a_limit_without_room_for_its_minimum(case: Case) -> None:
    got = share(case.topology, case.request, case.cap)
    matrix = coefficients(case.site, case.groups)
    least, most = least_most(case.request)
    running, rank = case.request.running, classes_of(case.request)
    assert running is not None
    for i in np.flatnonzero(case.request.wants & ~got.admitted & (least <= most + FINE)):
        row = got.lacking[i]
        assert got.binding[i] == NOT_ADMITTED
        # Those before it in the order, at their minimum, leave no room there: here only the two main keys are judged.
        before = got.admitted & ((running > running[i]) | ((running == running[i]) & (rank >= rank[i])))
        assert matrix[row, i] * least[i] > case.cap[row] - matrix[row, before] @ least[before] - FINE


@QUICK
@given(cases(whole=False))
def test_binding_says_who_or_what_holds_each_evse(case: Case) -> None:
    got = share(case.topology, case.request, case.cap)
    _, most = least_most(case.request)
    assert np.all((got.binding == NOT_WANTING) == ~case.request.wants)
    own = got.admitted & (got.binding == OWN_MAX)
    assert np.allclose(got.level_a[own], most[own], atol=FINE)
    held = got.binding >= 0
    assert np.all(got.admitted[held])
    matrix = coefficients(case.site, case.groups)
    assert np.all(matrix[got.binding[held], np.flatnonzero(held)] > 0)


@QUICK
@given(cases(), POLICIES)
def test_same_input_same_output_and_no_array_is_written_to(case: Case, policy: Policy) -> None:
    before = [a.copy() for a in (case.cap, case.request.max_a, case.request.min_a, case.request.wants)]
    first, second = shared(case, policy), shared(case, policy)
    for name in Shares.__slots__:
        assert np.array_equal(getattr(first, name), getattr(second, name))
    after = (case.cap, case.request.max_a, case.request.min_a, case.request.wants)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def _distinct(case: Case) -> Request:
    """The same request with an order that no index has to decide."""
    n = case.topology.n
    return replace(case.request, urgency=np.random.default_rng(n).permutation(n).astype(float))


@QUICK
@given(cases(), st.integers(0, 2**32 - 1))
def test_the_order_of_evses_in_the_site_does_not_matter(case: Case, seed: int) -> None:
    request = _distinct(case)
    moved = np.random.default_rng(seed).permutation(case.topology.n)
    place = np.argsort(moved)
    site = replace(case.site, evses=tuple(case.site.evses[i] for i in moved))
    groups = tuple(replace(g, members=tuple(int(place[i]) for i in g.members)) for g in case.groups)
    arrays = {
        name: None if getattr(request, name) is None else getattr(request, name)[moved] for name in Request.__slots__
    }
    one = share(case.topology, request, case.cap)
    other = share(flatten(site, groups), Request(**arrays), case.cap)
    assert np.allclose(one.level_a[moved], other.level_a, atol=1e-9)
    assert np.array_equal(one.admitted[moved], other.admitted)


@QUICK
@given(cases(), st.permutations([0, 1, 2]))
def test_the_names_of_the_phases_do_not_matter(case: Case, names: list[int]) -> None:
    request = _distinct(case)
    families = np.array([*names, 3])
    evses = tuple(
        e if e.rotation is None else replace(e, rotation=tuple(names[p] for p in e.rotation)) for e in case.site.evses
    )
    topology = flatten(replace(case.site, evses=evses), case.groups)
    cap = np.empty_like(case.cap)
    cap.reshape(-1, 4)[:, families] = case.cap.reshape(-1, 4)
    one = share(case.topology, request, case.cap)
    other = share(topology, replace(request, phases=topology.phases), cap)
    assert np.allclose(one.level_a, other.level_a, atol=1e-9)
    assert np.allclose(one.current_a, other.current_a, atol=1e-9)


@QUICK
@given(cases(), st.integers(0, 2**32 - 1), st.floats(0.0, 10.0))
def test_a_wider_limit_makes_the_sorted_levels_no_worse(case: Case, seed: int, more: float) -> None:
    """Lexicographic monotonicity of the fair point: compare who has least, then the next."""
    lb, ub, weight, cap = _fixed_set(case)
    wider = cap.copy()
    wider[np.random.default_rng(seed).integers(cap.size)] += more
    before, _ = water_fill(case.topology, lb, ub, weight, case.topology.phases, cap, case.topology.n_phases)
    after, _ = water_fill(case.topology, lb, ub, weight, case.topology.phases, wider, case.topology.n_phases)
    for a, b in zip(np.sort(before / weight), np.sort(after / weight), strict=True):
        if abs(a - b) > FINE:
            assert b > a
            break


@QUICK
@given(cases(unit_weights=True), st.integers(0, 2**32 - 1))
def test_one_ampere_more_on_a_limit_moves_nobody_by_more_than_one(case: Case, seed: int) -> None:
    """Unit weights, limits of amps, a fixed set, before rounding."""
    cap = case.cap[: 4 * len(case.site.zones)].copy()
    cap[3::4] = np.inf
    assert _greatest_move(replace(case, groups=(), topology=flatten(case.site), cap=cap), seed) <= 1.0 + FINE


@QUICK
@given(cases(unit_weights=True), st.integers(0, 2**32 - 1))
def test_with_power_limits_too_it_moves_nobody_by_more_than_three(case: Case, seed: int) -> None:
    """One phase counts once in a power limit and three count three times: a three-phase ampere is three others'."""
    cap = case.cap[: 4 * len(case.site.zones)]
    assert _greatest_move(replace(case, groups=(), topology=flatten(case.site), cap=cap), seed) <= 3.0 + FINE


def _greatest_move(case: Case, seed: int) -> float:
    """How far one ampere more on some limit moves anybody."""
    lb, ub, weight, cap = _fixed_set(case)
    wider = cap.copy()
    wider[np.random.default_rng(seed).integers(cap.size)] += 1.0
    before, _ = water_fill(case.topology, lb, ub, weight, case.topology.phases, cap, case.topology.n_phases)
    after, _ = water_fill(case.topology, lb, ub, weight, case.topology.phases, wider, case.topology.n_phases)
    return float(np.max(np.abs(after - before)))


def _fixed_set(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bounds, weights and limits of those admitted; the others draw nothing."""
    got = share(case.topology, case.request, case.cap)
    least, most = least_most(case.request)
    lb, ub = np.where(got.admitted, least, 0.0), np.where(got.admitted, most, 0.0)
    cap = np.where(rows_that_count(case, got.admitted), case.cap, np.inf)
    return lb, ub, weights_of(case.request), cap


def test_one_evse_may_lose_when_a_limit_is_widened() -> None:
    """Individual monotonicity does not hold, nor can it: whoever believes so finds the witness here."""
    found = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        case = random_case(seed, 20, 5, classes=1)
        lb, ub, weight, cap = _fixed_set(case)
        wider = cap.copy()
        wider[rng.integers(cap.size)] += 2.0
        before, _ = water_fill(case.topology, lb, ub, weight, case.topology.phases, cap, case.topology.n_phases)
        after, _ = water_fill(case.topology, lb, ub, weight, case.topology.phases, wider, case.topology.n_phases)
        found += bool(np.any(after < before - 1e-3))
    assert found > 0


# The transition guard


def _transition(case: Case, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """From one allocation to another under new limits, with some cuts not yet obeyed and some draws too high."""
    rng = np.random.default_rng(seed)
    start = share(case.topology, case.request, case.cap).current_a
    cap = random_cap(rng, case.topology, negative=0.01)
    target = share(case.topology, case.request, cap).current_a
    fallen = np.minimum(start, target)  # cuts are sent first
    late = rng.random(start.size) < 0.5
    occupied = np.where(late, start, 0.0) + np.where(rng.random(start.size) < 0.1, rng.uniform(0, 5, start.size), 0.0)
    return fallen, target, occupied, cap, steps_of(case.request)


@QUICK
@given(cases(whole=False), st.integers(0, 2**32 - 1))
def test_no_state_on_the_way_exceeds_a_limit_that_held(case: Case, seed: int) -> None:
    start, target, occupied, cap, step = _transition(case, seed)
    least, _ = least_most(case.request)
    now = raise_within(
        case.topology,
        start,
        target,
        occupied,
        case.topology.phases,
        cap,
        min_a=case.request.min_a,
        n_phases=case.topology.n_phases,
        weight=case.request.weight,
        priority=case.request.priority,
        step_a=case.request.step_a,
    )
    matrix = coefficients(case.site, case.groups)
    before = cap - matrix @ np.maximum(start, occupied)
    after = cap - matrix @ np.maximum(now, occupied)
    assert np.all(after[before >= 0] >= -FINE)
    rose = now > start + FINE
    assert not np.any(matrix[before < -FINE][:, rose]), "nobody rises in a limit that is exceeded"
    assert np.all(now >= start)
    assert np.all(now <= np.maximum(start, target) + FINE)
    assert np.all((now < FINE) | (now >= np.minimum(least, np.maximum(target, start)) - FINE))
    for i in np.flatnonzero(rose & (step > 0)):
        assert abs(now[i] / step[i] - round(now[i] / step[i])) < FINE
    # Who could still go up by a step, or start at its minimum, without any limit being exceeded, has done so.
    overdrawn = matrix[before < -EPS_A].any(axis=0) if (before < -EPS_A).any() else np.zeros(start.size, dtype=bool)
    for i in np.flatnonzero((target > now + FINE) & ~overdrawn & (step > 0)):
        to = min(target[i], now[i] + step[i] if now[i] > 0 else least[i])
        more = max(to, occupied[i]) - max(now[i], occupied[i])
        assert np.any(matrix[:, i] * more > after + EPS_A / 2), f"EVSE {i} could go to {to}"


@QUICK
@given(cases(), st.integers(0, 2**32 - 1))
def test_with_every_cut_obeyed_the_target_is_reached(case: Case, seed: int) -> None:
    start, target, _, cap, _ = _transition(case, seed)
    matrix = coefficients(case.site, case.groups)
    if np.any((cap - matrix @ start)[matrix.any(axis=1)] < 0):
        return  # a limit below what is drawn already: nothing rises there
    now = raise_within(
        case.topology,
        start,
        target,
        np.zeros_like(start),
        case.topology.phases,
        cap,
        min_a=case.request.min_a,
        n_phases=case.topology.n_phases,
        step_a=case.request.step_a,
    )
    assert np.allclose(now, target)
    counted = np.where(matrix.any(axis=1), cap, np.inf)
    assert feasible(case.topology, now, case.topology.phases, counted, n_phases=case.topology.n_phases)
