"""Stations and CSMSs of another make that validate strictly, with the local CSMS between them."""

import contextlib
from collections import Counter

import pytest

from cem.config.csms_models import Upstream
from cem.store import Store
from tests.adapters.ocpp_peers import Station16, Station21, Station201, cloud, local_csms, station, until
from tests.e2e.ocpp_day import ANSWERED_HERE, Charger, Day, Flying
from tests.e2e.ocpp_examples import HOST, down, up
from tests.e2e.strict_peers import side

STATIONS = {"A16": "1.6", "B16": "1.6", "A201": "2.0.1", "B201": "2.0.1", "A21": "2.1", "B21": "2.1"}
PICKY = {"B16", "B201", "B21"}
OURS = {"SetChargingProfile", "ClearChargingProfile", "TriggerMessage"}
ONLY_A_CSMS_KNOWS = {"BatterySwap"}
HELD_BACK = ANSWERED_HERE | {"CertificateSigned", "DeleteCertificate"}


@contextlib.asynccontextmanager
async def a_day(folder, *, upstream=True):
    """Strict peers on all sides, in the morning: every station has booted."""
    day = Day(Flying(), STATIONS, PICKY)
    options = {"offline_authorization": "accept", "on_rejected": "stop", "allowed_hosts": (HOST,)}
    store = Store(folder / "var")
    async with (
        side(day.cloud_says) as day.cloud,
        side(day.cloud_says) as day.observer,
        side(day.station_says) as day.stations,
    ):
        if upstream:
            day.port = (await day.cloud.do("listen", port=0))["port"]
            port = (await day.observer.do("listen", port=0))["port"]
            options["upstream"] = f"ws://127.0.0.1:{day.port}/cloud"
            options["observers"] = [Upstream(id="refund", url=f"ws://127.0.0.1:{port}", role="observer")]
        day.cloud_there = upstream
        async with local_csms(
            tuple(STATIONS), store=store, clock=day.clock, meter_interval_s=60, **options
        ) as day.local:
            await day.together(day.join)
            await day.together(Charger.boot)
            yield day
    store.close()


def transactions(calls, who):
    """How many transactions of a station began and ended by what one CSMS heard."""
    heard = Counter((action, payload.get("eventType")) for whose, action, payload, _ in calls if whose == who)
    begun = heard["StartTransaction", None] + heard["TransactionEvent", "Started"]
    return begun, heard["StopTransaction", None] + heard["TransactionEvent", "Ended"]


async def judge(day):
    """Nobody found a fault, everything was said, and both CSMSs heard of each transaction once."""
    for one in (day.cloud, day.observer, day.stations):
        assert one.faults == []
    told = Counter(call[:2] for call in day.stations.calls)
    for who, charger in day.chargers.items():
        made = charger.started, charger.stopped
        for csms in (day.cloud, day.observer):
            await until(lambda c=csms, w=who, m=made: transactions(c.calls, w) >= m)
            assert transactions(csms.calls, who) == made, (who, csms is day.cloud)
        assert set(charger.refused_here) <= ONLY_A_CSMS_KNOWS
        assert {action for action in OURS if told[who, action] > day.relayed[who, action]} == OURS
        heard = {action for whose, action, *_ in day.cloud.calls if whose == who}
        assert heard | {"SignCertificate"} == set(up(charger.version))  # that of the station's leg is signed here
        pulled = (who, "PullDynamicScheduleUpdate", {"chargingProfileId": 4}) in [call[:3] for call in day.cloud.calls]
        assert pulled == (charger.version == "2.1"), "a dynamic profile is asked for by us, in the station's name"
        assert {action for whose, action in told if whose == who} >= set(down(charger.version)) - HELD_BACK


@pytest.mark.timeout(300)  # half a minute on two free cores
async def test_every_message_through_strict_peers(tmp_path):
    async with a_day(tmp_path) as day:
        await day.everything(0)
        await day.session(3)
        await day.outage(1)
        await day.together(day.rejoin)
        await day.fly(10)
        await day.everything(2)
        await day.session(1, every_s=120)
        await judge(day)


async def test_every_message_of_a_station_where_we_are_the_csms(tmp_path):
    async with a_day(tmp_path, upstream=False) as day:
        for variant in (0, 1):
            await day.together(lambda charger, variant=variant: charger.everything_up(variant))
        await day.session(2)
        assert day.stations.faults == []
        for charger in day.chargers.values():
            assert set(charger.refused_here) <= ONLY_A_CSMS_KNOWS
            assert charger.stopped == 1


async def test_stations_of_another_library_with_a_strict_csms():
    kinds = {"S16": Station16, "S201": Station201, "S21": Station21}
    day = Day(Flying(), {"S16": "1.6", "S201": "2.0.1", "S21": "2.1"}, set())
    async with side(day.cloud_says) as day.cloud:
        port = (await day.cloud.do("listen", port=0))["port"]
        async with local_csms(tuple(kinds), upstream=f"ws://127.0.0.1:{port}") as local:
            for who, kind in kinds.items():
                async with station(kind, local.address, who) as peer:
                    assert await peer.boot() == "Accepted"
                    await peer.start()
                    await peer.meter(15.5, 15.4, 15.3)
                    await peer.stop()
                assert transactions(day.cloud.calls, who) == (1, 1)
        assert day.cloud.faults == []


async def test_strict_stations_with_the_csms_of_another_library():
    day = Day(Flying(), {"A16": "1.6", "A201": "2.0.1", "A21": "2.1"}, set())
    day.cloud_there = False  # not the strict one
    async with (
        side(day.station_says) as day.stations,
        cloud() as sky,
        local_csms(tuple(day.chargers), upstream=sky.url, clock=day.clock) as day.local,
    ):
        await day.together(day.join)
        await day.together(Charger.boot)
        await day.session(2)
        assert day.stations.faults == []
        assert (sky.count("StartTransaction"), sky.count("StopTransaction")) == (1, 1)
        assert [sky.count("TransactionEvent", event_type=kind) for kind in ("Started", "Ended")] == [2, 2]


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_day_through_strict_peers(tmp_path):
    async with a_day(tmp_path) as day:
        for hour in range(24):
            await day.everything(hour)
            await day.session(50, every_s=60.0)
            if hour % 6 == 5:
                await day.outage(hour)
                await day.together(day.rejoin)
            await day.fly(600)
        await judge(day)
        print(
            f"\nstations told {len(day.cloud.calls)}, and were told {len(day.stations.calls)}; the observer: {len(day.observer.calls)}"
        )
        print(Counter(action for _, action, *_ in day.stations.calls).most_common(6))
