"""Who may charge while the cloud cannot be asked. Tokens are kept as hashes only."""

import hashlib
from collections import OrderedDict
from typing import Literal

Policy = Literal["accept", "reject", "known"]
OnRejected = Literal["finish", "stop"]
ROOM = 5000


def token_hash(token: str) -> str:
    """What stands for a token in records and memory; upper case, for idTags are compared without case (1.6 4.)."""
    return hashlib.sha256(token.upper().encode()).hexdigest()[:32]


class Authorization:
    """What the cloud said of each token, and the policy for those it never spoke of.

    Args:
        policy: For unknown tokens while the cloud is away.
        standalone: No cloud at all: we are the CSMS of record and let everybody charge.
    """

    def __init__(self, policy: Policy, *, standalone: bool) -> None:
        self._policy = policy
        self._standalone = standalone
        self._known: OrderedDict[str, bool] = OrderedDict()

    def learn(self, token: str, *, accepted: bool) -> None:
        """Remembers an answer of the cloud; the oldest are forgotten."""
        key = token_hash(token)
        self._known[key] = accepted
        self._known.move_to_end(key)
        while len(self._known) > ROOM:
            self._known.popitem(last=False)

    def decide(self, token: str | None) -> bool:
        """Whether this token may charge by what we know here."""
        if self._standalone:
            return True
        if token is not None and (known := self._known.get(token_hash(token))) is not None:
            return known and self._policy != "reject"
        return self._policy == "accept"
