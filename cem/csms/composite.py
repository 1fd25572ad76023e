"""The composite schedule of one EVSE: which profile leads in each purpose, and the lowest of the purposes.

OCPP 2.0.1 Part 2 K 3.5 and 3.6, 1.6 section 3.13.2 and .3. Inside a purpose the highest stack level that has a period
*now* leads. TxProfile replaces TxDefaultProfile, PriorityCharging both while it is on (2.1 K21). Of the purposes the lowest
counts; LocalGeneration (2.1) is added to it. Everything is laid out as spans of time, highest level first, so that the
work grows with the number of periods and not with its square.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

from cem.csms.profiles import (
    EXTERNAL,
    GENERATION,
    MAX,
    PRIORITY,
    SECOND_US,
    TX,
    TX_DEFAULT,
    Period,
    Profile,
    Rate,
    Running,
    Step,
)

_STATION_WIDE = {MAX, EXTERNAL, GENERATION}


@dataclass(frozen=True, slots=True)
class Place:
    """What the EVSE is, and what goes on there.

    Attributes:
        evse: Its number.
        phases: Wired.
        nominal_v: Converts between W and A, as the standard does.
        running: Its transaction.
        sharing: EVSEs among which a limit of the whole station is split; equal shares can never exceed it.
        priority: Priority charging is on.
        offline_us: Since when the CSMS is away; ``None`` while it is there.
    """

    evse: int
    phases: int
    nominal_v: float
    running: Running | None = None
    sharing: int = 1
    priority: bool = False
    offline_us: int | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """From ``start_us`` to the next stretch's.

    Attributes:
        limit: In the unit asked for; ``None`` where nothing limits.
        phases: Of the period that decides.
        leading: The period that leads the transaction's purposes, with its setpoint and discharge limit.
    """

    start_us: int
    limit: Rate | None
    phases: int = 3
    leading: Period | None = None


@dataclass(frozen=True, slots=True)
class _Said:
    """What a leading period says, in the unit asked for."""

    limit: Rate | None
    phases: int
    period: Period


_Span = tuple[int, int, _Said]


def composite(profiles: Iterable[Profile], place: Place, start_us: int, end_us: int, unit: str) -> list[Stretch]:
    """What the profiles allow one EVSE in ``[start_us, end_us)``; equal neighbours are one stretch.

    Args:
        profiles: Of the whole station.
        place: The EVSE.
        start_us: Since 1970.
        end_us: Since 1970; after the start.
        unit: ``A`` or ``W``.
    """
    layers: dict[str, list[_Span]] = {}
    own = [p for p in profiles if p.evse in {0, place.evse}]
    # at equal levels (1.6) the EVSE's own before the station's
    for profile in sorted(own, key=lambda p: (p.stack_level, p.evse != 0), reverse=True):
        spans = list(_spans(profile, place, start_us, end_us, unit))
        layers[profile.purpose] = _over(layers.get(profile.purpose, []), spans)
    order = [layers.get(PRIORITY, []), layers.get(TX, []), layers.get(TX_DEFAULT, [])]
    session: list[_Span] = reduce(_over, order)
    generation = _Cursor(layers.get(GENERATION, []))
    cursors = [_Cursor(session), *(_Cursor(layers.get(purpose, [])) for purpose in (MAX, EXTERNAL))]
    edges = {start_us}
    for cursor in [generation, *cursors]:
        edges.update(cursor.edges())
    edges.discard(end_us)
    result: list[Stretch] = []
    for at in sorted(edges):
        said = [found for cursor in cursors if (found := cursor.at(at)) is not None]
        decides = _lowest(said, unit)
        more = generation.at(at)
        if decides is not None and more is not None and more.limit is not None:
            decides = plus(decides[0], more.limit, unit), decides[1]
        leading = cursors[0].at(at)
        stretch = Stretch(
            at,
            None if decides is None else decides[0],
            3 if decides is None else decides[1],
            None if leading is None else leading.period,
        )
        before = result[-1] if result else None
        if before is None or (before.limit, before.phases, before.leading) != (
            stretch.limit, stretch.phases, stretch.leading,
        ):  # fmt: skip
            result.append(stretch)
    return result


def _lowest(said: Sequence[_Said], unit: str) -> tuple[Rate, int] | None:
    found: tuple[Rate, int] | None = None
    for one in said:
        if one.limit is None:
            continue
        if found is None:
            found = one.limit, one.phases
            continue
        limit = lower(found[0], one.limit, unit)
        found = limit, found[1] if limit == found[0] else one.phases
    return found


class _Cursor:
    """Spans read from left to right."""

    def __init__(self, spans: Sequence[_Span]) -> None:
        self._spans = spans
        self._next = 0

    def edges(self) -> Iterator[int]:
        for start, end, _ in self._spans:
            yield start
            yield end

    def at(self, at_us: int) -> _Said | None:
        """What holds at a moment; moments never go back."""
        while self._next < len(self._spans) and self._spans[self._next][1] <= at_us:
            self._next += 1
        if self._next < len(self._spans) and self._spans[self._next][0] <= at_us:
            return self._spans[self._next][2]
        return None


def _over(top: list[_Span], below: list[_Span]) -> list[_Span]:
    """Both, where the upper hides the lower."""
    if not top or not below:
        return top or below
    result = list(top)
    first = 0
    for start, end, said in below:
        while first < len(top) and top[first][1] <= start:
            first += 1
        at, over = start, first
        while over < len(top) and top[over][0] < end:
            if top[over][0] > at:
                result.append((at, top[over][0], said))
            at = max(at, top[over][1])
            over += 1
        if at < end:
            result.append((at, end, said))
    result.sort(key=lambda span: span[0])
    return result


def _spans(profile: Profile, place: Place, start_us: int, end_us: int, unit: str) -> Iterator[_Span]:
    """Where in the window a profile has a period, in order."""
    if profile.purpose == PRIORITY and not place.priority:
        return
    if profile.purpose in {TX, PRIORITY} and (
        place.running is None or profile.transaction_id not in {None, place.running.transaction_id}
    ):
        return
    start_us = max(start_us, profile.valid_from_us or start_us)
    end_us = end_us if profile.valid_to_us is None else min(end_us, profile.valid_to_us)
    if profile.offline_us is not None and place.offline_us is not None:
        end_us = min(end_us, place.offline_us + profile.offline_us)  # 2.1 maxOfflineDuration
    if start_us >= end_us:
        return
    share = place.sharing if profile.purpose in _STATION_WIDE and profile.evse == 0 else 1
    schedule = profile.schedule
    said = [
        _Said(_converted(p.most, schedule.unit, unit, min(p.phases, place.phases), place, share), p.phases, p)
        for p in schedule.periods
    ]
    offsets = [p.start_us for p in schedule.periods]
    waits = profile.kind == "Relative" and place.running is None and profile.purpose in {TX_DEFAULT, TX, PRIORITY}
    if waits:
        # a Relative schedule counts from the start of a transaction; until there is one it stands at its beginning
        if offsets[0] == 0:
            yield start_us, end_us, said[0]
        return
    for begin, stop in _runs(profile, place, start_us, end_us):
        stop_us = stop if schedule.duration_us is None else min(stop, begin + schedule.duration_us)
        stop_us = min(stop_us, end_us)
        first = max(0, bisect_right(offsets, start_us - begin) - 1)
        for index in range(first, len(offsets)):
            left = max(begin + offsets[index], start_us)
            right = min(begin + offsets[index + 1], stop_us) if index + 1 < len(offsets) else stop_us
            if left >= stop_us:
                break
            if left < right:
                yield left, right, said[index]


def _runs(profile: Profile, place: Place, start_us: int, end_us: int) -> Iterator[tuple[int, int]]:
    """Each run of the schedule that meets the window: its begin, and where the next one would cut it off."""
    begin = profile.schedule.start_us
    if profile.kind == "Relative" and profile.purpose in {TX_DEFAULT, TX, PRIORITY} and place.running is not None:
        begin = place.running.started_us
    if begin is None or (profile.kind == "Relative" and profile.purpose in _STATION_WIDE):
        begin = profile.received_us
    if profile.kind != "Recurring" or profile.repeat_us is None:
        yield begin, end_us
        return
    if start_us > begin:
        begin += (start_us - begin) // profile.repeat_us * profile.repeat_us
    while begin < end_us:
        yield begin, begin + profile.repeat_us
        begin += profile.repeat_us


def _converted(rate: Rate | None, of: str, to: str, phases: int, place: Place, share: int) -> Rate | None:
    """In the unit asked for, with the nominal voltage and the period's phases as far as they are wired."""
    if rate is None:
        return None
    factor = 1.0
    if of != to:
        volts = place.nominal_v * (1 if len(rate) == 3 else phases)
        factor = volts if to == "W" else 1 / volts
    return tuple(value * factor / share for value in rate) if factor != 1.0 or share != 1 else rate


