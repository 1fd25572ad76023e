"""A CSMS of the ``ocpp`` library that knows a site by its own identity, and the site's own station before it."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from ocpp.routing import on
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp.v21 import call as call21
from ocpp.v201 import call as call201
from ocpp.v201 import call_result as result201

from adapters.ocpp.identity import OwnIdentityAdapter
from cem.config.csms_models import OwnIdentity, Upstream
from cem.core.site import Protection, Site, Zone
from cem.csms.site_picture import SiteTold, ZoneTold
from tests.adapters import ocpp_peers
from tests.adapters.ocpp_peers import Cloud16, Cloud21, Cloud201, running_task
from tests.fakes import MemoryStore, RealClock

RATING_A = 63.0
CALLS = {"1.6": call16, "2.0.1": call201, "2.1": call21}


class Site16(Cloud16):
    @on("DataTransfer")
    def on_transfer(self, **payload):
        self.book.messages.append((self.id, "DataTransfer", payload))
        return result16.DataTransfer(status="Accepted")


class Site201(Cloud201):
    def _noted(self, action, payload):
        self.book.messages.append((self.id, action, payload))

    @on("MeterValues")
    def on_meter(self, **payload):
        self._noted("MeterValues", payload)
        return result201.MeterValues()

    @on("NotifyReport")
    def on_notify_report(self, **payload):
        self._noted("NotifyReport", payload)
        return result201.NotifyReport()

    @on("NotifyChargingLimit")
    def on_limit(self, **payload):
        self._noted("NotifyChargingLimit", payload)
        return result201.NotifyChargingLimit()

    @on("ClearedChargingLimit")
    def on_cleared(self, **payload):
        self._noted("ClearedChargingLimit", payload)
        return result201.ClearedChargingLimit()


class Site21(Site201):
    _ocpp_version, _call, _call_result = Cloud21._ocpp_version, Cloud21._call, Cloud21._call_result


@contextlib.contextmanager
def knows_sites():
    """Within, the library's CSMS serves a site's own identity too."""
    before = dict(ocpp_peers.CLOUDS)
    ocpp_peers.CLOUDS.update({"ocpp1.6": Site16, "ocpp2.0.1": Site201, "ocpp2.1": Site21})
    try:
        yield
    finally:
        ocpp_peers.CLOUDS.update(before)


class Own:
    """The site's own station, running."""

    def __init__(self, adapter: OwnIdentityAdapter, events: list, picture: list[SiteTold]) -> None:
        self.adapter, self.events, self._picture = adapter, events, picture

    def shows(self, **changes: Any) -> None:
        self._picture[0] = told(**changes)

    def value(self, unit: str = "A") -> float | None:
        """What control is told now."""
        signal = self.adapter.signals().get("cloud" if unit == "A" else "cloud:w")
        return signal.value if signal is not None and signal.active else None


def told(measured=(10.0, 11.0, -2.0), others=()) -> SiteTold:
    hall = ZoneTold("hall", "grid", 32.0, (32.0,) * 3, "fuse", None, None, (0.0,) * 3)
    root = ZoneTold("grid", None, RATING_A, (20.0,) * 3, "cloud", 11000.0, measured, (8.0,) * 3)
    return SiteTold((root, hall), tuple(others))


@contextlib.asynccontextmanager
async def own_identity(url: str, version: str, *, store=None, **settings) -> AsyncIterator[Own]:
    zones = (Zone("grid", None, Protection(RATING_A)), Zone("hall", "grid", Protection(32)))
    site = Site("test", 230.0, 3, zones, ())
    upstream = Upstream(
        id="cloud", url=url, own_identity=OwnIdentity(id="SITE", password="secret", ocpp_version=version, **settings)
    )
    events, picture = [], [told()]
    adapter = OwnIdentityAdapter(
        upstream,
        site,
        store or MemoryStore(),
        RealClock(),
        lambda: None,
        events.append,
        lambda: picture[0],
        version="1",
    )
    async with running_task(adapter.run()):
        yield Own(adapter, events, picture)


def maximum(
    version: str, limit: float, *, number: int = 1, stack: int = 0, unit: str = "A", steps=None, start=None, **schedule
) -> Any:
    """A SetChargingProfile of the library for the site as a whole."""
    periods = steps or [{"start_period": 0, "limit": limit}]
    begins = start or datetime.now(UTC) - timedelta(seconds=5)
    laid_out = {
        "charging_rate_unit": unit,
        "start_schedule": begins.isoformat(),
        "charging_schedule_period": periods,
        **schedule,
    }
    profile: dict[str, Any] = {"stack_level": stack, "charging_profile_kind": "Absolute"}
    if version == "1.6":
        profile |= {"charging_profile_id": number, "charging_profile_purpose": "ChargePointMaxProfile"}
        return call16.SetChargingProfile(connector_id=0, cs_charging_profiles=profile | {"charging_schedule": laid_out})
    profile |= {"id": number, "charging_profile_purpose": "ChargingStationMaxProfile"}
    profile |= {"charging_schedule": [{"id": 1, **laid_out}]}
    return CALLS[version].SetChargingProfile(evse_id=0, charging_profile=profile)
