"""The judge of the chaos can fail: each of these breaks one promise of the product, and the judge finds it."""

import pytest

from cem.csms import desk as desk_module
from cem.csms import session as session_module
from cem.csms.actions import Persist
from cem.csms.ids import Ids
from cem.csms.journal import Journal
from cem.csms.lane import Lane
from cem.csms.observers import Observers
from cem.csms.teller import Teller
from cem.csms.transactions import Transactions
from tests.csms import chaos

SEEDS = 400


def acknowledges_before_the_sync(patch):
    async def commit(self, records):
        if self.full:
            raise chaos.CemError("disk is full")
        self.sync()
        self.unsynced += records
        self.world.point("before_sync")
        self.world.point("after_sync")

    patch.setattr(chaos.Disk, "commit", commit)


def answers_before_it_writes(patch):
    def last(actions):
        kept = [action for action in actions if not isinstance(action, Persist)]
        return kept + [action for action in actions if isinstance(action, Persist)]

    patch.setattr(session_module, "one_write", last)


def writes_one_step_in_two(patch):
    patch.setattr(session_module, "one_write", list)


def forgets_to_mark_what_was_delivered(patch):
    delivered = Journal.delivered

    def unmarked(self, entry):
        before = len(self._out)
        delivered(self, entry)
        del self._out[before:]

    patch.setattr(Journal, "delivered", unmarked)


def marks_as_delivered_what_was_only_sent(patch):
    tell = Teller.next

    def hopeful(self, version, now):
        entry = self._turn(now)
        text = tell(self, version, now)
        if text is not None and entry.record.kind == "stop":
            self._journal.delivered(entry)
        return text

    patch.setattr(Teller, "next", hopeful)


def keeps_ids_in_memory_only(patch):
    real = Ids.map

    def forgetful(self, local_id, cloud_id, start_key=""):
        before = len(self._out)
        real(self, local_id, cloud_id, start_key)
        del self._out[before:]

    patch.setattr(Ids, "map", forgetful)


def tells_provisional_ids(patch):
    patch.setattr(Ids, "cloud_id", lambda self, local_id: local_id)


def knows_no_repeated_message(patch):
    patch.setattr(Journal, "remembers", lambda self, fingerprint: False)


def knows_no_repeated_start(patch):
    patch.setattr(Transactions, "answered_start", lambda self, key: None)


def drops_late_answers(patch):
    patch.setattr(Teller, "late", lambda self, frame, now: None)


def lets_what_comes_later_overtake(patch):
    patch.setattr(Lane, "take", lambda self, priority: [])


def thins_the_last_sample(patch):
    def denser(self, new):
        tail = self._tails.get(new.local_id)
        return [tail.pop()] if new.kind == "stop" and tail and tail[-1].record.kind == "update" else []

    patch.setattr(Journal, "_denser", denser)


def forgets_the_observer_while_it_is_away(patch):
    keep = Observers.keep

    def careless(self, *args):
        if all(uplink.usable for uplink in self._uplinks):
            keep(self, *args)

    patch.setattr(Observers, "keep", careless)


def rounds_the_register(patch):
    retold = Teller._retold
    patch.setattr(
        Teller, "_retold", lambda self, *args: retold(self, *args).replace("1}]}]", "0}]}]").replace('1"}]', '0"}]')
    )


def journals_nothing(patch):
    patch.setattr(desk_module, "journal_kind", lambda frame, fact: None)


def sets_aside_at_the_first_silence(patch):
    patch.setattr(Teller, "_unanswered", lambda self, entry: self._set_aside(entry, "no patience"))


def counts_what_never_left_as_unanswered(patch):
    patch.setattr(Teller, "held_here", lambda self, text, now: None)


MUTANTS = [
    sets_aside_at_the_first_silence,
    counts_what_never_left_as_unanswered,
    acknowledges_before_the_sync,
    answers_before_it_writes,
    writes_one_step_in_two,
    forgets_to_mark_what_was_delivered,
    marks_as_delivered_what_was_only_sent,
    keeps_ids_in_memory_only,
    tells_provisional_ids,
    knows_no_repeated_message,
    knows_no_repeated_start,
    drops_late_answers,
    lets_what_comes_later_overtake,
    thins_the_last_sample,
    forgets_the_observer_while_it_is_away,
    rounds_the_register,
    journals_nothing,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
async def test_the_judge_finds_a_controller_that(mutant, monkeypatch):
    mutant(monkeypatch)
    for seed in range(SEEDS):
        try:
            await chaos.play(seed)
        except AssertionError as problem:
            print(f"found with seed {seed}: {str(problem)[:200]}")
            return
    raise AssertionError(f"{SEEDS} rounds were played and nothing was found")
