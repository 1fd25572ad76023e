"""What a session asks its sockets and its store to do, in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cem.csms.records import Record

PRIMARY = ""
"""The upstream CSMS that decides; observers have names."""


@dataclass(slots=True)  # not frozen: as for frames
class SendDown:
    """Send this text to the station.

    Attributes:
        durable: Only once every record so far is on disk (I5).
    """

    text: str
    durable: bool = False


@dataclass(slots=True)
class SendUp:
    """Send this text to an upstream CSMS; ``durable`` as for ``SendDown``."""

    text: str
    upstream: str = PRIMARY
    durable: bool = False


@dataclass(frozen=True, slots=True)
class Persist:
    """Write these records to disk; what follows waits for it, and what is durable does not go where it fails (I5)."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class CloseStation:
    """End the station's connection."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class OpenUpstream:
    """Keep a connection to an upstream CSMS in this subprotocol until told otherwise."""

    subprotocol: str
    upstream: str = PRIMARY


@dataclass(frozen=True, slots=True)
class CloseUpstream:
    """End the connection to an upstream CSMS and do not dial again."""

    upstream: str = PRIMARY


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell people."""

    code: str
    text: str
    data: Mapping[str, float | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class News:
    """Something happened that control should not wait a cycle for."""


@dataclass(frozen=True, slots=True)
class Forget:
    """A CSMS cleared the data of the customer with this token: ours are to be cleared as well."""

    token: str


@dataclass(frozen=True, slots=True)
class Sign:
    """The station asks for a certificate for its leg to us.

    Attributes:
        csr: Its request, PEM.
    """

    csr: str


Action = Sign | SendDown | SendUp | Persist | CloseStation | OpenUpstream | CloseUpstream | Emit | News | Forget


def one_write(actions: Sequence[Action]) -> list[Action]:
    """All records of a step in one write, where the first of them stood: a death leaves all of them or none."""
    writes = [action for action in actions if isinstance(action, Persist)]
    if not writes:
        return list(actions)
    records = tuple(record for write in writes for record in write.records)
    joined: list[Action] = []
    for action in actions:
        if not isinstance(action, Persist):
            joined.append(action)
        elif records:
            joined.append(Persist(records))
            records = ()
    return joined
