"""The operator's cloud: gone in the middle of a session, and kept from stations that nobody knows."""

import asyncio

import pytest
from ocpp.exceptions import SecurityError
from ocpp.v16 import call as call16
from ocpp.v201 import call as call201

from tests.adapters.ocpp_peers import Station16, Station201, cloud, stamp, station, until
from tests.e2e.chargers import Charger, House, living
from tests.e2e.site_files import house


async def test_c1_c4_sessions_go_on_without_the_cloud_and_it_hears_of_each_once(start_controller, meter):
    async with cloud() as operator:
        controller = await start_controller(house(meter.port, cloud=operator.url))
        a, b = Charger(Station16, controller.address, "A"), Charger(Station201, controller.address, "B")
        async with living(a, b, House(meter, [a, b])):
            await asyncio.gather(a.begin(meter=100), b.begin())
            await until(lambda: operator.count("StartTransaction") == 1 and operator.count("TransactionEvent") >= 1)
            first = operator.messages("StartTransaction")[0]["given"]
            assert a.transaction == first  # the cloud's own id while it is there
            first_b = b.transaction

            for noise in ("not json", "[2]", b"\x00\xff", '[9,"1",{}]'):  # a cloud out of its mind harms nobody
                await asyncio.gather(*(operator.peers[name]._connection.send(noise) for name in ("A", "B")))
            await operator.stop()
            await controller.sees(lambda p: p["csms"]["upstream"]["lost"])
            await asyncio.gather(*(c.allows(lambda amps: amps >= 20) for c in (a, b)))  # they charge on
            await asyncio.gather(a.end(meter=900), b.end())  # answered here
            await asyncio.gather(a.begin(meter=900), b.begin())
            assert a.transaction not in {first, None, 0, -1}
            await a.gets(lambda amps: amps >= 6)
            await asyncio.gather(a.end(meter=1700), b.end())
            assert operator.count("StopTransaction") == 0

            await operator.start()
            await until(lambda: operator.count("StopTransaction") == 2, 40.0)
            await until(lambda: operator.count("TransactionEvent", event_type="Ended") == 2, 40.0)
            await asyncio.sleep(2.0)  # a repeat would come now
        starts, stops = operator.messages("StartTransaction"), operator.messages("StopTransaction")
        assert [s["meter_start"] for s in starts] == [100, 900]
        assert [(s["transaction_id"], s["meter_stop"]) for s in stops] == [
            (first, 900),
            (starts[1]["given"], 1700),
        ]
        events = operator.messages("TransactionEvent")
        told = [(e["event_type"], e["transaction_info"]["transaction_id"]) for e in events]
        assert told.count(("Started", first_b)) == told.count(("Ended", first_b)) == 1
        assert [t for t, _ in told if t != "Updated"] == ["Started", "Ended", "Started", "Ended"]
        assert any(e.get("offline") for e in events)
        assert sorted(s["station_id"] for s in await controller.sessions()) == ["A", "A", "B", "B"]
        assert len(await controller.events("csms_lost")) == len(await controller.events("csms_back")) == 1
        assert (await controller.site())["csms"]["upstream"]["lost"] is False
        assert not controller.lines("Traceback"), controller.text()


@pytest.mark.parametrize("kind", [Station16, Station201])
async def test_a_station_that_the_site_file_does_not_name_waits_without_rights(start_controller, meter, kind):
    async with cloud() as operator:
        controller = await start_controller(house(meter.port, ("A",), cloud=operator.url))
        known = Charger(Station16, controller.address, "A")
        async with living(known, House(meter, [known])), station(kind, controller.address, "stranger") as stranger:
            assert await stranger.boot() == "Pending"
            if kind is Station16:
                status = call16.StatusNotification(connector_id=1, error_code="NoError", status="Preparing")
                begin = call16.StartTransaction(connector_id=1, id_tag="TAG", meter_start=1, timestamp=stamp())
            else:
                status = call201.StatusNotification(
                    timestamp=stamp(), connector_status="Occupied", evse_id=1, connector_id=1
                )
                begin = call201.Heartbeat()
            for message in (status, begin):
                with pytest.raises(SecurityError):
                    await stranger.call(message, suppress=False)
            await known.begin()
            await known.gets(lambda amps: amps >= 6)
            await until(lambda: operator.count("StartTransaction") == 1)

            picture = await controller.site()
            assert list(picture["evses"]) == ["A/1"]
            assert [s["id"] for s in picture["csms"]["stations"]] == ["A"]
            (waiting,) = picture["csms"]["waiting_room"]
            assert (waiting["id"], waiting["ocpp_version"], waiting["vendor"]) == ("stranger", kind.version[4:], "V")
            assert stranger.seen.limits == []
        assert set(operator.peers) == {"A"}
        assert {name for name, _, _ in operator.book.messages} == {"A"}
        assert [s["station_id"] for s in await controller.sessions()] == ["A"]
