"""Runs a scenario file on the product's own player, with a plant beneath."""

from dataclasses import dataclass
from pathlib import Path

from adapters.simulated.plant import Plant
from cem.config.plain import load_site_section
from cem.core.engine import Plan
from cem.simulate.loop import ClosedLoop
from cem.simulate.scenario import play, read_scenario


@dataclass
class Run:
    loop: ClosedLoop
    failed: list[str]


def run_scenario(path: Path, *, outside: bool = True) -> Run:
    scenario = read_scenario(path)
    site = load_site_section(scenario.site).site
    plant = Plant(site, scenario.seed, households=False)
    loop = ClosedLoop(Plan.of(site, scenario.timings), plant, scenario.habits)
    return Run(loop, play(scenario, loop, outside=outside))
