"""``cem pki``: the site's own CA for station certificates (OCPP security profile 3) and our server certificate."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from cem import pki
from cem.cli.ask import AsJson
from cem.cli.site_option import DEFAULT_SITE, Site, storage_of

Identity = Annotated[str, typer.Argument(help="The station's identity.", show_default=False)]


def pki_init(site: Site = DEFAULT_SITE, json_output: AsJson = False) -> None:
    """Make the site's CA; stations are given its certificate, its key stays in the storage directory."""
    loaded, directory = storage_of(site)
    certificate = pki.init(directory, loaded.site.name, datetime.now(UTC))
    if json_output:
        print(json.dumps({"certificate": str(certificate)}))
        return
    print(f"CA certificate, to be installed in every station as that of its CSMS: {certificate}")
    print("Next: cem pki issue NAME --server for this controller, and cem pki issue ID for each station")


def pki_issue(
    identity: Annotated[
        str, typer.Argument(help="The station's identity; with --server our name or address.", show_default=False)
    ],
    site: Site = DEFAULT_SITE,
    server: Annotated[bool, typer.Option("--server", help="Our own certificate, for csms.listen.tls.")] = False,
    rsa: Annotated[bool, typer.Option("--rsa", help="An RSA key, for stations that take no ECDSA.")] = False,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it holds.")] = pki.LEAF_DAYS,
    json_output: AsJson = False,
) -> None:
    """Issue a certificate with a new key; both are files that only the controller's user can read."""
    _, directory = storage_of(site)
    certificate, key = pki.issue(directory, identity, datetime.now(UTC), server=server, use_rsa=rsa, days=days)
    if json_output:
        print(json.dumps({"identity": identity, "certificate": str(certificate), "key": str(key)}))
        return
    print(f"{identity}: certificate {certificate}")
    print(f"{identity}: key         {key}")
    if not server:
        print("Move the key to the station and delete it here; a new one can always be issued")


def pki_revoke(identity: Identity, site: Site = DEFAULT_SITE, json_output: AsJson = False) -> None:
    """Revoke every certificate of an identity; a running controller cuts off and refuses them within seconds."""
    _, directory = storage_of(site)
    count = pki.revoke(directory, identity, datetime.now(UTC))
    if json_output:
        print(json.dumps({"identity": identity, "revoked": count}))
        return
    print(f"{identity}: {count} certificate{'' if count == 1 else 's'} revoked")


def pki_list(site: Site = DEFAULT_SITE, json_output: AsJson = False) -> None:
    """List what the site's CA issued."""
    _, directory = storage_of(site)
    found = pki.listing(directory)
    if json_output:
        print(json.dumps([asdict(item) for item in found], indent=2, default=lambda at: at.isoformat()))
        return
    for item in found:
        state = "revoked" if item.revoked_utc is not None else f"until {item.until_utc:%Y-%m-%d}"
        print(f"{item.identity:<32} {'server ' if item.server else 'station'}  {state:<16} {item.serial}")
    if not found:
        print("nothing was issued yet")
