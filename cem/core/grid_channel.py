"""The state machine of one external limit channel, the same for every protocol (EEBUS LPC/LPP semantics).

The figures behind it (heartbeat 120 s, failsafe 2 to 24 h, the five states and their exits) agree in several
independent public implementations of LPC/LPP; the standard's own text was not at hand.

A value that stands at its source and can be read counts as written: registers and OPC UA nodes are levels, not
events. A heartbeat alone never gives control. A restriction holds at once, a release is gradual.
"""

from dataclasses import dataclass, replace
from enum import Enum
from math import isfinite

from cem.core.limits import Limit, LimitKind, LimitSignal
from cem.core.units import PerPhase

RELEASE_DELAY_S = 2.0
"""A chattering source restricts at once and releases only after this (fault D4)."""


class ChannelState(Enum):
    """Where a channel stands."""

    INIT = "init"
    LIMITED = "limited"
    CONTROLLED = "unlimited_controlled"
    FAILSAFE = "failsafe"
    AUTONOMOUS = "unlimited_autonomous"


@dataclass(frozen=True, slots=True)
class Channel:
    """One external limit as configured. Values are in ``unit``: W in total, or A per phase.

    Attributes:
        nominal: The most the zone could carry in that unit; a written value above it is refused, and a release
            rises to it.
        hold_after_failsafe: Stay at the failsafe value when its duration is over, instead of releasing.
        lasting: What was written holds without contact too, until its own end (a charging profile of OCPP); beside
            the failsafe value the lower counts.
    """

    limit_id: str
    kind: LimitKind
    zone_id: str
    unit: str
    failsafe: float
    nominal: float
    failsafe_duration_s: float = 7200.0
    heartbeat_timeout_s: float = 120.0
    settle_s: float = 120.0
    release_ramp_s: float = 300.0
    hold_after_failsafe: bool = True
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class ChannelMemory:
    """What a channel remembers between steps; persisted, so that a restart never escapes a limit.

    Attributes:
        state: Where it stands.
        entered_s: When it came there.
        written: The value of the last accepted active write.
        in_force: The value that holds now, ramps included; ``None`` for no limit.
        ramp_from: Where the present release began.
        ramp_start_s: When it began; ``None`` while no release is under way.
        loosen_since_s: Since when the source asks for more than is in force.
        alive_s: Last sign of life.
        contact_s: Since when the present contact lasts; ``None`` without contact.
        problem: Why the last write was refused.
    """

    state: ChannelState
    entered_s: float
    written: float | None = None
    in_force: float | None = None
    ramp_from: float = 0.0
    ramp_start_s: float | None = None
    loosen_since_s: float | None = None
    alive_s: float | None = None
    contact_s: float | None = None
    problem: str | None = None


def start(channel: Channel, now_s: float) -> ChannelMemory:
    """A channel with nothing persisted: the failsafe value at once (fault D3)."""
    return ChannelMemory(ChannelState.INIT, now_s, in_force=channel.failsafe)


def step(
    channel: Channel, memory: ChannelMemory, signal: LimitSignal | None, now_s: float
) -> tuple[ChannelMemory, Limit | None]:
    """One cycle.

    Args:
        channel: As configured.
        memory: From the last cycle, ``start`` or ``from_record``.
        signal: What the adapter last heard; ``None`` where it never heard anything.
        now_s: Monotonic.

    Returns:
        The new memory, and the limit in force (``None`` for no limit).
    """
    memory = _hear(memory, signal, now_s, channel.heartbeat_timeout_s)
    standing, problem = _standing_write(channel, signal, now_s)
    write = standing if memory.contact_s is not None else None
    problem = problem if memory.contact_s is not None else None
    if problem is not None and memory.written is not None and memory.state is ChannelState.LIMITED:
        write = (True, memory.written)  # nonsense never loosens what holds
    memory = replace(memory, problem=problem)
    memory = _move(channel, memory, write, now_s)
    lasting = None
    if channel.lasting and standing is not None:
        lasting = standing[1]
        if memory.state is ChannelState.LIMITED:
            memory = replace(memory, written=lasting)
    memory = _settle_value(channel, memory, lasting, now_s)
    return memory, _limit(channel, memory)


def _hear(memory: ChannelMemory, signal: LimitSignal | None, now_s: float, timeout_s: float) -> ChannelMemory:
    alive_s = memory.alive_s
    if signal is not None and signal.alive_s is not None and (alive_s is None or signal.alive_s > alive_s):
        alive_s = signal.alive_s
    alive = signal is not None and signal.alive_s is not None and now_s - signal.alive_s <= timeout_s
    contact_s = (memory.contact_s if memory.contact_s is not None else now_s) if alive else None
    return replace(memory, alive_s=alive_s, contact_s=contact_s)


def _standing_write(
    channel: Channel, signal: LimitSignal | None, now_s: float
) -> tuple[tuple[bool, float | None] | None, str | None]:
    """The (active, value) the source holds now, and why it cannot be accepted."""
    if signal is None or signal.written_s is None:
        return None, signal.problem if signal else None
    if signal.valid_until_s is not None and now_s >= signal.valid_until_s:
        return (False, None), None
    if not signal.active:
        return (False, None), None
    value = signal.value
    if value is None:
        return None, signal.problem or "the limit is enabled but has no readable value"
    if not isfinite(value) or value < 0:
        return None, f"a limit of {value:g} {channel.unit} is not a limit"
    if value > channel.nominal:
        return None, f"a limit of {value:g} {channel.unit} is above the {channel.nominal:g} {channel.unit} of its zone"
    return (True, value), None


