"""Recorded cycles decided again, and where today's code or timings decide otherwise."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from cem.core.engine import Decision, EngineMemory, Plan, decide
from cem.core.reasons import Reason
from cem.core.site import Site
from cem.core.timings import Timings
from cem.errors import CemError
from cem.replay import codec
from cem.replay.segment import SUFFIX, Recorded, read_cycles, read_header


@dataclass(frozen=True, slots=True)
class Difference:
    """One EVSE for which another thing was decided.

    Attributes:
        evse_id: Which.
        recorded_a: Setpoint then.
        now_a: Setpoint now.
        recorded_reason: Code of the reason then.
        now_reason: Code now.
    """

    evse_id: str
    recorded_a: float
    now_a: float
    recorded_reason: str
    now_reason: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """One cycle, then and now.

    Attributes:
        number: Of the cycle.
        utc: When it was.
        recorded: As on disk.
        decision: As decided now; ``None`` where ``decide`` fails.
        failure: What ``decide`` raised now.
        evses: EVSEs whose setpoint or reason differs.
        parts: Parts of the decision with any bit that differs, by dotted name.
    """

    number: int
    utc: datetime
    recorded: Recorded
    decision: Decision | None
    failure: str | None
    evses: tuple[Difference, ...]
    parts: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Not one bit differs (a cycle that failed then fails now)."""
        if self.recorded.setpoint_a is None:
            return self.decision is None
        return self.decision is not None and not self.parts and not self.evses


def segments(place: Path) -> list[Path]:
    """The segment files of a recording, oldest first.

    Args:
        place: One file, the ring's folder, or the storage folder that holds it.

    Raises:
        CemError: There is no recording.
    """
    if place.is_file():
        return [place]
    found = sorted(place.glob(f"*{SUFFIX}")) or sorted(place.glob(f"replay/*{SUFFIX}"))
    if not found:
        raise CemError(f"{place}: no recorded cycles (files named *{SUFFIX}) here; storage.replay_mb may be 0")
    return found


def replay(place: Path, site: Site | None = None, timings: Timings | None = None) -> Iterator[Replayed]:
    """Decide every recorded cycle again.

    Each segment begins with the recorded memory, so a difference in one does not spread to the next.

    Args:
        place: A segment file, or a folder of them.
        site: Instead of the site as recorded; its EVSEs must be the same.
        timings: Instead of those recorded.

    Raises:
        CemError: There is no recording, or another version's that cannot be read.
    """
    plans: dict[str, Plan] = {}
    for path in segments(place):
        try:
            header = read_header(path)
        except CemError:
            if place.is_file():
                raise
            continue  # the newest segment of a killed process may be empty
        plan = _plan(header, plans, site, timings)
        yield from _play(path, plan)


def _plan(header: dict[str, Any], plans: dict[str, Plan], site: Site | None, timings: Timings | None) -> Plan:
    key = repr((header["site"], header["timings"]))
    if key not in plans:
        recorded = codec.decode(header["site"])
        used = recorded if site is None else site
        if [e.evse_id for e in used.evses] != [e.evse_id for e in recorded.evses]:
            raise CemError("the recording is of a site with other EVSEs; give the site file it was made with, or none")
        plans[key] = Plan.of(used, codec.decode(header["timings"], Timings()) if timings is None else timings)
    return plans[key]


def _play(path: Path, plan: Plan) -> Iterator[Replayed]:
    fresh = EngineMemory.none(plan)
    memory: EngineMemory | None = None
    for recorded in read_cycles(path):
        if recorded.memory is not None:
            memory = codec.decode(recorded.memory, fresh)
        if memory is None:
            raise CemError(f"{path}: the recording begins without a keyframe")
        failure = None
        decision: Decision | None
        try:
            decision, memory = decide(plan, recorded.state, memory)
        except Exception as error:  # noqa: BLE001 - a cycle that brings the engine down is what is looked for
            decision, failure = None, f"{type(error).__name__}: {error}"
        yield Replayed(
            recorded.number, recorded.state.utc, recorded, decision, failure, *_compare(plan, recorded, decision)
        )


def _compare(
    plan: Plan, recorded: Recorded, decision: Decision | None
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    if decision is None or recorded.setpoint_a is None or recorded.reason is None:
        return (), ()
    differs = (recorded.setpoint_a != decision.setpoint_a) | (recorded.reason != decision.reason)
    evses = tuple(
        Difference(
            plan.site.evses[i].evse_id,
            float(recorded.setpoint_a[i]),
            float(decision.setpoint_a[i]),
            _code(recorded.reason[i]),
            _code(decision.reason[i]),
        )
        for i in np.flatnonzero(differs).tolist()
    )
    now = codec.digests(decision)
    parts = tuple(name for name, text in recorded.digests.items() if now.get(name, text) != text)
    return evses, parts


def _code(number: int) -> str:
    return Reason(int(number)).name.lower() if int(number) in Reason.__members__.values() else f"unknown {number}"
