"""``cem station``: who waits, who belongs here, who does not, and their passwords."""

import json
import secrets
import string
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cem import access
from cem.cli.ask import DEFAULT_URL, MISSING, AsJson, Url, get, print_json
from cem.cli.site_option import DEFAULT_SITE, Site, storage_of
from cem.errors import CemError

Station = Annotated[str, typer.Argument(help="The station's identity.", show_default=False)]
PASSWORD_LENGTH = 32  # OCPP 2.0.1 Part 2, BasicAuthPassword: 16 to 40 characters
_LETTERS = string.ascii_letters + string.digits


def station_list(url: Url = DEFAULT_URL, json_output: AsJson = False) -> None:
    """List the stations of the site file, and those that wait because it does not name them."""
    found = get(url, "/api/v1/stations")
    if json_output:
        print_json(found)
        return
    table = Table()
    for column in ("station", "state", "OCPP", "vendor", "model"):
        table.add_column(column)
    for station in found["stations"]:
        table.add_row(*_row(station, "online" if station["online"] else "offline"))
    for station in found["waiting_room"]:
        table.add_row(*_row(station, "waits"), style="bold")
    Console(highlight=False).print(table)
    if found["waiting_room"]:
        print(
            "cem station approve ID --zone ZONE shows what to write into the site file; cem station reject ID turns away"
        )


def station_show(
    station: Annotated[str | None, typer.Argument(help="The station's identity.", show_default=False)] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All stations; with --json, to keep or to compare.")] = False,
    url: Url = DEFAULT_URL,
    json_output: AsJson = False,
) -> None:
    """Show what was learned of a station: how it takes limits, whether it falls back by itself, what it loses."""
    if (station is None) is not everyone:
        raise CemError("name one station, or write --all")
    known = get(url, "/api/v1/stations")["stations"]
    if everyone:
        _show_all(known, json_output=json_output)
        return
    found = next((s for s in known if s["id"] == station), None)
    if found is None:
        raise CemError(f"the controller has no station {station!r}; cem station list shows those it has")
    if json_output:
        print_json(found)
        return
    own = found["personality"]
    rows = {
        "is": _model(own),
        "takes limits by": own["way"],
        "refused or ignored": ", ".join(own["bad"]),
        "highest stack level": own["max_level"],
        "rate units": ", ".join(own["units"]),
        "switches phases": own["switches_phases"],
        "falls back by itself": f"{_dead_man(own)}: {own['dead_man_by']}",
        "looked at while idle": own["idle"],
        "takes maxOfflineDuration (2.1)": "no" if own["no_offline_limit"] else "",
        "if this controller dies": own["without_us"] or "its fallback counts",
        "slowest reaction": _reaction(own),
        "loses its limits on": ", ".join(own["loses"]),
        "a pause ends its transaction": "yes" if own["zero_ends"] else "",
        "draws more than it accepted": "yes" if own["ignores"] else "",
        "publicly known": "; ".join(own["known"]),
    }
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, Text(MISSING if value in (None, "") else str(value)))
    Console(highlight=False).print(table)


def _show_all(stations: list[dict[str, Any]], *, json_output: bool) -> None:
    if json_output:
        print_json([{"id": s["id"], "ocpp_version": s["ocpp_version"], **s["personality"]} for s in stations])
        return
    table = Table()
    for column in ("station", "is", "takes limits by", "falls back", "reacts in", "loses limits on", "if we die"):
        table.add_column(column)
    for s in stations:
        own = s["personality"]
        told = (s["id"], _model(own), own["way"], _dead_man(own), _reaction(own), ", ".join(own["loses"]))
        table.add_row(*(Text(value or MISSING) for value in (*told, own["without_us"] or "its fallback counts")))
    Console(highlight=False).print(table)


def _model(own: dict[str, Any]) -> str:
    return " ".join(filter(None, own["identity"]))


def _dead_man(own: dict[str, Any]) -> str:
    return {True: "yes", False: "NO", None: "not proven"}[own["dead_man"]]


def _reaction(own: dict[str, Any]) -> str:
    return "" if own["reaction_s"] is None else f"{own['reaction_s']:g} s"


