"""The subprotocols we speak."""

from collections.abc import Callable, Mapping

from cem.csms.dialect import Dialect
from cem.csms.v2 import V2
from cem.csms.v16 import V16

DIALECTS: Mapping[str, Callable[[], Dialect]] = {
    "ocpp2.1": lambda: V2("2.1"),
    "ocpp2.0.1": lambda: V2("2.0.1"),
    "ocpp1.6": V16,
}
"""By name; where a station offers several, its order of preference decides."""


def dialect_of(ocpp_version: str) -> Dialect | None:
    """The dialect of ``1.6``, ``2.0.1`` or ``2.1``; ``None`` for anything else."""
    make = DIALECTS.get(f"ocpp{ocpp_version}")
    return None if make is None else make()
