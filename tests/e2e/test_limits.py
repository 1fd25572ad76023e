"""A limit from outside, and a meter that dies: what independent stations are told, and how soon."""

import asyncio
import time

import pytest
from ocpp.v16 import call as call16
from ocpp.v201 import call as call201

from tests.adapters.ocpp_peers import Station16, Station201, cloud, until
from tests.e2e.chargers import Charger, House, living
from tests.e2e.meter import MeterProcess
from tests.e2e.site_files import FALLBACK_A, house

DSO_S = 2.0
BLIND_S = 10.0


async def test_d1_a_dso_limit_reaches_stations_of_both_versions_in_2_s_and_is_released(start_controller, meter, dso):
    controller = await start_controller(house(meter.port, dso_port=dso.port))
    a, b = Charger(Station16, controller.address, "A"), Charger(Station201, controller.address, "B")
    async with living(a, b, House(meter, [a, b])):
        await asyncio.gather(a.begin(), b.begin())
        await asyncio.gather(*(c.allows(lambda amps: 20 <= amps <= 29) for c in (a, b)))

        set_s = time.monotonic()
        dso.tell("enabled 1")  # 20 A per phase, of which the house draws 5
        told = await asyncio.gather(*(c.gets(lambda amps: amps <= 9, since_s=set_s) for c in (a, b)))
        assert max(t for t, _ in told) - set_s < DSO_S
        assert sum(amps for _, amps in told) <= 15.0
        assert min(amps for _, amps in told) >= 6.0  # both go on

        picture = await controller.sees(lambda p: p["external_limits"]["dso"]["state"] == "limited")
        zone = picture["zones"]["house"]
        assert (zone["limit_a"], zone["limit_source"]) == ([20.0] * 3, "dso")
        assert picture["external_limits"]["dso"]["value"] == 20.0
        assert sum(e["setpoint_a"] for e in picture["evses"].values()) <= 15.0
        assert {e["binding"]["source"] for e in picture["evses"].values()} == {"dso"}

        dso.tell("limit 12")  # 7 A are left: one of the two has to pause
        tighter_s = time.monotonic()
        await until(lambda: a.allowed_a + b.allowed_a <= 7.0, DSO_S)
        assert time.monotonic() - tighter_s < DSO_S

        freed_s = time.monotonic()
        dso.tell("enabled 0")
        await asyncio.gather(*(c.gets(lambda amps: amps >= 20, 30.0, freed_s) for c in (a, b)))
        assert (await controller.site())["zones"]["house"]["limit_source"] == "fuse"
    assert controller.stop() == 0


async def test_m1_a_killed_grid_meter_leads_to_the_fallback_in_10_s_and_back_when_it_returns(start_controller, meter):
    controller = await start_controller(house(meter.port))
    a, b = Charger(Station16, controller.address, "A"), Charger(Station201, controller.address, "B")
    home = House(meter, [a, b])
    async with living(a, b, home):
        await asyncio.gather(a.begin(), b.begin())
        await asyncio.gather(*(c.allows(lambda amps: 20 <= amps <= 29) for c in (a, b)))

        before = len(await controller.events("meter_lost"))  # blind for a moment at the start
        killed_s = time.monotonic()
        meter.kill()
        await until(lambda: a.allowed_a + b.allowed_a <= FALLBACK_A, 20.0)
        assert time.monotonic() - killed_s < BLIND_S
        assert (a.allowed_a, b.allowed_a) == (6.0, 6.0)
        assert not any(amps > 29 for c in (a, b) for _, amps in c.live(killed_s))
        zone = (await controller.sees(lambda p: p["zones"]["house"]["stale"]))["zones"]["house"]
        assert (zone["limit_source"], zone["limit_a"], zone["meter"]) == ("fallback", [FALLBACK_A] * 3, "lost")
        assert zone["measured_a"] is None  # missing is not 0
        assert len(await controller.events("meter_lost")) == before + 1

        home.meter = MeterProcess(meter.port)
        try:
            await asyncio.gather(*(c.allows(lambda amps: amps >= 20, 60.0) for c in (a, b)))
        finally:
            home.meter.kill()
        assert len(await controller.events("meter_lost")) == before + 1


