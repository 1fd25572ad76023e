"""``cem privacy``: forgetting a person."""

import asyncio
import json
import secrets
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cem import access
from cem.cli.ask import DEFAULT_URL, AsJson, Url, post
from cem.cli.site_option import DEFAULT_SITE, Site, storage_of
from cem.csms.privacy import Forgotten, pseudonym
from cem.store import Store
from cem.store.files import is_locked

EXIT_KEPT = 3
TIMEOUT_S = 300.0


def privacy_forget(
    tag: Annotated[str, typer.Argument(help="The tag's number, as stations tell it.", show_default=False)],
    keep_local_tag: Annotated[bool, typer.Option("--keep-local-tag", help="Leave it on the list of cem tag.")] = False,
    signed_too: Annotated[
        bool,
        typer.Option(
            "--signed-too", help="Delete signed values that name it as well: once the law asks for them no longer."
        ),
    ] = False,
    site: Site = DEFAULT_SITE,
    url: Url = DEFAULT_URL,
    json_output: AsJson = False,
) -> None:
    """Forget a tag: in sessions, caches, lists and the queue, on disk and in memory; exit 3 where signed values keep it.

    A session and a message that an upstream has still to hear keep a random pseudonym in its place. Signed values cannot be
    changed; those that name the tag in what is signed are kept until --signed-too.
    """
    loaded, directory = storage_of(site)
    found: dict[str, Any]
    if is_locked(directory):
        asked = {"tag": tag, "keep_local_tag": keep_local_tag, "signed_too": signed_too}
        found = post(url, "/api/v1/privacy/forget", asked, timeout_s=TIMEOUT_S)
    else:
        store = Store(directory, history_days=loaded.file.storage.history_days)
        try:
            found = asdict(asyncio.run(_forget(store, tag, signed_too=signed_too)))
        finally:
            store.close()
        found["tokens"] += not keep_local_tag and access.forget_tag(directory, tag)
    if json_output:
        print(json.dumps(found))
    else:
        print(f"forgotten; where something must stand in its place it is {found['pseudonym']}")
        print(
            f"{found['sessions']} sessions, {found['messages']} messages for upstreams, {found['tokens']} entries of caches "
            f"and lists, {found['events']} events, {found['damaged']} damaged files"
        )
        if found["signed_kept"]:
            print(
                f"kept: {found['signed_kept']} signed values that name it in what is signed; a change would void them. "
                "Delete them by --signed-too once no law asks for them"
            )
        print("Backups, the upstreams' and the stations' own records are not in this controller's hands")
    if found["signed_kept"]:
        raise typer.Exit(EXIT_KEPT)


async def _forget(store: Store, tag: str, *, signed_too: bool) -> Forgotten:
    found = await store.forget({tag: pseudonym(secrets.token_hex(8))}, by="command", signed_too=signed_too)
    return found[tag]
