"""A draw beyond its limit is told by the meter first and by its station later: then it is no other load any more.

Until the report it can only count as other load, and there it would be remembered for the peak-hold while the station
is counted with what it draws as well: twice, and a neighbour is paused for nothing (fault S4). So once a report
explains it, the peaks since the report before are taken down by what it explained.
"""

from dataclasses import replace

import numpy as np

from cem.core.headroom import ZoneMemory
from cem.core.observe import Reports, Seen, or_zero
from cem.core.other_load import BUCKET_S, BUCKETS
from cem.core.topology import SUM, Floats
from cem.core.units import LOWEST_V
from cem.core.zone_plan import ZonePlan

OVER_A = 1.0
"""Less than this above is following its limit."""


def explained(plan: ZonePlan, zones: ZoneMemory, before: Reports, seen: Seen, expected_a: Floats) -> ZoneMemory:
    """The zones' memory with what this cycle's reports explain taken out of the other load.

    Only a draw beyond what its EVSE was committed to is taken out: up to that it was never held to be other load for
    sure while a raise was in flight.

    Args:
        plan: The zones.
        zones: From the last cycle.
        before: The reports of the last cycle.
        seen: This cycle's.
        expected_a: ``(n,)`` the most each was held to draw until now.
    """
    if seen.reports.last_s is before.last_s:  # nobody reported anew
        return zones
    known_a = np.maximum(or_zero(before.last_a), expected_a[:, None])
    rise_a = np.maximum(seen.last_a - known_a, 0.0)
    tells = (seen.reports.last_s > before.last_s) & (rise_a.max(axis=1, initial=0.0) > OVER_A)
    if not np.count_nonzero(tells):
        return zones
    highest = zones.peaks.highest.copy()
    for i in tells.nonzero()[0].tolist():
        only_i = np.where((np.arange(len(tells)) == i)[:, None], rise_a, 0.0)
        zone_a = plan.in_zones(plan.wiring.on_grid(only_i))
        told = np.column_stack((zone_a, zone_a.sum(axis=1) * LOWEST_V))
        count = zones.peaks.bucket - int(max(before.last_s[i], 0.0) // BUCKET_S) + 1
        since = (zones.peaks.bucket - np.arange(min(max(count, 0), BUCKETS))) % BUCKETS
        highest[: len(told), since, : SUM + 1] -= told[:, None, :]
    return replace(zones, peaks=replace(zones.peaks, highest=highest))
