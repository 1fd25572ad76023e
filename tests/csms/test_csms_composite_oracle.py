"""The fast composite schedule against a plain oracle, on random stacks of profiles."""

import time
from bisect import bisect_right
from datetime import timedelta
from fractions import Fraction

import pytest

from cem.csms.profile_reading import RULES_16, RULES_21, RULES_201, read_profile
from cem.csms.profile_store import ProfileStore
from cem.csms.profiles import Profile, Running, to_us
from tests.csms.oracle import World
from tests.csms.stacks import EVSES, T0, seeded, stack

RULES = {"1.6": RULES_16, "2.0.1": RULES_201, "2.1": RULES_21}
HORIZONS_S = [600, 7200, 86_400, 259_200]
INSTANTS = 200
STACKS = 20_000


def close(told, true):
    if told is None or true is None:
        return told is None and true is None
    if len(told) != len(true):
        return False
    return all(abs(a - float(b)) <= 1e-6 + 1e-9 * abs(a) for a, b in zip(told, true, strict=True))


def compare(version, number, instants=INSTANTS):
    """One stack: what was set, what both say at every breakpoint and around it, and at random instants."""
    rng = seeded(version, number)
    tx = "7" if version == "1.6" else "tx-7"
    began = T0 - timedelta(seconds=rng.choice([0, 30, 4000]))
    runs = rng.random() < 0.7
    running = {1: Running(tx, to_us(began))} if runs else {}
    store = ProfileStore(EVSES, 230.0, running.get)
    evse = rng.choice([1, 1, 2])
    sharing = rng.choice([1, 1, 2])
    gone = T0 - timedelta(seconds=rng.choice([30, 5000])) if rng.random() < 0.2 else None
    at = T0 - timedelta(seconds=60)
    world = World(
        version, evse, EVSES[evse], tx=tx if runs and evse == 1 else None,
        tx_start=Fraction(to_us(began), 10**6), sharing=sharing,
        gone=None if gone is None else Fraction(to_us(gone), 10**6),
    )  # fmt: skip
    for place, raw in stack(rng, version, tx):
        read = read_profile(raw, place, RULES[version], at)
        if isinstance(read, Profile):
            store.set(read, RULES[version])
    world.installed = [(p.evse, p.raw, Fraction(p.received_us, 10**6)) for p in store.find()]
    if gone is not None:
        store.offline(gone)
    if rng.random() < 0.5 and store.prioritize(1, on=True):
        world.priority = {tx}
    start_us, horizon_s = to_us(T0), rng.choice(HORIZONS_S)
    unit = rng.choice("AW")
    stretches = store.composite(store.place(evse, sharing), start_us, horizon_s * 10**6, unit)
    edges = [s.start_us for s in stretches]
    assert edges[0] == start_us
    assert edges == sorted(set(edges))
    asked = {e + d for e in edges for d in (-1_000_000, 0, 1_000_000)}
    asked |= {start_us + rng.randrange(horizon_s * 2) * 500_000 for _ in range(instants)}
    for moment in sorted(asked):
        if start_us <= moment < start_us + horizon_s * 10**6:
            told = stretches[bisect_right(edges, moment) - 1].limit
            true = world.limit(Fraction(moment, 10**6), unit)
            assert close(told, true), (version, number, evse, unit, moment - start_us, told, true, world.installed)
    return len(store)


@pytest.mark.parametrize("version", RULES)
def test_the_oracle_agrees(version):
    """As many stacks as fit into some seconds of CPU, whatever else the machine does."""
    until = time.process_time() + 8
    number = 0
    while number < 200 or (number < STACKS and time.process_time() < until):
        compare(version, number)
        number += 1


@pytest.mark.soak
@pytest.mark.parametrize("version", RULES)
def test_the_oracle_agrees_on_20000_stacks(version):
    set_in_all = sum(compare(version, number) for number in range(STACKS))
    print(f"{version}: {STACKS} stacks, {set_in_all} profiles")


@pytest.mark.parametrize("version", RULES)
def test_a_full_store_is_laid_out_quickly(version):
    """200 profiles of 24 recurring periods, a week: not by the square of its periods."""
    rules = RULES[version]
    store = ProfileStore(EVSES, 230.0, {}.get)
    for number in range(200):
        schedule = {
            "chargingRateUnit": "A",
            "startSchedule": "2026-11-01T00:00:00Z",
            "duration": 3600 * (1 + number % 24),
            "chargingSchedulePeriod": [{"startPeriod": 3600 * h, "limit": 6 + (number + h) % 20} for h in range(24)],
        }
        raw = {
            rules.id_key: number, "stackLevel": number % 100, "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Recurring", "recurrencyKind": "Daily",
            "chargingSchedule": schedule if version == "1.6" else [schedule],
        }  # fmt: skip
        read = read_profile(raw, 1 + number // 100, rules, T0)
        assert isinstance(read, Profile)
        assert store.set(read, rules) is None
    begun = time.process_time()
    stretches = store.composite(store.place(1), to_us(T0), 7 * 86_400 * 10**6, "A")
    took_s = time.process_time() - begun
    assert len(stretches) > 100
    assert took_s < 1.0
