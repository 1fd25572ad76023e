"""Every map against a register image that was transcribed from the device's sources, by a real server."""

import re

import pytest

import adapters
from adapters.modbus.maps import FOLDER, known_models, load_map
from cem.clock import SystemClock
from cem.config.maps import RegisterMap
from cem.config.models import Device
from cem.errors import DeviceMisconfigured, DeviceRefused, DeviceUnavailable
from tests.adapters import image_files
from tests.adapters.field import running, until
from tests.adapters.modbus_server import Server

CLOCK = SystemClock()
NO_IMAGE = {
    "generic_meter",
    "sunspec_meter",
    "sunspec_inverter",
    "sunspec_battery",
    "sunspec_pv_dc",
}  # tested elsewhere


def adapter_for(image, port, **more):
    at = {"kind": "modbus_tcp", "host": "127.0.0.1", "port": port, "unit_id": image.unit, "timeout_s": 0.5}
    dev = Device.model_validate(
        {"id": "it", "role": image.role, "connection": at, "model": image.model, "phases": image.phases,
         "poll_s": 0.2, **more}
    )  # fmt: skip
    return adapters.create("modbus_tcp", dev.connection, [dev], CLOCK, lambda: None)


def test_every_map_has_an_image_and_every_image_a_map():
    assert set(image_files.MODELS) == set(known_models()) - NO_IMAGE


def test_at_least_fifteen_devices_are_verified_and_the_others_say_so():
    assert sum(known_models()[model] for model in image_files.MODELS) >= 15
    for model, verified in known_models().items():
        text = (FOLDER / f"{model}.yaml").read_text("utf-8")
        assert load_map(model).verified == verified
        assert verified or re.search(r"^verified: false  # \S", text, re.MULTILINE), f"{model} must say why"


@pytest.mark.parametrize("model", [model for model in known_models() if known_models()[model]])
def test_a_verified_map_cites_two_sources(model):
    assert len(load_map(model).sources) >= 2 or model == "generic_meter"


@pytest.mark.parametrize("model", image_files.MODELS)
async def test_map_reads_what_the_source_says(model):
    image = image_files.load(model)
    async with Server(image.served()) as server:
        adapter = adapter_for(image, server.port)
        async with running(adapter):
            await until(lambda: adapter.measurements() or adapter.problems())
            assert adapter.problems() == {}
            found = adapter.measurements()["it"]
    for name, value in image.expect.items():
        assert getattr(found, name) == pytest.approx(value), name
    for name in ("voltage_v", "current_a", "power_w", "total_power_w", "energy_wh", "soc_percent"):
        given = getattr(found, name) is not None
        assert given == (name in image.expect) or (name == "total_power_w" and found.power_w is not None), name


WRITES = [(model, write) for model in image_files.MODELS for write in image_files.load(model).writes]


@pytest.mark.parametrize(
    ("model", "write"), WRITES, ids=lambda x: x if isinstance(x, str) else f"{x['name']}={x['value']}"
)
async def test_write_puts_the_sources_words_and_reads_them_back(model, write, monkeypatch):
    image = image_files.load(model)
    async with Server(image.served()) as server:
        adapter = adapter_for(image, server.port)
        async with running(adapter):
            await until(adapter.measurements)
            if "shows" in write:
                await server.set(image.unit, write["shows"]["address"], write["shows"]["words"])
            held = await adapter.write("it", write["name"], write["value"])
            words = await server.get(image.unit, write["address"], len(write["words"]))
    assert held == pytest.approx(write["value"])
    assert words == write["words"]


async def test_a_write_that_does_not_stick_is_refused():
    image = image_files.load("keba_p30")
    async with Server(image.served()) as server:
        adapter = adapter_for(image, server.port)
        async with running(adapter):
            await until(adapter.measurements)
            with pytest.raises(DeviceRefused, match=r"it: current_a was set to 10 and reads back as 32"):
                await adapter.write("it", "current_a", 10)


async def test_what_cannot_be_written_is_said():
    image = image_files.load("keba_p30")
    async with Server(image.served()) as server:
        adapter = adapter_for(image, server.port)
        async with running(adapter):
            await until(adapter.measurements)
            with pytest.raises(
                DeviceMisconfigured, match=r"cannot write 'power_w'; it has current_a, enable, watchdog"
            ):
                await adapter.write("it", "power_w", 1)
            with pytest.raises(DeviceMisconfigured, match=r"current_a of 33 is outside 6 to 32"):
                await adapter.write("it", "current_a", 33)
            with pytest.raises(DeviceMisconfigured, match="no such device"):
                await adapter.write("other", "current_a", 16)


async def test_a_command_that_was_given_up_is_never_sent(monkeypatch):
    monkeypatch.setattr("adapters.modbus.adapter.WRITE_TIMEOUT_S", 0.2)
    image = image_files.load("alfen_ng9xx")
    async with Server(image.served()) as server:
        adapter = adapter_for(image, server.port)
        with pytest.raises(DeviceUnavailable, match=r"current_a could not be set within 0.2 s"):
            await adapter.write("it", "current_a", 6)  # it does not run yet
        async with running(adapter):
            await until(adapter.measurements)
            assert await server.get(1, 1210, 2) == [0x4180, 0x0000]  # 16 A, as before


def test_only_counters_may_be_read_seldom():
    values = {"total_power_w": {"address": 0, "type": "int16", "poll": "slow"}}
    with pytest.raises(ValueError, match="only energy_wh and soc_percent may be polled slowly, not total_power_w"):
        RegisterMap.model_validate(
            {"title": "x", "kind": "registers", "verified": False, "sources": ["x"], "table": "input", "values": values}
        )


async def test_a_device_is_added_by_the_steps_of_the_readme(monkeypatch, tmp_path):
    """Copy the sample, change what the meter has elsewhere, name it: it is read."""
    for path in FOLDER.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text("utf-8"))
    text = (tmp_path / "generic_meter.yaml").read_text("utf-8")
    for old, new in [
        ("verified: true ", "verified: false # nobody has the document yet "),
        ("word_order: big ", "word_order: little "),
        ("total_power_w: {address: 12, type: int32}", "total_power_w: {address: 40, type: int32, scale: 10}"),
    ]:
        assert old in text, "the sample has what the steps change"
        text = text.replace(old, new)
    (tmp_path / "my_meter.yaml").write_text(text)
    monkeypatch.setattr("adapters.modbus.maps.FOLDER", tmp_path)
    known_models.cache_clear()
    load_map.cache_clear()
    try:
        assert known_models()["my_meter"] is False
        registers = [2300, 2301, 2302, 100, 200, 300, 230, 0, 460, 0, 690, 0, 0, 0, 5000, 0, 1000, 0]  # low words first
        served = image_files.Image("my_meter", "grid_meter", 3, 1, True, False, {0: registers, 40: [138, 0]}, {}, [])
        async with Server(served.served()) as server:
            adapter = adapter_for(served, server.port)
            async with running(adapter):
                await until(lambda: adapter.measurements() or adapter.problems())
                assert adapter.problems() == {}
        found = adapter.measurements()["it"]
        assert found.power_w == pytest.approx((230, 460, 690))
        assert found.total_power_w == pytest.approx(1380)
        assert found.energy_wh == 1000
    finally:
        known_models.cache_clear()
        load_map.cache_clear()
