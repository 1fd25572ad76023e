"""``cem station rotate-credentials`` and ``cem station migrate``: what no upstream may do, done by the operator."""

import json
from typing import Annotated
from urllib.parse import quote

import typer

from cem.cli.ask import DEFAULT_URL, AsJson, Url, post
from cem.cli.station import Station

EXIT_PENDING = 3
TIMEOUT_S = 240.0


def station_rotate_credentials(station: Station, url: Url = DEFAULT_URL, json_output: AsJson = False) -> None:
    """Give a station a new password over OCPP; exit 3 while it has not come back with it (both count meanwhile)."""
    found = post(url, f"/api/v1/stations/{quote(station, safe='')}/rotate-credentials", {}, timeout_s=TIMEOUT_S)
    if json_output:
        print(json.dumps(found))
    elif found["state"] == "confirmed":
        print(f"{station} came in with its new password; the old one counts no longer")
    else:
        print(
            f"{station} has not come in with its new password yet; both count until it does. Restart it if it stays so"
        )
    if found["state"] != "confirmed":
        raise typer.Exit(EXIT_PENDING)


def station_migrate(
    station: Station,
    to: Annotated[str, typer.Option("--to", help="ws:// or wss:// address of the CSMS, without the identity.")],
    key: Annotated[str | None, typer.Option("--key", help="OCPP 1.6: the vendor's configuration key for it.")] = None,
    slot: Annotated[int, typer.Option("--slot", help="OCPP 2.x: slot of the network profile; not the one in use.")] = 2,
    security_profile: Annotated[
        int, typer.Option("--security-profile", min=0, max=3, help="Of the connection there.")
    ] = 2,
    url: Url = DEFAULT_URL,
    json_output: AsJson = False,
) -> None:
    """Point a free station to another CSMS; a 2.x station comes back here where that one cannot be reached."""
    asked = {"url": to, "key": key, "slot": slot, "security_profile": security_profile}
    found = post(url, f"/api/v1/stations/{quote(station, safe='')}/migrate", asked, timeout_s=TIMEOUT_S)
    if json_output:
        print(json.dumps(found))
        return
    print(f"{station}: {', '.join(found['done'])}")
    print("What it may draw stays reserved here until you take it out of the site file")
