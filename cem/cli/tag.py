"""``cem tag``: who may charge at a site without an operator's cloud (csms.standalone_authorization: tags)."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from cem import access
from cem.cli.ask import AsJson
from cem.cli.site_option import DEFAULT_SITE, Site, storage_of
from cem.csms.authorization import token_hash
from cem.errors import CemError

Tag = Annotated[str, typer.Argument(help="The tag's number, as stations tell it.", show_default=False)]
LONGEST_TAG = 255


def tag_add(
    tag: Tag,
    name: Annotated[str, typer.Option("--name", help="For people, since the number itself is not kept.")] = "",
    until: Annotated[str | None, typer.Option("--until", help="ISO time after which it counts no longer.")] = None,
    site: Site = DEFAULT_SITE,
    json_output: AsJson = False,
) -> None:
    """Let a tag charge; known already: its name and end are replaced. Only a hash of its number is kept."""
    loaded, directory = storage_of(site)
    if not 0 < len(tag) <= LONGEST_TAG:
        raise CemError(f"a tag has 1 to {LONGEST_TAG} characters")
    end = None if until is None else _utc(until)
    with access.changing(directory) as content:
        if len(content["tags"]) >= access.MOST_TAGS:
            raise CemError(f"there are {access.MOST_TAGS} tags already; remove some first")
        content["tags"][token_hash(tag)] = {"name": name[:80], "until": end}
    if json_output:
        print(json.dumps({"hash": token_hash(tag), "name": name[:80], "until": end}))
        return
    print(f"{tag} may charge{'' if end is None else f' until {end}'}")
    if loaded.file.csms.upstreams:
        print("note: this site has an upstream, which decides; these tags count only where there is none")
    elif loaded.file.csms.standalone_authorization != "tags":
        print("note: everybody may charge here, until csms.standalone_authorization is set to tags")


def tag_list(site: Site = DEFAULT_SITE, json_output: AsJson = False) -> None:
    """List tags by name; their numbers are not kept."""
    _, directory = storage_of(site)
    found = access.load(directory / access.FILE)["tags"]
    if json_output:
        print(json.dumps([{"hash": key, **entry} for key, entry in found.items()], indent=2))
        return
    for key, entry in sorted(found.items(), key=lambda item: str(item[1].get("name"))):
        print(f"{key[:12]}  {entry.get('name') or '(no name)':<32} {entry.get('until') or ''}".rstrip())
    if not found:
        print("there are no tags yet")


def tag_remove(tag: Tag, site: Site = DEFAULT_SITE, json_output: AsJson = False) -> None:
    """Take a tag off the list, by its number or by the first 12 or more signs of its hash."""
    _, directory = storage_of(site)
    with access.changing(directory) as content:
        by_hash = [key for key in content["tags"] if len(tag) >= 12 and key.startswith(tag.lower())]
        key = token_hash(tag) if token_hash(tag) in content["tags"] else by_hash[0] if len(by_hash) == 1 else None
        if key is None:
            raise CemError(f"there is no tag {tag}; see cem tag list")
        del content["tags"][key]
    print(json.dumps({"hash": key, "removed": True}) if json_output else f"{tag} may charge no longer")


def _utc(text: str) -> str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise CemError(f"--until {text!r}: write a time such as 2026-12-24 or 2026-12-24T07:00") from error
    return (found if found.tzinfo else found.astimezone()).astimezone(UTC).isoformat()