def _row(station: dict[str, Any], state: str) -> list[Text]:
    told = (station["id"], state, station["ocpp_version"], station["vendor"], station["model"])
    return [Text(str(value or MISSING)) for value in told]


def station_approve(
    station: Station,
    zone: Annotated[str, typer.Option("--zone", help="The zone that feeds it.", show_default=False)],
    site: Site = DEFAULT_SITE,
    url: Url = DEFAULT_URL,
    json_output: AsJson = False,
) -> None:
    """Take a rejection back and print the lines for the site file, which alone says who belongs here."""
    loaded, directory = storage_of(site)
    zones = [z.zone_id for z in loaded.site.zones]
    if zone not in zones:
        raise CemError(f"there is no zone {zone!r} in {site}; its zones are {', '.join(zones)}")
    if any(known.id == station for known in loaded.file.stations):
        raise CemError(f"{station} is in {site} already")
    with access.changing(directory) as content:
        content["rejected"].pop(station, None)
    waiting = _waiting(url, station)
    tls = loaded.file.csms.listen.tls is not None
    snippet = [
        f"  - id: {station}",
        f"    zone: {zone}",
        "    breaker_a: 32  # its own breaker, per phase",
        "    fallback_a: 0  # what it falls back to by itself when this controller is gone",
        f"    security_profile: {2 if tls else 1}",
        "    evses: [{id: 1, max_a: 32}]",
    ]
    if json_output:
        print_json({"id": station, "zone": zone, "waiting": waiting, "snippet": "\n".join(snippet)})
        return
    if waiting is not None:
        print(f"# {waiting['vendor'] or 'unknown vendor'} {waiting['model'] or ''}, OCPP {waiting['ocpp_version']}")
    print(f"# into stations: of {site}; then check it, give the station a password by")
    print(f"# cem station set-password {station}, and restart the controller")
    print("\n".join(snippet))


def _waiting(url: str, station: str) -> dict[str, Any] | None:
    try:
        found = get(url, "/api/v1/stations")
    except CemError:
        return None  # without a running controller it is not known what the station is
    return next((item for item in found["waiting_room"] if item["id"] == station), None)


def station_reject(station: Station, site: Site = DEFAULT_SITE, json_output: AsJson = False) -> None:
    """Turn a station away for good: it does not even wait any more. Approving takes it back."""
    loaded, directory = storage_of(site)
    if any(known.id == station for known in loaded.file.stations):
        raise CemError(f"{station} is in {site}; take it out there to turn it away")
    with access.changing(directory) as content:
        if len(content["rejected"]) >= access.MOST_REJECTED:
            raise CemError(
                f"{access.MOST_REJECTED} stations are rejected already; set csms.waiting_room: false instead"
            )
        content["rejected"].setdefault(station, datetime.now(UTC).isoformat(timespec="seconds"))
    print(json.dumps({"id": station, "rejected": True}) if json_output else f"{station} is turned away from now on")


def station_set_password(
    station: Station,
    site: Site = DEFAULT_SITE,
    hex_key: Annotated[
        bool, typer.Option("--hex", help="20 bytes in hexadecimal, the form that OCPP 1.6 stations want.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Back to the password of the site file.")] = False,
    json_output: AsJson = False,
) -> None:
    """Make a new password for a station, shown this once and kept as a hash; it replaces that of the site file."""
    loaded, directory = storage_of(site)
    if all(known.id != station for known in loaded.file.stations):
        raise CemError(f"{station} is not in {site}; its stations are {', '.join(s.id for s in loaded.file.stations)}")
    password = secrets.token_hex(20) if hex_key else "".join(secrets.choice(_LETTERS) for _ in range(PASSWORD_LENGTH))
    with access.changing(directory) as content:
        if not remove:
            content["credentials"][station] = access.hashed(password)
        elif content["credentials"].pop(station, None) is None:
            raise CemError(f"{station} has no password set by command")
    if remove:
        print(json.dumps({"id": station}) if json_output else f"{station}: the site file's password counts again")
    elif json_output:
        print(json.dumps({"id": station, "password": password}))
    else:
        print(f"{station}: {password}")
        print(
            "Enter it at the station; it is not shown again. The old one counts no longer, from the next connection on"
        )
