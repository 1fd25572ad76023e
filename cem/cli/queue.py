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
    for column in ("station", "for", "no.", "since (UTC)", "message", "state"):
        table.add_column(column, justify="right" if column == "no." else "left")
    for entry in found["queue"]:
        aside = entry["state"] == "refused"
        state = "set aside" if aside else "waiting"
        table.add_row(
            Text(entry["station_id"]),
            Text(entry["upstream_id"]),
            str(entry["seq"]),
            entry["at_utc"][:19],
            Text(f"{entry['action']} ({entry['kind']})"),
            Text(f"{state}: {entry['why']}" if entry["why"] else state, style="bold red" if aside else ""),
        )
    console = Console(highlight=False)
    if found["queue"]:
        console.print(table)
    else:
        print("nothing waits")
    if found["more"]:
        print(f"more than {limit}; give --limit")
    if any(entry["state"] == "refused" for entry in found["queue"]):
        print("what is set aside is told again after `cem queue retry`")


def queue_retry(url: Url = DEFAULT_URL, station: Station = None, json_output: AsJson = False) -> None:
    """Tell again what was set aside: refused, left unanswered, or by `cem queue aside`."""
    told = post(url, f"{PATH}/retry", {}, timeout_s=TIMEOUT_S, station=station)
    if json_output:
        print(json.dumps(told))
    else:
        print(f"{told['count']} messages are told again" if told["count"] else "nothing is set aside")


def queue_aside(
    station: Annotated[str, typer.Argument(help="Whose message.", show_default=False)],
    upstream: Annotated[str | None, typer.Option("--for", help="For which upstream CSMS; left out: any.")] = None,
    number: Annotated[int | None, typer.Option("--no", help="Which (no. in the list); left out: the first.")] = None,
    url: Url = DEFAULT_URL,
    json_output: AsJson = False,
) -> None:
    """Take a message out of the way of what follows; it is kept, and told after `cem queue retry`.

    The start of a transaction in OCPP 1.6 goes with all of its transaction: the CSMS has given it no id.
    """
    done = post(url, f"{PATH}/aside", {}, timeout_s=TIMEOUT_S, station=station, upstream=upstream, seq=number)
    if json_output:
        print(json.dumps(done))
    else:
        print(f"{done['action']} (no. {done['seq']}) of {station} for {done['upstream_id']} is set aside")


def queue_export(url: Url = DEFAULT_URL, station: Station = None, json_output: AsJson = False) -> None:
    """Print the waiting messages themselves, one OCPP frame a line; they name who charges."""
    found = post(url, f"{PATH}/export", {}, timeout_s=TIMEOUT_S, station=station)
    if json_output:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for entry in found["queue"]:
        print(" ".join(entry["text"].splitlines()))
