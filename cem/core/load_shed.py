"""Contacts (fault D6): fire alarm, generator, island or backup mode take all our EVSEs in a zone to 0 A at once.

A contact of ripple control leaves some power instead.

They come back only after the contact is open again and a delay has passed. A contact that cannot be read counts as
active after a while: a cut wire and a dead input module must not leave cars charging in an island.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from cem.core.limits import Limit, LimitKind, Origin
from cem.core.units import PerPhase


@dataclass(frozen=True, slots=True)
class Contact:
    """A load-shed contact as built.

    Attributes:
        contact_id: Shown as the source of the limit.
        zone_id: What it sheds.
        release_delay_s: EVSEs stay at 0 A for so long after it is open again.
        lost_after_s: It counts as missing when it could not be read for so long.
        value_w: The power that is left while it acts; ``None``: 0 A.
        kind: What that bounds.
        lost_is_active: A missing contact acts; else it does not.
    """

    contact_id: str
    zone_id: str
    release_delay_s: float = 60.0
    lost_after_s: float = 5.0
    value_w: float | None = None
    kind: LimitKind = LimitKind.LOAD
    lost_is_active: bool = True


@dataclass(frozen=True, slots=True)
class ContactMemory:
    """Where a contact stands.

    Attributes:
        seen_s: When it was last read; ``None``: not since the start.
        shed_since_s: Since when load is shed; ``None`` where it is not.
        open_since_s: Since when it has been open although load is still shed.
        unread: Load is shed only because it has not been read since the start: then no delay follows.
    """

    seen_s: float | None = None
    shed_since_s: float | None = None
    open_since_s: float | None = None
    unread: bool = False

    @classmethod
    def start(cls, now_s: float) -> Self:
        """Before it was read for the first time: shed (invariant I10)."""
        return cls(shed_since_s=now_s, unread=True)

    @property
    def active(self) -> bool:
        """Load is shed."""
        return self.shed_since_s is not None


def step(contact: Contact, memory: ContactMemory, closed: bool | None, now_s: float) -> ContactMemory:
    """Take one cycle in.

    Args:
        contact: As built.
        memory: From the last cycle.
        closed: ``True``: shed; ``None``: it could not be read.
        now_s: Monotonic.
    """
    if closed is None:
        lost = memory.seen_s is None or now_s - memory.seen_s >= contact.lost_after_s
        if lost and not contact.lost_is_active:
            return replace(step(contact, memory, closed=False, now_s=now_s), seen_s=memory.seen_s)
        if lost and not memory.active:
            return ContactMemory(memory.seen_s, shed_since_s=now_s)
        # an unread contact may have closed meanwhile: what was open counts anew once it is read again
        return ContactMemory(memory.seen_s, memory.shed_since_s, None if lost else memory.open_since_s, memory.unread)
    if closed:
        since_s = now_s if memory.shed_since_s is None or memory.unread else memory.shed_since_s
        return ContactMemory(now_s, shed_since_s=since_s)
    if not memory.active or memory.unread:
        return ContactMemory(now_s)
    open_since_s = now_s if memory.open_since_s is None else memory.open_since_s
    if now_s - open_since_s >= contact.release_delay_s:
        return ContactMemory(now_s)
    return ContactMemory(now_s, memory.shed_since_s, open_since_s)


def limit(contact: Contact, memory: ContactMemory) -> Limit | None:
    """The limit that it makes now; 0 A per phase, so that no generation is credited against it."""
    if not memory.active:
        return None
    return Limit(
        contact.kind,
        contact.zone_id,
        contact.contact_id,
        value_w=contact.value_w,
        value_a=PerPhase.same(0.0) if contact.value_w is None else None,
        since_s=memory.shed_since_s,
        origin=Origin.LOAD_SHED,
    )


def to_record(memory: ContactMemory, now_s: float) -> dict[str, Any]:
    """What a restart must know: a shed, and how much of the release delay has passed."""
    shed = memory.active and not memory.unread
    return {"shed": shed, "open_s": None if memory.open_since_s is None else now_s - memory.open_since_s}


def from_record(record: Mapping[str, Any] | None, now_s: float) -> ContactMemory:
    """After a restart: a shed goes on until the contact is read open and the rest of the delay has passed.

    Args:
        record: From ``to_record``; ``None`` or unreadable: nothing is known.
        now_s: Monotonic.
    """
    if record is None or record.get("shed") is not True:
        return ContactMemory.start(now_s)
    open_s = record.get("open_s")
    passed_s = float(open_s) if isinstance(open_s, int | float) and open_s >= 0 else None
    return ContactMemory(shed_since_s=now_s, open_since_s=None if passed_s is None else now_s - passed_s)
