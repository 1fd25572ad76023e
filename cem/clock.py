"""The machine's own clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """Time of this machine: monotonic for ages and control, UTC for schedules and records."""

    def monotonic_s(self) -> float:
        """Seconds that never jump (CLOCK_MONOTONIC); only differences mean anything."""
        return time.monotonic()

    def utc(self) -> datetime:
        """Aware UTC; may jump when the machine's clock is set."""
        return datetime.now(UTC)
