"""The supervisor: pauses, logs and the peace of everybody else (L14)."""

import asyncio
import logging
import time

import pytest

import adapters
from cem import supervise
from cem.clock import SystemClock
from cem.errors import AdapterError, DeviceMisconfigured, DeviceUnavailable
from cem.supervise import keep_running

CLOCK = SystemClock()


class Flaky:
    """Fails as told, then serves for ever."""

    name = "flaky thing"

    def __init__(self, *faults):
        self.faults = list(faults)
        self.starts = []

    async def run(self):
        self.starts.append(time.monotonic())
        if self.faults:
            fault = self.faults.pop(0)
            if fault is None:
                return
            raise fault
        await asyncio.Event().wait()


async def supervised(adapter, seconds, on_state=None):
    task = asyncio.create_task(keep_running(adapter, CLOCK, on_state))
    await asyncio.sleep(seconds)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=1)
    assert done
    assert task.cancelled()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(supervise, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(supervise, "LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(supervise, "SETTLED_S", 0.15)


async def test_pauses_grow_to_a_bound_with_jitter(quick):
    adapter = Flaky(*[DeviceUnavailable("away")] * 100)
    await supervised(adapter, 1.0)
    pauses = [b - a for a, b in zip(adapter.starts, adapter.starts[1:], strict=False)]
    assert pauses[0] >= 0.015
    assert all(pause >= 0.075 for pause in pauses[4:])
    assert sorted(pauses)[len(pauses) // 2] < 0.3
    assert len({round(pause, 4) for pause in pauses[4:]}) > 1


class CancelledWithResult(asyncio.CancelledError):
    """What wait_for2, inside asyncua, raises where the answer and the end of its time come together."""


async def test_an_answer_that_comes_as_its_time_is_up_does_not_end_the_adapter(quick):
    class Late(Flaky):
        async def run(self):
            self.starts.append(time.monotonic())
            async with asyncio.timeout(0.01):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    raise CancelledWithResult from None

    adapter, told = Late(), []
    await supervised(adapter, 0.5, lambda name, up, why: told.append((name, up, why)))
    assert len(adapter.starts) > 2
    assert [(name, up) for name, up, _ in told] == [("flaky thing", False)]
    assert "too late" in told[0][2]


def test_the_shipped_pauses_keep_the_promised_bound():
    assert supervise.FIRST_PAUSE_S == 1.0
    assert supervise.LONGEST_PAUSE_S == 30.0  # M12


async def test_a_good_run_makes_pauses_short_again(quick, monkeypatch):
    monkeypatch.setattr(supervise, "GOOD_RUN_S", 0.3)
    monkeypatch.setattr(supervise, "LONGEST_PAUSE_S", 5.0)

    class LateFault(Flaky):
        async def run(self):
            if len(self.starts) == 6:
                self.starts.append(time.monotonic())
                await asyncio.sleep(0.3)
                self.ended = time.monotonic()
                raise DeviceUnavailable("lost")
            await super().run()

    adapter = LateFault(*[DeviceUnavailable("away")] * 6)
    await supervised(adapter, 2.3)
    assert adapter.starts[7] - adapter.ended < 0.5  # without the good run: 0.96 s and more


async def test_an_outage_is_logged_once_at_its_start_and_once_at_its_end(quick, caplog):
    states = []
    adapter = Flaky(DeviceUnavailable("meter: no answer"), DeviceUnavailable("again"), AdapterError("and again"))
    with caplog.at_level(logging.INFO):
        await supervised(adapter, 0.6, lambda *state: states.append(state))
    assert [r.getMessage() for r in caplog.records] == [
        "meter: no answer; trying again until it works",
        "flaky thing: back after 0 s",
    ]
    assert states == [("flaky thing", False, "meter: no answer"), ("flaky thing", True, "")]


async def test_any_other_exception_is_a_fault_of_that_adapter_with_one_traceback(quick, caplog):
    adapter = Flaky(ZeroDivisionError("bug"), ZeroDivisionError("bug"), None, ExceptionGroup("two", [ValueError()]))
    other = Flaky()
    await asyncio.gather(supervised(adapter, 0.6), supervised(other, 0.6))
    assert len(adapter.starts) == 5
    assert len(other.starts) == 1
    assert sum(record.exc_info is not None for record in caplog.records) == 1


async def test_an_adapter_that_hangs_delays_nobody_and_ends_when_cancelled(quick):
    hanging, other = Flaky(), Flaky(DeviceUnavailable("away"))
    started = time.monotonic()
    await asyncio.gather(supervised(hanging, 0.3), supervised(other, 0.3))
    assert time.monotonic() - started < 0.6
    assert len(other.starts) == 2


def test_the_registry_knows_its_kinds_and_says_so():
    assert {"modbus_tcp", "mqtt", "opcua", "ocpp", "simulated"} <= set(adapters.KINDS)
    with pytest.raises(DeviceMisconfigured, match=r"no adapter of kind 'knx'; known kinds: modbus_rtu, .*mqtt"):
        adapters.create("knx")
