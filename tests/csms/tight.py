"""A tight zone with one odd station among well-behaved ones, in virtual time."""

from adapters.simulated.ev import EvType
from adapters.simulated.station_v16 import Station16
from adapters.simulated.station_v201 import Station201
from cem.core.site import Evse, Meter, Protection, Site, Zone
from cem.core.timings import Timings
from cem.simulate.judge import Judge
from tests.csms.virtual import VirtualSite

RATING_A = 63.0
ODD, NEIGHBOURS = "ODD", ("N1", "N2", "N3", "N4")
CAR = EvType(phases=3, max_a=16.0, settle_s=3.0, draw=0.98, need_wh=1e6)
ODD_CAR = EvType(phases=3, max_a=32.0, settle_s=3.0, draw=0.98, need_wh=1e6)


class TightSite(VirtualSite):
    """One zone; ``ODD`` has the personality, the others are as the book says. All of OCPP 1.6, or all of 2.0.1."""

    def __init__(self, personality, *, version="1.6", fallback_a=6.0, rotation=None, min_a=6.0):
        evses = tuple(
            Evse(
                f"{s}/1",
                s,
                "main",
                1,
                fallback_a=fallback_a,
                rotation=rotation if s == ODD else (0, 1, 2),
                min_a=min_a if s == ODD else 6.0,
            )
            for s in (ODD, *NEIGHBOURS)
        )
        zone = Zone("main", None, Protection(RATING_A), meter_id="m", fallback_limit_a=30.0, uncontrolled_max_a=15.0)
        site = Site("tight", 230.0, 3, (zone,), evses, meters=(Meter("m"),))
        self.judge = Judge(site, lambda _z: None, lambda _z: None)
        self.over_until_s, self.neighbours_as, self.possible_as = 0.0, 0.0, 0.0
        kind = Station16 if version == "1.6" else Station201
        super().__init__(site, lambda _who: kind, Timings(min_off_s=30.0), personalities={ODD: personality})

    def plug(self, who, car=CAR):
        self.stations[who].plug(1, car, "TAG")

    def stepped(self):
        amps = self.plant.zone_current_a("main")
        self.judge.watch(self.plant.t_s, self.step_s, self.plant.zone_current_a)
        if max(amps) > RATING_A + 0.05:
            self.over_until_s = self.t_s
        others = [self.plant.points[f"{n}/1"] for n in NEIGHBOURS]
        mine = sum(p.own_current_a.total for p in others)
        drawn = [sum(p.grid_current_a[phase] for p in others) for phase in range(3)]
        # an all-knowing controller gives the neighbours all that the rest leaves them at this very moment
        room = min(RATING_A - (amps[phase] - drawn[phase]) for phase in range(3))
        room = min(room, sum(p.ev.kind.max_a * p.ev.kind.draw for p in others if p.ev is not None))
        self.neighbours_as += mine * self.step_s
        self.possible_as += 3 * (room if room >= 6.0 else 0.0) * self.step_s
