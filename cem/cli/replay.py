"""``cem replay``: recorded control cycles decided again by this version."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from adapters.modbus.maps import known_models
from cem.config.loader import load_site_file
from cem.replay import Replayed
from cem.replay import replay as replay_cycles
from cem.replay.player import segments
from cem.replay.segment import read_cycles

EXIT_DIFFERENT = 1
SHOWN = 20


def replay(
    file: Annotated[Path, typer.Argument(help="A recorded segment, or the folder of them.", show_default=False)],
    site: Annotated[Path | None, typer.Option(help="Decide for this site file instead of the recorded site.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Decide recorded control cycles again; exit 0 where every bit is the same, 1 where anything differs."""
    summary = _Summary()
    use = None if site is None else load_site_file(site, known_models=known_models()).site
    screen = Console(stderr=True)
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not sys.stderr.isatty(), transient=True) as progress:
        total = sum(1 for path in segments(file) for _ in read_cycles(path)) if sys.stderr.isatty() else None
        task = progress.add_task("replaying", total=total)
        for step in replay_cycles(file, use):
            summary.take(step)
            progress.advance(task)
    if json_output:
        print(json.dumps(summary.as_json(), indent=2))
    else:
        summary.show(Console(highlight=False))
    raise typer.Exit(0 if summary.identical == summary.cycles else EXIT_DIFFERENT)


class _Summary:
    def __init__(self) -> None:
        self.cycles = self.identical = self.failed = 0
        self.first_utc = self.last_utc = ""
        self.parts: dict[str, int] = {}
        self.examples: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []

    def take(self, step: Replayed) -> None:
        self.cycles += 1
        self.identical += step.identical
        self.last_utc = step.utc.isoformat()
        self.first_utc = self.first_utc or self.last_utc
        for part in step.parts:
            self.parts[part] = self.parts.get(part, 0) + 1
        room = SHOWN - len(self.examples)
        self.examples += [
            {"cycle": step.number, "utc": self.last_utc, **asdict(difference)} for difference in step.evses[:room]
        ]
        if step.failure is not None:
            self.failed += 1
            if len(self.failures) < SHOWN:
                then = step.recorded.setpoint_a is None
                found = {"cycle": step.number, "utc": self.last_utc, "failure": step.failure, "failed_then": then}
                self.failures.append(found)

    def as_json(self) -> dict[str, Any]:
        return {
            "cycles": self.cycles,
            "identical": self.identical,
            "from_utc": self.first_utc,
            "to_utc": self.last_utc,
            "parts": self.parts,
            "first_differences": self.examples,
            "failed": self.failed,
            "failures": self.failures,
        }

    def show(self, console: Console) -> None:
        console.print(
            f"{self.cycles} cycles from {self.first_utc} to {self.last_utc}: {self.identical} identical", soft_wrap=True
        )
        for failure in self.failures:
            then = "as it did then" if failure["failed_then"] else "as it did not then"
            console.print(f"cycle {failure['cycle']} fails, {then}: {failure['failure']}", markup=False, soft_wrap=True)
        if self.parts:
            parts = ", ".join(f"{name} in {count}" for name, count in sorted(self.parts.items()))
            console.print(f"cycles in which a part of the decision differs: {parts}", soft_wrap=True)
        if not self.examples:
            return
        table = Table(
            "cycle", "time", "EVSE", "then A", "now A", "reason then", "reason now", title="First differences"
        )
        for row in self.examples:
            table.add_row(
                str(row["cycle"]),
                row["utc"][:19],
                row["evse_id"],
                f"{row['recorded_a']:g}",
                f"{row['now_a']:g}",
                row["recorded_reason"],
                row["now_reason"],
            )
        console.print(table)
