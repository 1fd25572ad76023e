"""What ``cem demo`` shows: a live picture in a terminal, plain lines elsewhere."""

import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

MISSING = "-"


class DemoView:
    """Lines for people, and tables of the site where the output is a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None

        self._picture: Mapping[str, Any] | None = None

    def __enter__(self) -> Self:
        """Begins the live picture, in a terminal."""
        if self._console.is_terminal:
            self._live = Live(self._render(), console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends it; the last picture stays."""
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()
            if self._picture is not None:
                self._console.print(_tables(self._picture))

    def say(self, text: str) -> None:
        """One line, at once."""
        if self._live is None:
            self._console.print(Text(text))
            sys.stdout.flush()
        else:
            self._live.console.print(Text(text))

    def caption(self, t_s: float, text: str) -> None:
        """One line of the story, with its time."""
        self.say(f"{t_s:6.1f} s  {text}")

    def show(self, picture: Mapping[str, Any]) -> None:
        """The site as the controller sees it now."""
        self._picture = picture
        if self._live is not None:
            self._live.update(self._render(), refresh=True)

    def _render(self) -> RenderableType:
        return Text("waiting for the controller ...") if self._picture is None else _tables(self._picture)


def _tables(picture: Mapping[str, Any]) -> RenderableType:
    zones = Table(title="Zones, A on L1 / L2 / L3", title_justify="left", expand=False)
    for column in ("zone", "limit", "set by", "measured", "granted", ""):
        zones.add_column(column, justify="right" if column in {"limit", "measured", "granted"} else "left")
    for zone_id, zone in picture["zones"].items():
        zones.add_row(
            Text(zone_id),
            phases(zone["limit_a"]),
            Text(str(zone["limit_source"] or MISSING)),
            _against(zone["measured_a"], zone["limit_a"]),
            phases(zone["granted_a"]),
            Text("meter lost", style="bold red") if zone["stale"] else "",
        )
    evses = Table(title="Charging points, A", title_justify="left", expand=False)
    for column in ("EVSE", "status", "may draw", "measured", "why"):
        evses.add_column(column, justify="right" if column in {"may draw", "measured"} else "left")
    for evse_id, evse in picture["evses"].items():
        evses.add_row(
            Text(evse_id),
            Text(str(evse["status"] or MISSING)),
            amps(evse["setpoint_a"]),
            phases(evse["measured_a"]),
            Text(_why(evse)),
        )
    limits = picture.get("external_limits", {})
    words = "   ".join(f"{name}: {limit.get('state')} {amps(limit.get('value'))}" for name, limit in limits.items())
    return Group(zones, evses, Text(f"outside limits  {words or 'none'}"))


def amps(value: float | None) -> str:
    """One current, or a dash where there is none."""
    return MISSING if value is None else f"{value:.1f}"


def phases(values: Sequence[float | None] | None) -> str:
    """Three currents."""
    return MISSING if values is None else " ".join(f"{amps(v):>5}" for v in values)


def _against(values: Sequence[float | None] | None, limits: Sequence[float | None] | None) -> Text:
    text = Text()
    if values is None:
        return Text(MISSING)
    for p, value in enumerate(values):
        limit = limits[p] if limits else None
        over = value is not None and limit is not None and value > limit
        text.append(f"{amps(value):>5} ", style="bold red" if over else "")
    return text


def _why(evse: Mapping[str, Any]) -> str:
    binding = evse.get("binding")
    text = binding.get("text") if isinstance(binding, Mapping) else None
    return str(text or evse.get("reason") or "")
