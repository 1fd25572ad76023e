"""Faults S1 to S6 with stations of two other makes over real sockets: what the local CSMS tells control and the station."""

import asyncio
import contextlib

import pytest

from tests.adapters.ocpp_peers import local_csms, until
from tests.e2e.ocpp_day import Flying
from tests.e2e.odd_chargers import CALL_ERROR, chargers

ONE = [("ocpp", "1.6"), ("ocpp-rpc", "2.0.1")]
OTHER = [("ocpp", "2.0.1"), ("ocpp-rpc", "1.6")]


class Bench:
    """The local CSMS with stations of one make; its clock can be moved on, its setpoints are renewed meanwhile."""

    def __init__(self, local, made, clock):
        self.local, self.made, self.clock, self.setpoints = local, made, clock, {}

    def state(self, who="S1"):
        return self.local.server.evse_states(self.clock.monotonic_s())[f"{who}/1"]

    def learned(self):
        return self.local.server.status()["stations"][0]["personality"]

    def hold(self, amps, *names):
        self.setpoints |= dict.fromkeys(names or ("S1",), amps)
        self.local.apply(**self.setpoints)

    async def fly(self, seconds):
        for _ in range(round(seconds / 5)):
            self.clock.fly(5)
            self.local.apply(**self.setpoints)
            await asyncio.sleep(0.02)

    async def charging(self, amps=16.0):
        """All are held at so much."""
        for who, one in self.made.items():
            await one.connect()
            assert await one.boot() == "Accepted"
            self.hold(amps, who)
            await one.start()
        await until(lambda: all(self.state(who).confirmed_a == amps for who in self.made))


@contextlib.asynccontextmanager
async def bench(make, version, names=("S1",)):
    clock = Flying()
    async with (
        local_csms(names, clock=clock, offline_authorization="accept") as local,
        chargers(make, version, local.address, names) as made,
    ):
        yield Bench(local, made, clock)


@pytest.mark.parametrize(("make", "version"), ONE)
@pytest.mark.parametrize(("tells_schedule", "after_a"), [(True, 6.0), (False, 32.0)])
async def test_s1_offline_a_limit_counts_to_its_end_then_the_fallback_that_was_proven_else_the_maximum(
    make, version, tells_schedule, after_a
):
    async with bench(make, version) as on:
        on.made["S1"].tells_schedule = tells_schedule
        await on.charging()
        await until(lambda: (on.learned()["dead_man"] is True) is tells_schedule)
        await on.made["S1"].close()
        await until(lambda: not on.state().online)
        assert on.state().in_force_a == 16.0
        await on.fly(100)
        assert on.state().in_force_a == 16.0
        await on.fly(40)
        assert on.state().in_force_a == after_a


@pytest.mark.parametrize(("make", "version"), OTHER)
async def test_s2_stations_that_all_come_back_at_once_are_held_again_within_ten_seconds(make, version):
    names = tuple(f"S{number}" for number in range(1, 16))
    async with bench(make, version, names) as on:
        await on.charging()
        await asyncio.gather(*(one.close() for one in on.made.values()))
        await until(lambda: not any(on.state(who).online for who in names))
        sent = {who: one.count("TxProfile", 16.0) for who, one in on.made.items()}
        back_s = on.clock.monotonic_s()
        await asyncio.gather(*(one.connect() for one in on.made.values()))
        assert all(on.state(who).in_force_a >= 16.0 for who in names), "no less, before it is confirmed"
        await until(lambda: all(on.state(who).confirmed_s > back_s for who in names), 10.0)
        assert all(one.count("TxProfile", 16.0) > sent[who] for who, one in on.made.items())
        assert all(on.state(who).in_force_a == 16.0 for who in names)


@pytest.mark.parametrize(("make", "version"), ONE)
@pytest.mark.parametrize("answer", ["Rejected", "NotSupported", CALL_ERROR])
async def test_s3_who_refuses_every_limit_is_a_load_with_its_maximum(make, version, answer):
    async with bench(make, version) as on:
        one = on.made["S1"]
        await one.connect()
        await one.boot()
        await until(lambda: one.count("TxDefaultProfile", 6.0) > 0)
        one.answer = answer
        on.hold(16.0)
        await one.start()
        await until(lambda: on.state().fault is not None, 10.0)
        assert on.state().in_force_a == 32.0
        assert on.local.codes().count("limit_refused") == 1
        assert {purpose for purpose, _ in one.limits} >= {"TxProfile", "TxDefaultProfile"}, "other ways were tried"


@pytest.mark.parametrize(("make", "version"), OTHER)
async def test_s4_who_accepts_a_limit_and_ignores_it_is_asked_again_and_told(make, version):
    async with bench(make, version) as on:
        one = on.made["S1"]
        await on.charging(10.0)
        await one.meter(20.0, 20.0, 20.0)
        assert max(on.state().measured_a) == 20.0, "what is measured counts"
        before = one.count("TxProfile", 10.0)
        await on.fly(20)
        await one.meter(20.0, 20.0, 20.0)
        await until(lambda: one.count("TxProfile", 10.0) > before)
        for _ in range(5):
            await on.fly(20)
            await one.meter(20.0, 20.0, 20.0)
            await asyncio.sleep(0.3)
        assert on.local.codes().count("limit_ignored") == 1
        assert on.learned()["ignores"] is True
        await until(lambda: one.count("TxDefaultProfile", 10.0) > 0)  # and asked in another way


@pytest.mark.parametrize(("make", "version"), ONE)
async def test_s5_a_limit_is_sent_again_on_resume_and_on_reconnect_within_two_seconds(make, version):
    async with bench(make, version) as on:
        one = on.made["S1"]
        await on.charging()
        await one.state("SuspendedEV")
        before = one.count("TxProfile", 16.0)
        await one.state("Charging")
        await until(lambda: one.count("TxProfile", 16.0) > before, 2.0)
        await one.close()
        await until(lambda: not on.state().online)
        defaults, lives = one.count("TxDefaultProfile", 6.0), one.count("TxProfile", 16.0)
        await one.connect()
        await one.meter(16.0, 16.0, 16.0)  # it need not boot
        await until(lambda: one.count("TxDefaultProfile", 6.0) > defaults, 2.0)
        await until(lambda: one.count("TxProfile", 16.0) > lives, 2.0)


@pytest.mark.parametrize(("make", "version"), OTHER)
async def test_s6_how_long_a_station_takes_to_follow_is_learned(make, version):
    async with bench(make, version) as on:
        one = on.made["S1"]
        await on.charging(20.0)
        await one.meter(20.0, 20.0, 20.0)
        await asyncio.sleep(1.2)  # it has been looked at
        on.hold(10.0)
        await until(lambda: on.state().confirmed_a == 10.0)
        await on.fly(10)
        await one.meter(20.0, 20.0, 20.0)
        assert on.learned()["reaction_s"] is None
        await on.fly(5)
        await one.meter(10.0, 10.0, 10.0)
        await until(lambda: on.learned()["reaction_s"] is not None)
        assert 14.0 < on.learned()["reaction_s"] < 18.0
        assert not [code for code in on.local.codes() if code.startswith("limit_")], "slow is not deaf"
