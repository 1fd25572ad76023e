"""How much faster than real time a simulated day at home is."""

import time
from pathlib import Path

from adapters.simulated.household import Sky
from adapters.simulated.plant import Plant
from cem.cli.simulate import DAYS_CYCLE_S
from cem.config.loader import load_site_file
from cem.core.engine import Plan
from cem.core.timings import Timings
from cem.simulate.days import DAY_S, PATTERNS, play_days, start_of, visits
from cem.simulate.figures import Course, bin_for
from cem.simulate.loop import ClosedLoop

HOME = Path(__file__).parents[2] / "site_configs" / "home.yaml"


def run() -> dict[str, float]:
    """``simulate_x.home``: virtual seconds for each second of processor time, as ``cem simulate`` runs it."""
    site, pattern = load_site_file(HOME).site, PATTERNS["home"]
    plant = Plant(site, 1, sky=Sky(1, start_hour=pattern.start_hour, length_s=DAY_S), length_s=DAY_S)
    loop = ClosedLoop(
        Plan.of(site, Timings()), plant, calm_step_s=1.0, cycle_s=DAYS_CYCLE_S, skip_idle=True, epoch=start_of(pattern)
    )
    Course(loop, bin_for(DAY_S))
    begun = time.process_time()
    play_days(loop, visits(site, 1, 1, pattern), 1, [], 1)
    return {"simulate_x.home": DAY_S / (time.process_time() - begun)}
