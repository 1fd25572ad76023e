"""From the site file's section to how the stations are served."""

from collections.abc import Mapping
from pathlib import Path

from cem.config.csms_models import Csms, Upstream
from cem.config.quirks import read_quirks
from cem.csms.actions import PRIMARY
from cem.csms.authorization import Tags
from cem.csms.options import Options


def options_of(csms: Csms, upstreams: Mapping[str, Upstream], tags: Tags, *, signs: bool) -> Options:
    """What all stations of the site have in common.

    Args:
        csms: The section.
        upstreams: The CSMSs above, by the name that actions call them.
        tags: Who may charge where there is no cloud.
        signs: The site has a CA of its own for stations.
    """
    return Options(
        upstream=PRIMARY in upstreams,
        primary_id=upstreams[PRIMARY].id if PRIMARY in upstreams else "",
        observers={name: frozenset(up.allow) for name, up in upstreams.items() if name != PRIMARY},
        on_rejected=csms.on_rejected,
        allowed_hosts=frozenset(csms.allowed_hosts),
        tags=tags if csms.standalone_authorization == "tags" else None,
        offline_authorization=csms.offline_authorization,
        on_csms_loss=csms.on_csms_loss,
        profile_duration_s=csms.profile_duration_s,
        profile_refresh_s=csms.profile_refresh_s,
        meter_interval_s=csms.meter_interval_s,
        unwanted_samples=csms.unwanted_samples,
        signs=signs,
        replay_boot=frozenset(name for name, up in upstreams.items() if up.replay_boot),
        quirks=read_quirks(Path(__file__).with_name("quirks.yaml")),
        stop_ignoring=csms.stop_ignoring,
    )
