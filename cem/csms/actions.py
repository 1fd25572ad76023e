"""What a session asks its sockets and its store to do, in order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cem.csms.records import Record


@dataclass(frozen=True, slots=True)
class SendDown:
    """Send this text to the station."""

    text: str


@dataclass(frozen=True, slots=True)
class SendUp:
    """Send this text to the upstream CSMS."""

    text: str


@dataclass(frozen=True, slots=True)
class Persist:
    """Write these records to disk; what follows waits for it, and goes not down to the station where it fails (I5)."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep this JSON value under this name for after a restart; the latest counts, nothing waits for it."""

    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class CloseStation:
    """End the station's connection."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class OpenUpstream:
    """Keep a connection to the upstream CSMS in this subprotocol until told otherwise."""

    subprotocol: str


@dataclass(frozen=True, slots=True)
class CloseUpstream:
    """End the connection to the upstream CSMS and do not dial again."""


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell people."""

    code: str
    text: str
    data: Mapping[str, float | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class News:
    """Something happened that control should not wait a cycle for."""


Action = SendDown | SendUp | Persist | Remember | CloseStation | OpenUpstream | CloseUpstream | Emit | News