def lower(one: Rate, other: Rate, unit: str) -> Rate:
    """The lower of two limits: both hold."""
    if len(one) == len(other):
        return tuple(min(pair) for pair in zip(one, other, strict=True))
    single, three = (one[0], other) if len(one) == 1 else (other[0], one)
    if unit == "A":
        return tuple(min(single, value) for value in three)
    total = sum(three)
    return three if total <= single else tuple(value * single / total for value in three)


def plus(one: Rate, other: Rate, unit: str) -> Rate:
    """Two rates together."""
    if len(one) == len(other):
        return tuple(a + b for a, b in zip(one, other, strict=True))
    single, three = (one[0], other) if len(one) == 1 else (other[0], one)
    each = single if unit == "A" else single / 3
    return tuple(value + each for value in three)


def whole_steps(stretches: Sequence[Stretch], start_us: int, most: Rate, unit: str) -> list[Step]:
    """A composite as messages carry it: whole seconds from the start, and nowhere above ``most``.

    A second in which the limit changes is told with the lower of both, so that what is told always holds.
    """
    seconds = sorted({second for s in stretches for second in _around(s.start_us - start_us)})
    result: list[Step] = []
    first = 0
    for at_s in seconds:
        begin, end = start_us + at_s * SECOND_US, start_us + (at_s + 1) * SECOND_US
        while first + 1 < len(stretches) and stretches[first + 1].start_us <= begin:
            first += 1
        limit, phases, at = most, 3, first
        while at < len(stretches) and stretches[at].start_us < end:
            said = stretches[at].limit
            if said is not None and (told := lower(limit, said, unit)) != limit:
                limit, phases = told, stretches[at].phases
            at += 1
        if not result or (result[-1].limit, result[-1].phases) != (limit, phases):
            result.append(Step(at_s, limit, phases))
    return result


def _around(offset_us: int) -> tuple[int, int]:
    """The whole seconds before and after."""
    return offset_us // SECOND_US, -(-offset_us // SECOND_US)