def _move(
    channel: Channel, memory: ChannelMemory, write: tuple[bool, float | None] | None, now_s: float
) -> ChannelMemory:
    contact = memory.contact_s is not None
    lost = not contact and now_s - (memory.alive_s if memory.alive_s is not None else memory.entered_s) > (
        channel.heartbeat_timeout_s
    )

    def enter(state: ChannelState, written: float | None = None) -> ChannelMemory:
        if state is memory.state:
            return replace(memory, written=written)
        return replace(memory, state=state, entered_s=now_s, written=written)

    if contact and write is not None:
        active, value = write
        if memory.state is ChannelState.INIT:  # nobody released anything: the first word holds as it is
            memory = replace(memory, in_force=value, ramp_start_s=None, loosen_since_s=None)
        return enter(ChannelState.LIMITED, value) if active else enter(ChannelState.CONTROLLED)
    waited_s = now_s - (memory.contact_s if memory.contact_s is not None else now_s)
    match memory.state:
        case ChannelState.LIMITED | ChannelState.CONTROLLED if lost:
            return enter(ChannelState.FAILSAFE)
        case ChannelState.INIT if now_s - memory.entered_s > channel.settle_s:
            return enter(ChannelState.AUTONOMOUS)
        case ChannelState.FAILSAFE if contact and waited_s > channel.settle_s:
            return enter(ChannelState.AUTONOMOUS)
        case ChannelState.FAILSAFE if (
            now_s - memory.entered_s > channel.failsafe_duration_s and not channel.hold_after_failsafe
        ):
            return enter(ChannelState.AUTONOMOUS)
        case _:
            return memory


def _settle_value(channel: Channel, memory: ChannelMemory, lasting: float | None, now_s: float) -> ChannelMemory:
    """Tighten at once; loosen after the delay, linearly."""
    target: float | None
    match memory.state:
        case ChannelState.INIT | ChannelState.FAILSAFE:
            target = channel.failsafe
        case ChannelState.LIMITED:
            target = memory.written
        case _:
            target = None
    if lasting is not None:
        target = lasting if target is None else min(target, lasting)
    now_value = memory.in_force
    goal = channel.nominal if target is None else target
    if now_value is None or goal <= now_value:
        if now_value is None and target is None:
            return memory
        held = None if target is None else target
        return replace(memory, in_force=held, ramp_start_s=None, loosen_since_s=None)
    if memory.ramp_start_s is None:
        since = memory.loosen_since_s if memory.loosen_since_s is not None else now_s
        if now_s - since < RELEASE_DELAY_S:
            return replace(memory, loosen_since_s=since)
        memory = replace(memory, ramp_from=now_value, ramp_start_s=now_s, loosen_since_s=since)
    started_s = memory.ramp_start_s if memory.ramp_start_s is not None else now_s
    share = 1.0 if channel.release_ramp_s <= 0 else min(1.0, (now_s - started_s) / channel.release_ramp_s)
    if share >= 1.0:
        return replace(memory, in_force=target, ramp_start_s=None, loosen_since_s=None)
    return replace(memory, in_force=max(now_value, memory.ramp_from + (goal - memory.ramp_from) * share))


def _limit(channel: Channel, memory: ChannelMemory) -> Limit | None:
    if memory.in_force is None:
        return None
    per_phase = channel.unit == "A"
    return Limit(
        channel.kind,
        channel.zone_id,
        channel.limit_id,
        value_w=None if per_phase else memory.in_force,
        value_a=PerPhase.same(memory.in_force) if per_phase else None,
        since_s=memory.entered_s,
    )


def to_record(memory: ChannelMemory, now_s: float) -> dict[str, float | str | None]:
    """What must survive a restart, with ages instead of monotonic times."""
    return {
        "state": memory.state.value,
        "in_state_s": now_s - memory.entered_s,
        "written": memory.written,
        "in_force": memory.in_force,
        "alive_age_s": None if memory.alive_s is None else now_s - memory.alive_s,
    }


def from_record(channel: Channel, record: dict[str, float | str | None], away_s: float, now_s: float) -> ChannelMemory:
    """Resume after a restart that took ``away_s`` (by UTC, never negative) with the remaining time.

    A value that no longer fits the channel (site file changed) gives way to the failsafe value.
    """
    try:
        state = ChannelState(record["state"])
        in_state_s = float(record["in_state_s"] or 0.0) + away_s
        written = None if record["written"] is None else float(record["written"])
        in_force = None if record["in_force"] is None else float(record["in_force"])
        alive_age_s = None if record["alive_age_s"] is None else float(record["alive_age_s"]) + away_s
    except (KeyError, TypeError, ValueError):
        return start(channel, now_s)
    if state is ChannelState.LIMITED and (written is None or written > channel.nominal):
        return start(channel, now_s)
    return ChannelMemory(
        state,
        now_s - in_state_s,
        written=written,
        in_force=in_force,
        alive_s=None if alive_age_s is None else now_s - alive_age_s,
    )
