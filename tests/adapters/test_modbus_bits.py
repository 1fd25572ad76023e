"""Contacts and contactors over Modbus coils and discrete inputs, by a real server: direction, outage, read-back."""

import asyncio
from contextlib import suppress

import pytest
from pymodbus.simulator import DataType, SimData, SimDevice

from adapters.modbus.adapter import ModbusAdapter
from cem.clock import SystemClock
from cem.config.contact_models import ContactorSection, ContactSection
from cem.config.models import Device
from tests.adapters.field import running, until
from tests.adapters.modbus_server import Server
from tests.adapters.serial_line import SerialLine

CLOCK = SystemClock()
COILS, INPUTS = 1, 2  # function codes


def module(unit=1, size=16):
    """An input and output module: 16 coils, 16 discrete inputs, two registers of each kind; all off."""
    bits = SimData(0, values=[False] * size, datatype=DataType.BITS)
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


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("cem.supervise.FIRST_PAUSE_S", 0.3)
    monkeypatch.setattr("cem.supervise.LONGEST_PAUSE_S", 0.6)
    monkeypatch.setattr("adapters.modbus.unit.FIRST_PAUSE_S", 0.05)  # the next request meets the late answer
    monkeypatch.setattr("adapters.modbus.doubt.LATEST_S", 4.0)


class SerialModule(SerialLine):
    """Input 0 and coil 7 are on, all others off."""

    def __init__(self):
        super().__init__(module(size=64))

    async def __aenter__(self):
        await super().__aenter__()
        await self._server.async_setValues(1, INPUTS, 0, [True])
        await self._server.async_setValues(1, 5, 7, [True])
        self.at = {"kind": "modbus_rtu", "port": self.port, "baudrate": 115_200, "timeout_s": 0.3}
        return self

    async def coils(self):
        return await self._server.async_getValues(1, COILS, 7, 2)


async def seen_of(told, during_s):
    """Every value that was told meanwhile, by name."""
    seen = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(during_s):
            while True:
                for name, value in told().items():
                    seen.setdefault(name, set()).add(value)
                await asyncio.sleep(0.01)
    return seen


# At every stage of the next questions; the last: a line that is slow for 3 s, until no question is left that fits no late
# answer and the oldest of them must have been given up.
LATE_S = [[0.36], [0.45], [0.62], [0.4] * 40]


@pytest.mark.parametrize("late_s", LATE_S, ids=lambda late_s: f"{len(late_s)}x{late_s[0]}")
async def test_a_late_answer_about_one_contact_is_never_taken_for_that_of_another(late_s, quick):
    async with SerialModule() as line:
        two = [
            contact(0, name, connection=line.at, address=address, active_when="closed")
            for name, address in (("on", 0), ("off", 40))
        ]
        adapter = adapter_of(two)
        async with running(adapter):
            await until(lambda: adapter.contacts() == {"on": True, "off": False})
            line.delays_s.extend(late_s)
            seen = await seen_of(adapter.contacts, 2 if len(late_s) == 1 else 3)
            assert seen["on"] <= {True, None}
            assert seen["off"] <= {False, None}
            line.delays_s.clear()
            await until(lambda: adapter.contacts() == {"on": True, "off": False} and not adapter.problems(), 20)


@pytest.mark.parametrize("late_s", LATE_S, ids=lambda late_s: f"{len(late_s)}x{late_s[0]}")
async def test_a_late_answer_about_one_contactor_is_never_taken_for_that_of_another(late_s, quick):
    async with SerialModule() as line:
        two = [
            contactor(0, connection=line.at, id=name, address=address, closed_when="on")
            for name, address in (("k1", 7), ("k2", 8))
        ]
        adapter = adapter_of(contactors=two)
        async with running(adapter):
            await until(lambda: adapter.contactors() == {"k1": True, "k2": False})
            line.delays_s.extend(late_s)
            seen = await seen_of(adapter.contactors, 2 if len(late_s) == 1 else 3)
            assert seen["k1"] == {True}
            assert seen["k2"] == {False}
            line.delays_s.clear()
            await until(lambda: not adapter.problems(), 20)
            line.delays_s.extend([0.0, 0.4])  # the echo of the write comes late
            adapter.switch("k1", False)
            adapter.switch("k2", True)
            await until(lambda: adapter.contactors() == {"k1": False, "k2": True}, 12)
            assert await line.coils() == [False, True]


async def test_a_module_that_is_silent_to_what_it_does_not_know_is_read_again_after_a_time_out(quick):
    """It knows discrete inputs and coils alone, and refuses nothing."""
    async with SerialModule() as line:
        line.swallow = lambda request: request[1] not in {COILS, INPUTS}
        adapter = adapter_of([contact(0, "on", connection=line.at, address=0, active_when="closed")])
        async with running(adapter):
            await until(lambda: adapter.contacts() == {"on": True})
            line.delays_s.append(0.4)
            await until(lambda: "contact on" in adapter.problems())
            await until(lambda: not adapter.problems(), 5)
            assert adapter.contacts() == {"on": True}
