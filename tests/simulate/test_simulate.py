"""Simulated days and scenarios: sane figures, the same for the same seed, and a report that opens."""

import functools
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from adapters.simulated.household import Household, Sky
from adapters.simulated.plant import Plant
from cem.config.loader import load_site_file
from cem.core.engine import Plan
from cem.core.limits import Limit, LimitKind
from cem.core.overload import ThermalModel
from cem.core.site import Evse, Meter, Protection, Resource, ResourceKind, Site, Zone
from cem.core.timings import Timings
from cem.core.units import PerPhase
from cem.errors import CemError
from cem.simulate.days import PATTERNS, pattern_for, play_days, visits
from cem.simulate.figures import Course, figures, jain
from cem.simulate.judge import Judge
from cem.simulate.loop import ClosedLoop
from cem.simulate.scenario import CHECKS, OUTSIDE, STEPS, play, read_scenario
from cem.simulate.sessions import Car

ROOT = Path(__file__).parents[2]
HOME = ROOT / "site_configs" / "home.yaml"
SCENARIOS = ROOT / "tests" / "scenarios"

SITE = Site(
    "small",
    230.0,
    3,
    (Zone("house", None, Protection(35.0), meter_id="grid", fallback_limit_a=8.0, uncontrolled_max_a=20.0),),
    (Evse("A/1", "A", "house", 1, rotation=(0, 1, 2)), Evse("B/1", "B", "house", 1, rotation=(1, 2, 0))),
    (Meter("grid", 1.0),),
    (Resource("pv", ResourceKind.PV, "house", 6000.0), Resource("battery", ResourceKind.BATTERY, "house", 3000.0)),
)
LOW = Limit(LimitKind.IMPORT, "house", "dso", value_w=6000.0)


def cem(*words):
    return subprocess.run(
        [sys.executable, "-c", "from cem.cli import main; main()", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def home_day(tmp_path_factory):
    page = tmp_path_factory.mktemp("report") / "home.html"
    done = cem("simulate", HOME, "--days", 1, "--seed", 7, "--cycle", 60, "--json", "--report", page)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), page.read_text("utf-8"), done.stdout


def test_a_day_at_home_has_sane_figures(home_day):
    found, _, _ = home_day
    assert found["simulated_s"] == 86400.0
    assert found["sessions"]["count"] >= 1
    assert 0.5 < found["energy"]["delivered_of_requested"] <= 1.0
    assert 0 < found["sessions"]["fully_served"] <= found["sessions"]["count"]
    assert 0.5 < found["sessions"]["jain_fairness"] <= 1.0
    assert found["limits"]["would_trip"] == {}
    assert 5 < found["limits"]["zones"]["house"]["peak_a"] < 60
    assert found["cycles"]["skipped_while_idle"] > 100
    assert found["cycles"]["decided"] + found["cycles"]["skipped_while_idle"] == pytest.approx(86400 / 60, abs=2)
    assert found["unmet"] == []


def test_energy_is_kept(home_day):
    sources = home_day[0]["sources"]
    given = sources["grid_kwh"] + sources["pv_kwh"] + sources["battery_kwh"]
    taken = sources["cars_kwh"] + sources["other_load_kwh"] + sources["to_battery_kwh"] + sources["to_grid_kwh"]
    assert given == pytest.approx(taken, abs=0.02)
    from_where = sources["cars_grid_kwh"] + sources["cars_pv_kwh"] + sources["cars_battery_kwh"]
    assert from_where == pytest.approx(sources["cars_kwh"], abs=0.02)
    assert sources["cars_kwh"] == pytest.approx(home_day[0]["energy"]["delivered_kwh"], rel=0.01)
    assert sources["pv_kwh"] > 5  # the sun shone on it


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen, self.outside = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)
        self.outside += [v for k, v in attrs if k in {"src", "href", "xlink:href"} and v and not v.startswith("#")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_page_with_three_plots(home_day):
    found, text, _ = home_day
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.outside == []  # nothing is fetched from elsewhere
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) == 3
    for plot in plots:
        ET.fromstring(plot)
        assert len(re.findall("<path", plot)) > 5
    assert "limit" in plots[0]
    assert "carport/1" in plots[1] or "garage/1" in plots[1]
    assert all(source in plots[2] for source in ("grid", "pv", "battery"))
    assert f"{found['energy']['delivered_kwh']:.1f} kWh" in text


