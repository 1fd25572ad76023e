"""How the stations of a site are served."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cem.csms.authorization import OnRejected, Policy, Tags
from cem.csms.personality import Quirk


@dataclass(frozen=True, slots=True)
class Options:
    """How stations are served; see ``cem.config.models.Csms``.

    Attributes:
        primary_id: Name of the upstream that decides, where there is one.
        observers: Further upstreams, with the commands that each may give.
        replay_boot: Those upstreams (``PRIMARY`` for that one) that hear a station's last boot at each new connection.
        quirks: What is publicly known of models.
        stop_ignoring: A transaction that follows no limit in any words is ended.
        end_to_end: The primary's charging profiles reach this station (mode A), which has one EVSE.
    """

    upstream: bool = False
    primary_id: str = "cloud"
    observers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    on_rejected: OnRejected = "station"
    allowed_hosts: frozenset[str] = frozenset()
    tags: Tags | None = None
    offline_authorization: Policy = "known"
    on_csms_loss: str = "keep"
    profile_duration_s: float = 120
    profile_refresh_s: float = 40
    meter_interval_s: float = 10
    end_to_end: bool = False
    unwanted_samples: str = "empty"
    signs: bool = False
    replay_boot: frozenset[str] = frozenset()
    quirks: tuple[Quirk, ...] = ()
    stop_ignoring: bool = False
