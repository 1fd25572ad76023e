"""Commands that ask a running controller over its HTTP API."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cem.errors import CemError

Url = Annotated[str, typer.Option("--url", envvar="CEM_URL", help="Where the controller's API is.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON instead of a table.")]
Count = Annotated[int, typer.Option("--limit", "-n", min=1, max=2000, help="At most this many, latest first.")]

DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT_S = 5.0
MISSING = "-"


def status(url: Url = DEFAULT_URL, json_output: AsJson = False) -> None:
    """Show zones and charging points as they are now."""
    site = get(url, "/api/v1/site")
    if json_output:
        print_json(site)
        return
    console = Console(highlight=False)
    zones = Table(title="Zones (A per phase)", title_justify="left")
    for column in ("zone", "limit", "set by", "measured", "granted", "reserved", ""):
        words = column in {"zone", "set by", ""}
        zones.add_column(column, justify="left" if words else "right", no_wrap=not words)
    for zone_id, zone in site["zones"].items():
        zones.add_row(
            Text(zone_id),
            _phases(zone["limit_a"]),
            Text(zone["limit_source"] or MISSING),
            _phases(zone["measured_a"]),
            _phases(zone["granted_a"]),
            _phases(zone["reserved_a"]),
            Text(f"meter {zone.get('meter') or 'lost'}", style="bold red") if zone["stale"] else "",
        )
    evses = Table(title="Charging points", title_justify="left")
    for column in ("EVSE", "status", "may draw", "measured", "why"):
        evses.add_column(column, justify="right" if column in {"may draw", "measured"} else "left")
    for evse_id, evse in site["evses"].items():
        evses.add_row(
            Text(evse_id),
            Text(_status(evse)),
            _amps(evse["setpoint_a"]),
            _phases(evse["measured_a"]),
            Text(_why(evse)),
        )
    console.print(zones)
    console.print(evses)
    for limit_id, limit in site["external_limits"].items():
        console.print(Text(f"external limit {limit_id}: {_pairs(limit)}"))
    alone: dict[str, list[str]] = {}
    for evse_id, evse in site["evses"].items():
        if evse.get("without_us"):
            alone.setdefault(evse["without_us"], []).append(evse_id)
    for reason, evse_ids in alone.items():
        console.print(Text(f"if this controller dies, {', '.join(evse_ids)} may draw the maximum: {reason}"))
    for problem in site["problems"]:
        console.print(Text(problem, style="bold red"))


def why(
    evse: Annotated[str, typer.Argument(help="STATION/NUMBER, as in `cem status`.", show_default=False)],
    url: Url = DEFAULT_URL,
    json_output: AsJson = False,
) -> None:
    """Say why a charging point gets what it gets."""
    found = get(url, f"/api/v1/evses/{evse}/why")
    if json_output:
        print_json(found)
        return
    console = Console(highlight=False)
    console.print(Text(f"{evse}: {_why(found) or 'nothing limits it now'}"))
    console.print(Text(f"  status    {_status(found)}"))
    console.print(Text(f"  may draw  {_amps(found['setpoint_a'])} A"))
    console.print(Text(f"  measured  {_phases(found['measured_a'])} A"))
    if found.get("without_us_a") is not None:
        console.print(Text(f"  if this controller dies  {_alone(found)}"))
    table = Table()
    for column in ("limit", "where", "set by", "would allow", "state", "for"):
        table.add_column(column, justify="right" if column in {"would allow", "for"} else "left")
    for line in found["stack"]:
        where = MISSING if line["zone"] is None else f"{line['zone']} {line['phase']}"
        allows = MISSING if line["value_a"] is None else f"{_amps(line['value_a'])} A"
        since = "" if line["since_s"] is None else f"{line['since_s']:.0f} s"
        style = "bold" if line["state"] in {"binding", "blocking"} else None
        table.add_row(line["code"], where, line["source"] or MISSING, allows, line["state"], since, style=style)
    console.print(table)


def events(url: Url = DEFAULT_URL, limit: Count = 30, json_output: AsJson = False) -> None:
    """Show what happened, latest first."""
    found = get(url, "/api/v1/events", limit=limit)["events"]
    if json_output:
        print_json(found)
        return
    for event in found:
        print(f"{event['at_utc'][:19]}Z  {event['code']:<18} {event['subject']}: {event['text']}")
    if not found:
        print("nothing has happened yet")


def sessions_list(url: Url = DEFAULT_URL, limit: Count = 30, json_output: AsJson = False) -> None:
    """Show charging sessions, latest first."""
    found = get(url, "/api/v1/sessions", limit=limit)["sessions"]
    if json_output:
        print_json(found)
        return
    table = Table()
    for column in ("EVSE", "started (UTC)", "stopped (UTC)", "kWh", "reason"):
        table.add_column(column, justify="right" if column == "kWh" else "left")
    for session in found:
        energy_wh = session["energy_wh"]
        table.add_row(
            Text(session["evse_id"]),
            (session["started_utc"] or MISSING)[:19],
            "charging" if session["open"] else (session["stopped_utc"] or MISSING)[:19],
            MISSING if energy_wh is None else f"{energy_wh / 1000:.2f}",
            Text(session["reason"] or ""),
        )
    Console(highlight=False).print(table)


def get(url: str, path: str, *, timeout_s: float = TIMEOUT_S, **params: object) -> Any:
    """What the controller says there; parameters that are ``None`` are left out."""
    return _told(url, send("GET", url, path, timeout_s=timeout_s, params=params))


def post(url: str, path: str, body: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S, **params: object) -> Any:
    """Asks the controller to do something; gives what it says."""
    return _told(url, send("POST", url, path, body, timeout_s=timeout_s, params=params))


def send(
    method: str,
    url: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    params: Mapping[str, Any] | None = None,
) -> httpx.Response:
    """One request to a controller, and whatever it answers.

    Raises:
        CemError: Nobody answers.
    """
    given = {name: value for name, value in (params or {}).items() if value is not None}
    try:
        return httpx.request(method, url.rstrip("/") + path, params=given, json=body, timeout=timeout_s)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise CemError(
            f"no controller answers at {url} ({error}); is it running? Give its web.host and web.port by --url or CEM_URL"
        ) from error


def _told(url: str, response: httpx.Response) -> Any:
    try:
        body = response.json()
    except ValueError as error:
        raise CemError(f"{url} answers, but not as a controller does (HTTP {response.status_code})") from error
    if not response.is_success:
        detail = body.get("detail") if isinstance(body, dict) else None
        raise CemError(f"the controller at {url} answered HTTP {response.status_code}: {detail or 'no reason given'}")
    return body


def print_json(body: object) -> None:
    print(json.dumps(body, indent=2, ensure_ascii=False))


def _amps(value: float | None) -> str:
    return MISSING if value is None else f"{round(value, 1):g}"


def _phases(value: Sequence[float | None] | float | None) -> str:
    if isinstance(value, Sequence):
        return " ".join(_amps(v) for v in value)
    return _amps(value)


def _alone(evse: Mapping[str, Any]) -> str:
    why = evse["without_us"]
    return f"{_amps(evse['without_us_a'])} A, " + (f"its maximum: {why}" if why else "its fallback")


def _status(evse: Mapping[str, Any]) -> str:
    return str(evse["status"] or (MISSING if evse.get("online", True) else "offline"))


def _why(evse: Mapping[str, Any]) -> str:
    binding = evse["binding"]
    text = binding.get("text") if isinstance(binding, dict) else None
    return str(text or evse["reason"] or "")


def _words(value: object) -> str:
    match value:
        case None | "" | []:
            return "nothing"
        case dict():
            return _pairs({key: inner for key, inner in value.items() if key != "text"}) or "itself"
        case list():
            return ", ".join(_words(inner) for inner in value)
        case _:
            return str(value)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)
