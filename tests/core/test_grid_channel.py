"""The channel state machine, exit by exit (GRID_SIGNALS table), and faults D2 to D5."""

import math
from dataclasses import replace

from cem.core.grid_channel import Channel, ChannelState, from_record, start, step, to_record
from cem.core.limits import LimitKind, LimitSignal

CHANNEL = Channel(
    "dso", LimitKind.IMPORT, "site", "W", failsafe=4200.0, nominal=40_000.0, release_ramp_s=100.0, settle_s=120.0
)


def signal(now_s, value=None, active=True, written_s=0.0, alive_s=None, valid_until_s=None):
    return LimitSignal("dso", value, active, written_s, now_s if alive_s is None else alive_s, valid_until_s)


def run(memory, signals):
    limit = None
    for now_s, heard in signals:
        memory, limit = step(CHANNEL, memory, heard, now_s)
    return memory, limit


def value(limit):
    return None if limit is None else limit.value_w


def test_d3_nothing_persisted_gives_the_failsafe_value_at_once():
    memory, limit = step(CHANNEL, start(CHANNEL, 0.0), None, 0.0)
    assert memory.state is ChannelState.INIT
    assert value(limit) == 4200.0


def test_init_without_any_contact_becomes_autonomous_after_settle_and_releases_gradually():
    memory, limit = run(start(CHANNEL, 0.0), [(t, None) for t in range(123)])
    assert memory.state is ChannelState.AUTONOMOUS
    assert value(limit) == 4200.0  # the release waits, then ramps
    memory, limit = run(memory, [(t, None) for t in range(123, 175)])
    assert 4200.0 < value(limit) < 40_000.0
    memory, limit = run(memory, [(t, None) for t in range(175, 240)])
    assert limit is None


def test_an_active_write_limits_and_zero_is_a_limit():
    memory, limit = step(CHANNEL, start(CHANNEL, 0.0), signal(1.0, 0.0), 1.0)
    assert memory.state is ChannelState.LIMITED
    assert value(limit) == 0.0


def test_a_heartbeat_alone_never_gives_control():
    memory, limit = run(start(CHANNEL, 0.0), [(t, signal(t, written_s=None)) for t in range(100)])
    assert memory.state is ChannelState.INIT
    assert value(limit) == 4200.0


def test_d2_lost_heartbeat_gives_failsafe_and_a_standing_value_ends_it():
    memory, _ = step(CHANNEL, start(CHANNEL, 0.0), signal(0.0, 9000.0), 0.0)
    old = signal(0.0, 9000.0, alive_s=0.0)
    memory, limit = run(memory, [(t, old) for t in range(1, 121)])
    assert (memory.state, value(limit)) == (ChannelState.LIMITED, 9000.0)
    memory, limit = run(memory, [(121.0, old)])
    assert (memory.state, value(limit)) == (ChannelState.FAILSAFE, 4200.0)
    memory, _ = run(memory, [(130.0, signal(130.0, 9000.0))])
    assert memory.state is ChannelState.LIMITED


def test_failsafe_holds_beyond_its_duration_unless_told_to_release():
    from dataclasses import replace

    memory, _ = step(CHANNEL, start(CHANNEL, 0.0), signal(0.0, 9000.0), 0.0)
    memory, _ = run(memory, [(200.0, None), (200.0 + 7201.0, None)])
    assert memory.state is ChannelState.FAILSAFE
    releasing = replace(CHANNEL, hold_after_failsafe=False)
    memory, _ = step(releasing, memory, None, 200.0 + 7202.0)
    assert memory.state is ChannelState.AUTONOMOUS


def test_failsafe_with_contact_but_no_write_becomes_autonomous():
    memory, _ = step(CHANNEL, start(CHANNEL, 0.0), signal(0.0, 9000.0), 0.0)
    memory, _ = run(memory, [(200.0, None)])
    assert memory.state is ChannelState.FAILSAFE
    memory, _ = run(memory, [(t, signal(t, written_s=None)) for t in range(201, 325)])
    assert memory.state is ChannelState.AUTONOMOUS


