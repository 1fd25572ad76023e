"""The simulated field devices, read over real sockets by clients that are not ours."""

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager

import paho.mqtt.client as mqtt
import pytest
from asyncua import Client
from paho.mqtt.enums import CallbackAPIVersion
from pymodbus.client import AsyncModbusTcpClient
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from adapters.simulated.ev import EvType
from adapters.simulated.household import Sky
from adapters.simulated.modbus_devices import ModbusDevice
from adapters.simulated.mqtt_meter import Broker, MqttMeter
from adapters.simulated.opcua_dso import NAMESPACE, DsoServer, port_of
from adapters.simulated.plant import Plant
from adapters.simulated.registers import SUNSPEC_BASE, sdm630, sunspec_inverter, sunspec_meter
from cem.config.models import MqttValue
from cem.core.units import PerPhase
from tests import needs
from tests.adapters.test_simulated_plant import make_site


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def lived_plant() -> Plant:
    plant = Plant(make_site(), 5, sky=Sky(5, own=False))
    plant.points["B/1"].plug(EvType(phases=1, need_wh=1e6))
    plant.points["B/1"].pilot_a = 30.0
    for _ in range(600):
        plant.step(0.1)
    return plant


@asynccontextmanager
async def device(image, base):
    server = ModbusDevice("d", image, base=base, host="127.0.0.1", port=0)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def meter_image(plant: Plant) -> list[int]:
    energies_wh = (plant.import_wh["main"], plant.export_wh["main"])
    return sunspec_meter(plant.zone_current_a("main"), 230.0, 126.0, energies_wh, "G1")


def read_sunspec(port: int) -> dict[str, dict[str, float]]:
    client = SunSpecModbusClientDeviceTCP(1, "127.0.0.1", port, timeout=2)
    client.scan()
    found = {}
    for number, models in client.models.items():
        if isinstance(number, int):
            model = models[0]
            found[number] = {name: point.cvalue for name, point in model.points.items() if point.value is not None}
    client.close()
    return found


async def test_the_grid_meter_is_a_sunspec_meter_with_import_positive():
    plant = lived_plant()
    async with device(lambda: meter_image(plant), SUNSPEC_BASE) as server:
        models = await asyncio.to_thread(read_sunspec, server.port)
    assert list(models) == [1, 203]
    amps = plant.zone_current_a("main")
    meter = models[203]
    assert [meter["AphA"], meter["AphB"], meter["AphC"]] == pytest.approx(amps, abs=0.02)
    assert meter["W"] == pytest.approx(amps.total * 230, abs=11)
    assert meter["WphC"] == pytest.approx(amps.l3 * 230, abs=11)
    assert meter["PhVphB"] == 230.0
    assert meter["TotWhImp"] == pytest.approx(plant.import_wh["main"], abs=1)
    assert "VA" not in meter  # not implemented reads as such, not as 0


async def test_pv_and_battery_are_sunspec_inverters_with_production_positive():
    plant = lived_plant()
    async with (
        device(lambda: sunspec_inverter(plant, "pv", "P1"), SUNSPEC_BASE) as pv,
        device(lambda: sunspec_inverter(plant, "battery", "B1"), SUNSPEC_BASE) as battery,
    ):
        pv_models = await asyncio.to_thread(read_sunspec, pv.port)
        battery_models = await asyncio.to_thread(read_sunspec, battery.port)
    assert list(pv_models) == [1, 103]
    assert pv_models[103]["W"] == pytest.approx(-plant.inverters["pv"].power_w, abs=1)
    assert pv_models[103]["W"] > 5000
    assert list(battery_models) == [1, 103, 124]
    assert battery_models[103]["W"] == pytest.approx(-plant.inverters["battery"].power_w, abs=1)
    assert battery_models[124]["ChaState"] == pytest.approx(100 * plant.inverters["battery"].soc, abs=0.1)


