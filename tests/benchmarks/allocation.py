"""Time of one allocation against one linear program, from 10 to 10,000 EVSEs.

The product admits, water-fills exactly and rounds to whole amps. HiGHS gets the easier question: most current in sum,
no minima, no fairness, no steps, its matrix built beforehand. Both see the same sites and the same sequence of
limits, ten of one and ten of the other in turn, in one process.
"""

import statistics
import time
from pathlib import Path

import highspy
import numpy as np

from cem.core.allocation import Request, share
from cem.core.site import Evse, Protection, Site, Zone
from cem.core.topology import Topology, flatten, uses
from tests.benchmarks import _decide, _simulate

SIZES = (10, 100, 1_000, 5_000, 10_000)
FANOUT = 8
BLOCK = 10


def site_of(n_evses: int, seed: int = 1) -> Site:
    """A tree of zones, eight beneath each, about 17 EVSEs to a zone; half of them three-phase, phases rotated."""
    rng = np.random.default_rng(seed)
    n_zones = max(3, n_evses * 6 // 100)
    zones = [Zone(f"z{z}", None if z == 0 else f"z{(z - 1) // FANOUT}", Protection(63.0)) for z in range(n_zones)]
    leaves = [z for z in range(n_zones) if FANOUT * z + 1 >= n_zones]
    evses = []
    for i in range(n_evses):
        phases = int(rng.choice([1, 3]))
        rotation = tuple((int(rng.integers(3)) + k) % 3 if phases == 1 else k for k in range(phases))
        evses.append(Evse(f"s{i}/1", f"s{i}", f"z{rng.choice(leaves)}", 1, phases=phases, rotation=rotation))
    return Site("benchmark", 230.0, 3, tuple(zones), tuple(evses))


def limits(rng: np.random.Generator, topology: Topology, full_a: np.ndarray) -> np.ndarray:
    """Each zone carries 35 to 75 % of what its EVSEs could draw on that phase, two of three also have a W limit."""
    cap = full_a * rng.uniform(0.35, 0.75, topology.rows)
    cap[3::4][rng.random(topology.rows // 4) < 1 / 3] = np.inf
    return cap


def request_of(topology: Topology, seed: int = 2) -> Request:
    """Eight of ten want current, up to 16 or 32 A or what a lazy car takes, with three weights."""
    rng = np.random.default_rng(seed)
    n = topology.n
    return Request(
        wants=rng.random(n) < 0.8,
        min_a=np.full(n, 6.0),
        max_a=np.where(rng.random(n) < 0.3, rng.integers(8, 20, n), rng.choice([16, 32], n)).astype(float),
        phases=topology.phases,
        n_phases=topology.n_phases,
        weight=rng.choice([1.0, 1.0, 1.0, 2.0], n),
        running=rng.random(n) < 0.7,
        urgency=rng.random(n),
        waiting_s=rng.random(n),
    )


def throughput_lp(topology: Topology, request: Request) -> highspy.HighsLp:
    """Most current in sum, 0 to the maximum; the row limits are left to the caller."""
    use = uses(topology, request.phases, request.n_phases)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = topology.n, topology.rows
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = np.where(request.wants, 1.0, 0.0)
    lp.col_lower_ = np.zeros(topology.n)
    lp.col_upper_ = np.where(request.wants, request.max_a, 0.0)
    lp.row_lower_ = np.full(topology.rows, -highspy.kHighsInf)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.searchsorted(use.evse, np.arange(topology.n + 1)).astype(np.int32)
    lp.a_matrix_.index_ = use.row.astype(np.int32)
    lp.a_matrix_.value_ = use.coef
    return lp


def _measure(n: int, repeats: int) -> tuple[list[float], list[float]]:
    """Times in ms of ours and of the LP, in turn on the same limits."""
    topology = flatten(site_of(n))
    request = request_of(topology)
    full_a = uses(topology, request.phases, request.n_phases).load(np.full(n, 32.0))
    lp = throughput_lp(topology, request)
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("parallel", "off")
    rng = np.random.default_rng(3)
    caps = [limits(rng, topology, full_a) for _ in range(repeats)]
    ours: list[float] = []
    theirs: list[float] = []
    share(topology, request, caps[0])
    for first in range(0, repeats, BLOCK):
        for cap in caps[first : first + BLOCK]:
            start = time.perf_counter()
            share(topology, request, cap)
            ours.append(1e3 * (time.perf_counter() - start))
        for cap in caps[first : first + BLOCK]:
            lp.row_upper_ = cap
            start = time.perf_counter()
            solver.passModel(lp)
            solver.run()
            theirs.append(1e3 * (time.perf_counter() - start))
            if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
                raise RuntimeError(f"HiGHS did not solve the case of {n} EVSEs: {solver.getModelStatus()}")
    return ours, theirs


def run() -> dict[str, float]:
    """Medians in ms: ``alloc_ms.N``, ``highs_lp_ms.N``; the slowest of ours as ``alloc_worst_ms.N``.

    And whole decisions: ``decide_p50_ms.N``, ``decide_p99_ms.N``; and a day at home: ``simulate_x.home``.
    """
    figures = _decide.run() | _simulate.run()
    for n in SIZES:
        ours, theirs = _measure(n, repeats=300 if n <= 100 else 30)
        figures[f"alloc_ms.{n}"] = statistics.median(ours)
        figures[f"alloc_worst_ms.{n}"] = max(ours)
        figures[f"highs_lp_ms.{n}"] = statistics.median(theirs)
    return figures


def plot(figures: dict[str, float], directory: Path) -> None:
    """Cost against N, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for key, label in (("alloc_ms", "allocation (fair, whole amps)"), ("highs_lp_ms", "HiGHS, one LP (throughput)")):
        axes.loglog(SIZES, [figures[f"{key}.{n}"] for n in SIZES], marker="o", label=label)
    axes.set_xlabel("EVSEs")
    axes.set_ylabel("ms, median")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(directory / "allocation.png", dpi=120)
    plt.close(figure)
