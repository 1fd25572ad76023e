"""Runs inside the peers' own environment: acnportal's network, simulator and algorithms, driven by a job file.

``python _acnportal.py JOB.json OUT.npz``. It imports nothing of ours. The job holds the sessions, a transformer size
and either the name of one of acnportal's algorithms or a matrix of pilots to replay; the answer holds the pilots, the
currents the cars drew, the energy each session got and the processor time of each call of the algorithm. With ``network`` as the
name it answers the network itself. Whatever was decided is put to the network's own ``is_feasible``, period by period.
"""

import json
import sys
import time
import types
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

# acnportal imports scikit-learn for its random sessions, which nobody here uses.
_mixture = types.ModuleType("sklearn.mixture")
_mixture.GaussianMixture = object
sys.modules["sklearn"] = types.ModuleType("sklearn")
sys.modules["sklearn.mixture"] = _mixture
warnings.simplefilter("ignore")

from acnportal import acnsim, algorithms  # noqa: E402 - after the stand-in above
from acnportal.algorithms import sorted_algorithms  # noqa: E402

PERIOD_MIN = 5
PLAIN_CHECK = sorted_algorithms.infrastructure_constraints_feasible


def quick_check_of(network):
    """The same test as acnportal's, in one product instead of a loop over the limits: a benchmark has its time too."""
    turned = network.constraint_matrix * np.exp(1j * np.deg2rad(network._phase_angles))
    limits = network.magnitudes + np.maximum(1e-5, 1e-7 * network.magnitudes)
    return lambda rates, _infrastructure: bool((np.abs(turned @ rates) <= limits).all())


def quick_pilot(evse, pilot):
    """Whether a pilot is one of the EVSE's, without numpy for 27 numbers."""
    return any(abs(pilot - rate) <= 1e-3 for rate in evse.allowable_rates)


class Replay(algorithms.BaseAlgorithm):
    """Sends the pilots it was given."""

    def __init__(self, pilots):
        super().__init__()
        self.pilots = pilots
        self.max_recompute = 1

    def schedule(self, active_sessions):
        now = self.interface.current_time
        stations = self.interface.infrastructure_info().station_ids
        return {station: [float(a)] for station, a in zip(stations, self.pilots[:, now], strict=True)}


ALGORITHMS = {
    "llf": lambda: algorithms.SortedSchedulingAlgo(algorithms.least_laxity_first),
    "edf": lambda: algorithms.SortedSchedulingAlgo(algorithms.earliest_deadline_first),
    "rr": lambda: algorithms.RoundRobin(algorithms.first_come_first_served),
}


def describe(network):
    """Coefficients as complex numbers (turned by each EVSE's phase angle), limits, pilots."""
    turned = network.constraint_matrix * np.exp(1j * np.deg2rad(network._phase_angles))
    return {
        "stations": np.array(network.station_ids),
        "real": turned.real,
        "imag": turned.imag,
        "limits": network.magnitudes,
        "names": np.array(network.constraint_index),
        "pilots": json.dumps([[float(a) for a in rates] for rates in network.allowable_rates]),
    }


def simulate(job, network, algorithm):
    """One run of acnportal's simulator."""
    stations = network.station_ids
    evs = []
    for number, (station, arrival, departure, kwh) in enumerate(job["sessions"]):
        battery = acnsim.Battery(kwh, 0, 32 * job["voltage"] / 1000)
        evs.append(acnsim.EV(arrival, departure, kwh, stations[station], f"s{number}", battery))
    calls = []
    decide = algorithm.schedule

    def timed(active_sessions):
        start = time.thread_time()
        answer = decide(active_sessions)
        if active_sessions:
            calls.append(1e3 * (time.thread_time() - start))
        return answer

    algorithm.schedule = timed
    queue = acnsim.EventQueue([acnsim.PluginEvent(ev.arrival, ev) for ev in evs])
    simulator = acnsim.Simulator(
        network, algorithm, queue, datetime(2019, 1, 1, tzinfo=UTC), period=PERIOD_MIN, verbose=False
    )
    simulator.run()
    pilots = simulator.pilot_signals
    return {
        "pilots": pilots,
        "rates": simulator.charging_rates,
        "energy": np.array([ev.energy_delivered for ev in evs]),
        "ms": np.array(calls),
        "infeasible": np.array([t for t in range(pilots.shape[1]) if not network.is_feasible(pilots[:, t : t + 1])]),
    }


acnsim.FiniteRatesEVSE._valid_rate = quick_pilot


def main(job_file, out_file):
    with Path(job_file).open(encoding="utf-8") as file:
        job = json.load(file)
    answers = {}
    for run in job["runs"]:
        network = acnsim.sites.caltech_acn(voltage=job["voltage"], transformer_cap=run["kw"])
        check = PLAIN_CHECK if run.get("timed") else quick_check_of(network)
        sorted_algorithms.infrastructure_constraints_feasible = check
        if run["algorithm"] == "network":
            answer = describe(network)
        elif run["algorithm"] == "replay":
            answer = simulate(job, network, Replay(np.load(run["pilots"])))
        else:
            answer = simulate(job, network, ALGORITHMS[run["algorithm"]]())
        answers.update({f"{run['name']}/{key}": value for key, value in answer.items()})
    np.savez_compressed(out_file, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