def test_the_same_seed_gives_the_same_day_and_another_one_does_not(home_day):
    again = cem("simulate", HOME, "--seed", 7, "--cycle", 60, "--json")
    assert again.stdout == home_day[2]
    site = load_site_file(HOME).site
    assert visits(site, 1, 7, PATTERNS["home"]) != visits(site, 1, 8, PATTERNS["home"])


@functools.cache
def lived(*, skip_idle, calm_step_s=1.0):
    plant = Plant(SITE, 5, length_s=5 * 3600)
    setpoints = []
    loop = ClosedLoop(
        Plan.of(SITE, Timings()), plant, cycle_s=10.0, step_s=0.5, calm_step_s=calm_step_s, skip_idle=skip_idle
    )
    course = Course(loop, 60.0)
    car = Car(need_wh=3000.0, max_a=16.0)

    def note(loop):
        if any(station.charging for station in loop.stations.values()):
            setpoints.append((loop.plant.t_s, *loop.memory.setpoint_a.tolist(), *loop.decision.reason.tolist()))

    for at_s, do in (
        (600, lambda: loop.plug("A/1", car)),
        (1500, lambda: loop.unplug("A/1")),
        (9000, lambda: (loop.plug("A/1", car), loop.plug("B/1", car))),
        (9600, lambda: setattr(loop, "limits", (LOW,))),
        (10200, lambda: setattr(loop, "limits", ())),
        (10500, lambda: (loop.unplug("A/1"), loop.unplug("B/1"))),
        (15000, lambda: None),
    ):
        loop.run(float(at_s), note)
        do()
    return loop, setpoints, figures(loop, course)


def test_leaving_idle_cycles_out_changes_nothing_that_anybody_could_see():
    loop, setpoints, found = lived(skip_idle=True)
    whole, all_setpoints, all_found = lived(skip_idle=False)
    assert loop.skipped > 400
    assert whole.skipped == 0
    assert setpoints == all_setpoints
    assert len(setpoints) > 200
    assert {k: v for k, v in found.items() if k != "cycles"} == {k: v for k, v in all_found.items() if k != "cycles"}


def test_a_limit_change_has_a_settling_time_and_is_judged():
    loop, _, found = lived(skip_idle=True)
    down, up = loop.changes
    assert (down.at_s, up.at_s) == (9600.0, 10200.0)
    assert 0 < down.settled_s < 40
    assert up.settled_s == 0
    assert found["limits"]["settling_s"] == [down.settled_s, 0.0]
    assert found["limits"]["above_limit_as"] > 0


def test_a_calm_plant_may_take_longer_steps():
    fine = lived(skip_idle=True, calm_step_s=0.5)[2]
    coarse = lived(skip_idle=True)[2]
    assert coarse["energy"]["delivered_kwh"] == pytest.approx(fine["energy"]["delivered_kwh"], rel=0.01)
    assert coarse["sources"]["grid_kwh"] == pytest.approx(fine["sources"]["grid_kwh"], rel=0.01)


def test_sessions_know_what_they_waited_for_and_got():
    site = replace(SITE, resources=())
    plant = Plant(site, 1, households=False)
    loop = ClosedLoop(Plan.of(site, Timings(min_off_s=10.0)), plant, step_s=0.5)
    course = Course(loop, 10.0)
    loop.run(5.0)
    loop.plug("A/1", Car(need_wh=500.0, max_a=16.0, settle_s=2.0))
    loop.run(60.0)
    plant.add_load("house", PerPhase.same(33 * 230.0), 30.0)
    loop.run(90.0)
    loop.run(600.0)
    loop.unplug("A/1")
    loop.plug("B/1", Car())
    loop.run(620.0)
    found = figures(loop, course)
    first, second = found["by_session"]
    assert first["requested_kwh"] == 0.5
    assert first["delivered_kwh"] == pytest.approx(0.5, abs=0.01)
    assert first["pauses"] == 1
    assert 0 < first["first_current_s"] < 15
    assert second["requested_kwh"] is None
    assert second["end_s"] is None
    assert second["delivered_kwh"] > 0
    assert found["sessions"]["fully_served"] == 1
    assert found["energy"]["delivered_of_requested"] == pytest.approx(1.0, abs=0.02)


