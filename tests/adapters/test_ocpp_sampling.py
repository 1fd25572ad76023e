"""Two interval settings at one station over real websockets: control has its samples, the cloud those it asked for."""

import pytest
from ocpp.routing import on
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp.v201 import call as call201
from ocpp.v201 import call_result as result201

from tests.adapters.ocpp_peers import Station16, Station201, cloud, local_csms, stamp, station, until

ENERGY = "Energy.Active.Import.Register"


class Sampling16(Station16):
    """A station that keeps its settings."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.settings = {"MeterValueSampleInterval": "600", "MeterValuesSampledData": ENERGY}

    @on("GetConfiguration")
    def on_get(self, key):
        known = [{"key": k, "readonly": False, "value": self.settings[k]} for k in key if k in self.settings]
        return result16.GetConfiguration(configuration_key=known)

    @on("ChangeConfiguration")
    def on_configuration(self, key, value):
        self.settings[key] = value
        return result16.ChangeConfiguration(status="Accepted")

    async def sample(self, *names):
        values = [{"value": "10.0", "measurand": name} for name in names]
        value = [{"timestamp": stamp(), "sampled_value": values}]
        await self.call(call16.MeterValues(connector_id=1, transaction_id=self.transaction, meter_value=value))


class Sampling201(Station201):
    """The same in 2.0.1."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.settings = {"TxUpdatedInterval": "600", "TxUpdatedMeasurands": ENERGY, "StopTxOnInvalidId": "true"}

    @on("GetVariables")
    def on_get(self, get_variable_data):
        return result201.GetVariables(get_variable_result=[
            {**asked, "attribute_status": "Accepted", "attribute_value": self.settings[asked["variable"]["name"]]}
            for asked in get_variable_data
        ])  # fmt: skip

    @on("SetVariables")
    def on_variables(self, set_variable_data):
        self.settings |= {d["variable"]["name"]: d["attribute_value"] for d in set_variable_data}
        return super().on_variables(set_variable_data)

    async def sample(self, *names):
        values = [{"value": 10.0, "measurand": name} for name in names]
        await self.event("Updated", "MeterValuePeriodic", meter=values, charging_state="Charging")


def read(peer, name):
    """How the cloud asks for a setting."""
    if isinstance(peer, Sampling16):
        return call16.GetConfiguration(key=[name])
    return call201.GetVariables(
        get_variable_data=[{"component": {"name": "SampledDataCtrlr"}, "variable": {"name": name}}]
    )


def write(peer, name, value):
    if isinstance(peer, Sampling16):
        return call16.ChangeConfiguration(key=name, value=value)
    one = {"component": {"name": "SampledDataCtrlr"}, "variable": {"name": name}, "attribute_value": value}
    return call201.SetVariables(set_variable_data=[one])


def value_of(answer):
    entries = getattr(answer, "configuration_key", None) or answer.get_variable_result
    return entries[0].get("value", entries[0].get("attribute_value"))


@pytest.mark.parametrize("kind", [Sampling16, Sampling201])
async def test_the_cloud_reads_and_is_sent_what_it_asked_for_and_control_has_its_own(kind):
    interval, measurands = list(kind("x", None).settings)[:2]
    async with cloud() as sky, local_csms(upstream=sky.url) as local, station(kind, local.address) as peer:
        await peer.boot()
        await until(lambda: peer.settings[interval] == "10")
        await until(lambda: "Current.Import" in peer.settings[measurands])
        ours = sky.peers["S1"]
        assert value_of(await ours.call(read(peer, interval))) == "600"
        assert value_of(await ours.call(read(peer, measurands))) == ENERGY
        await ours.call(write(peer, measurands, "SoC"))
        assert peer.settings[measurands].endswith(",SoC")
        assert value_of(await ours.call(read(peer, measurands))) == "SoC"
        await ours.call(write(peer, interval, "300"))
        assert peer.settings[interval] == "10"
        assert value_of(await ours.call(read(peer, interval))) == "300"
        await peer.start()
        for _ in range(3):
            await peer.sample("Current.Import", "SoC", ENERGY)
        await peer.stop()
        assert local.state("S1/1").measured_a is None
        if kind is Sampling16:
            await until(lambda: sky.count("StopTransaction") == 1)
            told = [m["meter_value"] for m in sky.messages("MeterValues")]
        else:
            await until(lambda: sky.count("TransactionEvent") == 5)
            events = sky.messages("TransactionEvent")
            assert [e["seq_no"] for e in events] == [1, 2, 3, 4, 5]
            told = [e["meter_value"] for e in events if e["event_type"] == "Updated" and "meter_value" in e]
        assert [[s["measurand"] for v in values for s in v["sampled_value"]] for values in told] == [["SoC"]]
