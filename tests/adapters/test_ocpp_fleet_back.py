"""S2: a fleet that comes back at once; each station's limit is sent anew, and counts again once the station took it."""

import asyncio
import contextlib
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.adapters.ocpp_peers import local_csms, stamp, until

STATION_S, FLEET_S = 10.0, 120.0
"""From a station's handshake, and from the moment in which all dial, to the confirmation of the last limit."""
LIMIT_A = 16.0


class Station:
    """It takes whatever it is told."""

    def __init__(self, name, number):
        self.name, self.source = name, f"127.0.{1 + number // 250}.{1 + number % 250}"
        self.limits, self.count = [], 0
        self.ws = self.reading = None

    async def dial(self, address):
        self.ws = await connect(
            f"{address}/{self.name}", subprotocols=["ocpp1.6"], proxy=None, local_addr=(self.source, 0),
            ping_interval=None, compression=None, open_timeout=60,
        )  # fmt: skip
        self.reading = asyncio.create_task(self._read())

    async def leave(self):
        await self.ws.close()
        await self.reading

    async def _read(self):
        async for text in self.ws:
            message = json.loads(text)
            if message[0] == 2:
                profile = message[3].get("csChargingProfiles", {})
                if profile.get("chargingProfilePurpose") == "TxProfile":
                    self.limits.append(profile["chargingSchedule"]["chargingSchedulePeriod"][0]["limit"])
                with contextlib.suppress(ConnectionClosed):
                    await self.ws.send(json.dumps([3, message[1], {"status": "Accepted"}]))

    async def say(self, action, payload):
        self.count += 1
        await self.ws.send(json.dumps([2, f"{self.name}-{self.count}", action, payload]))

    async def boot(self):
        await self.say("BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"})


@pytest.mark.parametrize("size", [100, pytest.param(1000, marks=pytest.mark.soak)])
async def test_s2_each_limit_of_a_fleet_that_is_back_at_once_is_confirmed_in_time(size):
    fleet = [Station(f"S{number}", number) for number in range(size)]
    async with local_csms(tuple(one.name for one in fleet)) as local:
        clock = asyncio.get_running_loop().time  # the monotonic clock of the states too

        def states():
            return {s.evse_id.partition("/")[0]: s for s in local.server.evse_states(clock()).values()}

        local.apply(**{one.name: LIMIT_A for one in fleet})
        await asyncio.gather(*(one.dial(local.address) for one in fleet))
        for one in fleet:
            await one.boot()
            start = {"connectorId": 1, "idTag": "TAG", "meterStart": 1, "timestamp": stamp()}
            await one.say("StartTransaction", start)
        await until(lambda: all(s.confirmed_a == LIMIT_A for s in states().values()), FLEET_S)
        await asyncio.gather(*(one.leave() for one in fleet))
        await until(lambda: not any(s.online for s in states().values()), FLEET_S)
        sent = [len(one.limits) for one in fleet]

        here_s, took_s, began_s = {}, {}, clock()

        async def back(one):
            await one.dial(local.address)
            here_s[one.name] = clock()
            await one.boot()

        dialing = asyncio.gather(*(back(one) for one in fleet))
        while len(took_s) < size:
            assert clock() - began_s < FLEET_S, f"{len(took_s)} of {size} confirmed"
            for who, state in states().items():
                if who in took_s or who not in here_s:
                    continue
                if state.online and state.confirmed_s > here_s[who] and state.confirmed_a == LIMIT_A:
                    took_s[who] = state.confirmed_s - here_s[who]
                else:
                    assert state.in_force_a >= LIMIT_A  # no less, before it is confirmed
            await asyncio.sleep(0.05)
        await dialing
        worst_s, fleet_s = max(took_s.values()), clock() - began_s
        print(f"\n{size} stations: {fleet_s:.1f} s in all, {worst_s:.2f} s at most from handshake to confirmation")
        assert worst_s < STATION_S
        assert all(len(one.limits) > before for one, before in zip(fleet, sent, strict=True))
        await asyncio.gather(*(one.leave() for one in fleet))