def test_jain():
    assert jain([1.0, 1.0, 1.0]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain([]) is None


@pytest.mark.parametrize("name", PATTERNS)
def test_visits_fit_their_evse_and_what_is_asked_for_can_be_had(name):
    site = load_site_file(ROOT / "site_configs" / "parking.yaml").site
    coming = visits(site, 5, 3, PATTERNS[name])
    assert coming == visits(site, 5, 3, PATTERNS[name])
    assert len(coming) > 2 * len(site.evses)
    limits = {evse.evse_id: evse for evse in site.evses}
    for visit in coming:
        evse = limits[visit.evse_id]
        assert 0 <= visit.arrive_s < visit.leave_s <= 5 * 86400
        most_w = min(visit.car.max_a, evse.max_a) * visit.car.phases * 230
        assert visit.car.need_wh <= 0.86 * most_w * (visit.leave_s - visit.arrive_s) / 3600
    for evse_id in limits:
        own = sorted((v.arrive_s, v.leave_s) for v in coming if v.evse_id == evse_id)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(own))
    assert pattern_for(site) == "office"
    assert pattern_for(SITE) == "home"


def test_days_with_low_limits():
    plant = Plant(SITE, 2, length_s=86400, appliances=False)
    plan = Plan.of(SITE, Timings())
    loop = ClosedLoop(plan, plant, cycle_s=60.0, step_s=10.0, skip_idle=True)
    play_days(loop, visits(SITE, 1, 2, PATTERNS["home"]), 1, [LOW], 2)
    assert len(loop.changes) == 2
    assert loop.limits == ()
    assert loop.plant.t_s == pytest.approx(86400.0)
    assert all(session.end_s is not None for session in loop.tally.sessions)


def test_the_judge_heats_as_the_thermal_model_does():
    site = replace(SITE, zones=(replace(SITE.zones[0], protection=Protection(16.0, "gg", None)),))
    judge = Judge(site, lambda _: None)
    model = ThermalModel.of(site.root.protection)
    t_s, tripped_s = 0.0, None
    while tripped_s is None:
        t_s += 0.5
        amps = PerPhase(30.0 if t_s > 20 else 10.0, 0.0, 0.0)
        judge.watch(t_s, 0.5, lambda _, amps=amps: amps)
        model = model.advance(amps.l1 / 16.0, 0.5)
        tripped_s = t_s if model.tripped else None
    assert judge.tripped == {"house": tripped_s}
    assert judge.total_as == pytest.approx(14.0 * (tripped_s - 20))
    assert judge.over


def test_the_judge_holds_a_watt_limit_of_the_sum():
    judge = Judge(SITE, lambda _: None, lambda _: 30.0)
    judge.watch(1.0, 1.0, lambda _: PerPhase(28.0, 0.0, 1.0))
    assert not judge.over
    judge.watch(2.0, 1.0, lambda _: PerPhase(28.0, 5.0, 3.0))
    assert judge.over
    assert judge.total_as == pytest.approx(6.0)


def test_what_is_on_and_what_passes_is_the_same_by_index_and_by_search():
    house = Household(9, 25.0, length_s=4000.0)
    sky = Sky(9, length_s=4000.0)
    times = [t * 3.7 for t in range(1000)]
    for t_s in [*times, *reversed(times)]:
        on = [step for step in house.steps if step.start_s <= t_s < step.end_s]
        assert house._running(t_s) == on
        shade = max((cloud.shade(t_s) for cloud in sky._clouds), default=0.0)
        assert max((cloud.shade(t_s) for cloud in sky._passing(t_s)), default=0.0) == shade


