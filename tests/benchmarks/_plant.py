"""Cars that come, draw what they are offered until they have what they want, and leave; and what is said of it after.

One period is five minutes. A car draws the least of what it is offered and what it still wants, from the start of a
period to its end; it knows when it leaves, and says so. The same for everybody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.benchmarks._peers import Stay

PERIODS_PER_HOUR = 12
DONE_A = 1e-6  # amp-periods
WHOLE, STRICTLY_WHOLE = 0.99, 0.999


@dataclass(frozen=True)
class Sessions:
    """Sessions, one entry each, by arrival.

    Attributes:
        evse: Where it stands.
        arrival, departure: First period, and the one after the last.
        want: Charge wanted, ampere-periods per phase.
        kwh: The same as energy.
    """

    evse: np.ndarray
    arrival: np.ndarray
    departure: np.ndarray
    want: np.ndarray
    kwh: np.ndarray

    @property
    def periods(self) -> int:
        return int(self.departure.max())


def sessions_of(
    stays: list[Stay],
    want_kwh: list[float],
    evses: list[int],
    first: datetime,
    kw_per_evse: np.ndarray,
    max_a: np.ndarray,
) -> Sessions:
    """Recorded sessions in periods, each wanting so much, as far as its EVSE can bring it in its stay.

    Args:
        stays: By arrival.
        want_kwh: What each wants.
        evses: Where each stands.
        first: Period 0.
        kw_per_evse: Power of each EVSE at its most current.
        max_a: That current, per phase.
    """
    rows = []
    free_at: dict[int, int] = {}
    for stay, want, i in zip(stays, want_kwh, evses, strict=True):
        came, left = (int((at - first).total_seconds() * PERIODS_PER_HOUR // 3600) for at in (stay.came, stay.left))
        came = max(came, free_at.get(i, 0))  # two cars within the same five minutes
        if left > came:
            free_at[i] = left
            rows.append((i, came, left, min(want, kw_per_evse[i] * (left - came) / PERIODS_PER_HOUR)))
    evse, arrival, departure, kwh = (np.array(column) for column in zip(*rows, strict=True))
    return Sessions(evse, arrival, departure, kwh * PERIODS_PER_HOUR * max_a[evse] / kw_per_evse[evse], kwh)


@dataclass(frozen=True)
class Now:
    """What a policy may know, one entry per EVSE.

    Attributes:
        present: A car stands there and wants more.
        left: What it still wants, ampere-periods per phase; 0 elsewhere.
        periods: Periods to its departure, this one included; 0 elsewhere.
        waiting: Periods since it came.
        drew: It drew current in the period before.
        offered_a: What it was offered then.
        arrival: When it came.
    """

    present: np.ndarray
    left: np.ndarray
    periods: np.ndarray
    waiting: np.ndarray
    drew: np.ndarray
    offered_a: np.ndarray
    arrival: np.ndarray


Policy = Callable[[Now], np.ndarray]


def play(sessions: Sessions, n: int, policy: Policy) -> tuple[np.ndarray, np.ndarray]:
    """Offers and draws of each EVSE in each period, ``(n, periods)``."""
    offers, draws = np.zeros((n, sessions.periods)), np.zeros((n, sessions.periods))
    left, here = np.zeros(n), np.full(n, -1)
    departure, arrival = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    last_offer, last_draw = np.zeros(n), np.zeros(n)
    by_arrival = np.argsort(sessions.arrival, kind="stable")
    following = 0
    for t in range(sessions.periods):
        gone = (here >= 0) & (departure <= t)
        here[gone], left[gone], last_draw[gone], last_offer[gone] = -1, 0.0, 0.0, 0.0
        while following < by_arrival.size and sessions.arrival[by_arrival[following]] <= t:
            s = by_arrival[following]
            i = sessions.evse[s]
            if here[i] >= 0:
                raise ValueError(f"two cars at EVSE {i} in period {t}")
            here[i], left[i], departure[i], arrival[i] = s, sessions.want[s], sessions.departure[s], t
            following += 1
        present = (here >= 0) & (left > DONE_A)
        if not present.any():
            last_offer, last_draw = np.zeros(n), np.zeros(n)
            continue
        now = Now(
            present=present,
            left=left.copy(),
            periods=np.where(present, departure - t, 0),
            waiting=np.where(present, t - arrival, 0),
            drew=present & (last_draw > 0),
            offered_a=last_offer,
            arrival=arrival,
        )
        last_offer = np.where(present, policy(now), 0.0)
        last_draw = np.minimum(last_offer, left)
        left = left - last_draw
        offers[:, t], draws[:, t] = last_offer, last_draw
    return offers, draws


@dataclass(frozen=True)
class Outcome:
    """One policy at one limit; ratios are delivered to wanted, in % but for Jain's index.

    Attributes:
        energy: Delivered of all that was wanted.
        whole: Sessions served whole: 99 % of what they wanted, or short of no more than one step of the pilot for one
            period.
        strict: Sessions that got 99.9 %.
        nearly: Sessions short of less than one period at the minimum, where the peers end a session.
        wait_min: Mean time from arrival to first current; to departure for those who never got any.
        p5: 5th percentile.
        jain: Jain's index.
        pauses: Stops per session.
    """

    energy: float
    whole: float
    strict: float
    nearly: float
    wait_min: float
    p5: float
    jain: float
    pauses: float


def judge(sessions: Sessions, draws: np.ndarray, min_a: np.ndarray, step_a: np.ndarray) -> Outcome:
    """What the draws mean for the cars; least current and steps of each EVSE are given.

    A pause is a stop of a car that still wants more than one period at its minimum.
    """
    got = np.empty(sessions.want.size)
    wait = np.empty(sessions.want.size)
    pauses = 0
    for s, (i, a, b) in enumerate(zip(sessions.evse, sessions.arrival, sessions.departure, strict=True)):
        mine = draws[i, a:b]
        taken = np.cumsum(mine)
        got[s] = taken[-1]
        flowing = mine > 0
        wait[s] = np.argmax(flowing) if flowing.any() else b - a
        stops = flowing[:-1] & ~flowing[1:] & (sessions.want[s] - taken[:-1] >= min_a[i])
        pauses += int(stops.sum())
    ratio, short = got / sessions.want, sessions.want - got
    return Outcome(
        energy=100 * float((ratio * sessions.kwh).sum() / sessions.kwh.sum()),
        whole=100 * float(np.mean((ratio >= WHOLE) | (short <= step_a[sessions.evse] + DONE_A))),
        strict=100 * float(np.mean(ratio >= STRICTLY_WHOLE)),
        nearly=100 * float(np.mean(short < min_a[sessions.evse])),
        wait_min=60 / PERIODS_PER_HOUR * float(wait.mean()),
        p5=100 * float(np.percentile(ratio, 5)),
        jain=float(ratio.sum() ** 2 / (ratio.size * (ratio**2).sum())),
        pauses=pauses / sessions.want.size,
    )


def print_table(title: str, lines: list[tuple[str, str, Outcome | float]]) -> None:
    """One line for each limit and policy; of the optimum only the energy means anything."""
    table = Table(
        "limit",
        "policy",
        "energy %",
        "whole %",
        "99.9 %",
        "nearly %",
        "first current min",
        "5th pct. %",
        "Jain",
        "pauses",
        title=title,
    )
    last = lines[0][0]
    for limit, name, outcome in lines:
        if limit != last:
            table.add_section()
            last = limit
        if isinstance(outcome, float):
            table.add_row(limit, name, f"{outcome:.1f}")
            continue
        table.add_row(
            limit,
            name,
            f"{outcome.energy:.1f}",
            f"{outcome.whole:.0f}",
            f"{outcome.strict:.0f}",
            f"{outcome.nearly:.0f}",
            f"{outcome.wait_min:.0f}",
            f"{outcome.p5:.0f}",
            f"{outcome.jain:.3f}",
            f"{outcome.pauses:.2f}",
        )
    Console(width=110).print(table)