class Mute(Station16):
    """It never answers what it does not know, as some do."""

    async def route_message(self, raw_msg):
        if '"DataTransfer"' not in raw_msg:
            await super().route_message(raw_msg)


async def test_d1_a_limit_does_not_wait_for_a_cloud_call_that_is_left_unanswered(start_controller, meter, dso):
    async with cloud() as operator:
        controller = await start_controller(house(meter.port, ("A",), dso_port=dso.port, cloud=operator.url))
        a = Charger(Mute, controller.address, "A")
        async with living(a, House(meter, [a])):
            await a.begin()
            await until(lambda: "A" in operator.peers)
            await a.allows(lambda amps: amps >= 20)
            asked = asyncio.create_task(operator.peers["A"].call(call16.DataTransfer(vendor_id="V")))
            set_s = time.monotonic()
            dso.tell("enabled 1")  # 20 A per phase, of which the house draws 5
            await a.gets(lambda amps: amps <= 15, since_s=set_s)
            assert not asked.done(), "the station is still busy with it"
            asked.cancel()


async def test_the_lower_of_the_clouds_profile_and_ours_is_sent_and_told(start_controller, meter):
    async with cloud() as operator:
        controller = await start_controller(house(meter.port, cloud=operator.url))
        a, b = Charger(Station16, controller.address, "A"), Charger(Station201, controller.address, "B")
        async with living(a, b, House(meter, [a, b])):
            await asyncio.gather(a.begin(), b.begin())
            await until(lambda: {"A", "B"} <= operator.peers.keys())
            await asyncio.gather(*(c.allows(lambda amps: 20 <= amps <= 29) for c in (a, b)))

            async def cloud_limit(amps: float) -> None:
                periods = [{"start_period": 0, "limit": amps}]
                common = {
                    "stack_level": 3,
                    "charging_profile_purpose": "TxDefaultProfile",
                    "charging_profile_kind": "Relative",
                }
                rate = {"charging_rate_unit": "A", "charging_schedule_period": periods}
                old = call16.SetChargingProfile(
                    connector_id=1,
                    cs_charging_profiles={"charging_profile_id": 5, "charging_schedule": rate, **common},
                )
                new = call201.SetChargingProfile(
                    evse_id=1, charging_profile={"id": 5, "charging_schedule": [{"id": 1, **rate}], **common}
                )
                answers = await asyncio.gather(operator.peers["A"].call(old), operator.peers["B"].call(new))
                assert [x.status for x in answers] == ["Accepted", "Accepted"]

            async def composites() -> list[float]:
                old, new = await asyncio.gather(
                    operator.peers["A"].call(call16.GetCompositeSchedule(connector_id=1, duration=60)),
                    operator.peers["B"].call(call201.GetCompositeSchedule(evse_id=1, duration=60)),
                )
                assert (old.status, new.status) == ("Accepted", "Accepted")
                assert new.schedule["evse_id"] == 1
                schedules = old.charging_schedule, new.schedule
                return [max(p["limit"] for p in s["charging_schedule_period"]) for s in schedules]

            since_s = time.monotonic()
            await cloud_limit(10.0)
            await asyncio.gather(*(c.gets(lambda amps: amps == 10, since_s=since_s) for c in (a, b)))
            assert await composites() == [10.0, 10.0]
            await controller.sees(lambda p: {e["reason"] for e in p["evses"].values()} == {"csms_profile"}, 5.0)

            await cloud_limit(32.0)  # above what the fuse leaves: ours is the lower now
            await asyncio.gather(*(c.allows(lambda amps: 20 <= amps <= 29) for c in (a, b)))
            for told, charger in zip(await composites(), (a, b), strict=True):
                assert told == pytest.approx(charger.allowed_a, abs=1.0)
                assert told <= 29.0
        assert not operator.count("SetChargingProfile")
