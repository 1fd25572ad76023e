"""Who may charge while the cloud cannot be asked, or where there is none. Tokens are kept as hashes only."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson

from cem.csms.actions import Action, Persist
from cem.csms.frames import Frame, Kind
from cem.csms.metering import instant, items
from cem.csms.parsing import member, words
from cem.csms.records import Kept

Policy = Literal["accept", "reject", "known"]
OnRejected = Literal["finish", "stop"]
Tags = Callable[[], Mapping[str, Mapping[str, Any]]]
ROOM = 5000
LIST_ROOM = 5000
NAME = "local_list"


def token_hash(token: str) -> str:
    """What stands for a token in records and memory; upper case, for idTags are compared without case (1.6 4.)."""
    return hashlib.sha256(token.upper().encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Known:
    """What was said of one token.

    Attributes:
        until: When that ends; ``None``: never.
        group: Hash of the token of its group, if it has one.
    """

    accepted: bool
    until: datetime | None = None
    group: str | None = None

    def holds(self, utc: datetime) -> bool:
        """Accepted, and not over."""
        return self.accepted and (self.until is None or utc < self.until)


def known_of(info: Any) -> Known | None:
    """From ``idTagInfo`` (1.6) or ``idTokenInfo`` (2.x); ``None`` where it says nothing."""
    status = member(info, "status")
    if status is None:
        return None
    until = instant(member(info, "expiryDate")) or instant(member(info, "cacheExpiryDateTime"))
    group = words(member(info, "parentIdTag")) or words(member(member(info, "groupIdToken"), "idToken"))
    return Known(status == "Accepted", until, token_hash(group) if group else None)


class Authorization:
    """What the cloud said of each token, the list it sent to the station, and the policy for all others.

    Args:
        policy: For unknown tokens while the cloud is away.
        standalone: No cloud at all: we are the CSMS of record.
        tags: Those that may charge where there is no cloud, by hash; ``None``: everybody may.
        station_id: Identity.
        out: Where actions go.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        standalone: bool,
        tags: Tags | None = None,
        station_id: str = "",
        out: list[Action] | None = None,
    ) -> None:
        self._policy = policy
        self._standalone = standalone
        self._tags = tags
        self._station_id = station_id
        self._out: list[Action] = [] if out is None else out
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._list: dict[str, Known] = {}

    def learn(self, token: str, *, accepted: bool, told: Mapping[str, Any] | None = None) -> None:
        """Remembers an answer of the cloud; the oldest are forgotten."""
        key = token_hash(token)
        said = told or {}
        info = known_of(said.get("idTagInfo")) or known_of(said.get("idTokenInfo"))
        self._known[key] = info if info is not None and info.accepted == accepted else Known(accepted)
        self._known.move_to_end(key)
        while len(self._known) > ROOM:
            self._known.popitem(last=False)

    def list_sent(self, command: Frame, answer: Frame) -> None:
        """The station took a local authorization list of the cloud: what stands there holds for us as well."""
        taken = answer.kind is Kind.RESULT and answer.payload.get("status") == "Accepted"
        if command.action != "SendLocalList" or not taken:
            return
        if command.payload.get("updateType") == "Full":
            self._list.clear()
        for entry in items(command.payload.get("localAuthorizationList")):
            token = words(entry.get("idTag")) or words(member(entry.get("idToken"), "idToken"))
            if token is None:
                continue
            known = known_of(entry.get("idTagInfo")) or known_of(entry.get("idTokenInfo"))
            if known is None:  # an entry without information is taken out (1.6 section 7.2)
                self._list.pop(token_hash(token), None)
            elif len(self._list) < LIST_ROOM:
                self._list[token_hash(token)] = known
        kept = {key: [k.accepted, k.until and k.until.isoformat(), k.group] for key, k in self._list.items()}
        self._out.append(Persist((Kept(self._station_id, NAME, orjson.dumps(kept).decode()),)))

    def restore(self, kept: Any) -> None:
        """Takes over the list that was kept over a restart."""
        for key, entry in kept.items() if isinstance(kept, Mapping) else ():
            if isinstance(entry, list) and len(entry) == 3:
                self._list[key] = Known(bool(entry[0]), instant(entry[1]), words(entry[2]))

    def decide(self, token: str | None, utc: datetime) -> bool:
        """Whether this token may charge by what we know here."""
        key = None if token is None else token_hash(token)
        if self._standalone:
            return self._tags is None or (key is not None and _on_list(self._tags().get(key), utc))
        known = None if key is None else self._list.get(key) or self._known.get(key)
        if known is not None:
            return known.holds(utc) and self._policy != "reject"
        return self._policy == "accept"


def _on_list(entry: Mapping[str, Any] | None, utc: datetime) -> bool:
    if entry is None:
        return False
    until = instant(entry.get("until"))
    return until is None or utc < until
