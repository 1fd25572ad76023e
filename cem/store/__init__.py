"""What the controller keeps on disk: a ledger that never loses an acknowledged record, and a history that may."""

from cem.store.rollups import MinuteRollups, Rollup
from cem.store.sessions import Session
from cem.store.store import Store

__all__ = ["MinuteRollups", "Rollup", "Session", "Store"]
