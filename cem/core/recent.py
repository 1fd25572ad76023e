"""The highest value of the last seconds: what limits room counts at once when it rises, and late when it falls."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from cem.core.topology import Floats

BUCKET_S = 2.5
BUCKETS = 56
"""140 s back, as far as two reports of the slowest station (60 s)."""


@dataclass(frozen=True, slots=True)
class Recent:
    """Some series, each with its highest value in every 2.5 s of the last 140 s.

    Attributes:
        peaks: ``(k, BUCKETS)``; -inf where nothing was seen.
        bucket: Number of the bucket written last.
    """

    peaks: Floats
    bucket: int

    @classmethod
    def none(cls, count: int) -> Self:
        """Before anything was seen."""
        return cls(np.full((count, BUCKETS), -np.inf), -1)

    def seen(self, values: Floats, now_s: float) -> Self:
        """With this cycle's values ``(k,)``; NaN is nothing seen."""
        bucket = int(now_s // BUCKET_S)
        peaks = self.peaks.copy()
        for empty in range(max(self.bucket + 1, bucket - BUCKETS + 1), bucket + 1):
            peaks[:, empty % BUCKETS] = -np.inf
        peaks[:, bucket % BUCKETS] = np.fmax(peaks[:, bucket % BUCKETS], values)
        return type(self)(peaks, bucket)

    def highest(self, window_s: float, now_s: float) -> Floats:
        """``(k,)`` the highest of the last ``window_s``; NaN where nothing was seen."""
        age = (int(now_s // BUCKET_S) - np.arange(BUCKETS)) % BUCKETS
        peak = np.where(age * BUCKET_S <= window_s, self.peaks, -np.inf).max(axis=1)
        # what an old lap of the ring left behind is no memory of now
        known = np.isfinite(peak) & (int(now_s // BUCKET_S) - self.bucket < BUCKETS)
        return np.where(known, peak, np.nan)
