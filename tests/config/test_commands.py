"""Devices that are commanded: what the site file must say, and what a map must have."""

import pytest

from adapters.modbus.maps import known_models
from cem.commanded import fallback_w
from cem.config.loader import load_site_file
from cem.core.site import Protection, Resource, ResourceKind, Site, Zone
from cem.errors import ConfigError

from .sites import GOOD

SUN = "    connection: {kind: mqtt, host: 10.0.0.2}\n    values: {total_power_w: {topic: sun/w}}\n    max_w: 9000\n"
AT = "    connection: {kind: modbus_tcp, host: 10.0.0.2}\n    max_w: 9000\n    control: true\n"


def problems(tmp_path, sun, role="pv"):
    text = GOOD.replace("model: meter_map", "model: eastron_sdm630").replace(SUN, sun)
    path = tmp_path / "site.yaml"
    path.write_text(text.replace("role: pv", f"role: {role}"))
    try:
        return [p.message for p in load_site_file(path, known_models=known_models()).warnings]
    except ConfigError as error:
        return [p.message for p in error.problems]


CASES = {
    "good": (AT + "    model: sunspec_inverter\n", "pv", None),
    "lapses": (AT + "    model: kostal_plenticore_battery\n", "battery", None),
    "mqtt": (SUN + "    control: true\n", "pv", "'sun' has nothing that a pv is commanded by: write_topics"),
    "mqtt that keeps": (
        SUN + "    control: true\n    write_topics: {limit_w: {topic: sun/set, valid: [0, 9000]}}\n",
        "pv",
        "'sun' keeps its last command when we are gone: nothing that it is set by",
    ),
    "no nameplate": (
        AT.replace("    max_w: 9000\n", "") + "    model: sunspec_inverter\n",
        "pv",
        "device 'sun' is commanded, so it must state 'max_w'",
    ),
    "meter": (AT + "    model: eastron_sdm72d\n", "household_meter", "only pv and battery are commanded"),
    "no register": (AT + "    model: goodwe_et_battery\n", "battery", "has nothing that a battery is commanded by"),
    "wrong kind": (AT + "    model: sunspec_inverter\n", "battery", "has nothing that a battery is commanded by"),
    "keeps": (AT + "    model: huawei_luna2000\n", "battery", "'sun' keeps its last command when we are gone"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_of_a_commanded_device(tmp_path, case):
    sun, role, said = CASES[case]
    found = [text for text in problems(tmp_path, sun, role) if "could not be" not in text and "no password" not in text]
    assert any(said in text for text in found) if said else not found, found


def test_inverters_fall_back_to_their_parts_of_the_contract():
    zones = (
        Zone("root", None, Protection(63.0), export_limit_w=12_000.0),
        Zone("row", "root", Protection(32.0)),
    )
    pv = [Resource(name, ResourceKind.PV, zone, w) for name, zone, w in (("a", "root", 10_000.0), ("b", "row", 5000.0))]
    battery = Resource("c", ResourceKind.BATTERY, "row", 5000.0)
    site = Site("s", 230.0, 3, zones, (), (), (*pv, battery))
    assert fallback_w(site, "a") == pytest.approx(8000)
    assert fallback_w(site, "b") == pytest.approx(4000)


BOX = "    modbus: {connection: {kind: modbus_tcp, host: 10.0.0.9}, model: keba_p30}\n"
ROOM = "  - id: st-2\n    zone: row\n    breaker_a: 32\n"
STATIONS = {
    "good": ((), None),
    "typo": ((("keba_p30", "keba_p3"),), "no device model 'keba_p3' (did you mean 'keba_p30'?)"),
    "a meter": ((("keba_p30", "eastron_sdm630"),), "of a meter that no current can be set in"),
    "no fallback": ((("keba_p30", "alfen_ng9xx"),), "cannot set what 'st-2' falls back to when we are gone: set 0 A"),
    "two sockets": (
        (("evses: [{id: 1, max_a: 16, phases: 1, rotation: L2}]", "evses: [{id: 1}, {id: 2}]"),),
        "station 'st-2' is commanded by Modbus: one EVSE each",
    ),
    "twice": ((("id: st-2", "id: sun"),), "'sun' is a device already"),
}


@pytest.mark.parametrize("case", STATIONS)
def test_what_is_said_of_a_station_by_modbus(tmp_path, case):
    changes, said = STATIONS[case]
    text = GOOD.replace("model: meter_map", "model: eastron_sdm630").replace(ROOM, ROOM + BOX)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "site.yaml"
    path.write_text(text)
    try:
        found = [p.message for p in load_site_file(path, known_models=known_models()).warnings]
    except ConfigError as error:
        found = [p.message for p in error.problems]
    assert not any("st-2" in text and "no password" in text for text in found), "it does not dial"
    found = [text for text in found if "no password" not in text]
    assert any(said in text for text in found) if said else not found, found
