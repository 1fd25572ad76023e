"""Small stand-ins for the ports of ``cem.ports``."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from cem.csms.records import IdMap, JournalEntry, JournalMark, Kept, TokenGone, TokenKnown, kept_key
from cem.errors import CemError
from cem.ports import Grant, Record, Registration, SessionUpdate


class RealClock:
    def monotonic_s(self) -> float:
        return time.monotonic()

    def utc(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True)
class StoredSession:
    session_id: str
    station_id: str
    evse_id: str
    transaction_id: str
    token_hash: str | None
    started_utc: datetime | None
    updated_utc: datetime


@dataclass
class MemoryStore:
    """Keeps records in memory, in the order written; ``broken`` makes every write fail."""

    records: list[Record] = field(default_factory=list)
    last_id: int = 1000
    broken: bool = False
    states: dict[str, str] = field(default_factory=dict)

    async def commit(self, records: Sequence[Record]) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise CemError("disk is full")
        self.records += records

    def registrations(self) -> Mapping[str, Registration]:
        return {r.station_id: r for r in self.records if isinstance(r, Registration)}

    def grants(self) -> Mapping[str, Grant]:
        return {r.evse_id: r for r in self.records if isinstance(r, Grant)}

    def sessions(self) -> list[SessionUpdate]:
        return [r for r in self.records if isinstance(r, SessionUpdate)]

    def open_sessions(self) -> Sequence[StoredSession]:
        last = {s.session_id: s.kind for s in self.sessions() if s.kind in {"stop", "resume"}}
        return [
            StoredSession(s.session_id, s.station_id, s.evse_id, s.transaction_id, s.token_hash, s.at_utc, s.at_utc)
            for s in self.sessions()
            if s.kind == "start" and last.get(s.session_id) != "stop"
        ]

    def save_state(self, key: str, value: Any) -> None:
        self.states[key] = json.dumps(value, allow_nan=False)

    def load_state(self, key: str) -> Any:
        for record in reversed(self.records):
            if isinstance(record, Kept) and kept_key(record.station_id, record.name) == key:
                return json.loads(record.text)
        return json.loads(self.states[key]) if key in self.states else None

    def journal(self) -> Mapping[str, Sequence[JournalEntry]]:
        found: dict[tuple[str, str, int], JournalEntry] = {}
        for record in self.records:
            if isinstance(record, JournalEntry):
                found[record.station_id, record.upstream_id, record.seq] = record
            elif isinstance(record, JournalMark):
                key = record.station_id, record.upstream_id, record.seq
                state = "delivered" if record.state == "dropped" else record.state
                found[key] = replace(found[key], state=state)
        by_station: dict[str, list[JournalEntry]] = {}
        for entry in found.values():
            by_station.setdefault(entry.station_id, []).append(entry)
        return by_station

    def id_maps(self) -> Mapping[str, Sequence[IdMap]]:
        by_station: dict[str, list[IdMap]] = {}
        for record in self.records:
            if isinstance(record, IdMap):
                by_station.setdefault(record.station_id, []).append(record)
        return by_station

    def tokens(self) -> Sequence[TokenKnown]:
        found: dict[str, TokenKnown] = {}
        for record in self.records:
            if isinstance(record, TokenKnown):
                found[record.token_hash] = record
            elif isinstance(record, TokenGone):
                found.pop(record.token_hash, None)
        return list(found.values())

    def next_transaction_id(self) -> int:
        self.last_id += 1
        return self.last_id
