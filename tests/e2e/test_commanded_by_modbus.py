"""``cem run`` with devices that it commands by Modbus: an inverter at its export limit and a wallbox with a car."""

import asyncio

from tests.adapters.modbus_server import Server, device
from tests.adapters.sunspec_image import chain, common, controls_123, inverter_103
from tests.adapters.test_resource_control import BASE, COMMON, settings_121
from tests.adapters.wallboxes import Box
from tests.e2e.site_files import modbus


async def test_an_inverter_is_curtailed_and_a_wallbox_charges(start_controller):
    box = Box("alfen_ng9xx")
    words = chain(common(), inverter_103(), settings_121(), controls_123())
    at = BASE + COMMON + 52 + 32
    async with box.runs(), Server(device(1, {BASE: words})) as inverter:
        site = {
            "version": 1,
            "site": {"name": "Commanded", "grid_connection": {"fuse_a": 20, "export_limit_w": 2000}},
            "zones": [{"id": "house", "protection": {"rating_a": 20}, "uncontrolled_max_a": 6}],
            "devices": [
                {"id": "roof", "role": "pv", "model": "sunspec_inverter", "connection": modbus(inverter.port),
                 "max_w": 10_000, "control": True},
            ],
            "stations": [
                {"id": "left", "zone": "house", "breaker_a": 16, "evses": [{"max_a": 16, "rotation": "RST"}],
                 "modbus": {"model": "alfen_ng9xx", "connection": modbus(box.server.port)}},
            ],
        }  # fmt: skip
        controller = await start_controller(site)
        async with asyncio.timeout(30):
            while await inverter.get(1, at + 9, 1) != [1] or box.drawn_a != 14.0:
                await asyncio.sleep(0.1)
        assert await inverter.get(1, at + 5, 1) == [2000]  # 20.00 % of 10 kW
        picture = await controller.sees(lambda p: p["evses"]["left/1"]["measured_a"][0] == 14.0)
        assert picture["evses"]["left/1"]["online"]
        box.plugged = False
        await controller.sees(lambda p: p["evses"]["left/1"]["status"] == "free")
