"""``cem simulate``: a site under control in virtual time, by a scenario file or through days of cars."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from adapters.modbus.maps import known_models
from adapters.simulated.household import Sky
from adapters.simulated.plant import Plant
from cem.app import timings
from cem.config.channels import channels
from cem.config.loader import LoadedSite, load_site_file
from cem.config.plain import load_site_section
from cem.core.engine import Plan
from cem.core.limits import Limit, LimitKind
from cem.core.timings import Timings
from cem.core.units import PerPhase
from cem.errors import CemError
from cem.simulate.days import DAY_S, PATTERNS, pattern_for, play_days, start_of, visits
from cem.simulate.figures import Course, bin_for, figures
from cem.simulate.loop import ClosedLoop
from cem.simulate.report import need_plots, report_html
from cem.simulate.scenario import Scenario, play, read_scenario

EXIT_UNMET = 1
EXIT_TRIPPED = 3
PROGRESS_EVERY_S = 60.0
DAYS_CYCLE_S = 5.0
"""Control period of days of cars where none is named: energy comes out the same, an excess a little longer."""


def simulate(
    site: Annotated[Path | None, typer.Argument(help="The site file.", show_default=False)] = None,
    scenario: Annotated[Path | None, typer.Option(help="What happens, and what must hold (YAML).")] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="Without a scenario: how many days.")] = 1,
    seed: Annotated[int, typer.Option(help="Same seed, same cars, household and sky.")] = 1,
    pattern: Annotated[str | None, typer.Option(help="When cars come: home or office; by the site's size.")] = None,
    cycle_s: Annotated[
        float | None,
        typer.Option(
            "--cycle",
            min=0.2,
            max=60,
            help="Control period in s: longer is faster and less true. Left out: the site file's; 5 s for days.",
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with plots here (HTML).")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
) -> None:
    """Run a site in virtual time: exit 1 where a scenario's expectation fails, 3 where a fuse would trip."""
    if report is not None:
        need_plots()
        if not report.absolute().parent.is_dir():
            raise CemError(f"{report}: there is no folder {report.absolute().parent}")
    began_s = time.perf_counter()
    failed: list[str] = []
    if scenario is not None:
        story = read_scenario(scenario)
        loop, course, title = _scenario_loop(site, story, cycle_s)
        with _Progress(loop, story.length_s):
            failed = play(story, loop)
    elif site is not None:
        loop, course, title = _days(load_site_file(site, known_models=known_models()), days, seed, pattern, cycle_s)
    else:
        raise CemError("give a site file, or --scenario with a file that has a site of its own")
    wall_s = time.perf_counter() - began_s
    found = figures(loop, course) | {"unmet": failed}
    remark = f"a cycle every {loop.cycle_s:g} s, {loop.plant.t_s / 3600:.1f} h in {wall_s:.1f} s, {loop.plant.t_s / wall_s:.0f} times real time"
    if report is not None:
        report.write_text(report_html(loop.plan.site, found, course, title, remark), encoding="utf-8")
    if json_output:
        print(json.dumps(found, indent=2))
    else:
        _show(Console(highlight=False), title, remark, found)
    if failed:
        raise typer.Exit(EXIT_UNMET)
    if loop.judge.tripped:
        raise typer.Exit(EXIT_TRIPPED)


def _scenario_loop(path: Path | None, story: Scenario, cycle_s: float | None) -> tuple[ClosedLoop, Course, str]:
    if path is not None:
        loaded = load_site_file(path, known_models=known_models())
    elif story.site is not None:
        loaded = load_site_section(story.site, known_models())
    else:
        raise CemError(f"{story.path}: has no site of its own; give a site file before --scenario")
    use = story.timings if story.timings != Timings() else timings(loaded.file)
    plant = Plant(loaded.site, story.seed, households=False, length_s=story.length_s)
    loop = ClosedLoop(Plan.of(loaded.site, use), plant, story.habits, cycle_s=cycle_s or loaded.file.control.cycle_s)
    course = Course(loop, max(1.0, bin_for(story.length_s) if story.length_s > 3600 else story.length_s / 600))
    return loop, course, f"{loaded.site.name}: {story.path.stem.replace('_', ' ')}"


