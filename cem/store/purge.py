"""Forgetting tokens in every file of the storage directory."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from cem.csms.privacy import Forgotten
from cem.ports import Event
from cem.store.forget import audit_entry, forget_in_ledger, overwrite_in_file
from cem.store.history import History
from cem.store.ledger import Ledger


def purge(
    ledger: Ledger, history: History, directory: Path, pseudonyms: Mapping[str, str], *, by: str, signed_too: bool
) -> tuple[Mapping[str, Forgotten], Event]:
    """Takes tokens out of everything on disk; used by the thread that owns the files.

    Returns:
        What became of each, and the entry that the audit has of it.

    Raises:
        CemError: A file cannot be changed; to be asked for again.
    """
    found = ledger.rewrite(partial(forget_in_ledger, pseudonyms=pseudonyms, signed_too=signed_too))
    events = history.forget(pseudonyms)
    damaged = sum([overwrite_in_file(path, pseudonyms) for path in directory.glob("*.corrupt-*")])
    found = {token: replace(one, events=events, damaged=damaged) for token, one in found.items()}
    entry = audit_entry(found, by)
    (error,) = ledger.write([(entry,)])
    if error is not None:
        raise error
    return found, entry
