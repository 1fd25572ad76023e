"""The time of one call into a session."""

from datetime import datetime
from typing import NamedTuple


class Now(NamedTuple):
    """Both clocks, read together: ``s`` monotonic for timers, ``utc`` for what is written into messages and records."""

    s: float
    utc: datetime


def ocpp_time(utc: datetime) -> str:
    """A UTC time as OCPP writes it (RFC 3339, whole milliseconds, ``Z``)."""
    return utc.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
