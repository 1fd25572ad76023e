"""Who may charge while the cloud cannot be asked, or where there is none. A token is kept as a hash."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import orjson

from cem.csms.actions import Action, Persist
from cem.csms.frames import Frame, Kind
from cem.csms.metering import instant, items
from cem.csms.parsing import member, whole, words
from cem.csms.records import Kept
from cem.csms.token_cache import Group, Known, TokenCache

Policy = Literal["accept", "reject", "known"]
OnRejected = Literal["station", "finish", "stop"]
Tags = Callable[[], Mapping[str, Mapping[str, Any]]]
LIST_ROOM = 5000
NAME = "local_list"


def token_hash(token: str) -> str:
    """What stands for a token in records and memory; upper case, for idTags are compared without case (1.6 4.)."""
    return hashlib.sha256(token.upper().encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a token may charge, its group, and whether the contract certificate shown with it is good."""

    accepted: bool
    group: Group | None = None
    contract_ok: bool | None = None


def known_of(info: Any) -> Known | None:
    """From ``idTagInfo`` (1.6) or ``idTokenInfo`` (2.x); ``None`` where it says nothing."""
    status = member(info, "status")
    if status is None:
        return None
    until = instant(member(info, "expiryDate")) or instant(member(info, "cacheExpiryDateTime"))
    parent, wider = words(member(info, "parentIdTag")), member(info, "groupIdToken")
    token = parent or words(member(wider, "idToken"))
    group = None if token is None else Group(token, words(member(wider, "type")) or "Central")
    return Known(status == "Accepted", until, group)


class Authorization:
    """What the cloud said of each token, the list it sent to the station, and the policy for all others.

    Args:
        policy: While the cloud is away: only tokens that it accepted or listed (``known``), all but those that it refused
            (``accept``), none (``reject``).
        standalone: No cloud at all: we are the CSMS of record.
        tags: Those that may charge where there is no cloud, by hash; ``None``: everybody may.
        station_id: Identity.
        out: Where actions go.
        cache: What the cloud said, shared by all stations of the site.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        standalone: bool,
        tags: Tags | None = None,
        station_id: str = "",
        out: list[Action] | None = None,
        cache: TokenCache | None = None,
    ) -> None:
        self._policy = policy
        self._standalone = standalone
        self._tags = tags
        self._station_id = station_id
        self._out: list[Action] = [] if out is None else out
        self._cache = TokenCache() if cache is None else cache
        self._list: dict[str, Known] = {}
        self._list_version = 0

    def learn(
        self,
        token: str,
        utc: datetime,
        *,
        accepted: bool,
        told: Mapping[str, Any] | None = None,
        contract: str | None = None,
    ) -> None:
        """Remembers an answer of the cloud.

        Args:
            token: Which.
            utc: Now.
            accepted: It may charge.
            told: The whole answer.
            contract: Digest of the contract certificate that was shown with it.
        """
        said = told or {}
        info = known_of(said.get("idTagInfo")) or known_of(said.get("idTokenInfo"))
        known = info if info is not None and info.accepted == accepted else Known(accepted)
        if accepted and contract is not None and said.get("certificateStatus") == "Accepted":
            known = replace(known, contract=contract)
        records = self._cache.learn(token_hash(token), known, utc)
        if records:
            self._out.append(Persist(tuple(records)))

    def observed(self, command: Frame, answer: Frame) -> None:
        """What the station answered to a command of the cloud about its local list holds for us as well."""
        if answer.kind is not Kind.RESULT:
            return
        if command.action == "GetLocalListVersion":
            version = _version(answer.payload)
            if version is not None and version != self._list_version and (self._list or self._list_version):
                # The station has another list than the one that went through here: a replaced or reset station.
                self._list.clear()
                self._keep_list(version)
        elif command.action == "SendLocalList" and answer.payload.get("status") == "Accepted":
            self._list_sent(command)

    def _list_sent(self, command: Frame) -> None:
        if command.payload.get("updateType") == "Full":
            self._list.clear()
        for entry in items(command.payload.get("localAuthorizationList")):
            token = words(entry.get("idTag")) or words(member(entry.get("idToken"), "idToken"))
            if token is None:
                continue
            known = known_of(entry.get("idTagInfo")) or known_of(entry.get("idTokenInfo"))
            if known is None:  # an entry without information is taken out (1.6 section 7.2)
                self._list.pop(token_hash(token), None)
            elif len(self._list) < LIST_ROOM or token_hash(token) in self._list:
                self._list[token_hash(token)] = known
        self._keep_list(_version(command.payload) or 0)

    def _keep_list(self, version: int) -> None:
        self._list_version = version
        kept = {
            key: [k.accepted, k.until and k.until.isoformat(), k.group and k.group.token, k.group and k.group.kind]
            for key, k in self._list.items()
        }
        text = orjson.dumps({"version": version, "tokens": kept}).decode()
        self._out.append(Persist((Kept(self._station_id, NAME, text),)))

    def restore(self, kept: Any) -> None:
        """Takes over the list that was kept over a restart."""
        tokens = member(kept, "tokens")
        self._list_version = whole(member(kept, "version")) or 0
        for key, entry in tokens.items() if isinstance(tokens, Mapping) else ():
            if isinstance(entry, list) and len(entry) == 4:
                group = words(entry[2])
                family = None if group is None else Group(group, words(entry[3]) or "Central")
                self._list[key] = Known(bool(entry[0]), instant(entry[1]), family)

    def decide(self, token: str | None, utc: datetime, contract: str | None = None) -> Verdict:
        """Whether this token may charge by what we know here.

        A contract certificate is never said to be good unless the cloud said so of this very one: its chain and its
        revocation cannot be checked here, and who is let in by it pays by it (OCPP 2.0.1 C07).
        """
        key = None if token is None else token_hash(token)
        if self._standalone:
            listed = self._tags is None or (key is not None and _on_list(self._tags().get(key), utc))
            return Verdict(listed and contract is None, None, None if contract is None else False)
        cached = None if key is None else self._cache.find(key, utc)
        known = (None if key is None else self._list.get(key)) or cached
        good = contract is None or (cached is not None and cached.holds(utc) and cached.contract == contract)
        if known is not None:
            allowed = known.holds(utc) and self._policy != "reject" and good
        else:
            allowed = self._policy == "accept" and good
        return Verdict(allowed, known.group if known is not None else None, None if contract is None else good)

    def forget(self, token: str) -> None:
        """As if the token had never been seen; the disk is the store's business."""
        self._list.pop(token_hash(token), None)
        for key, known in self._list.items():
            if known.group is not None and known.group.token.upper() == token.upper():
                self._list[key] = replace(known, group=None)
        self._cache.forget(token_hash(token), token)


def _version(payload: Mapping[str, Any]) -> int | None:
    told = whole(payload.get("listVersion"))
    return told if told is not None else whole(payload.get("versionNumber"))


def _on_list(entry: Mapping[str, Any] | None, utc: datetime) -> bool:
    if entry is None:
        return False
    until = instant(entry.get("until"))
    return until is None or utc < until
