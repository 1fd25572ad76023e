"""The simulated stations against CSMSs built with the ``ocpp`` library, and the simulated cloud against the stations."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from ocpp.routing import on
from ocpp.v16 import ChargePoint as Csms16
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp.v201 import ChargePoint as Csms201
from ocpp.v201 import call as call201
from ocpp.v201 import call_result as result201
from websockets.asyncio.server import serve

from adapters.simulated.cloud import Cloud
from adapters.simulated.ev import EvType
from adapters.simulated.personality import Personality
from adapters.simulated.plant import Plant
from adapters.simulated.station import utc_text
from adapters.simulated.station_v16 import Station16
from adapters.simulated.station_v201 import Station201
from tests.adapters.test_simulated_plant import make_site

QUICK = Personality(reconnect_s=(0.1, 0.2))
CAR = EvType(phases=3, need_wh=1e6, settle_s=1.0, draw=1.0)


class Peer16(Csms16):
    """A CSMS that validates everything against the 1.6 schemas."""

    def __init__(self, name, socket, heard):
        super().__init__(name, socket)
        self.heard = heard

    @on("BootNotification")
    def boot(self, **payload):
        self.heard.append(("boot", payload))
        return result16.BootNotification(current_time=utc_text(time.time()), interval=30, status="Accepted")

    @on("StatusNotification")
    def status(self, **payload):
        self.heard.append(("status", payload["status"]))
        return result16.StatusNotification()

    @on("Authorize")
    def authorize(self, id_tag):
        return result16.Authorize(id_tag_info={"status": "Blocked" if id_tag == "BAD" else "Accepted"})

    @on("StartTransaction")
    def started(self, **payload):
        self.heard.append(("start", payload))
        return result16.StartTransaction(transaction_id=4711, id_tag_info={"status": "Accepted"})

    @on("StopTransaction")
    def stopped(self, **payload):
        self.heard.append(("stop", payload))
        return result16.StopTransaction()

    @on("MeterValues")
    def meter(self, **payload):
        self.heard.append(("meter", payload))
        return result16.MeterValues()

    @on("Heartbeat")
    def heartbeat(self):
        return result16.Heartbeat(current_time=utc_text(time.time()))


class Peer201(Csms201):
    """A CSMS that validates everything against the 2.0.1 schemas."""

    def __init__(self, name, socket, heard):
        super().__init__(name, socket)
        self.heard = heard

    @on("BootNotification")
    def boot(self, **payload):
        self.heard.append(("boot", payload))
        return result201.BootNotification(current_time=utc_text(time.time()), interval=30, status="Accepted")

    @on("StatusNotification")
    def status(self, **payload):
        self.heard.append(("status", payload["connector_status"]))
        return result201.StatusNotification()

    @on("Authorize")
    def authorize(self, id_token):
        return result201.Authorize(id_token_info={"status": "Accepted"})

    @on("TransactionEvent")
    def event(self, **payload):
        self.heard.append((payload["event_type"], payload))
        return result201.TransactionEvent()

    @on("ReportChargingProfiles")
    def report(self, **payload):
        self.heard.append(("report", payload))
        return result201.ReportChargingProfiles()

    @on("Heartbeat")
    def heartbeat(self):
        return result201.Heartbeat(current_time=utc_text(time.time()))


@asynccontextmanager
async def at_work(kind, personality=QUICK):
    """A station of this kind at EVSE A/1 of the test plant, its CSMS and a plant that lives in real time."""
    plant, heard, peers = Plant(make_site(), appliances=False), [], []
    peer_class = Peer16 if kind is Station16 else Peer201

    async def csms(socket):
        peer = peer_class("A", socket, heard)
        peers.append(peer)
        try:
            await peer.start()
        except Exception as error:
            if "Connection" not in type(error).__name__:
                heard.append(("error", repr(error)))

    events = []
    async with serve(csms, "127.0.0.1", 0, subprotocols=[kind.subprotocol]) as server:
        port = server.sockets[0].getsockname()[1]
        station = kind(
            "A",
            f"ws://127.0.0.1:{port}/ocpp",
            [plant.points["A/1"]],
            emit=lambda event, **data: events.append((event, data)),
            personality=personality,
        )

        async def live():
            while True:
                plant.step(0.1)
                await asyncio.sleep(0.02)  # five times as fast as the clock

        tasks = [asyncio.create_task(station.run()), asyncio.create_task(live())]
        try:
            await until(lambda: station.link.online)
            yield station, peers, heard, events
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert not [h for h in heard if h[0] == "error"]


async def until(condition, seconds=8.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def named(heard, name):
    return [data for what, data in heard if what == name]


def profile16(limit_a, *, level=50, duration=None, number=1):
    schedule = {
        "chargingRateUnit": "A",
        "startSchedule": utc_text(time.time() - 60),
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit_a}],
    }
    if duration:
        schedule["duration"] = duration + 60
    return {
        "chargingProfileId": number,
        "stackLevel": level,
        "chargingProfilePurpose": "TxDefaultProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": schedule,
    }


async def test_a_16_session_from_plug_to_unplug():
    async with at_work(Station16) as (station, peers, heard, events):
        csms = peers[0]
        reply = await csms.call(call16.ChangeConfiguration(key="MeterValueSampleInterval", value="1"))
        assert reply.status == "Accepted"
        reply = await csms.call(call16.SetChargingProfile(connector_id=1, cs_charging_profiles=profile16(10.0)))
        assert reply.status == "Accepted"
        station.plug(1, CAR, "TAG-1")
        await until(lambda: len(named(heard, "meter")) >= 2)
        await until(lambda: station.connectors[1].point.own_current_a.l1 > 9.8)
        await until(lambda: float(named(heard, "meter")[-1]["meter_value"][0]["sampled_value"][0]["value"]) > 9.8)
        meter = named(heard, "meter")[-1]
        assert meter["transaction_id"] == 4711
        samples = {
            (s["measurand"], s.get("phase")): float(s["value"]) for s in meter["meter_value"][0]["sampled_value"]
        }
        assert samples["Current.Import", "L2"] == pytest.approx(10.0, abs=0.2)
        assert samples["Voltage", "L1-N"] == 230.0
        assert samples["Power.Active.Import", None] == pytest.approx(6900, rel=0.03)
        assert samples["Energy.Active.Import.Register", None] > named(heard, "start")[0]["meter_start"]
        station.unplug(1)
        await until(lambda: named(heard, "stop"))
        stop = named(heard, "stop")[0]
        assert stop["transaction_id"] == 4711
        assert stop["meter_stop"] > named(heard, "start")[0]["meter_start"]
        await until(lambda: named(heard, "status")[-1] == "Available")
        assert named(heard, "status")[:3] == ["Available", "Preparing", "Charging"]
        assert len(named(heard, "boot")) == 1
        limits = [data for event, data in events if event == "limit_received"]
        assert (limits[0]["before_a"], limits[0]["limit_a"]) == (32.0, 10.0)


async def test_16_profiles_pause_expire_compose_and_clear():
    async with at_work(Station16) as (station, peers, heard, _events):
        csms, point = peers[0], station.connectors[1].point
        station.plug(1, CAR, "TAG-1")
        await until(lambda: point.pilot_a == 32.0)  # no profile: all it has
        low = profile16(6.0, level=0, number=1)
        await csms.call(call16.SetChargingProfile(connector_id=0, cs_charging_profiles=low))
        assert point.pilot_a == 6.0
        live = profile16(20.0, level=50, duration=3, number=2)
        await csms.call(call16.SetChargingProfile(connector_id=1, cs_charging_profiles=live))
        assert point.pilot_a == 20.0
        composite = await csms.call(call16.GetCompositeSchedule(connector_id=1, duration=60, charging_rate_unit="A"))
        periods = composite.charging_schedule["charging_schedule_period"]
        assert [p["limit"] for p in periods] == [20.0, 6.0]
        assert periods[1]["start_period"] in {3, 4}
        await until(lambda: point.pilot_a == 6.0)  # it lapsed by itself
        pause = profile16(5.9, level=50, number=2)
        await csms.call(call16.SetChargingProfile(connector_id=1, cs_charging_profiles=pause))
        assert point.pilot_a == 0.0
        await until(lambda: named(heard, "status")[-1] == "SuspendedEVSE")
        reply = await csms.call(call16.ClearChargingProfile(charging_profile_purpose="TxDefaultProfile"))
        assert reply.status == "Accepted"
        assert point.pilot_a == 32.0
        reply = await csms.call(call16.ClearChargingProfile(id=2))
        assert reply.status == "Unknown"
        maximum = profile16(9.0) | {"chargingProfilePurpose": "ChargePointMaxProfile"}
        reply = await csms.call(call16.SetChargingProfile(connector_id=1, cs_charging_profiles=maximum))
        assert reply.status == "Rejected"  # a maximum belongs to connector 0
        tx = profile16(9.0) | {"chargingProfilePurpose": "TxProfile", "transactionId": 1}
        reply = await csms.call(call16.SetChargingProfile(connector_id=1, cs_charging_profiles=tx))
        assert reply.status == "Rejected"  # no such transaction


async def test_a_cut_16_station_keeps_its_profiles_and_its_transaction_and_tells_later():
    async with at_work(Station16) as (station, peers, heard, _events):
        await peers[0].call(call16.SetChargingProfile(connector_id=1, cs_charging_profiles=profile16(10.0)))
        await peers[0].call(call16.ChangeConfiguration(key="MeterValueSampleInterval", value="1"))
        station.plug(1, CAR, "TAG-1")
        await until(lambda: named(heard, "start"))
        station.link.cut()
        await until(lambda: not station.link.online)
        count = len(named(heard, "meter"))
        await asyncio.sleep(1.5)
        assert station.connectors[1].point.pilot_a == 10.0
        station.unplug(1)
        station.plug(1, CAR, "TAG-2")  # offline: it starts by itself
        assert not named(heard, "stop")
        station.link.restore()
        await until(lambda: len(named(heard, "start")) == 2)
        assert [what for what, _ in heard if what in {"start", "stop"}] == ["start", "stop", "start"]
        assert len(named(heard, "meter")) > count
        assert len(named(heard, "boot")) == 1
        assert station.connectors[1].point.pilot_a == 10.0
        assert station.sessions == 2


async def test_a_blocked_token_starts_nothing_and_remote_start_and_stop_work():
    async with at_work(Station16) as (station, peers, heard, _events):
        station.plug(1, CAR, "BAD")
        await asyncio.sleep(0.5)
        assert station.connectors[1].transaction is None
        reply = await peers[0].call(call16.RemoteStartTransaction(id_tag="GOOD", connector_id=1))
        assert reply.status == "Accepted"
        await until(lambda: named(heard, "start"))
        reply = await peers[0].call(call16.RemoteStopTransaction(transaction_id=4711))
        assert reply.status == "Accepted"
        await until(lambda: named(heard, "stop"))
        assert named(heard, "stop")[0]["reason"] == "Remote"
        reply = await peers[0].call(call16.TriggerMessage(requested_message="BootNotification"))
        assert reply.status == "Accepted"
        await until(lambda: len(named(heard, "boot")) == 2)


def profile201(limit_a, *, level=50, number=1, purpose="TxDefaultProfile", **more):
    schedule = {
        "id": 1,
        "chargingRateUnit": "A",
        "startSchedule": utc_text(time.time() - 60),
        "duration": 600,
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit_a}],
    }
    return {
        "id": number,
        "stackLevel": level,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [schedule],
    } | more


async def test_a_201_session_from_plug_to_unplug():
    async with at_work(Station201) as (station, peers, heard, _events):
        csms, point = peers[0], station.connectors[1].point
        variable = {
            "component": {"name": "SampledDataCtrlr"},
            "variable": {"name": "TxUpdatedInterval"},
            "attributeValue": "1",
        }
        reply = await csms.call(call201.SetVariables(set_variable_data=[variable]))
        assert reply.set_variable_result[0]["attribute_status"] == "Accepted"
        station.plug(1, CAR, "TAG-1")
        await until(lambda: named(heard, "Started"))
        key = named(heard, "Started")[0]["transaction_info"]["transaction_id"]
        reply = await csms.call(call201.SetChargingProfile(evse_id=1, charging_profile=profile201(12.0)))
        assert reply.status == "Accepted"
        same_place = profile201(9.0, number=2)
        reply = await csms.call(call201.SetChargingProfile(evse_id=1, charging_profile=same_place))
        assert reply.status == "Rejected"
        tx = profile201(8.0, number=3, purpose="TxProfile", transactionId=key)
        reply = await csms.call(call201.SetChargingProfile(evse_id=1, charging_profile=tx))
        assert reply.status == "Accepted"
        assert point.pilot_a == 8.0
        composite = await csms.call(call201.GetCompositeSchedule(duration=60, evse_id=1))
        assert composite.schedule["charging_schedule_period"][0]["limit"] == 8.0
        reply = await csms.call(call201.GetChargingProfiles(request_id=5, charging_profile={}))
        assert reply.status == "Accepted"
        await until(lambda: len(named(heard, "report")) == 2)
        assert {r["charging_profile"][0]["id"] for r in named(heard, "report")} == {1, 3}
        await until(lambda: any("meter_value" in e for e in named(heard, "Updated")))
        await until(lambda: point.own_current_a.l3 == pytest.approx(8.0, abs=0.1))
        station.unplug(1)
        await until(lambda: named(heard, "Ended"))
        events = [e for what, e in heard if what in {"Started", "Updated", "Ended"}]
        assert [e["seq_no"] for e in events] == list(range(len(events)))
        assert {e["transaction_info"]["transaction_id"] for e in events} == {key}
        assert not any(p.purpose == "Tx" for p in station.store.profiles)
        await until(lambda: named(heard, "status")[-1] == "Available")


async def test_a_cut_201_station_marks_what_it_tells_later_as_offline():
    async with at_work(Station201) as (station, _peers, heard, _events):
        station.plug(1, CAR, "TAG-1")
        await until(lambda: named(heard, "Started"))
        station.link.cut()
        await until(lambda: not station.link.online)
        station.unplug(1)
        station.link.restore()
        await until(lambda: named(heard, "Ended"))
        assert named(heard, "Ended")[0]["offline"] is True
        assert "offline" not in named(heard, "Started")[0]


async def test_a_station_that_ignores_limits_and_a_slow_one():
    async with at_work(Station16, Personality(ignore_limits=True, reconnect_s=(0.1, 0.2))) as (station, peers, _h, _e):
        station.plug(1, CAR, "TAG-1")
        await until(lambda: station.connectors[1].point.pilot_a == 32.0)
        reply = await peers[0].call(call16.SetChargingProfile(connector_id=1, cs_charging_profiles=profile16(6.0)))
        assert reply.status == "Accepted"
        assert station.connectors[1].point.pilot_a == 32.0
    async with at_work(Station16, Personality(slow_s=1.0, reconnect_s=(0.1, 0.2))) as (station, peers, _h, _e):
        station.plug(1, CAR, "TAG-1")
        await until(lambda: station.connectors[1].point.pilot_a == 32.0)
        await peers[0].call(call16.SetChargingProfile(connector_id=1, cs_charging_profiles=profile16(6.0)))
        assert station.connectors[1].point.pilot_a == 32.0
        await until(lambda: station.connectors[1].point.pilot_a == 6.0)


async def test_a_station_that_leaves_some_calls_unanswered_answers_the_others():
    mute = Personality(mute=("DataTransfer",), reconnect_s=(0.1, 0.2))
    async with at_work(Station16, mute) as (_station, peers, _h, _e):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await peers[0].call(call16.DataTransfer(vendor_id="V"))
        assert (await peers[0].call(call16.ClearCache())).status == "Accepted"


@pytest.mark.parametrize("kind", [Station16, Station201])
async def test_the_cloud_counts_sessions_sets_limits_and_comes_back(kind):
    plant = Plant(make_site(), appliances=False)
    cloud = Cloud(0, utc_s=time.time)
    await cloud.start()
    station = kind("A", f"ws://127.0.0.1:{cloud.port}/ocpp", [plant.points["A/1"]], personality=QUICK)
    task = asyncio.create_task(station.run())
    try:
        await until(lambda: station.link.online)
        station.plug(1, CAR, "TAG-1")
        await until(lambda: cloud.sessions)
        assert (await cloud.set_limit("A", 11.0))["status"] == "Accepted"
        assert station.connectors[1].point.pilot_a == 11.0
        await cloud.cut()
        await until(lambda: not station.link.online)
        plant.step(5.0)
        station.unplug(1)
        await cloud.start()
        await until(lambda: all(s.stopped for s in cloud.sessions.values()))
        (session,) = cloud.sessions.values()
        assert session.starts == 1
        assert session.stop_wh > 0
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await cloud.stop()
