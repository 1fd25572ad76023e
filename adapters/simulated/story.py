"""What happens at a simulated site, as data: steps at plant times, each with a line for people."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens.

    Attributes:
        at_s: Plant time.
        do: What (a method ``do_...`` of ``SimulatedSite``).
        data: Its arguments.
        caption: A line for people; empty for what needs none.
        outside: Left out of the same day without outside steps.
    """

    at_s: float
    do: str
    data: dict[str, Any] = field(default_factory=dict)
    caption: str = ""
    outside: bool = True


@dataclass(frozen=True, slots=True)
class Story:
    """A day in short.

    Attributes:
        steps: In any order.
        clouds: (start, length, depth) of clouds that pass.
        quiet: Times (from, to) in which no appliance is on.
        over_s: When the last car has left.
    """

    steps: tuple[Step, ...] = ()
    clouds: tuple[tuple[float, float, float], ...] = ()
    quiet: tuple[tuple[float, float], ...] = ()
    over_s: float = 0.0


def _car(evse: str, come_s: float, go_s: float, token: str, **kind: float) -> tuple[Step, Step]:
    plug = Step(come_s, "plug", {"evse": evse, "token": token} | kind, f"A car arrives at {evse}.", outside=False)
    return plug, Step(go_s, "unplug", {"evse": evse}, f"The car at {evse} leaves.", outside=False)


def demo_story(length_s: float) -> Story:
    """The story of ``cem demo`` for the site of ``site_configs/demo.yaml``, compressed to a length of at least 120 s."""
    part = length_s / 100.0
    end_s = length_s - 6.0
    dso_s, free_s = 36 * part, 50 * part
    dies_s, lives_s = 62 * part, 74 * part
    cars = (
        *_car("garage-1/1", 3.0, end_s - 5, "TAG-ANNA", phases=3, max_a=32, settle_s=2.5),
        *_car("garage-2/1", 5.0, 56 * part, "TAG-BEN", phases=3, max_a=16, settle_s=4.5),
        *_car("row-b-1/1", 7.0, end_s - 4, "TAG-CARA", phases=3, max_a=16, settle_s=3.0),
        *_car("garage-3/1", 9.0, end_s - 3, "TAG-DAN", phases=1, max_a=32, settle_s=1.5),
        *_car("row-b-2/1", 11.0, end_s - 2, "TAG-EVA", phases=1, max_a=13, settle_s=3.5, need_wh=60.0),
        *_car("row-b-3/1", 13.0, end_s - 1, "TAG-FRED", phases=3, max_a=16, settle_s=4.0),
        *_car("garage-2/1", 59 * part, end_s, "TAG-GINA", phases=3, max_a=13, settle_s=2.0),
    )
    oven = {"zone": "site", "power_w": [2300.0, 0.0, 1800.0], "length_s": 10 * part}
    return Story(
        steps=(
            *cars,
            Step(17 * part, "say", caption="Clouds pass: the roof gives a fifth of what it gave."),
            Step(25 * part, "load", oven, "Somebody cooks: 10 A on L1 and 8 A on L3 at once."),
            Step(dso_s, "dso", {"limit": 20.0}, "The DSO limits the site to 20 A per phase."),
            Step(free_s, "dso", {"limit": None}, "The DSO releases the site."),
            Step(dies_s, "cut", {"what": "device", "name": "grid_meter"}, "The grid meter dies."),
            Step(lives_s, "restore", {"what": "device", "name": "grid_meter"}, "The grid meter is back."),
            Step(80 * part, "cut", {"what": "cloud"}, "The operator's cloud goes away."),
            Step(87 * part, "restore", {"what": "cloud"}, "The operator's cloud is back."),
        ),
        clouds=((17 * part, 8 * part, 0.8),),
        quiet=((dso_s - 3.0, free_s),),
        over_s=end_s,
    )


def everyday_story(evses: tuple[str, ...]) -> Story:
    """For any other site: a car at every EVSE, one after the other, and nothing else."""
    steps = (
        Step(2.0 + 0.5 * i, "plug", {"evse": evse, "token": f"TAG-{i + 1}"}, outside=False)
        for i, evse in enumerate(evses)
    )
    return Story(steps=tuple(steps))
