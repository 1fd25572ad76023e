"""The virtual store: stacking, purposes, kinds and validity, and the composite schedule."""

from datetime import UTC, datetime, timedelta

import pytest

from cem.csms.profiles import Clear, Period, Profile, ProfileStore, Running, Schedule

T0 = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def make(limit, *, number=1, evse=1, purpose="tx_default", stack=0, kind="Absolute", unit="A", start=T0, **more):
    schedule_keys = {k: more.pop(k) for k in ("duration_s",) if k in more}
    periods = more.pop("periods", (Period(0, limit),))
    schedule = Schedule(unit, periods, start, **schedule_keys)
    return Profile(number, evse, purpose, stack, kind, schedule, {}, received=T0, **more)


@pytest.fixture
def running():
    return {}


@pytest.fixture
def store(running):
    return ProfileStore({1: 3, 2: 1}, 230.0, running.get)


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def test_no_profile_is_no_limit(store):
    assert store.limit_a(1, T0) is None


def test_the_highest_stack_level_overrides_even_when_it_is_higher(store):
    assert store.set(make(10, number=1, stack=0))
    assert store.set(make(20, number=2, stack=1))
    assert store.limit_a(1, T0) == 20


def test_the_next_level_shows_where_the_highest_has_no_period(store):
    store.set(make(10, number=1, stack=0))
    store.set(make(20, number=2, stack=1, duration_s=60))
    assert store.limit_a(1, at(59)) == 20
    assert store.limit_a(1, at(60)) == 10
    assert store.limit_a(1, at(-1)) is None


def test_different_purposes_give_the_minimum(store):
    store.set(make(10, number=1))
    store.set(make(8, number=2, evse=0, purpose="max"))
    assert store.limit_a(1, T0) == 8
    assert store.limit_a(2, T0) == 8


def test_a_station_maximum_is_shared_among_its_evses(store):
    store.set(make(20, evse=0, purpose="max"))
    assert store.limit_a(1, T0, sharing=2) == 10


def test_a_tx_profile_replaces_the_default(store, running):
    running[1] = Running("t", T0)
    store.set(make(10, number=1))
    assert store.set(make(20, number=2, purpose="tx"))
    assert store.limit_a(1, T0) == 20
    store.transaction_ended(1)
    assert store.limit_a(1, T0) == 10


def test_a_tx_profile_needs_its_transaction(store, running):
    assert not store.set(make(20, purpose="tx"))
    running[1] = Running("t", T0)
    assert not store.set(make(20, purpose="tx", transaction_id="other"))
    assert store.set(make(20, purpose="tx", transaction_id="t"))


def test_what_is_refused(store):
    assert not store.set(make(10, evse=7))
    assert not store.set(make(10, evse=1, purpose="max"))


def test_the_same_level_and_purpose_or_the_same_id_replaces(store):
    store.set(make(10, number=1))
    store.set(make(12, number=2))
    assert len(store) == 1
    store.set(make(14, number=2, stack=3))
    assert len(store) == 1
    assert store.limit_a(1, T0) == 14


def test_watts_become_amps_at_nominal_voltage(store):
    store.set(make(6900, unit="W"))
    assert store.limit_a(1, T0) == pytest.approx(10)
    store.set(make(2300, unit="W", evse=2, number=5))
    assert store.limit_a(2, T0) == pytest.approx(10)  # a single-phase EVSE


def test_validity(store):
    store.set(make(10, valid_from=at(10), valid_to=at(20)))
    assert [store.limit_a(1, at(s)) for s in (9, 10, 19, 20)] == [None, 10, 10, None]


def test_relative_counts_from_the_start_of_the_transaction(store, running):
    store.set(make(0, kind="Relative", start=None, periods=(Period(0, 16), Period(60, 8))))
    assert store.limit_a(1, T0) is None
    running[1] = Running("t", at(100))
    assert store.limit_a(1, at(159)) == 16
    assert store.limit_a(1, at(160)) == 8


def test_recurring_daily_and_weekly(store):
    night = (Period(0, 6), Period(3600, 16))
    store.set(make(0, kind="Recurring", recurrency="Daily", periods=night, duration_s=7200))
    for day in (0, 1, 30):
        assert store.limit_a(1, at(day * 86400 + 10)) == 6
        assert store.limit_a(1, at(day * 86400 + 3700)) == 16
        assert store.limit_a(1, at(day * 86400 + 7200)) is None
    store.set(make(0, kind="Recurring", recurrency="Weekly", periods=night, duration_s=7200))
    assert store.limit_a(1, at(86400)) is None
    assert store.limit_a(1, at(7 * 86400)) == 6


def test_composite_is_the_lower_at_every_moment(store):
    store.set(make(0, periods=(Period(0, 20), Period(60, 8), Period(120, 30))))
    steps = store.composite(1, T0, 300, 16.0)
    assert [(s.start_s, s.limit) for s in steps] == [(0, 16.0), (60, 8), (120, 16.0)]


def test_composite_sees_recurrences_and_ends(store):
    store.set(make(0, kind="Recurring", recurrency="Daily", periods=(Period(0, 6),), duration_s=3600))
    steps = store.composite(1, at(1800), 86400, 16.0)
    assert [(s.start_s, s.limit) for s in steps] == [(0, 6), (1800, 16.0), (84600, 6)]


@pytest.mark.parametrize(
    ("clear", "left"),
    [
        (Clear(), []),
        (Clear(profile_id=2), [1, 3]),
        (Clear(purpose="tx_default"), [3]),
        (Clear(purpose="tx_default", stack_level=1), [1, 3]),
        (Clear(evse=0), [1, 2]),
        (Clear(evse=0, purpose="tx_default"), [1, 2, 3]),
    ],
)
def test_clear(store, clear, left):
    store.set(make(10, number=1, stack=0))
    store.set(make(12, number=2, stack=1))
    store.set(make(14, number=3, evse=0, purpose="max"))
    assert store.clear(clear) is (len(left) < 3)
    assert sorted(p.profile_id for p in store.find(lambda _p: True)) == left


def test_the_store_is_bounded(store):
    taken = [store.set(make(10, number=n, stack=n)) for n in range(300)]
    assert taken.count(True) == 200
