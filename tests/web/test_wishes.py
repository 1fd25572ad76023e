"""Wishes between the web's thread and control: taken at the next cycle, counted, kept through a restart."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from cem.core.site import Evse, Mode, Protection, Site, Zone
from cem.core.state import EvseState
from cem.core.units import PerPhase
from cem.core.wish import Wish
from cem.store import Store
from cem.wishes import ROOM, Wishes

SITE = Site(
    "s",
    230.0,
    3,
    (Zone("z", None, Protection(63.0)),),
    (Evse("A/1", "A", "z", 1), Evse("B/1", "B", "z", 1)),
)
UTC0 = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path)
    yield made
    made.close()


def states(now_s, amps=None, *, charging=True, online=True):
    measured = None if amps is None else PerPhase.same(amps)
    return {
        name: EvseState(name, online, charging, charging, 0.0, measured_a=measured, measured_s=now_s)
        for name in ("A/1", "B/1")
    }


def test_taken_at_the_next_cycle(store):
    wishes = Wishes(SITE, store)
    assert wishes.hand_in("A/1", Wish(Mode.OFF))
    assert wishes.current() == {}
    after = wishes.take(states(0.0), 0.0, UTC0)
    assert (after["A/1"].mode, after["B/1"].mode) == (Mode.OFF, None)


def test_the_departure_becomes_monotonic_at_every_cycle(store):
    wishes = Wishes(SITE, store)
    wishes.hand_in("A/1", Wish(None, 5_000.0, UTC0 + timedelta(hours=1)))
    after = wishes.take(states(100.0), 100.0, UTC0)["A/1"]
    assert (after.needed_wh, after.departure_s) == (5_000.0, 3_700.0)


def test_what_is_delivered_counts_and_only_what_is_measured(store):
    wishes = Wishes(SITE, store)
    wishes.hand_in("A/1", Wish(None, 1_000.0))
    for second in range(101):
        after = wishes.take(states(float(second), 10.0), float(second), UTC0)["A/1"]
    assert after.needed_wh == pytest.approx(1_000.0 - 100 * 6_900 / 3600)
    before = after.needed_wh
    for second in range(101, 200):
        after = wishes.take(states(float(second)), float(second), UTC0)["A/1"]
    assert after.needed_wh == before


def test_the_target_goes_with_the_car_and_mode_and_limit_stay(store):
    wishes = Wishes(SITE, store)
    wishes.hand_in("A/1", Wish(Mode.SURPLUS, 1_000.0, limit_a=8.0))
    assert wishes.take(states(0.0, charging=False), 0.0, UTC0)["A/1"].needed_wh == 1_000.0, "set before the car came"
    wishes.take(states(1.0), 1.0, UTC0)
    wishes.take(states(2.0, online=False, charging=False), 2.0, UTC0)
    assert wishes.take(states(3.0), 3.0, UTC0)["A/1"].needed_wh == 1_000.0, "a broken line is no departure"
    gone = wishes.take(states(4.0, charging=False), 4.0, UTC0)["A/1"]
    assert (gone.mode, gone.needed_wh, gone.wished_a) == (Mode.SURPLUS, None, 8.0)


def test_an_empty_wish_takes_it_back(store):
    wishes = Wishes(SITE, store)
    wishes.hand_in("A/1", Wish(Mode.OFF))
    wishes.take(states(0.0), 0.0, UTC0)
    wishes.hand_in("A/1", Wish())
    assert wishes.take(states(1.0), 1.0, UTC0)["A/1"].mode is None
    assert wishes.current() == {}


def test_kept_through_a_restart(tmp_path):
    store = Store(tmp_path)
    wishes = Wishes(SITE, store)
    wishes.hand_in("A/1", Wish(Mode.SURPLUS, 1_000.0, UTC0 + timedelta(hours=1), limit_a=8.0))
    wishes.take(states(0.0), 0.0, UTC0)
    store.close()
    again_store = Store(tmp_path)
    again = Wishes(SITE, again_store)
    assert again.current() == {"A/1": Wish(Mode.SURPLUS, 1_000.0, UTC0 + timedelta(hours=1), limit_a=8.0)}
    gone = again.take(states(0.0, charging=False), 0.0, UTC0)["A/1"]
    assert gone.needed_wh is None, "the car left while we were away"
    again_store.close()


@pytest.mark.parametrize("kept", [None, [], {"A/1": 3}, {"A/1": {"mode": "x"}}, {"C/9": {}}])
def test_what_cannot_be_read_is_no_wish(store, kept):
    store.save_state("wishes", kept)
    assert Wishes(SITE, store).current() == {}


def test_bounded_and_from_any_thread(store):
    called = []
    wishes = Wishes(SITE, store, lambda: called.append(1))
    results = []

    def wish_often():
        results.extend(wishes.hand_in("A/1", Wish(Mode.OFF)) for _ in range(ROOM))

    threads = [threading.Thread(target=wish_often) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(results) == len(called) == ROOM
    assert not wishes.hand_in("C/9", Wish(Mode.OFF))
