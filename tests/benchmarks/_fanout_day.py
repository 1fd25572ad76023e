"""What a normal day of a car park costs in messages: the shipped example of 24 stations, in virtual time.

Plant, stations, sessions and control are the real ones. Cars come as to an office; the day is the same for everybody by its
seed. Time goes by in steps of a second, while no car is plugged in in steps of five.
"""

from collections import Counter
from pathlib import Path

from adapters.simulated.ev import EvType
from adapters.simulated.plant import Plant
from adapters.simulated.station_v16 import Station16
from adapters.simulated.station_v201 import Station201
from cem.config.loader import load_site_file
from cem.core.timings import Timings
from cem.simulate.days import DAY_S, PATTERNS, visits
from tests.csms.virtual import VirtualSite

SITE = Path(__file__).parents[2] / "site_configs/parking.yaml"
SEED = 1
STEP_S, IDLE_STEP_S = 1.0, 5.0


def messages(hours: float) -> dict[str, float]:
    """CALLs that a station gets from us, on average over all hours, and in an hour of a transaction."""
    site = load_site_file(SITE).site
    number = {who: n for n, who in enumerate(dict.fromkeys(evse.station_id for evse in site.evses))}
    plant = Plant(site, SEED, length_s=DAY_S)
    park = VirtualSite(
        site, lambda who: Station201 if number[who] % 3 == 2 else Station16, Timings(), step_s=STEP_S, plant=plant
    )  # fmt: skip
    park.run(60.0)
    moments = [
        (at_s, visit)
        for visit in visits(site, 1, SEED, PATTERNS["office"])
        for at_s in (visit.arrive_s, visit.leave_s)
        if visit.arrive_s < hours * 3600
    ]
    before, charging_s, plugged = _calls(park), 0.0, set()
    began_s = park.t_s
    for at_s, visit in [*sorted(moments, key=lambda moment: moment[0]), (hours * 3600, None)]:
        wait_s = max(0.0, min(at_s, hours * 3600) - (park.t_s - began_s))
        park.step_s = STEP_S if plugged or wait_s < IDLE_STEP_S else IDLE_STEP_S
        park.run(wait_s, control_s=park.step_s)
        charging_s += wait_s * len(plugged)
        if visit is None:
            break
        who, evse = visit.evse_id.split("/")
        if visit.evse_id in plugged:
            plugged.discard(visit.evse_id)
            park.stations[who].unplug(int(evse))
        else:
            plugged.add(visit.evse_id)
            car = visit.car
            kind = EvType(car.phases, car.max_a, car.settle_s, car.draw, car.need_wh)
            park.stations[who].plug(int(evse), kind, f"TAG-{visit.evse_id}")
    calls = _calls(park) - before
    return {
        "fanout.messages_per_station_h": calls.total() / len(park.stations) / hours,
        "fanout.limits_per_station_h": calls["SetChargingProfile"] / len(park.stations) / hours,
        "fanout.limits_per_hour_plugged": calls["SetChargingProfile"] / (charging_s / 3600) if charging_s else 0.0,
    }


def _calls(park: VirtualSite) -> Counter[str]:
    return sum((station.link.calls for station in park.stations.values()), Counter())