def test_a_scenario_runs_from_the_command_line_with_its_own_site_or_another(tmp_path):
    done = cem("simulate", "--scenario", SCENARIOS / "two_cars_share_the_fuse.yaml", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sessions"]["count"] == 2
    assert found["unmet"] == []
    story = tmp_path / "mine.yaml"
    story.write_text(
        "steps:\n"
        "  - {at_s: 5, plug: {evse: carport/1}}\n"
        "  - {at_s: 60, limit: {zone: house, amps: [10, 10, 10]}}\n"
        "  - {at_s: 90, expect: {draw: {carport/1: [20, 32]}}}\n"
        "at_end: {no_trip: true}\n"
    )
    done = cem("simulate", HOME, "--scenario", story)
    assert done.returncode == 1, done.stderr
    assert "not met: at 90 s: carport/1 draws" in done.stdout
    done = cem("simulate", "--scenario", story)
    assert done.returncode == 1
    assert "has no site of its own" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [{at_s: 1, plugg: {evse: A/1}}]", "did you mean plug"),
        ("steps: [{plug: {evse: A/1}}]", "without at_s"),
        ("steps: [{at_s: 1, expect: {setpont: {A/1: 1}}}]", "did you mean setpoint"),
        ("steps: []\nat_end: {no_tripp: true}", "did you mean no_trip"),
        ("steps: []\nseeds: 3", "did you mean seed"),
        ("steps: []\ntimings: {raise_intervall_s: 3}", "raise_intervall_s"),
        ("steps: {", "not YAML"),
        ("- 1", "a list of steps"),
        ("steps: [{at_s: 1, expect: 3}]", "names with values"),
    ],
)
def test_a_scenario_file_that_cannot_be_used_says_why(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(CemError, match=re.escape(message)):
        read_scenario(path)


@pytest.mark.parametrize(
    "step",
    ["plug: {evse: X/9}", "plug: {evse: A/1, colour: red}", "limit: {zone: attic, amps: [1, 1, 1]}", "unplug: X/9"],
)
def test_a_step_that_names_what_is_not_there_says_so(tmp_path, step):
    path = tmp_path / "bad.yaml"
    path.write_text(f"steps: [{{at_s: 1, {step}}}]")
    loop = ClosedLoop(Plan.of(SITE, Timings()), Plant(SITE, households=False))
    with pytest.raises(CemError, match="the step at 1 s"):
        play(read_scenario(path), loop)


def test_every_word_of_a_scenario_is_used_by_one():
    text = "\n".join(path.read_text() for path in SCENARIOS.glob("*.yaml"))
    unused = {word for word in (*STEPS, *CHECKS) if not re.search(rf"\b{word}\b", text)}
    assert unused <= {"trip_inverter", "sleep"}  # see below
    assert set(STEPS) >= OUTSIDE


def test_a_car_that_sleeps_and_an_inverter_that_trips(tmp_path):
    path = tmp_path / "night.yaml"
    path.write_text(
        "steps:\n"
        "  - {at_s: 5, plug: {evse: A/1}}\n"
        "  - {at_s: 60, expect: {draw: {A/1: [20, 32]}}}\n"
        "  - {at_s: 61, sleep: A/1, trip_inverter: pv}\n"
        "  - {at_s: 90, expect: {draw: {A/1: 0}}}\n"
    )
    plant = Plant(SITE, households=False)
    loop = ClosedLoop(Plan.of(SITE, Timings()), plant)
    assert plant.power_w(ResourceKind.PV) == 0.0
    loop.run(4.0)
    assert plant.power_w(ResourceKind.PV) < -4000.0
    assert play(read_scenario(path), loop) == []
    assert plant.power_w(ResourceKind.PV) == 0.0


def test_without_matplotlib_the_report_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['matplotlib'] = None\nfrom cem.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "simulate", str(HOME), "--report", str(tmp_path / "x.html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'cem-site-controller[report]'" in done.stderr
