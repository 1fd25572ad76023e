"""``cem queue``: what upstream CSMSs have not heard yet, from a running controller."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cem.cli.ask import DEFAULT_URL, AsJson, Url, get, post

PATH = "/api/v1/queue"
TIMEOUT_S = 60.0
Station = Annotated[str | None, typer.Option("--station", help="Only this station's messages.")]
Count = Annotated[int, typer.Option("--limit", "-n", min=1, max=500_000, help="At most this many.")]


def queue_list(
    url: Url = DEFAULT_URL, station: Station = None, limit: Count = 100, json_output: AsJson = False
) -> None:
    """Show what upstream CSMSs have not heard yet, in the order in which they will."""
    found = get(url, PATH, timeout_s=TIMEOUT_S, limit=limit, station=station)
    if json_output:
        print(json.dumps(found, indent=2))
        return
    table = Table()
    for column in ("station", "for", "since (UTC)", "message", "state"):
        table.add_column(column)
    for entry in found["queue"]:
        table.add_row(
            Text(entry["station_id"]),
            Text(entry["upstream_id"]),
            entry["at_utc"][:19],
            Text(f"{entry['action']} ({entry['kind']})"),
            Text(entry["state"], style="bold red" if entry["state"] == "refused" else ""),
        )
    console = Console(highlight=False)
    if found["queue"]:
        console.print(table)
    else:
        print("nothing waits")
    if found["more"]:
        print(f"more than {limit}; give --limit")
    if any(entry["state"] == "refused" for entry in found["queue"]):
        print("refused messages are told again after `cem queue retry`")


def queue_retry(url: Url = DEFAULT_URL, json_output: AsJson = False) -> None:
    """Tell again what an upstream CSMS has refused."""
    told = post(url, f"{PATH}/retry", {}, timeout_s=TIMEOUT_S)
    print(json.dumps(told) if json_output else "what was refused is told again")


def queue_export(url: Url = DEFAULT_URL, station: Station = None, json_output: AsJson = False) -> None:
    """Print the waiting messages themselves, one OCPP frame a line; they name who charges."""
    found = post(url, f"{PATH}/export", {}, timeout_s=TIMEOUT_S, station=station)
    if json_output:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for entry in found["queue"]:
        print(" ".join(entry["text"].splitlines()))
