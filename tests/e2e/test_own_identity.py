"""An operator's CSMS limits the site as a whole, by its own identity: what the house draws, and over a restart."""

import time

from ocpp.v201 import call as call201

from tests.adapters.ocpp_peers import Station16, cloud, until
from tests.adapters.site_peers import knows_sites, maximum
from tests.e2e.chargers import Charger, House, living
from tests.e2e.site_files import house

LIMIT_A = 20.0


async def test_d1_d3_a_site_profile_holds_the_house_within_2_s_over_a_kill_and_until_it_is_cleared(
    start_controller, meter
):
    with knows_sites():
        async with cloud() as operator:
            site = house(meter.port, ("A",))
            own = {"id": "SITE", "release_ramp_s": 0, "meter_interval_s": 1}
            site["csms"]["upstreams"] = [{"id": "cloud", "url": operator.url, "role": "site", "own_identity": own}]
            controller = await start_controller(site)
            car = Charger(Station16, controller.address, "A")
            home = House(meter, [car])
            async with living(car, home):
                await car.begin()
                await car.allows(lambda amps: amps >= 30)
                set_s = time.monotonic()
                answer = await operator.peers["SITE"].call(maximum("2.0.1", LIMIT_A))
                assert answer.status == "Accepted"
                told_s, amps = await car.gets(lambda amps: amps <= LIMIT_A - home.base_a, since_s=set_s)
                assert told_s - set_s < 2.0
                assert amps >= 6.0
                assert car.draw_a + home.base_a <= LIMIT_A
                picture = await controller.sees(lambda p: p["external_limits"]["cloud"]["state"] == "limited")
                assert picture["zones"]["house"]["limit_source"] == "cloud"
                await until(lambda: _last_import_a(operator) == LIMIT_A, 20.0)  # the CSMS sees it come down

                controller.kill()
                began_s = time.monotonic()
                await controller.start()
                await car.online()
                await controller.sees(lambda p: p["evses"]["A/1"]["setpoint_a"] >= 6.0, 30.0)
                assert max((a for _, a in car.live(began_s)), default=0.0) <= LIMIT_A - home.base_a
                assert operator.count("BootNotification") == 2

                criteria = {"charging_profile_purpose": "ChargingStationMaxProfile"}
                freed_s = time.monotonic()
                await until(lambda: "SITE" in operator.peers)
                ask = call201.ClearChargingProfile(charging_profile_criteria=criteria)
                assert (await operator.peers["SITE"].call(ask)).status == "Accepted"
                await car.gets(lambda amps: amps >= 30, 30.0, freed_s)
            assert not controller.lines("Traceback"), controller.text()
        assert controller.stop() == 0


def _last_import_a(operator) -> float:
    told = operator.messages("MeterValues")
    if not told:
        return 0.0
    samples = told[-1]["meter_value"][0]["sampled_value"]
    return round(max(s["value"] for s in samples if s["measurand"] == "Current.Import"), 0)