def _days(
    loaded: LoadedSite, days: int, seed: int, pattern_name: str | None, cycle_s: float | None
) -> tuple[ClosedLoop, Course, str]:
    site = loaded.site
    name = pattern_name or pattern_for(site)
    if name not in PATTERNS:
        raise CemError(f"--pattern {name}: there are {' and '.join(PATTERNS)}")
    pattern = PATTERNS[name]
    length_s = days * DAY_S
    sky = Sky(seed, start_hour=pattern.start_hour, length_s=length_s)
    plant = Plant(site, seed, sky=sky, length_s=length_s)
    cycle_s = cycle_s or max(DAYS_CYCLE_S, loaded.file.control.cycle_s)
    loop = ClosedLoop(
        Plan.of(site, timings(loaded.file)),
        plant,
        calm_step_s=max(1.0, cycle_s / 10),
        cycle_s=cycle_s,
        skip_idle=True,
        epoch=start_of(pattern),
    )
    course = Course(loop, bin_for(length_s))
    with _Progress(loop, length_s):
        play_days(loop, visits(site, days, seed, pattern), days, _low_limits(loaded), seed)
    return loop, course, f"{site.name}: {days} day{'' if days == 1 else 's'}, {name} pattern, seed {seed}"


def _low_limits(loaded: LoadedSite) -> list[Limit]:
    """What the DSO asks for once a day: the failsafe value of each external limit on import."""
    found = []
    for channel in channels(loaded.file, loaded.site):
        if channel.kind is LimitKind.IMPORT:
            limit = Limit(channel.kind, channel.zone_id, channel.limit_id)
            amps = channel.unit == "A"
            low = channel.failsafe
            found.append(replace(limit, value_a=PerPhase.same(low)) if amps else replace(limit, value_w=low))
    return found


class _Progress:
    """A bar on a terminal, fed by the loop's own steps."""

    def __init__(self, loop: ClosedLoop, length_s: float) -> None:
        columns = (TextColumn("simulating"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)
        self._task = self._bar.add_task("simulating", total=length_s)
        self._next_s = 0.0
        if sys.stderr.isatty():
            loop.watchers.append(self._step)

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _step(self, loop: ClosedLoop, _: float) -> None:
        if loop.plant.t_s >= self._next_s:
            self._next_s = loop.plant.t_s + PROGRESS_EVERY_S
            self._bar.update(self._task, completed=loop.plant.t_s)


def _show(console: Console, title: str, remark: str, found: dict[str, Any]) -> None:
    energy, sessions, limits = found["energy"], found["sessions"], found["limits"]
    sources = found["sources"]
    table = Table("figure", "value", title=title, caption=remark, show_header=False)
    part = energy["delivered_of_requested"]
    share = "" if part is None else f" of {energy['requested_kwh']:.1f} asked for ({part:.1%})"
    rows = {
        "energy delivered, kWh": f"{energy['delivered_kwh']:.1f}{share}",
        "sessions served in full": f"{sessions['fully_served']} of {sessions['count']}",
        "fairness (Jain)": _text(sessions["jain_fairness"]),
        "pauses, reversals per session": f"{sessions['pauses_per_session']:g}, {sessions['reversals_per_session']:g}",
        "above limits, A.s": f"{limits['above_limit_as']:g} (longest {limits['longest_excess_s']:g} s)",
        "would trip": ", ".join(limits["would_trip"]) or "nothing",
        "settling after a limit, s": ", ".join(f"{s:g}" for s in limits["settling_s"]) or "no limit changed",
        "cars from grid, PV, battery, kWh": ", ".join(
            f"{sources[f'cars_{name}_kwh']:.1f}" for name in ("grid", "pv", "battery")
        ),
    }
    for zone_id, zone in list(limits["zones"].items())[:8]:
        rows[f"peak in {zone_id}, A"] = f"{zone['peak_a']:.1f} ({zone['peak_of_rating']:.0%} of its rating)"
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    for text in found["unmet"]:
        console.print(f"not met: {text}", markup=False, soft_wrap=True)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
