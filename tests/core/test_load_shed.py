"""D6: load-shed contacts."""

from cem.core.limits import LimitKind, Origin
from cem.core.load_shed import Contact, ContactMemory, from_record, limit, step, to_record
from cem.core.units import PerPhase

FIRE = Contact("fire alarm", "site", release_delay_s=60.0, lost_after_s=5.0)


def run(memory, *steps):
    for now_s, closed in steps:
        memory = step(FIRE, memory, closed, now_s)
    return memory


def idle():
    return run(ContactMemory.start(0.0), (1.0, False))


def test_d6_closed_sheds_in_the_same_cycle():
    memory = run(idle(), (2.0, True))
    made = limit(FIRE, memory)
    assert (made.kind, made.zone_id, made.source, made.origin) == (
        LimitKind.LOAD,
        "site",
        "fire alarm",
        Origin.LOAD_SHED,
    )
    assert (made.value_a, made.since_s) == (PerPhase.same(0.0), 2.0)


def test_d6_comes_back_only_after_release_and_the_delay():
    memory = run(idle(), (2.0, True), (100.0, False), (159.0, False))
    assert memory.active
    memory = run(memory, (159.5, True), (160.0, False), (219.0, False))
    assert memory.active  # it closed once more: the delay began anew
    assert limit(FIRE, run(memory, (220.0, False))) is None


def test_before_it_was_read_it_sheds_and_then_needs_no_delay():
    memory = run(ContactMemory.start(0.0), (1.0, None))
    assert memory.active
    assert not run(memory, (2.0, False)).active


def test_a_contact_that_cannot_be_read_counts_as_active_and_its_delay_follows():
    memory = run(idle(), (5.9, None))
    assert not memory.active
    memory = run(memory, (6.0, None))
    assert memory.active
    memory = run(memory, (50.0, False), (109.0, False))
    assert memory.active
    assert not run(memory, (110.0, False)).active


def test_a_reading_missed_for_a_moment_changes_nothing():
    memory = run(idle(), (2.0, True), (10.0, False), (12.0, None), (69.0, False))
    assert memory.active
    assert not run(memory, (70.0, False)).active


def test_a_restart_does_not_escape_the_delay():
    memory = run(idle(), (2.0, True), (10.0, False), (40.0, False))
    record = to_record(memory, 40.0)
    memory = run(from_record(record, 1000.0), (1001.0, False), (1029.0, False))
    assert memory.active
    assert not run(memory, (1030.0, False)).active
    assert from_record(to_record(idle(), 1.0), 5.0) == ContactMemory.start(5.0)
    assert from_record(None, 5.0) == ContactMemory.start(5.0)
    assert from_record({"shed": True, "open_s": "x"}, 5.0).active
