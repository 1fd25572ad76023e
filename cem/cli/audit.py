"""``cem audit``: the events of security, and whether their record is whole."""

import json
from dataclasses import asdict

import typer

from cem.cli.ask import AsJson, Count
from cem.cli.site_option import DEFAULT_SITE, Site, storage_of
from cem.store.audit import Verified, entries, verify
from cem.store.files import is_unused

EXIT_BROKEN = 1


def audit_list(site: Site = DEFAULT_SITE, limit: Count = 30, json_output: AsJson = False) -> None:
    """Show events of security, latest first; the controller need not run."""
    _, directory = storage_of(site)
    found = [] if is_unused(directory) else entries(directory / "ledger.db", limit)
    if json_output:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for entry in found:
        print(f"{entry['number']:>6}  {entry['at_utc'][:19]}Z  {entry['code']:<22} {entry['subject']}: {entry['text']}")
    if not found:
        print("nothing has happened yet")


def audit_verify(site: Site = DEFAULT_SITE, json_output: AsJson = False) -> None:
    """Check that no entry was changed, taken out or put in; exit 1 where one was."""
    _, directory = storage_of(site)
    unused = is_unused(directory)
    found = Verified(0, 0, "", None) if unused else verify(directory / "ledger.db")
    if json_output:
        print(json.dumps(asdict(found), indent=2))
    elif unused:
        print(f"there is nothing yet: no controller has run on {directory}")
    elif found.problem is not None:
        print(f"the audit is NOT whole: {found.problem}")
    else:
        print(f"whole: {found.entries} entries; head {found.head or 'none'}")
        print("Note the head elsewhere now and then: whoever rewrites the whole file cannot rewrite your note")
    if found.problem is not None:
        raise typer.Exit(EXIT_BROKEN)
