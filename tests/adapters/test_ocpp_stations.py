"""The controller's CSMS holding simulated stations that keep a true profile store: what they would really draw."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta

import pytest

from adapters.simulated.ev import EvType
from adapters.simulated.personality import Personality
from adapters.simulated.plant import Plant
from adapters.simulated.station_v16 import Station16
from adapters.simulated.station_v201 import Station201
from tests.adapters.ocpp_peers import local_csms, until
from tests.adapters.test_simulated_plant import make_site

CAR = EvType(phases=3, need_wh=1e6, settle_s=1.0, draw=1.0)
KINDS = [Station16, Station201]


QUICK = Personality(reconnect_s=(0.1, 0.2))


class Fast:
    """A clock by which an hour lasts six minutes."""

    def __init__(self):
        self._began_s, self._utc = time.monotonic(), datetime.now(UTC)

    def monotonic_s(self):
        return self._began_s + 10 * (time.monotonic() - self._began_s)

    def utc(self):
        return self._utc + timedelta(seconds=self.monotonic_s() - self._began_s)


class Plugged:
    """A running simulated station whose clock can be moved."""

    def __init__(self, kind, address, personality=QUICK, clock=None):
        self.ahead_s = 0.0
        self.plant = Plant(make_site())
        self.station = kind(
            "A", address, [self.plant.points["A/1"]], personality=personality,
            utc_s=lambda: (time.time() if clock is None else clock.utc().timestamp()) + self.ahead_s,
            now_s=time.monotonic if clock is None else clock.monotonic_s,
        )  # fmt: skip

    @property
    def allowed_a(self):
        return self.station.limits_now()[1]


@contextlib.asynccontextmanager
async def simulated(kind, address, **how):
    site = Plugged(kind, address, **how)
    task = asyncio.create_task(site.station.run())
    try:
        yield site
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("kind", KINDS)
async def test_l16_a_station_falls_to_its_fallback_when_we_are_gone_for_good(kind):
    async with contextlib.AsyncExitStack() as stack:
        local = await stack.enter_async_context(local_csms(("A",)))
        site = await stack.enter_async_context(simulated(kind, local.address))
        await until(lambda: local.state("A/1").in_force_a == 6.0)
        local.apply(A=20.0)
        site.station.plug(1, CAR, "TAG")
        await until(lambda: site.allowed_a == 20.0)
        assert local.state("A/1").in_force_a == 20.0
        site.ahead_s = 110.0  # not refreshed for 110 s: still alive
        assert site.allowed_a == 20.0
        site.ahead_s = 121.0
        assert site.allowed_a == 6.0


@pytest.mark.parametrize("kind", KINDS)
async def test_l16_a_station_shows_while_idle_that_it_falls_back(kind):
    """A limit below its fallback is left to end; nobody could have drawn more meanwhile."""
    clock, offered = Fast(), []
    idle = Personality(reconnect_s=(0.1, 0.2), idle_as_started=True)
    async with (
        local_csms(["A"], clock=clock) as local,
        simulated(kind, local.address, personality=idle, clock=clock) as site,
    ):

        def known():
            offered.append(site.station.composite(1, 60, "A")[1][0][1])
            return local.server.status()["stations"][0]["personality"]["dead_man"]

        await until(lambda: site.station.store.profiles)
        await until(lambda: known() is not None, 40)
        assert known() is True
        assert min(offered) == 0.0
        assert max(offered) == 6.0


@pytest.mark.parametrize("kind", KINDS)
async def test_the_setpoint_is_what_the_station_allows_through_a_whole_session(kind):
    async with local_csms(("A",)) as local, simulated(kind, local.address) as site:
        await until(lambda: local.state("A/1").online)
        local.apply(A=0.0)
        site.station.plug(1, CAR, "TAG")
        await until(lambda: local.state("A/1").charging)
        for amps in (0.0, 16.0, 6.0, 32.0, 0.0, 10.0):
            local.apply(A=amps)
            await until(lambda amps=amps: site.allowed_a == amps)
            await until(lambda amps=amps: local.state("A/1").in_force_a == amps)
        site.station.unplug(1)
        await until(lambda: not local.state("A/1").charging)
        assert [s.kind for s in local.store.sessions() if s.kind != "meter"] == ["start", "stop"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong_s", [-3000.0, 3000.0])
async def test_s17_a_station_with_a_wrong_clock_is_held(kind, wrong_s):
    async with local_csms(("A",), meter_interval_s=1) as local, simulated(kind, local.address) as site:
        site.ahead_s = wrong_s
        await until(lambda: local.state("A/1").in_force_a == 6.0)
        local.apply(A=20.0)
        site.station.plug(1, CAR, "TAG")
        await until(lambda: local.state("A/1").charging)
        local.apply(A=9.0)
        await until(lambda: site.allowed_a == 9.0)


@pytest.mark.parametrize("kind", KINDS)
async def test_s5_a_station_that_comes_back_is_held_again_within_seconds(kind):
    async with local_csms(("A",)) as local, simulated(kind, local.address) as site:
        await until(lambda: local.state("A/1").online)
        local.apply(A=20.0)
        site.station.plug(1, CAR, "TAG")
        await until(lambda: site.allowed_a == 20.0)
        site.station.store.clear(lambda _p: True)  # it forgets everything on the way
        site.station.link.power_cycle()
        await until(lambda: not local.state("A/1").online)
        await until(lambda: local.state("A/1").online)
        await until(lambda: site.allowed_a == 20.0)
        site.ahead_s = 121.0
        assert site.allowed_a == 6.0  # its safe default is back, too
