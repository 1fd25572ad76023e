"""The site's own identity towards a CSMS of the ``ocpp`` library, in every version."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta

import pytest
from ocpp.exceptions import NotSupportedError
from ocpp.v16 import call as call16

from cem.csms.site_limit import OtherLimit
from cem.csms.site_refusals import refusal
from tests.adapters.ocpp_peers import cloud, until
from tests.adapters.site_peers import CALLS, knows_sites, maximum, own_identity
from tests.fakes import MemoryStore

VERSIONS = ["1.6", "2.0.1", "2.1"]
SLOW = ["1.6", "2.1"]
"""Where time must pass: 2.0.1 differs in what it refuses alone."""


@pytest.fixture(autouse=True)
def _sites():
    with knows_sites():
        yield


async def known(operator):
    await until(lambda: operator.count("BootNotification") == 1)
    return operator.peers["SITE"]


@pytest.mark.parametrize("version", SLOW)
async def test_the_site_boots_as_a_station_without_evses_and_tells_its_current(version):
    async with cloud() as operator, own_identity(operator.url, version, meter_interval_s=1):
        await known(operator)
        credential = operator.requests[0][0]["Authorization"].split()[1]
        assert base64.b64decode(credential) == b"SITE:secret"
        await until(lambda: operator.count("MeterValues") >= 2)
        told = operator.messages("MeterValues")[-1]
        assert told["connector_id" if version == "1.6" else "evse_id"] == 0
        samples = told["meter_value"][0]["sampled_value"]
        found = {(s["measurand"], s["phase"]): float(s["value"]) for s in samples}
        assert [found["Current.Import", f"L{i}"] for i in (1, 2, 3)] == [10.0, 11.0, 0.0]
        assert found["Current.Export", "L3"] == 2.0
        assert {s["location"] for s in samples} == {"Inlet"}


@pytest.mark.parametrize("version", SLOW)
async def test_d1_a_maximum_at_evse_0_is_the_sites_limit_with_its_schedule_its_end_and_its_clear(version):
    async with cloud() as operator, own_identity(operator.url, version) as own:
        csms = await known(operator)
        assert own.adapter.signals() == {} or own.adapter.signals()["cloud"].written_s is None  # nobody has spoken yet
        assert (await csms.call(maximum(version, 0, stack=0, number=1))).status == "Accepted"
        assert own.value() == 0.0  # D5: 0 is obeyed
        # over it: 25 A for a while, then 16 A, then its end; a step down is given out two seconds early
        steps = [{"start_period": 0, "limit": 25.0}, {"start_period": 4, "limit": 16.0}]
        begins = datetime.now(UTC)
        await csms.call(maximum(version, 0, number=2, stack=1, steps=steps, start=begins, duration=6))
        assert own.value() == 25.0
        await until(lambda: own.value() == 16.0)
        assert datetime.now(UTC) - begins < timedelta(seconds=4)
        await until(lambda: own.value() == 0.0)
        # W stays W: no voltage is assumed
        assert (await csms.call(maximum(version, 11000.0, number=3, stack=2, unit="W"))).status == "Accepted"
        assert (own.value("W"), own.value()) == (11000.0, None)
        await csms.call(maximum(version, 900.0, number=4, stack=3))
        assert own.value() == 63.0  # above the fuse limits nothing, and is no reason to refuse
        cleared = await csms.call(
            CALLS[version].ClearChargingProfile()
            if version == "1.6"
            else CALLS[version].ClearChargingProfile(
                charging_profile_criteria={"charging_profile_purpose": "ChargingStationMaxProfile"}
            )
        )
        assert cleared.status == "Accepted"
        assert own.value() is own.value("W") is None
        signal = own.adapter.signals()["cloud"]
        assert signal.active is False
        assert signal.written_s is not None


@pytest.mark.parametrize("version", VERSIONS)
async def test_d5_what_is_no_limit_of_a_site_is_refused_and_told(version):
    async with cloud() as operator, own_identity(operator.url, version) as own:
        csms = await known(operator)
        ask = maximum(version, 16.0)
        body = ask.cs_charging_profiles if version == "1.6" else ask.charging_profile
        body["charging_profile_purpose"] = "TxDefaultProfile"
        assert (await csms.call(ask)).status == "Rejected"
        if version != "2.1":  # there a negative limit is an old way to ask for discharging
            assert (await csms.call(maximum(version, -1.0))).status == "Rejected"
        assert own.value() is None
        assert "site_limit_refused" in [e.code for e in own.events]


@pytest.mark.parametrize("version", SLOW)
async def test_d3_what_was_set_holds_over_a_restart_and_without_contact(version):
    store = MemoryStore()
    async with cloud() as operator:
        async with own_identity(operator.url, version, store=store) as own:
            csms = await known(operator)
            await csms.call(maximum(version, 14.0, duration=7))
            assert own.value() == 14.0
        url = operator.url
    async with own_identity(url, version, store=store) as own:
        assert own.value() == 14.0  # before any contact
        assert own.adapter.signals()["cloud"].alive_s is None
        await until(lambda: "site_identity_lost" in [e.code for e in own.events])
        await until(lambda: own.value() is None, 10.0)  # its end comes without contact too


@pytest.mark.parametrize("version", SLOW)
async def test_c7_the_composite_schedule_of_the_site_is_the_lower_of_all(version):
    async with cloud() as operator, own_identity(operator.url, version) as own:
        csms = await known(operator)
        where = {"connector_id": 0} if version == "1.6" else {"evse_id": 0}

        async def composite(unit="A"):
            ask = CALLS[version].GetCompositeSchedule(**where, duration=600, charging_rate_unit=unit)
            answer = await csms.call(ask)
            schedule = answer.charging_schedule if version == "1.6" else answer.schedule
            return [period["limit"] for period in schedule["charging_schedule_period"]]

        assert await composite() == [63.0]  # the fuse
        steps = [{"start_period": 0, "limit": 40.0}, {"start_period": 100, "limit": 20.0}]
        await csms.call(maximum(version, 0, steps=steps))
        assert await composite() == [40.0, 20.0]
        own.shows(others=[OtherLimit("SO", 17250.0, "W")])  # 25 A at 230 V
        await asyncio.sleep(1.2)
        assert await composite() == [25.0, 20.0]
        assert await composite("W") == [17250.0, 13800.0]


async def test_limits_of_others_are_told_with_their_source_and_only_where_they_matter():
    async with cloud() as operator, own_identity(operator.url, "2.0.1") as own:
        await known(operator)
        own.shows(others=[OtherLimit("SO", 20.0, "A"), OtherLimit("EMS", 12.0, "A")])
        await until(lambda: operator.count("NotifyChargingLimit") == 2)
        found = operator.messages("NotifyChargingLimit")
        assert {m["charging_limit"]["charging_limit_source"] for m in found} == {"SO", "EMS"}
        assert found[0]["charging_schedule"][0]["charging_schedule_period"][0]["limit"] in {20.0, 12.0}
        own.shows(others=[OtherLimit("SO", 19.5, "A"), OtherLimit("EMS", 12.0, "A")])
        await asyncio.sleep(1.5)
        assert operator.count("NotifyChargingLimit") == 2  # by less than LimitChangeSignificance
        own.shows(others=[OtherLimit("SO", 8.0, "A")])
        await until(lambda: operator.count("NotifyChargingLimit") == 3)
        await until(lambda: operator.count("ClearedChargingLimit", charging_limit_source="EMS") == 1)
        own.shows(others=[])
        await until(lambda: operator.count("ClearedChargingLimit", charging_limit_source="SO") == 1)


async def test_in_1_6_limits_of_others_are_told_by_data_transfer():
    async with cloud() as operator, own_identity(operator.url, "1.6") as own:
        await known(operator)
        own.shows(others=[OtherLimit("SO", 20.0, "A")])
        await until(lambda: operator.count("DataTransfer", message_id="NotifyChargingLimit") == 1)
        own.shows(others=[])
        await until(lambda: operator.count("DataTransfer", message_id="ClearedChargingLimit") == 1)


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
async def test_the_device_model_shows_the_local_controller_and_the_tree_of_zones(version):
    calls = CALLS[version]
    async with cloud() as operator, own_identity(operator.url, version):
        csms = await known(operator)
        await csms.call(calls.GetBaseReport(request_id=7, report_base="FullInventory"))
        await until(lambda: any(not m.get("tbc") for m in operator.messages("NotifyReport")))
        pages = operator.messages("NotifyReport")
        assert [p["seq_no"] for p in pages] == list(range(len(pages)))
        data = [one for page in pages for one in page["report_data"]]
        named = {
            (
                d["component"]["name"],
                d["component"].get("instance"),
                d["variable"]["name"],
                d["variable"].get("instance"),
            ): d["variable_attribute"][0].get("value")
            for d in data
        }
        assert named["LocalController", None, "Enabled", None] == "true"
        assert named["ChargingZone", "hall", "ParentZone", None] == "grid"
        assert named["ChargingZone", "grid", "CurrentLimit", "L1"] == "20"
        assert named["ChargingZone", "grid", "Current", "L3"] == "-2"
        assert ("ChargingZone", "hall", "Current", "L1") not in named  # unmeasured is not 0
        assert named["SecurityCtrlr", None, "BasicAuthPassword", None] is None

        def one(component, name, **more):
            return {"component": {"name": component}, "variable": {"name": name}, **more}

        asked = [one("SmartChargingCtrlr", "LimitChangeSignificance"), one("SmartChargingCtrlr", "X"), one("Y", "X")]
        got = (await csms.call(calls.GetVariables(get_variable_data=asked))).get_variable_result
        assert [r["attribute_status"] for r in got] == ["Accepted", "UnknownVariable", "UnknownComponent"]
        given = [
            one("SmartChargingCtrlr", "LimitChangeSignificance", attribute_value="2.5"),
            one("AlignedDataCtrlr", "Interval", attribute_value="nonsense"),
            one("SecurityCtrlr", "BasicAuthPassword", attribute_value="x" * 20),
        ]
        made = (await csms.call(calls.SetVariables(set_variable_data=given))).set_variable_result
        assert [r["attribute_status"] for r in made] == ["Accepted", "Rejected", "Rejected"]
        got = (await csms.call(calls.GetVariables(get_variable_data=asked[:1]))).get_variable_result
        assert got[0]["attribute_value"] == "2.5"
        only = [{"component": {"name": "ChargingZone", "instance": "hall"}}]
        assert (await csms.call(calls.GetReport(request_id=8, component_variable=only))).status == "Accepted"
        await until(lambda: any(m["request_id"] == 8 for m in operator.messages("NotifyReport")))
        (page,) = [m for m in operator.messages("NotifyReport") if m["request_id"] == 8]
        assert {d["component"]["instance"] for d in page["report_data"]} == {"hall"}


async def test_in_1_6_the_zones_are_configuration_keys():
    async with cloud() as operator, own_identity(operator.url, "1.6"):
        csms = await known(operator)
        asked = ["NumberOfConnectors", "grid.CurrentLimit.L1", "hall.ParentZone", "hall.Current.L1"]
        answer = await csms.call(call16.GetConfiguration(key=asked))
        assert {k["key"]: k["value"] for k in answer.configuration_key} == {
            "NumberOfConnectors": "0", "grid.CurrentLimit.L1": "20", "hall.ParentZone": "grid",
        }  # fmt: skip
        assert answer.unknown_key == ["hall.Current.L1"]

        async def change(key, value):
            return (await csms.call(call16.ChangeConfiguration(key=key, value=value))).status

        assert await change("HeartbeatInterval", "30") == "Accepted"
        assert await change("hall.ParentZone", "x") == "Rejected"
        assert await change("Nonsense", "x") == "NotSupported"


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_a_site_is_not_it_refuses_in_the_right_form(version):
    calls = CALLS[version]
    async with cloud() as operator, own_identity(operator.url, version):
        csms = await known(operator)
        reset = calls.Reset(type="Hard" if version == "1.6" else "Immediate")
        assert (await csms.call(reset)).status == "Rejected"
        assert (await csms.call(calls.TriggerMessage(requested_message="BootNotification"))).status == "Accepted"
        await until(lambda: operator.count("BootNotification") == 2)
        assert (await csms.call(calls.TriggerMessage(requested_message="FirmwareStatusNotification"))).status == (
            "NotImplemented"
        )
        if version == "1.6":
            unserved = calls.UpdateFirmware(location="ftp://x/y", retrieve_date="2026-01-01T00:00:00Z")
        else:
            unserved = calls.GetDisplayMessages(request_id=1)
            profiles = calls.GetChargingProfiles(request_id=3, charging_profile={})
            assert (await csms.call(profiles)).status == "NoProfiles"
            await csms.call(maximum(version, 30.0, number=9))
            assert (await csms.call(profiles)).status == "Accepted"
            await until(lambda: operator.count("ReportChargingProfiles") == 1)
            assert operator.messages("ReportChargingProfiles")[0]["charging_profile"][0]["id"] == 9
        with pytest.raises(NotSupportedError):
            await csms.call(unserved, suppress=False)
        assert refusal(version, "MadeUp") == "NotImplemented"


async def test_a_csms_that_comes_back_is_not_told_of_a_boot_again():
    async with cloud() as operator, own_identity(operator.url, "2.0.1", meter_interval_s=1) as own:
        csms = await known(operator)
        await csms.call(maximum("2.0.1", 20.0))
        await operator.stop()
        await until(own.adapter.problems)
        assert own.value() == 20.0
        await operator.start()
        await until(lambda: not own.adapter.problems())
        told = operator.count("MeterValues")
        await until(lambda: operator.count("MeterValues") > told)
        assert operator.count("BootNotification") == 1
        assert [e.code for e in own.events if e.code.startswith("site_identity")] == [
            "site_identity_lost", "site_identity_back",
        ]  # fmt: skip
