"""Contacts, virtual meters and files of connections in a site file: every rule, and what comes of a good one."""

import pytest

from cem.app import contacts
from cem.core.limits import LimitKind

from .sites import GOOD, found, load

BROKER = "connection: {kind: mqtt, host: h, ca_file: ca.pem}"
CONTACTS = f"""\
contacts:
  - {{id: fire, kind: load_shed, active_when: open, topic: a, {BROKER}}}
  - {{id: frsp, kind: ripple_control, active_when: closed, topic: b, limit_w: 4200, zone: row, limits: import, {BROKER}}}
"""
HOUSE = """\
  - id: house
    role: household_meter
    connection: {kind: virtual, formulas: ["gm - sun - cars", sun]}
stations:
"""


def text_of(*changes: tuple[str, str]) -> str:
    text = GOOD.replace("stations:\n", HOUSE, 1) + CONTACTS
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_good_ones_become_contacts_and_paths_are_relative_to_the_site_file(tmp_path):
    loaded = load(tmp_path, text_of())
    fire, step = contacts(loaded.file, loaded.site)
    assert (fire.zone_id, fire.value_w, fire.kind, fire.lost_is_active) == ("root", None, LimitKind.LOAD, True)
    assert (step.zone_id, step.value_w, step.kind) == ("row", 4200, LimitKind.IMPORT)
    assert loaded.file.contacts[0].connection.ca_file == str(tmp_path / "ca.pem")
    assert loaded.file.external_limits[0].connection.pki_folder == str(tmp_path / "var" / "opcua")


MODBUS = "{kind: modbus_tcp, host: m}"
CASES = {
    "no address": (
        (f"topic: a, {BROKER}", f"connection: {MODBUS}"),
        "contact 'fire' is read by Modbus and needs 'address'",
    ),
    "no topic": ((f"topic: a, {BROKER}", BROKER), "contact 'fire' is heard by MQTT and needs 'topic'"),
    "contactor of nobody": (
        ("contacts:\n", f"contactors:\n  - {{id: k, stations: [st-9], connection: {MODBUS}, address: 1}}\ncontacts:\n"),
        "no station 'st-9' (did you mean 'st-2'?)",
    ),
    "contactor unseen": (
        (
            "contacts:\n",
            f"contactors:\n  - {{id: k, stations: [st-1], connection: {MODBUS}, address: 1, closed_when: off}}\ncontacts:\n",
        ),
        "contactor 'k' opens by an output that is switched on, and nothing shows that it did: wire its feedback",
    ),
    "twice": (("id: frsp", "id: fire"), "contact 'fire' exists already: contacts[0]"),
    "no such zone": (("zone: row, limits", "zone: rov, limits"), "no zone 'rov' (did you mean 'row'?)"),
    "wildcard": (("topic: a", "topic: a/#"), "topic 'a/#' has a wildcard; a contact has one topic"),
    "says the same": (("topic: a", "topic: a, open: TRUE"), "contact 'fire' says the same closed and open"),
    "nothing left": ((" limit_w: 4200,", ""), "contact 'frsp' needs 'limit_w': the power that is left while it acts"),
    "too much": (
        ("topic: a", "topic: a, limit_w: 1"),
        "contact 'fire' takes our EVSEs to 0 A; limit_w is for the kind ripple_control",
    ),
    "direction": (("active_when: open, ", ""), "key 'active_when' is missing"),
    "formula": (("gm - sun - cars", "gm - sun * 2"), "'* 2' cannot be read; write names with + and - between them"),
    "no device": (("gm - sun - cars", "gm - sum"), "no device 'sum' (did you mean 'sun'?)"),
    "circle": (("gm - sun - cars", "gm - house"), "'house' is itself worked out; name the devices that are read"),
    "minus wildcard": (
        ("{topic: sun/w}", "{topic: sun/w, minus_topic: sun/+}"),
        "topic 'sun/+' has a wildcard; one value comes from one topic",
    ),
    "no nodes": (
        ("connection: {kind: mqtt, host: 10.0.0.2}", 'connection: {kind: opcua, endpoint: "opc.tcp://h:4840"}'),
        "OPC UA device 'sun' needs 'nodes': the node of each value",
    ),
}


@pytest.mark.parametrize(("change", "message"), CASES.values(), ids=CASES.keys())
def test_what_is_wrong_is_said(tmp_path, change, message):
    told = found(tmp_path, text_of(change))
    assert any(line.endswith(": " + message) for line in told), told


def test_cars_that_go_on_while_an_island_contact_is_missing_are_warned_of(tmp_path):
    told = found(tmp_path, text_of(("topic: a", "topic: a, missing: inactive")))
    assert any("a cut wire in an island would not stop them" in line and "warning" in line for line in told)