def test_d4_restricts_at_once_and_releases_after_two_seconds_of_asking():
    memory, _ = step(CHANNEL, start(CHANNEL, 0.0), signal(0.0, 9000.0), 0.0)
    chatter = [(float(t), signal(float(t), 9000.0 if t % 2 else None, active=bool(t % 2))) for t in range(1, 30)]
    values = []
    for now_s, heard in chatter:
        memory, limit = step(CHANNEL, memory, heard, now_s)
        values.append(value(limit))
    assert set(values) == {9000.0}


def test_d5_nonsense_is_refused_with_a_reason_and_loosens_nothing():
    memory, _ = step(CHANNEL, start(CHANNEL, 0.0), signal(0.0, 9000.0), 0.0)
    for nonsense in (math.nan, -5.0, 99_000.0, None):
        after, limit = step(CHANNEL, memory, signal(1.0, nonsense), 1.0)
        assert value(limit) == 9000.0
        assert after.problem


def test_an_expired_value_releases():
    memory, _ = step(CHANNEL, start(CHANNEL, 0.0), signal(0.0, 9000.0, valid_until_s=10.0), 0.0)
    memory, _ = run(memory, [(11.0, signal(11.0, 9000.0, valid_until_s=10.0))])
    assert memory.state is ChannelState.CONTROLLED


def test_d3_a_restart_resumes_a_limit_and_a_failsafe_with_the_remaining_time():
    memory, _ = step(CHANNEL, start(CHANNEL, 0.0), signal(0.0, 9000.0), 0.0)
    resumed = from_record(CHANNEL, to_record(memory, 50.0), away_s=30.0, now_s=1000.0)
    resumed, limit = step(CHANNEL, resumed, None, 1000.0)
    assert (resumed.state, value(limit)) == (ChannelState.LIMITED, 9000.0)
    resumed, limit = step(CHANNEL, resumed, None, 1041.0)  # 50 + 30 + 41 s without a heartbeat
    assert (resumed.state, value(limit)) == (ChannelState.FAILSAFE, 4200.0)
    again = from_record(CHANNEL, to_record(resumed, 1041.0), away_s=5.0, now_s=0.0)
    assert again.state is ChannelState.FAILSAFE
    assert again.entered_s == -5.0


def test_a_broken_record_starts_at_failsafe():
    assert from_record(CHANNEL, {"state": "nonsense"}, 0.0, 7.0) == start(CHANNEL, 7.0)


def test_what_lasts_holds_without_contact_until_its_own_end_beside_the_failsafe_value():
    """A charging profile carries its own end: without contact the lower of it and the failsafe value counts."""
    channel = replace(CHANNEL, lasting=True, release_ramp_s=0.0)

    def lives(memory, signals):
        limit = None
        for now_s, heard in signals:
            memory, limit = step(channel, memory, heard, now_s)
        return memory, value(limit)

    memory, held = lives(start(channel, 0.0), [(0.0, signal(0.0, 3000.0))])
    assert held == 3000.0
    gone = [(t, signal(t, 2500.0 if t > 60 else 3000.0, alive_s=0.0)) for t in range(1, 131)]
    assert lives(memory, gone[:70])[1] == 2500.0  # its schedule goes on
    memory, held = lives(memory, gone)
    assert (memory.state, held) == (ChannelState.FAILSAFE, 2500.0)
    ended = [(t, signal(t, None, active=False, alive_s=0.0)) for t in range(131, 135)]
    memory, held = lives(memory, ended)
    assert (memory.state, held) == (ChannelState.FAILSAFE, 4200.0)
    resumed = from_record(channel, to_record(memory, 135.0), 10.0, 0.0)
    assert lives(resumed, [(0.0, signal(0.0, 1000.0, alive_s=-200.0))])[1] == 1000.0
