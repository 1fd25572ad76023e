"""``cem sessions export``: every session on record, for a spreadsheet or a program."""

import csv
import json
import sys
from datetime import datetime
from typing import Annotated, Any

import typer

from cem.cli.site_option import DEFAULT_SITE, Site, storage_of
from cem.errors import CemError
from cem.store.details import Details, read_details
from cem.store.files import is_unused
from cem.store.rows import read_sessions
from cem.store.sessions import Session

DETAILS = ("delivery", "upstreams", "started_here_utc", "stopped_here_utc", "clock", "intervals", "signed_values")
COLUMNS = (
    "session_id", "station_id", "evse_id", "transaction_id", "open", "started_utc", "stopped_utc", "updated_utc",
    "meter_start_wh", "meter_last_wh", "energy_wh", "reason", "token_hash",
    *DETAILS,
)  # fmt: skip
ALL = 1_000_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def sessions_export(
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values, with a line of names.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list.")] = False,
    site: Site = DEFAULT_SITE,
) -> None:
    """Print every session on record, oldest first, from the ledger; the controller may run meanwhile."""
    if as_csv == as_json:
        raise CemError("say --csv or --json")
    loaded, directory = storage_of(site)
    found: tuple[Session, ...] = ()
    details: dict[str, Details] = {}
    if is_unused(directory):
        print(f"there is nothing yet: no controller has run on {directory}", file=sys.stderr)
    else:
        found = read_sessions(directory / "ledger.db", limit=ALL, only_open=False, evse_id=None)
        details = read_details(directory / "ledger.db", found)
    clouds = bool(loaded.file.csms.upstreams)
    rows = [_row(session, details[session.session_id], clouds=clouds) for session in reversed(found)]
    if as_json:
        json.dump(rows, sys.stdout, indent=1)
        print()
        return
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _row(session: Session, details: Details, *, clouds: bool) -> dict[str, Any]:
    values = {name: getattr(session, name) for name in COLUMNS if name not in DETAILS}
    values["delivery"] = details.delivery() if clouds or details.upstreams else None
    values |= {name: getattr(details, name) for name in DETAILS[1:]}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _cell(value: Any) -> Any:
    """Lists as JSON; and a station's text must not become a formula in somebody's spreadsheet."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
