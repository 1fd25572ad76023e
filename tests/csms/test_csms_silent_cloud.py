"""A message that a CSMS never answers: what follows goes on, and nothing is lost; a CSMS that answers nothing loses no order."""

import pytest

from cem.csms.actions import SendUp
from cem.csms.records import JournalMark
from tests.csms.rig import Rig
from tests.csms.test_csms_ledger import OFFLINE, answer_of_cloud, kinds, meter, waiting
from tests.csms.test_csms_proxy import VERSIONS, joined

TRANSACTIONS = {"StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"}


def behind_an_outage(version, **more):
    """Two sessions wait for the cloud, which is back."""
    rig = joined(Rig(version, upstream=True, options=OFFLINE | more))
    rig.cloud_closed()
    for number in (1, 2):
        tx = rig.start(tx=f"tx{number}", meter=number)
        rig.pass_time(61, step=61)
        meter(rig, tx, 10 + number)
        rig.stop(tx)
    rig.cloud_opened()
    return rig


def let_answer(rig, seconds, *, silent):
    """Time passes with a cloud that answers all but what it is ``silent`` about; gives what it was told."""
    told = []
    for _ in range(int(2 * seconds)):
        for message in [m for m in rig.up if m[0] == 2 and id(m) not in rig.answered]:
            rig.answered.add(id(message))
            if message[2] in TRANSACTIONS:
                told.append(message)
            if not silent(message):
                rig.cloud(3, message[1], answer_of_cloud(message))
        rig.pass_time(0.5)
    return told


def is_first_start(message):
    payload = message[3]
    if message[2] == "StartTransaction":
        return payload["meterStart"] == 1
    return payload.get("eventType") == "Started" and payload["transactionInfo"]["transactionId"] == "tx1"


