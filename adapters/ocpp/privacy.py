"""Forgetting tokens in the running controller: in every session's memory first, so that nothing new names them, then on disk."""

import asyncio
import logging
import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from adapters.ocpp.link import StationLink
from cem import access
from cem.csms.privacy import Forgotten, pseudonym
from cem.errors import CemError
from cem.ports import StationStore

LOG = logging.getLogger(__name__)
SETTLE_S = 20.0
PAUSE_S = 60.0
"""The ledger is written anew each time, so what upstreams ask for is gathered this long: none can wear out the disk."""
MOST_ASKED = 1000


class Forgetter:
    """Forgets.

    Args:
        links: Every station's.
        store: What is on disk.
        directory: The storage directory, for the local list of tags; ``None``: there is none.
    """

    def __init__(self, links: Collection[StationLink], store: StationStore, directory: Path | None) -> None:
        self._links = links
        self._store = store
        self._directory = directory
        self._one_at_a_time = asyncio.Lock()
        self._asked: dict[str, None] = {}
        self._wake = asyncio.Event()

    def ask(self, token: str) -> None:
        """An upstream cleared the data of a customer (OCPP 2.0.1 N10): to be done soon."""
        if len(self._asked) < MOST_ASKED:
            self._asked[token] = None
            self._wake.set()

    async def run(self) -> None:
        """Does what upstreams ask for, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            tokens = list(self._asked)
            try:
                await self.forget(tokens, by="an upstream")
            except (CemError, TimeoutError) as problem:
                LOG.warning("what an upstream wants forgotten is tried again: %s", problem)
                self._wake.set()
            else:
                for token in tokens:
                    self._asked.pop(token, None)
            await asyncio.sleep(PAUSE_S)

    async def forget(
        self, tokens: Sequence[str], *, by: str, keep_local_tag: bool = False, signed_too: bool = False
    ) -> Mapping[str, Forgotten]:
        """Forgets tokens everywhere.

        A message that names one and is on its way at this moment counts as told afterwards.

        Raises:
            CemError: The disk does not take it; to be asked for again.
            TimeoutError: Records wait for the disk, or for a station, for too long.
        """
        pseudonyms = {token: pseudonym(secrets.token_hex(8)) for token in tokens}
        async with self._one_at_a_time:
            for link in self._links:
                for token, instead in pseudonyms.items():
                    link.session.forget(token, instead)
            async with asyncio.timeout(SETTLE_S):
                for link in self._links:
                    await link.settled()
            if self._directory is not None and not keep_local_tag:
                for token in tokens:
                    await asyncio.to_thread(access.forget_tag, self._directory, token)
            return await self._store.forget(pseudonyms, by=by, signed_too=signed_too)
