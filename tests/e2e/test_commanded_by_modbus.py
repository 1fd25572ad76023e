"""``cem run`` with devices that it commands by Modbus: an inverter at its export limit, a wallbox with a car, a contactor."""

import asyncio

from tests.adapters.modbus_server import Server, device
from tests.adapters.sunspec_image import chain, common, controls_123, inverter_103
from tests.adapters.test_modbus_bits import INPUTS, Module, module
from tests.adapters.test_resource_control import BASE, COMMON, settings_121
from tests.adapters.wallboxes import Box
from tests.e2e.site_files import modbus


async def test_d6_an_inverter_is_curtailed_a_wallbox_charges_and_a_contact_opens_its_contactor(start_controller):
    box = Box("alfen_ng9xx")
    words = chain(common(), inverter_103(), settings_121(), controls_123())
    at = BASE + COMMON + 52 + 32
    async with box.runs(), Server(device(1, {BASE: words})) as inverter, Module(module()) as io:
        await io.put(INPUTS, 3, True)  # the fire alarm's loop is closed
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
            "contacts": [
                {"id": "fire", "kind": "load_shed", "connection": modbus(io.port), "address": 3, "active_when": "open",
                 "release_delay_s": 1},
            ],
            "contactors": [
                {"id": "k1", "stations": ["left"], "connection": modbus(io.port), "address": 7, "opens_after_s": 2},
            ],
        }  # fmt: skip
        controller = await start_controller(site)
        async with asyncio.timeout(30):
            while await inverter.get(1, at + 9, 1) != [1] or box.drawn_a != 14.0:
                await asyncio.sleep(0.1)
        assert await inverter.get(1, at + 5, 1) == [2000]  # 20.00 % of 10 kW
        picture = await controller.sees(lambda p: p["evses"]["left/1"]["measured_a"][0] == 14.0)
        assert picture["evses"]["left/1"]["online"]
        assert await io.coil(7) is True, "the contactor is closed"
        await io.put(INPUTS, 3, False)
        async with asyncio.timeout(3):
            while box.drawn_a:
                await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            while await io.coil(7):
                await asyncio.sleep(0.05)
        await io.put(INPUTS, 3, True)
        async with asyncio.timeout(6):
            while not await io.coil(7):
                await asyncio.sleep(0.05)
        box.plugged = False
        await controller.sees(lambda p: p["evses"]["left/1"]["status"] == "free")
