"""What the cloud said of each token, for all stations of a site: bounded, the least recently used go first.

A token is kept as a hash. Its group is kept as told: a station compares the group that we answer with the one that the
cloud answered before, to let one tag of a family end what another began (OCPP 1.6 section 3.5, 2.0.1 C09).
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from cem.csms.records import Record, TokenGone, TokenKnown

ACCEPTED_ROOM = 10_000
REFUSED_ROOM = 2_000
LIFE = timedelta(days=30)
WRITE_AFTER = timedelta(days=1)
"""That a token was seen again is written at most this often (SD wear)."""
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Group:
    """The token that stands for a group; ``kind`` as in 2.x, which 1.6 does not have."""

    token: str
    kind: str = "Central"


@dataclass(frozen=True, slots=True)
class Known:
    """What was said of one token.

    Attributes:
        until: When that ends; ``None``: never.
        group: Its group, if it has one.
        contract: Digest of the contract certificate with which it was accepted (plug and charge).
        seen: When the cloud last said so.
    """

    accepted: bool
    until: datetime | None = None
    group: Group | None = None
    contract: str | None = None
    seen: datetime = LONG_AGO

    def holds(self, utc: datetime) -> bool:
        """Accepted, and not over."""
        return self.accepted and (self.until is None or utc < self.until)


class TokenCache:
    """The cache; what changes in it is given back as records to be written.

    Args:
        life: A token of which the cloud has said nothing for so long is unknown again.
        accepted_room: How many accepted tokens are kept.
        refused_room: How many refused ones; a flood of these pushes out none of the others.
    """

    def __init__(
        self, life: timedelta = LIFE, *, accepted_room: int = ACCEPTED_ROOM, refused_room: int = REFUSED_ROOM
    ) -> None:
        self._life = life
        self._rooms = {True: accepted_room, False: refused_room}
        self._known: dict[bool, OrderedDict[str, Known]] = {True: OrderedDict(), False: OrderedDict()}
        self._written: dict[str, datetime] = {}

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def restore(self, rows: Iterable[TokenKnown]) -> None:
        """Takes over what was on disk."""
        for row in sorted(rows, key=lambda row: row.seen_utc):
            group = None if row.group is None else Group(row.group, row.group_kind)
            known = Known(row.accepted, row.until_utc, group, row.contract, row.seen_utc)
            self._known[row.accepted][row.token_hash] = known
            self._written[row.token_hash] = row.seen_utc

    def learn(self, key: str, known: Known, utc: datetime) -> list[Record]:
        """The cloud said something of a token."""
        old = self._take(key)
        contract = known.contract or (old.contract if old is not None and known.accepted else None)
        known = replace(known, contract=contract, seen=utc)
        of_its_kind = self._known[known.accepted]
        of_its_kind[key] = known
        records: list[Record] = []
        if len(of_its_kind) > self._rooms[known.accepted]:
            over, _ = of_its_kind.popitem(last=False)
            self._written.pop(over, None)
            records.append(TokenGone(over))
        same = old is not None and replace(old, seen=utc) == known
        if not same or abs(utc - self._written.get(key, LONG_AGO)) >= WRITE_AFTER:
            self._written[key] = utc
            records.append(_row(key, known))
        return records

    def _take(self, key: str) -> Known | None:
        return self._known[True].pop(key, None) or self._known[False].pop(key, None)

    def find(self, key: str, utc: datetime) -> Known | None:
        """What was said of a token, unless that is too long ago."""
        for of_its_kind in self._known.values():
            known = of_its_kind.get(key)
            if known is not None:
                of_its_kind.move_to_end(key)
                return known if utc - known.seen < self._life else None
        return None

    def forget(self, key: str, token: str) -> None:
        """As if the token had never been seen, also as the group of others; the disk is the store's business."""
        self._take(key)
        self._written.pop(key, None)
        for of_its_kind in self._known.values():
            for other, known in of_its_kind.items():
                if known.group is not None and known.group.token.upper() == token.upper():
                    of_its_kind[other] = replace(known, group=None)


def _row(key: str, known: Known) -> TokenKnown:
    group = known.group
    return TokenKnown(
        key, known.accepted, known.until, None if group is None else group.token,
        "" if group is None else group.kind, known.contract, known.seen,
    )  # fmt: skip
