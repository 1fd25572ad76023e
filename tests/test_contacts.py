"""Contacts at every cycle: limits, events, restarts, and what a missing one means (fault D6)."""

from datetime import UTC, datetime

import pytest

from cem.contacts import Contacts
from cem.core.limits import LimitKind, Origin
from cem.core.load_shed import Contact

from .fakes import MemoryStore

FIRE = Contact("fire", "row", release_delay_s=30.0, lost_after_s=5.0)
STEP = Contact("frsp", "site", release_delay_s=0.0, lost_after_s=5.0, value_w=4200.0, lost_is_active=False)
UTC_NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Rig:
    def __init__(self, contact, store=None, now_s=100.0):
        self.says, self.now_s, self.events = None, now_s, []
        self.store = store or MemoryStore()
        self.contacts = Contacts(
            [contact], lambda: {contact.contact_id: self.says}, self.store, self.events.append, now_s
        )

    def cycle(self, says, past_s=1.0):
        self.says = says
        self.now_s += past_s
        return self.contacts.limits(self.now_s, UTC_NOW)

    def words(self):
        return [event.data["state"] for event in self.events]


def test_d6_shed_in_the_cycle_that_reads_it_and_back_after_the_delay():
    rig = Rig(FIRE)
    assert rig.cycle(says=False) == ()
    (limit,) = rig.cycle(says=True)
    assert (limit.zone_id, limit.source, limit.value_a, limit.value_w) == ("row", "fire", (0, 0, 0), None)
    assert (limit.kind, limit.origin) == (LimitKind.LOAD, Origin.LOAD_SHED)
    assert rig.cycle(says=False) != ()
    assert rig.cycle(says=False, past_s=29.0) != ()
    assert rig.cycle(says=False, past_s=1.0) == ()
    assert rig.words() == ["active", "waiting", "released"]
    assert all(event.code == "contact" and event.subject == "fire" for event in rig.events)


def test_before_it_was_ever_read_it_acts_and_is_not_told():
    rig = Rig(FIRE)
    assert rig.cycle(says=None) != ()
    assert rig.events == []
    assert rig.cycle(says=False) == ()  # no delay: nothing was shed on purpose
    assert rig.events == []


def test_a_missing_contact_acts_after_a_while_and_says_so_once():
    rig = Rig(FIRE)
    rig.cycle(says=False)
    assert rig.cycle(says=None, past_s=4.0) == ()
    assert rig.cycle(says=None, past_s=1.0) != ()
    assert rig.cycle(says=None, past_s=60.0) != ()
    assert rig.words() == ["missing"]


def test_a_contact_that_counts_as_inactive_while_missing_releases_after_its_delay():
    rig = Rig(STEP)
    (limit,) = rig.cycle(says=True)
    assert (limit.value_w, limit.value_a) == (4200.0, None)
    assert rig.cycle(says=None, past_s=4.0) != ()
    assert rig.cycle(says=None, past_s=1.0) == ()
    assert rig.cycle(says=None) == ()
    assert rig.cycle(says=True) != ()


@pytest.mark.parametrize("opened", [False, True])
def test_a_shed_outlives_a_restart(opened):
    rig = Rig(FIRE)
    rig.cycle(says=False)
    rig.cycle(says=True)
    if opened:
        rig.cycle(says=False)
    again = Rig(FIRE, rig.store, now_s=7.0)
    assert again.cycle(says=False, past_s=0.0) != ()
    assert again.cycle(says=False, past_s=20.0) != ()
    assert again.cycle(says=False, past_s=10.0) == ()
