"""The judge of the chaos: the histories of the station, of the ledger and of each cloud, against each other."""

from collections import Counter, defaultdict

from cem.csms.records import JournalEntry, JournalMark, SessionUpdate
from cem.csms.teller import ATTEMPTS


def check(world):
    """Raises where a cloud was told too little, too often, in the wrong order or of the wrong energy."""
    made = {message.key: message for message in world.station.made}
    for cloud in world.clouds.values():
        try:
            thinned = thinned_for(world, cloud)
            nothing_lost(world, cloud, thinned)
            no_needless_repeats(cloud, made)
            in_order(cloud, made, thinned | passed_by(world, cloud))
            unchanged_under_one_id(world, cloud, made)
            energy(cloud, made)
        except AssertionError as problem:
            raise AssertionError(f"{cloud.upstream_id}: {problem}") from problem
    states = Counter(e.state for e in world.disk.journal().get("S1", ()))
    assert set(states) <= {"delivered"}, f"still in the ledger: {states}"
    one_record_each(world)


def thinned_for(world, cloud):
    """What the ledger says was thinned out of this cloud's queue."""
    return texts_marked(world, cloud, "dropped")


def passed_by(world, cloud):
    """What this cloud may have been told late: what it left unanswered so often that the next was tried past it.

    In 1.6 nothing of a transaction can be told before its start was answered.
    """
    silent = {message.key for message in world.station.made if cloud.destroyed[message.key] >= ATTEMPTS}
    started = {m.tx for m in world.station.made if m.key in silent and m.kind == "start" and world.version == "1.6"}
    return silent | {m.key for m in world.station.made if m.tx in started}


def texts_marked(world, cloud, state):
    """Of which messages the ledger says that this became of them in this cloud's queue."""
    mine = [r for r in world.disk.records if getattr(r, "upstream_id", None) == cloud.upstream_id]
    texts = {r.seq: r.text for r in mine if isinstance(r, JournalEntry)}
    marked = [texts[r.seq] for r in mine if isinstance(r, JournalMark | JournalEntry) and r.state == state]
    return {message.key for message in world.station.made if any(message.key in text for text in marked)}


def nothing_lost(world, cloud, thinned):
    """Every message was heard, but for thinned samples that are neither the first nor the last of a transaction.

    An observer whose queue was beyond its bounds may miss what it was left out of.
    """
    heard = {key for key, _, _ in cloud.heard}
    by_tx = defaultdict(list)
    for message in world.station.made:
        assert message.key in heard | thinned | cloud.left_out, f"lost: {message}"
        by_tx[message.tx].append(message)
    for messages in by_tx.values():
        samples = [m for m in messages if m.kind == "update"]
        due = [m for m in messages if m.kind != "update"] + samples[:1] + samples[-1:]
        lost = [m for m in due if m.key not in heard | cloud.left_out]
        assert not lost, f"lost: {lost}"


def no_needless_repeats(cloud, made):
    """A message is heard again only where the chaos destroyed an acknowledgement of it."""
    for key, times in Counter(key for key, _, _ in cloud.heard).items():
        assert times <= 1 + cloud.destroyed[key], f"{times} times, {cloud.destroyed[key]} destroyed: {made[key]}"


def in_order(cloud, made, late):
    """By connector, as the station told it; a repeat counts where it was heard first.

    A sample that was thinned out may be told again by a station that did not wait for its answer; it is heard late then.
    So is what a cloud would not answer.
    """
    first = defaultdict(dict)
    for key, _, _ in cloud.heard:
        if key not in late:
            first[made[key].evse, made[key].connector].setdefault(key)
    for keys in first.values():
        assert list(keys) == sorted(keys), f"out of order: {list(keys)}"


def unchanged_under_one_id(world, cloud, made):
    """The station's own words; in 1.6 the id is that of the cloud's own start, and the answer to one of this transaction."""
    name = "transactionId" if world.version == "1.6" else "offline"
    started = {}
    for key, payload, given in cloud.heard:
        message = made[key]
        said = {k: v for k, v in payload.items() if k != name}
        assert said == {k: v for k, v in message.payload.items() if k != name}, f"changed: {payload}"
        if world.version != "1.6":
            continue
        if message.kind == "start":
            started[given] = message.tx
        else:
            assert started.get(given) == message.tx, f"told under another transaction's id: {payload}"


def energy(cloud, made):
    """What the cloud bills is what the station's registers say, transaction by transaction."""
    begun, billed, due = {}, {}, {}
    for key, payload, _ in cloud.heard:
        message = made[key]
        if message.kind == "start":
            begun[message.tx] = register(payload)
        elif message.kind == "stop":
            billed[message.tx] = register(payload) - begun.get(message.tx, 0)
    for message in made.values():
        if message.kind in {"start", "stop"} and message.key not in cloud.left_out:
            sign = 1 if message.kind == "stop" else -1
            due[message.tx] = due.get(message.tx, 0) + sign * register(message.payload)
    assert billed == due, f"billed {billed}, due {due}"


def register(payload):
    """The register that a start or stop tells; 0 for a sample."""
    if "meterValue" in payload and "eventType" in payload:
        return payload["meterValue"][0]["sampledValue"][0]["value"]
    return payload.get("meterStart") or payload.get("meterStop") or 0


def one_record_each(world):
    """Our own record: as many sessions as transactions, each ended, none beside them."""
    steps = [r for r in world.disk.records if isinstance(r, SessionUpdate)]
    begun, ended = ({s.session_id for s in steps if s.kind == kind} for kind in ("start", "stop"))
    due = sum(message.kind == "start" for message in world.station.made)
    assert begun == ended, f"records of sessions that never end: {begun - ended}"
    assert len(begun) == due, f"{len(begun)} records of {due} transactions"