def aside(rig):
    return [e.kind for e in rig.store.journal()["S1"] if e.state == "refused"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_message_that_a_healthy_cloud_never_answers_is_set_aside_and_told_again_by_command(version):
    rig = behind_an_outage(version)
    told = let_answer(rig, 600, silent=is_first_start)
    assert [is_first_start(m) for m in told[:5]] == [True, True, True, False, True]  # passed by once, and tried again
    assert len({m[1] for m in told if is_first_start(m)}) == 1
    rest = ["start", "update", "stop"] if version == "1.6" else ["update", "stop", "start", "update", "stop"]
    assert kinds([m for m in told if not is_first_start(m)]) == rest
    assert waiting(rig) == []
    assert aside(rig) == (["start", "update", "stop"] if version == "1.6" else ["start"])
    [event] = [e for e in rig.emitted if e.code == "message_set_aside"]
    assert "left unanswered 4 times" in event.text
    assert next(r.why for r in rig.records if isinstance(r, JournalMark) and r.why) in event.text
    counts = []
    rig.take(rig.session.retry_refused(rig.now, counts.append))
    told = let_answer(rig, 5, silent=lambda _message: False)
    assert kinds(told) == (["start", "update", "stop"] if version == "1.6" else ["start"])
    assert counts == [len(told)]
    assert aside(rig) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_c9_a_cloud_that_answers_nothing_for_an_hour_has_nothing_set_aside_and_hears_all_in_order(version):
    rig = behind_an_outage(version)
    told = let_answer(rig, 3600, silent=lambda m: m[2] in TRANSACTIONS)
    assert len(told) == 30
    assert len({m[1] for m in told}) == 2  # the first, and now and then one past it
    assert aside(rig) == []
    assert len(waiting(rig)) == 6
    why = rig.session.status()["queues"][0]["first"]["why"]
    assert why.startswith("left unanswered 1")
    assert why.endswith("; told, not answered yet")
    let_answer(rig, 400, silent=lambda _message: False)
    assert waiting(rig) == []
    assert aside(rig) == []


def test_a_message_at_which_the_cloud_hangs_up_each_time_does_not_block_the_rest():
    rig = behind_an_outage("2.0.1")
    for _ in range(8):
        told = let_answer(rig, 3, silent=is_first_start)
        if any(is_first_start(m) for m in told[-1:]):
            rig.cloud_closed()
            rig.pass_time(2)
            rig.cloud_opened()
    assert waiting(rig) == []
    assert aside(rig) == ["start"]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_answer_that_comes_after_all_puts_back_what_was_set_aside(version):
    rig = behind_an_outage(version)
    told = let_answer(rig, 600, silent=is_first_start)
    rig = rig.again()
    rig.open()
    rig.cloud_opened()
    start = next(m for m in told if is_first_start(m))
    rig.cloud(3, start[1], answer_of_cloud(start, cloud_id=77))
    told = let_answer(rig, 5, silent=lambda _message: False)
    assert kinds(told) == (["update", "stop"] if version == "1.6" else [])
    if version == "1.6":
        assert {m[3]["transactionId"] for m in told} == {77}
    assert aside(rig) == waiting(rig) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_operator_sets_the_first_message_aside(version):
    rig = behind_an_outage(version)
    let_answer(rig, 130, silent=is_first_start)
    found = []
    rig.take(rig.session.set_aside(None, None, found.append, rig.now))
    assert found[0].kind == "start"
    told = let_answer(rig, 5, silent=lambda _message: False)  # what follows does not wait for its time-out
    assert kinds(told) == (
        ["start", "update", "stop"] if version == "1.6" else ["update", "stop", "start", "update", "stop"]
    )
    rig.take(rig.session.set_aside(None, None, found.append, rig.now))
    rig.take(rig.session.set_aside("another", None, found.append, rig.now))
    assert found[1:] == [None, None]


def test_a_frame_that_our_own_disk_held_back_is_not_held_against_the_cloud():
    rig = behind_an_outage("2.0.1")
    while not (rig.up and rig.up[-1][2] == "TransactionEvent"):
        rig.cloud(3, rig.up[-1][1], {})
    for _ in range(5):
        text = next(a.text for a in reversed(rig.all_actions) if isinstance(a, SendUp))
        rig.take(rig.session.held_here("", text, rig.now))
        before = len(rig.up)
        rig.pass_time(4)
        assert len(rig.up) == before  # the disk is given time
        rig.pass_time(2)
        assert len(rig.up) == before + 1
        assert is_first_start(rig.up[-1])
    assert rig.session.status()["queues"][0]["first"]["why"] == "told, not answered yet"
    rig.cloud_closed()
    assert rig.session.status()["queues"][0]["first"]["why"] == "left unanswered 1 times; cloud is not connected"


def test_one_message_alone_is_tried_for_ever():
    """Nothing waits for it, and nothing can prove that it is to blame."""
    rig = joined(Rig("2.0.1", upstream=True, options=OFFLINE))
    rig.cloud_closed()
    rig.start(tx="tx1")
    rig.cloud_opened()
    told = let_answer(rig, 3600, silent=is_first_start)
    assert len(told) == 30
    assert len(waiting(rig)) == 1


def test_an_observer_that_never_answers_one_message_hears_the_rest():
    rig = joined(Rig("2.0.1", upstream=True, options=OFFLINE | {"observers": {"refund": frozenset()}}))
    rig.cloud_closed()
    rig.cloud_opened(who="refund")
    rig.stop(rig.start(tx="tx1"))
    rig.stop(rig.start(tx="tx2"))
    heard = []
    for _ in range(1400):
        for message in [m for m in rig.seen.get("refund", []) if m[0] == 2 and id(m) not in rig.answered]:
            rig.answered.add(id(message))
            if message[2] == "TransactionEvent":
                heard.append(message)
            if not is_first_start(message):
                rig.cloud(3, message[1], {}, who="refund")
        rig.pass_time(0.5)
    assert kinds([m for m in heard if not is_first_start(m)]) == ["stop", "start", "stop"]
    assert [e.upstream_id for e in rig.store.journal()["S1"] if e.state == "refused"] == ["refund"]
