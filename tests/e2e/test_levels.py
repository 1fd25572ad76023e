"""Three levels with nothing but OCPP: an operator's CSMS, a controller, and a controller of a site below it.

The currents are those that two houses' meters see; everything is judged by them.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.adapters.ocpp_peers import Station16, Station201, cloud, until
from tests.adapters.site_peers import knows_sites, maximum
from tests.e2e.chargers import Charger, House, living
from tests.e2e.controller import Controller
from tests.e2e.meter import MeterProcess
from tests.e2e.site_files import house

CAMPUS_A = 60
GARAGE_FALLBACK_A = 11
LIFE_S = 30.0
CUT_S = 5.0
"""From a lower limit above to lower currents below: a message a level, a cycle each, and the car."""


@dataclass
class Truth:
    """What flows, sampled: (time, into the campus, into the garage)."""

    campus: House
    garage: House
    samples: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def garage_a(self) -> float:
        return self.garage.base_a + sum(c.draw_a for c in self.garage.chargers)

    @property
    def campus_a(self) -> float:
        return self.campus.base_a + sum(c.draw_a for c in self.campus.chargers) + self.garage_a

    async def run(self) -> None:
        while True:
            self.samples.append((time.monotonic(), self.campus_a, self.garage_a))
            await asyncio.sleep(0.1)

    def most(self, which: int, since_s: float, until_s: float = float("inf")) -> float:
        return max(s[which] for s in self.samples if since_s <= s[0] <= until_s)


class Below:
    """The garage, as one load of the campus."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth

    @property
    def draw_a(self) -> float:
        return self._truth.garage_a


def campus(meter_port: int, cloud_url: str) -> dict[str, Any]:
    site = house(meter_port, ("P",), cloud=cloud_url)
    site["site"] = {"name": "Campus", "grid_connection": {"fuse_a": CAMPUS_A}}
    site["zones"][0] |= {"protection": {"rating_a": CAMPUS_A, "kind": "gg"}, "uncontrolled_max_a": 10}
    site["stations"].append(
        {
            "id": "GARAGE", "kind": "site", "zone": "house", "breaker_a": 32, "fallback_a": GARAGE_FALLBACK_A,
            "carries": ["A", "B"], "password": "garage-password",
            "evses": [{"max_a": 32, "rotation": "RST"}],
        }
    )  # fmt: skip
    site["csms"] |= {"meter_interval_s": 1}
    return site


def garage(meter_port: int, campus_url: str) -> dict[str, Any]:
    site = house(meter_port, ("A", "B"))
    own = {"id": "GARAGE", "release_ramp_s": 0, "meter_interval_s": 1, "contact_timeout_s": 9}
    site["csms"]["upstreams"] = [
        {"id": "campus", "url": campus_url, "password": "garage-password", "own_identity": own}
    ]
    return site


@pytest.mark.timeout(200)
async def test_three_levels_share_a_fuse_and_the_lowest_falls_back_and_returns_when_the_one_above_dies(tmp_path, meter):
    below = MeterProcess()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(below.kill)
        stack.enter_context(knows_sites())
        operator = await stack.enter_async_context(cloud())
        upper = await _controller(stack, tmp_path / "campus", campus(meter.port, operator.url))
        lower = await _controller(stack, tmp_path / "garage", garage(below.port, upper.address))
        p = Charger(Station201, upper.address, "P")
        a, b = Charger(Station16, lower.address, "A"), Charger(Station201, lower.address, "B")
        garage_house = House(below, [a, b], base_a=3.0)
        truth = Truth(House(meter, [p]), garage_house)
        campus_house = House(meter, [p, Below(truth)])
        async with living(p, a, b, garage_house, campus_house, truth):
            await asyncio.gather(p.begin(), a.begin(), b.begin())
            # each level holds what is beneath it: both cars and the one of the campus share what the fuse leaves
            settled = lambda: truth.garage_a >= 23.0 and p.draw_a >= 23.0  # noqa: E731 - asked often
            await until(settled, 60.0)
            settled_s = time.monotonic()
            await asyncio.sleep(2.0)
            assert truth.most(1, settled_s) <= CAMPUS_A
            assert (
                min(s[1] for s in truth.samples if s[0] >= settled_s) >= CAMPUS_A - 8
            )  # and little is left unused: each level gives out whole amps
            seen = await upper.site()
            assert seen["csms"]["carried"] == ["A", "B"]
            end_s = time.monotonic() + 5.0
            while (measured := seen["evses"]["GARAGE/0"]["measured_a"]) != [pytest.approx(truth.garage_a, abs=1.5)] * 3:
                assert time.monotonic() < end_s, measured
                await asyncio.sleep(0.3)
                seen = await upper.site()
            assert (await lower.site())["zones"]["house"]["limit_source"] == "campus"

            # the operator sees every station in its own name, two levels up, and the garage as a station of its own
            await until(lambda: operator.count("StartTransaction") == 1)
            told = {(who, action) for who, action, _ in operator.book.messages}
            assert {("GARAGE", "BootNotification"), ("A", "StartTransaction"), ("B", "TransactionEvent")} <= told
            assert (await operator.peers["GARAGE"].call(maximum("2.0.1", 12.0))).status == "Accepted"
            set_s = time.monotonic()
            await until(lambda: truth.garage_a <= 12.0, CUT_S)
            cut_s = time.monotonic()
            await until(lambda: p.draw_a >= 30.0, 20.0)  # what the garage may not have, others get
            await asyncio.sleep(1.0)
            assert truth.most(1, set_s) <= CAMPUS_A
            assert truth.most(2, cut_s) <= 12.0
            ask = maximum("2.0.1", 32.0)  # the same profile, wide open
            assert (await operator.peers["GARAGE"].call(ask)).status == "Accepted"
            await until(settled, 40.0)

            # the campus controller dies: the garage's limit ends by itself at what the campus counts it with
            upper.kill()
            killed_s = time.monotonic()
            p.transaction = None  # its own dead-man is another test's
            held_a = (await lower.site())["external_limits"]["campus"]["value"]
            await until(lambda: truth.garage_a <= GARAGE_FALLBACK_A, LIFE_S + CUT_S)
            assert truth.most(2, killed_s) <= held_a
            assert truth.garage_a > garage_house.base_a  # it goes on charging, less
            fell_s = time.monotonic()
            await a.end(meter=700)  # served here meanwhile
            assert operator.count("StopTransaction") == 0
            await asyncio.sleep(3.0)
            assert truth.most(2, fell_s) <= GARAGE_FALLBACK_A
            state = (await lower.site())["external_limits"]["campus"]
            assert (state["state"], state["value"]) == ("failsafe", GARAGE_FALLBACK_A)

            await upper.start()  # and it returns
            await until(lambda: truth.garage_a > GARAGE_FALLBACK_A + 2, 60.0)
            await until(lambda: operator.count("StopTransaction") == 1, 40.0)
            assert truth.most(1, killed_s) <= CAMPUS_A
        stops = operator.messages("StopTransaction")
        assert [stop["meter_stop"] for stop in stops] == [700]
        for controller in (upper, lower):
            assert not controller.lines("Traceback"), controller.text()


async def _controller(stack: contextlib.AsyncExitStack, folder, site: dict[str, Any]) -> Controller:
    folder.mkdir()
    controller = Controller(folder, site)
    stack.push_async_callback(controller.close)
    await controller.start()
    return controller
