"""Every rule of ``cem check`` with its exact message and place."""

from pathlib import Path

import pytest

from .sites import GOOD, found, spoiled

CASES = {
    "zone twice": (
        [
            ("  - id: row\n    parent: root", "  - id: root\n    parent: root"),
            ("    zone: row\n    breaker_a: 32\n    fallback", "    zone: root\n    breaker_a: 32\n    fallback"),
            ("    zone: row\n    breaker_a: 32\n    evses", "    zone: root\n    breaker_a: 32\n    evses"),
        ],
        ["12:9: zones[1].id: zone 'root' exists already: zones[0]"],
    ),
    "device twice": (
        [("id: sun", "id: gm")],
        ["22:9: devices[1].id: device 'gm' exists already: devices[0]"],
    ),
    "station twice": (
        [("id: st-2", "id: st-1")],
        ["33:9: stations[1].id: station 'st-1' exists already: stations[0]"],
    ),
    "external limit twice": (
        [
            (
                "external_limits:\n",
                "external_limits:\n  - {id: dso, failsafe_w: 0, nodes: {limit: i=1}, connection: {kind: opcua, endpoint: 'opc.tcp://h'}}\n",
            )
        ],
        ["43:9: external_limits[1].id: external limit 'dso' exists already: external_limits[0]"],
    ),
    "evse twice": (
        [("[{id: 1, max_a: 16, rotation: RST}]", "[{id: 1, max_a: 16}, {id: 1, max_a: 16}]")],
        ["32:38: stations[0].evses[1].id: station 'st-1' has an EVSE 1 already"],
    ),
    "station in no zone": (
        [("    zone: row\n    breaker_a: 32\n    evses", "    zone: rwo\n    breaker_a: 32\n    evses")],
        ["34:11: stations[1].zone: no zone 'rwo' (did you mean 'row'?)"],
    ),
    "zone under no zone": (
        [("parent: root", "parent: elsewhere")],
        ["13:13: zones[1].parent: no zone 'elsewhere'; there are: root, row"],
    ),
    "meter that is no device": (
        [("meter: gm", "meter: gn")],
        [
            "9:12: zones[0].meter: no device 'gn'; there are: gm, sun",
            "17:5: warning: devices[0]: no zone names 'gm' as its meter, so it guards nothing",
        ],
    ),
    "device in no zone": (
        [("role: pv\n", "role: pv\n    zone: roots\n")],
        ["24:11: devices[1].zone: no zone 'roots' (did you mean 'root'?)"],
    ),
    "limit of no zone": (
        [("    unit: kW\n", "    unit: kW\n    zone: rows\n")],
        ["44:11: external_limits[0].zone: no zone 'rows' (did you mean 'row'?)"],
    ),
    "no root": (
        [("  - id: root\n", "  - id: root\n    parent: row\n")],
        [
            "6:1: zones: no zone is the root: leave 'parent' out in the zone of the grid connection",
            "8:13: zones[0].parent: zones feed each other in a circle: root < row < root",
            "9:28: warning: zones[0].protection.rating_a: zone 'root' is rated 63 A, above 'row' that feeds it (32 A)",
            "12:25: zones[0].uncontrolled_max_a: zone 'root' may hold 40 A of other load, more than 'row' that feeds it (0 A, its children included)",
        ],
    ),
    "two roots": (
        [("    parent: root\n", "")],
        ["12:5: zones[1]: zone 'row' has no parent, but 'root' is the root already: write 'parent: root'"],
    ),
    "zone feeds itself": (
        [("parent: root", "parent: row")],
        ["13:13: zones[1].parent: zones feed each other in a circle: row < row"],
    ),
    "root above grid fuse": (
        [("fuse_a: 63", "fuse_a: 50")],
        ["8:28: zones[0].protection.rating_a: zone 'root' is rated 63 A, above the fuse of the grid connection (50 A)"],
    ),
    "child above parent": (
        [("rating_a: 32}", "rating_a: 80}")],
        ["14:28: warning: zones[1].protection.rating_a: zone 'row' is rated 80 A, above 'root' that feeds it (63 A)"],
    ),
    "busbar below rating": (
        [("    meter: gm\n", "    meter: gm\n    busbar_a: 50\n")],
        ["10:15: zones[0].busbar_a: the busbar of zone 'root' carries 50 A, less than its rating of 63 A"],
    ),
    "guard eats rating": (
        [("rating_a: 32}", "rating_a: 32, guard_a: 32}")],
        ["14:41: zones[1].protection.guard_a: zone 'row' keeps 32 A free of 32 A, so nothing is left"],
    ),
    "curve of a fuse": (
        [("kind: gg}", "kind: gg, curve: B}")],
        ["8:49: zones[0].protection.curve: only an mcb has a curve; zone 'root' is protected by kind 'gg'"],
    ),
    "meter without fallback": (
        [("    fallback_limit_a: 12\n", "")],
        [
            "9:12: zones[0].meter: zone 'root' has a meter and needs 'fallback_limit_a': what our EVSEs together may draw per phase while that meter is lost (0 is allowed)"
        ],
    ),
    "unmetered and silent": (
        [("    uncontrolled_max_a: 0\n", "")],
        [
            "12:5: warning: zones[1]: zone 'row' has no meter and no 'uncontrolled_max_a': nothing but our EVSEs may be connected there; write 'uncontrolled_max_a: 0' if that is so"
        ],
    ),
    "child with more other load": (
        [("uncontrolled_max_a: 0", "uncontrolled_max_a: 41"), ("rating_a: 32}", "rating_a: 63}")],
        [
            "15:25: zones[1].uncontrolled_max_a: zone 'row' may hold 41 A of other load, more than 'root' that feeds it (40 A, its children included)"
        ],
    ),
    "controller dead": (
        [("fallback_a: 6", "fallback_a: 16"), ("uncontrolled_max_a: 40", "uncontrolled_max_a: 48")],
        [
            "8:28: zones[0].protection.rating_a: zone 'root' with the controller dead: station fallbacks 16 A + other load 48 A = 64 A on each phase, above its rating of 63 A; lower 'fallback_a' of its stations"
        ],
    ),
    "controller dead, one phase": (
        [
            (
                "    breaker_a: 32\n    evses: [{id: 1, max_a: 16, phases: 1",
                "    breaker_a: 32\n    fallback_a: 12\n    evses: [{id: 1, max_a: 16, phases: 1",
            ),
            ("uncontrolled_max_a: 40", "uncontrolled_max_a: 46"),
        ],
        [
            "8:28: zones[0].protection.rating_a: zone 'root' with the controller dead: station fallbacks 18 A + other load 46 A = 64 A on L2, above its rating of 63 A; lower 'fallback_a' of its stations"
        ],
    ),
    "controller dead, unknown rotation": (
        [
            (
                "    breaker_a: 32\n    evses: [{id: 1, max_a: 16, phases: 1, rotation: L2",
                "    breaker_a: 32\n    fallback_a: 12\n    evses: [{id: 1, max_a: 16, phases: 1, rotation: unknown",
            ),
            ("uncontrolled_max_a: 40", "uncontrolled_max_a: 46"),
        ],
        [
            "8:28: zones[0].protection.rating_a: zone 'root' with the controller dead: station fallbacks 18 A + other load 46 A = 64 A on each phase, above its rating of 63 A; lower 'fallback_a' of its stations"
        ],
    ),
    "controller dead, inner zone": (
        [("fallback_a: 6", "fallback_a: 16"), ("rating_a: 32}", "rating_a: 15}")],
        [
            "14:28: zones[1].protection.rating_a: zone 'row' with the controller dead: station fallbacks 16 A + other load 0 A = 16 A on each phase, above its rating of 15 A; lower 'fallback_a' of its stations"
        ],
    ),
    "meter dead": (
        [("fallback_limit_a: 12", "fallback_limit_a: 24")],
        [
            "10:23: zones[0].fallback_limit_a: zone 'root' with its meter dead: fallback 24 A + other load 40 A = 64 A, above its rating of 63 A"
        ],
    ),
    "impossible fallback": (
        [("fallback_a: 6", "fallback_a: 5")],
        ["31:17: stations[0].fallback_a: station 'st-1' cannot fall back to 5 A: 0, or at least 6 A (IEC 61851-1)"],
    ),
    "fallback above breaker": (
        [
            (
                "fallback_a: 6\n    evses: [{id: 1, max_a: 16, rotation: RST}]",
                "fallback_a: 10\n    evses: [{id: 1, max_a: 8}, {id: 2, max_a: 8}]",
            ),
            ("breaker_a: 32\n    fallback_a", "breaker_a: 16\n    fallback_a"),
        ],
        [
            "31:17: stations[0].fallback_a: the EVSEs of station 'st-1' fall back to 20 A together, above its breaker of 16 A"
        ],
    ),
    "evse above breaker": (
        [("max_a: 16, rotation: RST", "max_a: 40, rotation: RST")],
        [
            "32:28: stations[0].evses[0].max_a: EVSE 1 of station 'st-1' may draw 40 A, above the station's breaker of 32 A"
        ],
    ),
    "evse by default above breaker": (
        [("breaker_a: 32\n    evses: [{id: 1, max_a: 16, phases: 1, rotation: L2}]", "breaker_a: 16")],
        ["35:16: stations[1].breaker_a: EVSE 1 of station 'st-2' may draw 32 A, above the station's breaker of 16 A"],
    ),
    "zone named like a shared breaker": (
        [
            ("  - id: row\n    parent: root", "  - id: st-1:breaker\n    parent: root"),
            (
                "    zone: row\n    breaker_a: 32\n    fallback",
                "    zone: st-1:breaker\n    breaker_a: 32\n    fallback",
            ),
            ("    zone: row\n    breaker_a: 32\n    evses", "    zone: st-1:breaker\n    breaker_a: 32\n    evses"),
            ("[{id: 1, max_a: 16, rotation: RST}]", "[{id: 1, max_a: 16}, {id: 2, max_a: 16}]"),
        ],
        [
            "12:9: zones[1].id: zone 'st-1:breaker' has the name of a station's breaker, which is made a zone by itself; choose another"
        ],
    ),
    "evse minimum below 6": (
        [("max_a: 16, rotation: RST", "min_a: 4, max_a: 16, rotation: RST")],
        [
            "32:28: stations[0].evses[0].min_a: EVSE 1 of station 'st-1' has a minimum of 4 A; an EV takes at least 6 A (IEC 61851-1)"
        ],
    ),
    "evse minimum above maximum": (
        [("max_a: 16, rotation: RST", "min_a: 20, max_a: 16, rotation: RST")],
        ["32:28: stations[0].evses[0].min_a: EVSE 1 of station 'st-1' has a minimum of 20 A above its maximum of 16 A"],
    ),
    "default minimum above maximum": (
        [("max_a: 16, rotation: RST", "max_a: 5, rotation: RST")],
        ["32:28: stations[0].evses[0].max_a: EVSE 1 of station 'st-1' has a minimum of 6 A above its maximum of 5 A"],
    ),
    "evse with more phases than the site": (
        [("grid_connection: {phases: 3", "grid_connection: {phases: 1")],
        ["32:13: stations[0].evses[0].phases: EVSE 1 of station 'st-1' has 3 phases, the site has 1"],
    ),
    "single-phase rotation": (
        [("max_a: 16, rotation: RST", "max_a: 16, rotation: L1")],
        [
            "32:42: stations[0].evses[0].rotation: rotation L1 is for one phase; EVSE 1 of station 'st-1' has 3: write RST, STR ... or unknown"
        ],
    ),
    "address twice": (
        [
            ("kind: mqtt, host: 10.0.0.2", "kind: modbus_tcp, host: 10.0.0.1"),
            ("    values: {total_power_w: {topic: sun/w}}\n", "    model: meter_map\n"),
        ],
        ["24:5: devices[1].connection: device 'sun' has the address and model of 'gm': 10.0.0.1 port 502 unit 1"],
    ),
    "unit twice on one serial line": (
        [
            ("kind: modbus_tcp, host: 10.0.0.1", "kind: modbus_rtu, port: /dev/ttyUSB0"),
            ("kind: mqtt, host: 10.0.0.2", "kind: modbus_rtu, port: /dev/ttyUSB0"),
            ("    values: {total_power_w: {topic: sun/w}}\n", "    model: meter_map\n"),
        ],
        ["24:5: devices[1].connection: device 'sun' has the address and model of 'gm': /dev/ttyUSB0 unit 1"],
    ),
    "two speeds on one serial line": (
        [
            ("kind: modbus_tcp, host: 10.0.0.1", "kind: modbus_rtu, port: /dev/ttyUSB0"),
            ("kind: mqtt, host: 10.0.0.2", "kind: modbus_rtu, port: /dev/ttyUSB0, unit_id: 2, baudrate: 19200"),
            ("    values: {total_power_w: {topic: sun/w}}\n", "    model: meter_map\n"),
        ],
        [
            (
                "24:5: devices[1].connection: device 'sun' has 19200 N 1 on /dev/ttyUSB0, 'gm' has 9600 N 1: "
                "baudrate, parity and stop_bits are the same on one line"
            )
        ],
    ),
    "two protocols on one gateway port": (
        [
            ("kind: mqtt, host: 10.0.0.2", "kind: modbus_rtu_tcp, host: 10.0.0.1, port: 502, unit_id: 2"),
            ("    values: {total_power_w: {topic: sun/w}}\n", "    model: meter_map\n"),
        ],
        [
            (
                "24:24: devices[1].connection.kind: device 'sun' speaks modbus_rtu_tcp to 10.0.0.1 port 502, "
                "'gm' speaks modbus_tcp"
            )
        ],
    ),
    "modbus without model": (
        [("    model: meter_map\n", "")],
        ["17:5: devices[0]: Modbus device 'gm' needs 'model': the name of its register map"],
    ),
    "mqtt without values": (
        [("    values: {total_power_w: {topic: sun/w}}\n", "")],
        ["22:5: devices[1]: MQTT device 'sun' needs 'values': the topic of each value"],
    ),
    "unknown model": (
        [("model: meter_map", "model: metre_map")],
        ["20:12: devices[0].model: no device model 'metre_map' (did you mean 'meter_map'?)"],
    ),
    "topic with a wildcard": (
        [("topic: sun/w", "topic: sun/#")],
        ["25:37: devices[1].values.total_power_w.topic: topic 'sun/#' has a wildcard; one value comes from one topic"],
    ),
    "port in a host": (
        [("host: 10.0.0.1", "host: 10.0.0.1:502")],
        [
            "19:42: devices[0].connection.host: '10.0.0.1:502' is not a host: a name or address alone; the port has a key of its own"
        ],
    ),
    "scheme in a host": (
        [("host: 10.0.0.2", "host: mqtt://10.0.0.2")],
        [
            "24:36: devices[1].connection.host: 'mqtt://10.0.0.2' is not a host: a name or address alone; the port has a key of its own"
        ],
    ),
    "blank in a host": (
        [("listen: {port: 9000}", "listen: {host: my house}")],
        ["38:18: csms.listen.host: 'my house' is not a host: a name or address alone; the port has a key of its own"],
    ),
    "host of the web server": (
        [("{port: 8080}", "{host: 127.0.0.1:80}")],
        ["47:13: web.host: '127.0.0.1:80' is not a host: a name or address alone; the port has a key of its own"],
    ),
    "pv without nameplate": (
        [("    max_w: 9000\n", "")],
        ["22:5: warning: devices[1]: pv 'sun' should state 'max_w', its nameplate power in W"],
    ),
    "one meter for two zones": (
        [("    uncontrolled_max_a: 0\n", "    uncontrolled_max_a: 0\n    meter: gm\n    fallback_limit_a: 6\n")],
        ["16:12: zones[1].meter: meter 'gm' measures zone 'root' already; zone 'row' needs its own"],
    ),
    "meter that is no meter": (
        [("role: grid_meter", "role: household_meter")],
        [
            "9:12: zones[0].meter: device 'gm' has the role household_meter; the meter of zone 'root' must be a grid_meter or zone_meter, which measures all current into the zone"
        ],
    ),
    "slow meter": (
        [("poll_s: 1", "poll_s: 20")],
        ["21:13: devices[0].poll_s: meter 'gm' guards zone 'root' and is read every 20 s; at most 15 s"],
    ),
    "meter with one phase": (
        [("poll_s: 1", "phases: 1")],
        ["21:13: devices[0].phases: meter 'gm' measures 1 phase, zone 'root' has 3"],
    ),
    "meter without currents": (
        [
            ("kind: modbus_tcp, host: 10.0.0.1", "kind: mqtt, host: 10.0.0.1"),
            ("    model: meter_map\n", "    values: {power_l1_w: {topic: a}, total_power_w: {topic: b}}\n"),
        ],
        ["20:5: devices[0].values: meter 'gm' guards zone 'root' and gives no current or power of L2, L3"],
    ),
    "meter of no zone": (
        [("    meter: gm\n    fallback_limit_a: 12\n", "")],
        ["15:5: warning: devices[0]: no zone names 'gm' as its meter, so it guards nothing"],
    ),
    "limit without failsafe": (
        [("    failsafe_w: 4200\n", "")],
        [
            "42:5: external_limits[0]: external limit 'dso' in kW needs 'failsafe_w': the limit in force without contact (0 is allowed)"
        ],
    ),
    "failsafe in the wrong unit": (
        [("    unit: kW\n", "    unit: A\n")],
        [
            "42:5: external_limits[0]: external limit 'dso' in A needs 'failsafe_a': the limit in force without contact (0 is allowed)",
            "46:17: external_limits[0].failsafe_w: external limit 'dso' is in A: give 'failsafe_a' instead",
        ],
    ),
    "refresh too slow": (
        [("profile_refresh_s: 20", "profile_refresh_s: 30")],
        [
            "40:22: csms.profile_refresh_s: profile_refresh_s (30 s) must be below half of profile_duration_s (60 s), so that one lost message does no harm"
        ],
    ),
    "default refresh too slow": (
        [("  profile_refresh_s: 20\n", "")],
        [
            "39:23: csms.profile_duration_s: profile_refresh_s (40 s) must be below half of profile_duration_s (60 s), so that one lost message does no harm"
        ],
    ),
    "port twice": (
        [("{port: 8080}", "{port: 9000}")],
        ["47:13: web.port: port 9000 is taken by csms.listen; the web server needs another"],
    ),
    "unknown time zone": (
        [("Europe/Berlin", "Europe/Berln")],
        [
            "4:14: site.time_zone: no time zone 'Europe/Berln' (did you mean 'Europe/Berlin'?); write one such as Europe/Berlin"
        ],
    ),
}


def test_the_good_file_has_no_problem(tmp_path: Path) -> None:
    assert found(tmp_path, GOOD) == []


@pytest.mark.parametrize(("changes", "expected"), CASES.values(), ids=CASES.keys())
def test_rule(tmp_path: Path, changes: list[tuple[str, str]], expected: list[str]) -> None:
    assert found(tmp_path, spoiled(*changes)) == expected