async def test_the_garage_meter_is_an_sdm630_with_unsigned_amps_and_signed_watts():
    amps = PerPhase(3.5, -8.25, 0.0)
    async with device(lambda: sdm630(amps, 230.0, (12_345.0, 0.0)), 0) as server:
        client = AsyncModbusTcpClient("127.0.0.1", port=server.port, timeout=2)
        await client.connect()
        reply = await client.read_input_registers(0, count=80, device_id=1)
        refused = await client.write_register(0, 1, device_id=1)
        client.close()
    floats = struct.unpack(">40f", struct.pack(">80H", *reply.registers))
    assert floats[0:3] == (230.0, 230.0, 230.0)
    assert floats[3:6] == (3.5, 8.25, 0.0)
    assert floats[6:9] == pytest.approx((805.0, -1897.5, 0.0))
    assert floats[26] == pytest.approx(-1092.5)
    assert floats[36] == pytest.approx(12.345)
    assert refused.isError()


async def test_registers_follow_the_plant_and_a_cut_meter_is_gone_until_it_returns():
    plant = lived_plant()
    async with device(lambda: meter_image(plant), SUNSPEC_BASE) as server:
        client = AsyncModbusTcpClient("127.0.0.1", port=server.port, timeout=0.5, retries=0, reconnect_delay=0)
        await client.connect()

        async def l2() -> int:
            reply = await client.read_holding_registers(SUNSPEC_BASE + 70 + 4, count=1, device_id=1)
            return struct.unpack(">h", struct.pack(">H", reply.registers[0]))[0]

        before = await l2()
        plant.add_load("main", PerPhase(0.0, 2300.0, 0.0), 60.0)
        plant.step(0.1)
        await asyncio.sleep(0.25)
        assert (await l2() - before) / 100 == pytest.approx(10.0, abs=0.5)

        await server.cut(silent=True)
        with pytest.raises(Exception, match=r"(?i)no response|time"):
            await l2()
        client.close()
        await server.start()
        await client.connect()
        assert await l2() != 0

        await server.cut()
        client.close()
        assert not await client.connect()
        await server.start()
        assert await client.connect()
        assert await l2() != 0
        client.close()


async def test_the_household_meter_publishes_json_and_plain_numbers():
    needs.mosquitto()
    broker = Broker(free_port())
    topics = {
        "power_l1_w": MqttValue(topic="house/meter", path="power.l1"),
        "power_l2_w": MqttValue(topic="house/meter", path="power.l2", scale=1000.0),
        "total_power_w": MqttValue(topic="house/meter/total_w"),
        "energy_wh": MqttValue(topic="house/unknown"),
    }
    values = {"power_l1_w": 810.5, "power_l2_w": 500.0, "total_power_w": 1310.5}
    meter = MqttMeter("house", broker.port, topics, lambda: values, period_s=0.1)
    heard: dict[str, str] = {}
    await broker.start()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda c, *_: c.subscribe("#")
    client.on_message = lambda _c, _u, message: heard.update({message.topic: message.payload.decode()})
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    task = asyncio.create_task(meter.run())
    try:
        async with asyncio.timeout(10):
            while len(heard) < 2:
                await asyncio.sleep(0.05)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        client.disconnect()
        client.loop_stop()
        await broker.stop()
    assert json.loads(heard["house/meter"]) == {"power": {"l1": 810.5, "l2": 0.5}}
    assert heard["house/meter/total_w"] == "1310.5"


async def test_the_dso_serves_limit_flag_and_heartbeat_and_can_be_cut():
    dso = DsoServer(f"opc.tcp://127.0.0.1:{free_port()}")
    await dso.start()
    beat = asyncio.create_task(dso.run())
    try:
        await dso.set_limit(11_000.0)
        for _ in range(2):
            async with Client(dso.endpoint) as client:
                index = await client.get_namespace_index(NAMESPACE)
                base = await client.nodes.objects.get_child([f"{index}:DSO"])
                limit, enabled, heartbeat = [
                    await base.get_child([f"{index}:{name}"]) for name in ("ImportLimit", "Enabled", "Heartbeat")
                ]
                assert await limit.read_value() == 11_000.0
                assert await enabled.read_value() is True
                first = await heartbeat.read_value()
                await asyncio.sleep(1.2)
                assert await heartbeat.read_value() > first
            await dso.cut()
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port_of(dso.endpoint))
            await dso.restore()
        await dso.set_limit(None)
        async with Client(dso.endpoint) as client:
            node = await client.nodes.objects.get_child([f"{index}:DSO", f"{index}:Enabled"])
            assert await node.read_value() is False
    finally:
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
        await dso.stop()
