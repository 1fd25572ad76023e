"""SunSpec beyond meters and 1xx inverters: DER models, strings, and what may be written, by the standard's layouts."""

import pytest

import adapters
from adapters.modbus.sunspec_points import values_of
from cem.clock import SystemClock
from cem.config.models import Device
from cem.errors import DeviceMisconfigured, DeviceRefused
from tests.adapters import sunspec_image as image
from tests.adapters.field import running, until
from tests.adapters.modbus_server import Server, device

CLOCK = SystemClock()
BASE = 40_000


def make(port, model, role):
    at = {"kind": "modbus_tcp", "host": "127.0.0.1", "port": port, "timeout_s": 0.5}
    dev = Device.model_validate({"id": "it", "role": role, "connection": at, "model": model, "poll_s": 0.2})
    return adapters.create("modbus_tcp", dev.connection, [dev], CLOCK, lambda: None)


async def one(model, role, *models):
    async with Server(device(1, {BASE: image.chain(image.common(), *models)})) as server:
        adapter = make(server.port, model, role)
        async with running(adapter):
            await until(lambda: adapter.measurements() or adapter.problems())
            assert adapter.problems() == {}
    return adapter.measurements()["it"]


def place(model, *models):
    """Address of a model's ID register in a chain."""
    at = BASE + 2
    for each in (image.common(), *models):
        if each[0] == model:
            return at
        at += len(each)
    raise AssertionError(model)


async def test_der_inverter_701_is_read_per_phase():
    found = await one("sunspec_inverter", "pv", image.measured_701())
    assert found.total_power_w == pytest.approx(-6000)
    assert found.power_w == pytest.approx((-2000, -2000, -2000))
    assert found.current_a == pytest.approx((-8.7, -8.7, -8.7))
    assert found.voltage_v == pytest.approx((230, 231, 229))


async def test_strings_of_160_are_summed_without_the_batterys_inputs():
    found = await one("sunspec_pv_dc", "pv", image.inverter_103(), image.mppt_160())
    assert found.total_power_w == pytest.approx(-4700)  # 3200 + 1500, not the 900 into the battery


async def test_dc_power_of_714():
    assert (await one("sunspec_pv_dc", "pv", image.dc_714())).total_power_w == pytest.approx(-6150)


async def test_der_battery_713_and_battery_802():
    found = await one("sunspec_battery", "battery", image.measured_701(), image.storage_713())
    assert found.soc_percent == pytest.approx(81.5)
    assert found.total_power_w == pytest.approx(-6000)
    found = await one("sunspec_battery", "battery", image.inverter_103(), image.battery_802())
    assert found.soc_percent == pytest.approx(40)


async def test_a_device_without_any_model_of_the_kind_is_told():
    async with Server(device(1, {BASE: image.chain(image.common(), image.meter_203())})) as server:
        adapter = make(server.port, "sunspec_inverter", "pv")
        async with running(adapter):
            await until(adapter.problems)
    assert "SunSpec models 1, 203 but none of 701, 103" in adapter.problems()["it"]


CURTAIL = [
    # model, writes in order (name, value), then offset from the ID register and the raw words there
    (
        [image.inverter_103(), image.controls_123()], 123,
        [("limit_revert_s", 60), ("limit_percent", 45.5), ("limit_enable", 1)],
        [(7, [60]), (5, [4550]), (9, [1])],
    ),
    (
        [image.measured_701(), image.controls_704()], 704,
        [("limit_revert_s", 90), ("limit_revert_percent", 100), ("limit_percent", 30), ("limit_enable", 1)],
        [(18, [0, 90]), (16, [1000]), (15, [300]), (14, [1])],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("models", "number", "writes", "raw"), CURTAIL, ids=["123", "704"])
async def test_curtailment_with_its_reversion_is_written_and_read_back(models, number, writes, raw):
    async with Server(device(1, {BASE: image.chain(image.common(), *models)})) as server:
        adapter = make(server.port, "sunspec_inverter", "pv")
        async with running(adapter):
            await until(adapter.measurements)
            for name, value in writes:
                assert await adapter.write("it", name, value) == pytest.approx(value)
        for offset, held in raw:
            assert await server.get(1, place(number, *models) + offset, len(held)) == held


BATTERY = [
    (
        [image.measured_701(), image.storage_713(), image.controls_704(), image.control_715()],
        [("power_revert_s", 60), ("power_w", 3000), ("power_enable", 1), ("alive", 7)],
        [(704, 31, [0, 60]), (704, 24, [0xFFFF, 0xFED4]), (704, 22, [1]), (715, 5, [0, 7])],  # charging is -3000 W there
    ),
    (
        [image.inverter_103(), image.battery_124()],
        [("storage_revert_s", 60), ("charge_percent", 50), ("discharge_percent", -50), ("storage_mode", 3)],
        [(124, 15, [60]), (124, 13, [50]), (124, 12, [0x10000 - 50]), (124, 5, [3])],
    ),
    (
        [image.inverter_103(), image.battery_802()],
        [("reserve_soc_percent", 25), ("alive", 4)],
        [(802, 10, [250]), (802, 19, [4])],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("models", "writes", "raw"), BATTERY, ids=["704", "124", "802"])
async def test_battery_is_commanded_and_read_back(models, writes, raw):
    models = [list(model) for model in models]
    for model in models:
        if model[0] == 124:
            model[25] = 0  # InOutWRte_SF: whole percents
            model[21] = 0  # MinRsvPct_SF
    async with Server(device(1, {BASE: image.chain(image.common(), *models)})) as server:
        adapter = make(server.port, "sunspec_battery", "battery")
        async with running(adapter):
            await until(adapter.measurements)
            for name, value in writes:
                assert await adapter.write("it", name, value) == pytest.approx(value)
        for number, offset, held in raw:
            assert await server.get(1, place(number, *models) + offset, len(held)) == held


async def test_a_point_without_its_scale_factor_cannot_be_written():
    models = [image.inverter_103(), image.battery_124()]  # its scale factors of the rates are "not implemented"
    async with Server(device(1, {BASE: image.chain(image.common(), *models)})) as server:
        adapter = make(server.port, "sunspec_battery", "battery")
        async with running(adapter):
            await until(adapter.measurements)
            with pytest.raises(DeviceRefused, match="charge_percent has no scale factor now"):
                await adapter.write("it", "charge_percent", 50)
            with pytest.raises(DeviceMisconfigured, match="cannot write 'power_w'; it has charge_limit_w"):
                await adapter.write("it", "power_w", 50)


def test_every_point_of_a_model_for_people():
    assert values_of(120, image.nameplate_120())["WRtg"] == 10_000
    common = values_of(1, image.common())
    assert (common["Mn"], common["Md"], common["SN"]) == ("Hand made", "Image", "0001")
    assert values_of(713, image.storage_713()) == {"WHRtg": 10_000, "WHAvail": 8100, "SoC": 81.5, "SoH": 99.0, "Sta": 0}
    assert values_of(60_000, [60_000, 2, 1, 2]) == {}
