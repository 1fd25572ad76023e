"""Contacts and contactors over Modbus coils and discrete inputs, by a real server: direction, outage, read-back."""

import asyncio

import pytest
from pymodbus.simulator import DataType, SimData, SimDevice

from adapters.modbus.adapter import ModbusAdapter
from cem.clock import SystemClock
from cem.config.contact_models import ContactorSection, ContactSection
from cem.config.models import Device
from tests.adapters.field import running, until
from tests.adapters.modbus_server import Server

CLOCK = SystemClock()
COILS, INPUTS = 1, 2  # function codes


def module(unit=1):
    """An input and output module: 16 coils, 16 discrete inputs, two registers of each kind; all off."""
    bits = SimData(0, values=[False] * 16, datatype=DataType.BITS)
    words = SimData(0, values=[2300, 5], datatype=DataType.REGISTERS)
    return SimDevice(unit, simdata=([bits], [bits], [words], [words]))


class Module(Server):
    async def put(self, table, address, on):
        await self._server.async_setValues(1, 5 if table == COILS else INPUTS, address, [on])

    async def coil(self, address):
        return (await self._server.async_getValues(1, COILS, address, 1))[0]


def connection(port):
    return {"kind": "modbus_tcp", "host": "127.0.0.1", "port": port, "timeout_s": 0.3}


def contact(port, name="fire", **more):
    return ContactSection.model_validate(
        {"id": name, "kind": "load_shed", "connection": connection(port), "address": 3, "active_when": "open", **more}
    )


def contactor(port, **more):
    return ContactorSection.model_validate(
        {"id": "k1", "stations": ["a"], "connection": connection(port), "address": 7, **more}
    )


def adapter_of(contacts=(), contactors=(), news=lambda: None):
    at = (*contacts, *contactors)[0].connection
    return ModbusAdapter(at, [], CLOCK, news, contacts, contactors)


async def test_d6_a_contact_by_discrete_input_acts_when_it_opens_and_news_wakes_control():
    async with Module(module()) as server:
        await server.put(INPUTS, 3, True)
        woken = []
        two = (contact(server.port), contact(server.port, "frsp", address=9, active_when="closed"))
        adapter = adapter_of(two, news=lambda: woken.append(1))
        assert adapter.contacts() == {"fire": None, "frsp": None}
        async with running(adapter):
            await until(lambda: adapter.contacts() == {"fire": False, "frsp": False})
            woken.clear()
            await server.put(INPUTS, 3, False)
            took_s = await until(lambda: adapter.contacts()["fire"])
            assert took_s < 1.0
            assert woken
            await server.put(INPUTS, 9, True)
            await until(lambda: adapter.contacts() == {"fire": True, "frsp": True})


async def test_d6_a_contact_that_cannot_be_read_says_nothing():
    async with Module(module()) as server:
        await server.put(INPUTS, 3, True)
        adapter = adapter_of([contact(server.port)])
        async with running(adapter):
            await until(lambda: adapter.contacts()["fire"] is False)
            await server.__aexit__()
            await until(lambda: adapter.contacts()["fire"] is None, 6)
            assert list(adapter.problems()) == ["contact fire"]
            async with Module(module(), port=server.port) as again:
                await again.put(INPUTS, 3, True)
                await until(lambda: adapter.contacts()["fire"] is False, 10)
                assert adapter.problems() == {}


async def test_an_address_that_the_module_lacks_is_told():
    async with Module(module()) as server:
        adapter = adapter_of([contact(server.port, address=400)])
        async with running(adapter):
            await until(lambda: "refuses discrete_inputs 400 to 400" in adapter.problems().get("contact fire", ""))
            assert adapter.contacts() == {"fire": None}


@pytest.mark.parametrize("closed_when", ["on", "off"])
async def test_a_contactor_is_switched_read_back_and_kept_so(closed_when):
    on = closed_when == "on"
    async with Module(module()) as server:
        await server.put(COILS, 7, not on)
        adapter = adapter_of(contactors=[contactor(server.port, closed_when=closed_when)])
        async with running(adapter):
            await until(lambda: adapter.contactors() == {"k1": False})
            assert await server.coil(7) == (not on), "nobody said anything: it is left as it is"
            adapter.switch("k1", True)
            await until(lambda: adapter.contactors() == {"k1": True}, 1)
            assert await server.coil(7) == on
            await server.put(COILS, 7, not on)  # the module was restarted
            async with asyncio.timeout(2):
                while await server.coil(7) != on:
                    await asyncio.sleep(0.02)
            adapter.switch("k1", False)
            await until(lambda: adapter.contactors() == {"k1": False}, 1)
            assert await server.coil(7) == (not on)
            assert adapter.problems() == {}


async def test_a_contactor_whose_auxiliary_contact_does_not_follow_is_told(monkeypatch):
    monkeypatch.setattr("adapters.modbus.bits.FOLLOWS_S", 0.3)
    async with Module(module()) as server:
        await server.put(COILS, 7, True)
        await server.put(INPUTS, 2, True)
        adapter = adapter_of(contactors=[contactor(server.port, feedback=2)])
        async with running(adapter):
            adapter.switch("k1", True)
            await until(lambda: adapter.contactors() == {"k1": True})
            adapter.switch("k1", False)  # it is welded
            await until(adapter.problems)
            assert await server.coil(7) is False
            assert adapter.contactors() == {"k1": True}
            assert "auxiliary contact says closed, it should be open" in adapter.problems()["contactor k1"]
            await server.put(INPUTS, 2, False)
            await until(lambda: adapter.problems() == {})
            assert adapter.contactors() == {"k1": False}


async def test_inputs_outputs_and_a_meter_share_one_connection():
    async with Module(module()) as server:
        at = connection(server.port)
        meter = Device.model_validate(
            {"id": "m", "role": "grid_meter", "connection": at, "model": "generic_meter", "poll_s": 0.2}
        )
        found = [contact(server.port)]
        adapter = ModbusAdapter(meter.connection, [meter], CLOCK, lambda: None, found, [contactor(server.port)])
        async with running(adapter):
            adapter.switch("k1", True)
            await until(lambda: adapter.contacts()["fire"] is True and adapter.contactors()["k1"])
            await until(lambda: "m" in adapter.problems())  # its registers are not there: that is its trouble alone
            await asyncio.sleep(1.5)
            assert adapter.contacts()["fire"] is True
            await server.put(INPUTS, 3, True)
            await until(lambda: adapter.contacts()["fire"] is False, 2)
