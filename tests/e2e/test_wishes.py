"""A mode wished over HTTP: it reaches the station within moments and outlives a kill."""

import asyncio
import time

import httpx

from tests.adapters.ocpp_peers import Station16
from tests.e2e.chargers import Charger, House, living
from tests.e2e.site_files import house


async def wish(controller, evse_id, body):
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"http://127.0.0.1:{controller.web_port}/api/v1/evses/{evse_id}/wish"
        return (await http.post(url, json=body)).status_code


async def test_a_mode_reaches_the_station_and_outlives_a_kill(start_controller, meter):
    controller = await start_controller(house(meter.port))
    charger = Charger(Station16, controller.address, "A")
    async with living(charger, House(meter, [charger])):
        await charger.begin()
        await charger.allows(lambda amps: amps >= 16)
        wished_s = time.monotonic()
        assert await wish(controller, "A/1", {"mode": "off"}) == 202
        told_s, _ = await charger.gets(lambda amps: amps == 0, since_s=wished_s)
        assert told_s - wished_s < 2.0
        evse = (await controller.sees(lambda p: p["evses"]["A/1"]["mode"] == "off"))["evses"]["A/1"]
        assert (evse["reason"], evse["setpoint_a"]) == ("mode_off", 0.0)

        await asyncio.sleep(1.0)  # by then the disk has it
        controller.kill()
        await controller.start()
        await controller.sees(lambda p: p["evses"]["A/1"]["mode"] == "off")
        assert await wish(controller, "A/1", {}) == 202
        await charger.allows(lambda amps: amps >= 16)
    assert controller.stop() == 0
