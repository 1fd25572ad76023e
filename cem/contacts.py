"""Contacts at every cycle: read, turned into limits, kept through a restart, told once."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from cem.core import load_shed
from cem.core.limits import Limit
from cem.core.load_shed import Contact, ContactMemory
from cem.ports import Event

Read = Callable[[], Mapping[str, bool | None]]
"""For each contact whether it acts; ``None`` or left out: it cannot be read."""


class StateStore(Protocol):
    """Small persisted values, by name."""

    def save_state(self, key: str, value: Any) -> None: ...
    def load_state(self, key: str) -> Any: ...


class Contacts:
    """The contacts of a site.

    Args:
        contacts: As built.
        read: What they say now.
        store: Where a shed outlives a restart.
        on_event: Told when one begins and ceases to act, and when it cannot be read.
        now_s: Monotonic.
    """

    def __init__(
        self,
        contacts: Sequence[Contact],
        read: Read,
        store: StateStore,
        on_event: Callable[[Event], None],
        now_s: float,
    ) -> None:
        self._read = read
        self._store = store
        self._on_event = on_event
        self._all = [(c, load_shed.from_record(store.load_state(_key(c)), now_s)) for c in contacts]
        self._told: dict[str, str] = {}

    def limits(self, now_s: float, utc: datetime) -> tuple[Limit, ...]:
        """Takes one cycle in; the limits that hold now."""
        found = []
        said = self._read() if self._all else {}
        for index, (contact, memory) in enumerate(self._all):
            acts = said.get(contact.contact_id)
            after = load_shed.step(contact, memory, acts, now_s)
            self._all[index] = contact, after
            before_record, record = load_shed.to_record(memory, now_s), load_shed.to_record(after, now_s)
            if (before_record["shed"], before_record["open_s"] is None) != (record["shed"], record["open_s"] is None):
                self._store.save_state(_key(contact), record)
            self._tell(contact, after, acts, now_s, utc)
            limit = load_shed.limit(contact, after)
            if limit is not None:
                found.append(limit)
        return tuple(found)

    def _tell(self, contact: Contact, memory: ContactMemory, acts: bool | None, now_s: float, utc: datetime) -> None:
        left = "0 A" if contact.value_w is None else f"{contact.value_w:g} W of {contact.kind.value}"
        if not memory.active:
            word, text = "released", "released"
        elif acts:
            word, text = "active", f"acts: {left} in zone {contact.zone_id}"
        elif memory.open_since_s is not None:
            word, text = "waiting", f"was released; {left} for {contact.release_delay_s:g} s more"
        else:
            word, text = "missing", f"cannot be read and counts as acting: {left} in zone {contact.zone_id}"
        before = self._told.get(contact.contact_id)
        if word == before or (before is None and word in {"released", "missing"} and memory.unread):
            return  # at the start nothing was heard yet; that is told when it lasts
        self._told[contact.contact_id] = word
        if before is None and word == "released":
            return
        name = contact.contact_id
        self._on_event(
            Event(
                utc.astimezone(UTC),
                now_s,
                "contact",
                name,
                f"contact {name} {text}",
                {"state": word, "zone": contact.zone_id},
            )
        )


def _key(contact: Contact) -> str:
    return f"contact/{contact.contact_id}"
