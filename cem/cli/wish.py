"""``cem set``: wish a mode, a target, a departure and a limit for a charging point of a running controller."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import typer

from cem.cli.ask import DEFAULT_URL, AsJson, Url, send
from cem.errors import CemError


def wish(
    evse: Annotated[str, typer.Argument(help="STATION/NUMBER, as in `cem status`.", show_default=False)],
    mode: Annotated[
        str | None, typer.Option("--mode", help="fast, min_surplus, surplus or off; left out: as the site file says.")
    ] = None,
    target_kwh: Annotated[float | None, typer.Option("--target-kwh", help="Energy wanted from now on.")] = None,
    target_soc: Annotated[
        float | None,
        typer.Option("--target-soc", help="Charge wanted, in per cent; with --soc and --battery-kwh.", min=0, max=100),
    ] = None,
    soc: Annotated[float | None, typer.Option("--soc", help="Charge now, in per cent.", min=0, max=100)] = None,
    battery_kwh: Annotated[float | None, typer.Option("--battery-kwh", help="Capacity of the car's battery.")] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="When it is wanted: HH:MM (the next one, local time) or an ISO time.")
    ] = None,
    limit_a: Annotated[
        float | None, typer.Option("--limit-a", help="At most so much per phase, 6 A or more; `--mode off` for none.")
    ] = None,
    url: Url = DEFAULT_URL,
    json_output: AsJson = False,
) -> None:
    """Wish what a charging point charges from. The whole wish is replaced; without options it is taken back."""
    if evse.count("/") != 1:
        raise CemError(f"{evse!r} is not STATION/NUMBER, as in `cem status`")
    body: dict[str, Any] = {
        "mode": mode, "target_kwh": target_kwh, "target_soc_percent": target_soc, "soc_percent": soc,
        "battery_kwh": battery_kwh, "limit_a": limit_a,
    }  # fmt: skip
    if by is not None:
        body["departure"] = departure(by, datetime.now(UTC).astimezone()).isoformat()
    answer = send("POST", url, f"/api/v1/evses/{evse}/wish", body)
    try:
        told = answer.json()
    except ValueError:
        told = {}
    if answer.status_code != httpx.codes.ACCEPTED:
        detail = told.get("detail") if isinstance(told, dict) else None
        raise CemError(f"{evse}: refused (HTTP {answer.status_code}): {detail or 'no reason given'}")
    print(json.dumps(told, indent=2) if json_output else f"{evse}: taken from the next control cycle on")


def departure(text: str, now: datetime) -> datetime:
    """A time of day (the next one) or an ISO time; local where it names no zone."""
    try:
        clock = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - a time of day has no zone; it gets now's
    except ValueError:
        try:
            found = datetime.fromisoformat(text)
        except ValueError as error:
            raise CemError(f"--by {text!r}: write a time such as 07:00 or 2026-12-24T07:00") from error
        return found if found.tzinfo is not None else found.replace(tzinfo=now.tzinfo)
    today = now.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)
