"""Keys, values and YAML's own traps: each with its exact message and place."""

from pathlib import Path

import pytest

from .sites import found, load, refused, spoiled

RATING = "rating_a: 63,"

VALUES = {
    "unit in the value": (
        "rating_a: 63 A,",
        "8:28: zones[0].protection.rating_a: '63 A': write the number alone, in A: 63",
    ),
    "milliamps": (
        "rating_a: 500 mA,",
        "8:28: zones[0].protection.rating_a: '500 mA': write the number alone, in A: 0.5",
    ),
    "wrong unit": (
        "rating_a: 11 kW,",
        "8:28: zones[0].protection.rating_a: '11 kW' has the wrong unit; wanted is a number in A, written without the unit",
    ),
    "quoted": (
        'rating_a: "63",',
        "8:28: zones[0].protection.rating_a: '63' is in quotes, which makes it a text: write 63",
    ),
    "quoted word": ('rating_a: "big",', "8:28: zones[0].protection.rating_a: 'big' is a text; wanted is a number in A"),
    "sexagesimal": (
        "rating_a: 12:30,",
        (
            "8:28: zones[0].protection.rating_a: '12:30' is a time of day, which YAML would read in base 60; "
            "wanted is a number in A"
        ),
    ),
    "octal": (
        "rating_a: 0644,",
        "8:28: zones[0].protection.rating_a: '0644' begins with 0, which YAML reads as octal: write 644",
    ),
    "hexadecimal": (
        "rating_a: 0x3F,",
        "8:28: zones[0].protection.rating_a: '0x3F' is not a plain decimal number; wanted is a number in A",
    ),
    "underscore": (
        "rating_a: 1_000,",
        "8:28: zones[0].protection.rating_a: '1_000' is not a plain decimal number; wanted is a number in A",
    ),
    "switch": (
        "rating_a: no,",
        "8:28: zones[0].protection.rating_a: 'no' is a switch to YAML; wanted is a number in A",
    ),
    "not a number": (
        "rating_a: .nan,",
        "8:28: zones[0].protection.rating_a: '.nan' is not a number; wanted is a number in A",
    ),
    "word": ("rating_a: big,", "8:28: zones[0].protection.rating_a: 'big' is not a number; wanted is a number in A"),
    "nothing": ("rating_a: ,", "8:18: zones[0].protection.rating_a: nothing is given; wanted is a number in A"),
    "list": ("rating_a: [63],", "8:28: zones[0].protection.rating_a: a list stands here; wanted is a number in A"),
    "section": (
        "rating_a: {a: 1},",
        "8:28: zones[0].protection.rating_a: a section stands here; wanted is a number in A",
    ),
    "zero": ("rating_a: 0,", "8:28: zones[0].protection.rating_a: 0 A is too low; it must be more than 0 A"),
    "too high": ("rating_a: 7e3,", "8:28: zones[0].protection.rating_a: 7000 A is too high; at most 6300 A"),
    "decimal comma inside braces": (
        "rating_a: 63,5,",
        "8:31: zones[0].protection.5: unknown key '5' (a decimal comma? write a point)",
    ),
    "missing": ("", "8:5: zones[0].protection.rating_a: key 'rating_a' is missing"),
    "unit in the key": (
        "rating_ma: 63000,",
        "8:18: zones[0].protection.rating_ma: unknown key 'rating_ma' (did you mean 'rating_a', in A?)",
    ),
    "no unit in the key": (
        "rating: 63,",
        "8:18: zones[0].protection.rating: unknown key 'rating' (did you mean 'rating_a', in A?)",
    ),
    "misspelt key": (
        "ratign_a: 63,",
        "8:18: zones[0].protection.ratign_a: unknown key 'ratign_a' (did you mean 'rating_a'?)",
    ),
    "strange key": (
        "rating_a: 63, colour: red,",
        "8:32: zones[0].protection.colour: unknown key 'colour'",
    ),
    "duplicate key": (
        "rating_a: 63, rating_a: 50,",
        "8:32: zones[0].protection.rating_a: key 'rating_a' is given twice; the first is in line 8",
    ),
}


@pytest.mark.parametrize(("written", "problem"), VALUES.values(), ids=VALUES.keys())
def test_value(tmp_path: Path, written: str, problem: str) -> None:
    assert refused(tmp_path, spoiled((f"{RATING} kind: gg", f"{written} kind: gg"))) == [problem]


OTHERS = {
    "decimal comma": (
        ("max_w: 9000", "max_w: 9000,5"),
        "26:12: devices[1].max_w: '9000,5' has a decimal comma: write 9000.5",
    ),
    "kilowatts": (
        ("max_w: 9000", "max_w: 9 kW"),
        "26:12: devices[1].max_w: '9 kW': write the number alone, in W: 9000",
    ),
    "minutes": (("poll_s: 1", "poll_s: 2 min"), "21:13: devices[0].poll_s: '2 min': write the number alone, in s: 120"),
    "key in kW": (
        ("    max_w: 9000", "    max_kw: 9"),
        "26:5: devices[1].max_kw: unknown key 'max_kw' (did you mean 'max_w', in W?)",
    ),
    "far key in kW": (
        ("    uncontrolled_max_a: 40", "    uncontrolled_max_a: 40\n    import_limit_kw: 9"),
        "12:5: zones[0].import_limit_kw: unknown key 'import_limit_kw' (did you mean 'import_limit_w', in W?)",
    ),
    "misspelt fallback": (
        ("fallback_a: 6", "fallbck_a: 6"),
        "31:5: stations[0].fallbck_a: unknown key 'fallbck_a' (did you mean 'fallback_a'?)",
    ),
    "misspelt word": (
        ("role: pv", "role: batery"),
        (
            "23:11: devices[1].role: 'batery' is not one of grid_meter, zone_meter, household_meter, pv, battery "
            "(did you mean 'battery'?)"
        ),
    ),
    "wrong number of phases": (
        ("phases: 3, fuse", "phases: 2, fuse"),
        "5:29: site.grid_connection.phases: '2' is not one of 1, 3",
    ),
    "half a port": (("port: 9000", "port: 90.5"), "38:18: csms.listen.port: '90.5' is not a whole number"),
    "port too high": (("port: 9000", "port: 90000"), "38:18: csms.listen.port: 90000 is too high; at most 65535"),
    "yes": (
        ("listen: {port: 9000}", "waiting_room: yes"),
        "38:17: csms.waiting_room: 'yes': write true",
    ),
    "perhaps": (
        ("listen: {port: 9000}", "waiting_room: perhaps"),
        "38:17: csms.waiting_room: 'perhaps' is neither true nor false",
    ),
    "unknown connection": (
        ("kind: mqtt", "kind: mqqt"),
        "24:24: devices[1].connection.kind: 'mqqt' is not one of modbus_tcp, modbus_rtu, modbus_rtu_tcp, mqtt, opcua, virtual (did you mean 'mqtt'?)",
    ),
    "connection without kind": (
        ("kind: mqtt, ", ""),
        "24:5: devices[1].connection: key 'kind' is missing: one of modbus_tcp, modbus_rtu, modbus_rtu_tcp, mqtt, opcua, virtual",
    ),
    "connection by a word": (
        ("{kind: mqtt, host: 10.0.0.2}", "mqtt"),
        "24:17: devices[1].connection: wanted is a section with a key 'kind': one of modbus_tcp, modbus_rtu, modbus_rtu_tcp, mqtt, opcua, virtual",
    ),
    "key of another connection": (
        ("host: 10.0.0.2", "host: 10.0.0.2, unit_id: 1"),
        "24:46: devices[1].connection.unit_id: unknown key 'unit_id'",
    ),
    "connection without host": (
        (", host: 10.0.0.2", ""),
        "24:5: devices[1].connection.host: key 'host' is missing",
    ),
    "value that nobody knows": (
        ("total_power_w: {", "total_pover_w: {"),
        "25:14: devices[1].values.total_pover_w: unknown key 'total_pover_w' (did you mean 'total_power_w'?)",
    ),
    "name with a blank": (
        ("id: st-2", "id: st 2"),
        (
            "33:9: stations[1].id: 'st 2' cannot be a name: use letters, digits and _ . : - (no blanks, at most 48 in all), "
            "a letter or digit first"
        ),
    ),
    "wrong scheme": (
        ("opc.tcp://", "http://"),
        "44:41: external_limits[0].connection.endpoint: the address must begin with opc.tcp://",
    ),
    "two upstreams": (
        ("listen: {port: 9000}", "upstreams: [{id: a, url: 'ws://a'}, {id: b, url: 'ws://b'}]"),
        "38:39: csms.upstreams[1]: 'a' is the primary upstream already; give this one 'role: observer'",
    ),
    "no primary upstream": (
        ("listen: {port: 9000}", "upstreams: [{id: a, url: 'ws://a', role: observer}]"),
        "38:3: csms.upstreams: one upstream must have 'role: primary'; observers decide nothing",
    ),
    "two upstreams of one name": (
        ("listen: {port: 9000}", "upstreams: [{id: a, url: 'ws://a'}, {id: a, url: 'ws://b', role: observer}]"),
        "38:44: csms.upstreams[1].id: upstream 'a' exists already",
    ),
    "a list of what the primary may": (
        ("listen: {port: 9000}", "upstreams: [{id: a, url: 'ws://a', allow: [Reset]}]"),
        "38:38: csms.upstreams[0].allow: 'allow' is for observers; the primary may command anything",
    ),
    "a site without its own identity": (
        ("listen: {port: 9000}", "upstreams: [{id: a, url: 'ws://a', role: site}]"),
        "38:15: csms.upstreams[0]: upstream 'a' has role site and no 'own_identity'",
    ),
    "the site as one of its stations": (
        ("listen: {port: 9000}", "upstreams: [{id: a, url: 'ws://a', own_identity: {id: st-1}}]"),
        "38:57: csms.upstreams[0].own_identity.id: 'st-1' is a station of this site; the site needs an identity of its own",
    ),
    "the site's limit named as another": (
        ("listen: {port: 9000}", "upstreams: [{id: dso, url: 'ws://a', own_identity: {id: yard}}]"),
        (
            "38:40: csms.upstreams[0].own_identity: an external limit is called 'dso' too; the site's limit of this upstream "
            "has its name"
        ),
    ),
    "empty name": (("name: Yard", 'name: ""'), "3:3: site.name: an empty text; something must be given"),
    "failsafe time too short": (
        ("failsafe_w: 4200", "failsafe_w: 4200\n    failsafe_duration_s: 60"),
        "47:26: external_limits[0].failsafe_duration_s: 60 s is too low; at least 7200 s",
    ),
    "newer version": (("version: 1", "version: 2"), "1:10: version: '2' is not one of 1"),
    "second document": (
        ("web:", "---\nweb:"),
        "47:1: not YAML: a second document ('---'); a site file is one document",
    ),
    "tab": (("  name: Yard", "\tname: Yard"), "3:1: not YAML: a tab; YAML is indented by spaces only"),
    "colon in a text": (
        ("name: Yard", "name: Yard: old"),
        "3:13: not YAML: a ':' where none may stand; put the text in quotes or correct the indentation",
    ),
    "quotes left open": (
        ("web: {port: 8080}", 'web: "{port: 8080}'),
        "47:6: not YAML: quotes that are never closed",
    ),
    "brace left open": (
        ("max_a: 16, rotation: RST}", "max_a: 16, rotation: RST"),
        "32:13: not YAML: a '{' that is not closed, or a ',' missing behind it",
    ),
    "bracket left open": (
        ("rotation: L2}]", "rotation: L2}"),
        "36:12: not YAML: a '[' that is not closed, or a ',' missing behind it",
    ),
    "indentation": (
        ("  time_zone", " time_zone"),
        "4:2: not YAML: the indentation does not fit the lines above",
    ),
    "line without a colon": (
        ("name: Yard", "name: Yard\n  and"),
        "4:3: not YAML: a line without ':' behind its key, or a text that goes on",
    ),
    "alias of nothing": (
        ("name: Yard", "name: *yard"),
        "3:9: not YAML: an alias (*name) whose anchor (&name) does not stand above it",
    ),
    "empty section": (
        ("web: {port: 8080}", "web:"),
        "47:5: web: nothing is given; wanted is a section with keys such as host, port, allow_control",
    ),
    "python object": (
        ("name: Yard", "name: !!python/name:os.system x"),
        "3:9: site.name: unknown tag !!python/name:os.system; a site file knows !env NAME, !secret NAME and !include FILE",
    ),
    "list as a key": (("name: Yard", "? [a]\n  : 1\n  name: Yard"), "3:5: site: a list or section cannot be a key"),
}


@pytest.mark.parametrize(("change", "problem"), OTHERS.values(), ids=OTHERS.keys())
def test_other(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    assert refused(tmp_path, spoiled(change)) == [problem]


def test_what_a_site_below_carries(tmp_path: Path) -> None:
    text = (
        "- id: st-1\n",
        "- id: st-1\n    kind: site\n    carries: [g-1, st-2, g-1]\n    cloud_profiles: end_to_end\n",
    )
    assert [line.split(": ", 1)[1] for line in refused(tmp_path, spoiled(text))] == [
        "stations[0].carries: the stations of site 'st-1' are carried to our primary upstream, and there is none",
        "stations[0].carries[1]: 'st-2' is a station of this site file; what a site carries is held by its own controller alone",
        "stations[0].carries[2]: 'g-1' is carried already",
        ("stations[0].cloud_profiles: site 'st-1' is held by its maximum, where the upstream's own would be in the way: leave "
        "this out"),
    ]  # fmt: skip


def test_a_word_where_a_list_belongs(tmp_path: Path) -> None:
    text = spoiled()
    text = text[: text.index("stations:")] + "stations: none\n" + text[text.index("csms:") :]
    assert refused(tmp_path, text) == ["27:11: stations: wanted is a list: lines that begin with '- '"]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = spoiled(
        ("rating_a: 32}", "rating_a: 32 A}"),
        ("kind: mqtt", "kind: mqqt"),
        ("    zone: row\n    breaker_a: 32\n    fallback_a: 6", "    zone: rwo\n    breaker_a: 10\n    fallback_a: 6"),
        ("    failsafe_w: 4200\n", ""),
    )
    assert refused(tmp_path, text) == [
        "14:28: zones[1].protection.rating_a: '32 A': write the number alone, in A: 32",
        "24:24: devices[1].connection.kind: 'mqqt' is not one of modbus_tcp, modbus_rtu, modbus_rtu_tcp, mqtt, opcua, virtual (did you mean 'mqtt'?)",
        "29:11: stations[0].zone: no zone 'rwo' (did you mean 'row'?)",
        "32:28: stations[0].evses[0].max_a: EVSE 1 of station 'st-1' may draw 16 A, above the station's breaker of 10 A",
        (
            "42:5: external_limits[0]: external limit 'dso' in kW needs 'failsafe_w': the limit in force without contact "
            "(0 is allowed)"
        ),
    ]


@pytest.mark.parametrize("word", ["no", "on", "12:30", "0644", "1e3", "2026-11-22"])
def test_a_name_stays_the_text_it_is(tmp_path: Path, word: str) -> None:
    loaded = load(tmp_path, spoiled(("id: st-2", f"id: {word}")))
    assert loaded.file.stations[1].id == word


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    loaded = load(tmp_path, spoiled(("max_w: 9000", "max_w: 9.0e3"), ("port: 9000", "port: 9001.0")))
    assert loaded.file.devices[1].max_w == 9000
    assert loaded.file.csms.listen.port == 9001


def test_null_is_not_given(tmp_path: Path) -> None:
    loaded = load(tmp_path, spoiled(("    max_w: 9000", "    max_w: 9000\n    zone: ~")))
    assert loaded.file.devices[1].zone is None


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = spoiled(
        ("  - id: st-1\n", "  - &station\n    id: st-1\n"),
        ("  - id: st-2\n    zone: row\n    breaker_a: 32\n", "  - <<: *station\n    id: st-2\n"),
    )
    first, second = load(tmp_path, text).file.stations
    assert (second.id, second.zone, second.breaker_a, second.fallback_a) == ("st-2", "row", 32, first.fallback_a)
    assert second.evses[0].rotation == "L2"


def test_merge_of_something_else(tmp_path: Path) -> None:
    problems = refused(tmp_path, spoiled(("  name: Yard", "  <<: 5\n  name: Yard")))
    assert problems == ["3:7: site: '<<' takes a section with an anchor, for example '<<: *station'"]


def test_alias_bomb_is_refused_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert refused(tmp_path, "\n".join(lines)) == [
        "1:1: too large: more than 50000 values or 40 levels, aliases written out"
    ]


@pytest.mark.parametrize("text", ["&a [*a]", "[" * 1200, "{a: " * 200 + "1" + "}" * 200, "x" * 2_000_001])
def test_too_deep_or_too_large(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text) == ["1:1: too large: more than 50000 values or 40 levels, aliases written out"]


def test_not_a_section_at_all(tmp_path: Path) -> None:
    assert refused(tmp_path, "") == ["1:1: the file is empty"]
    assert refused(tmp_path, "- 1") == ["1:1: wanted is a section with keys such as version, site, zones"]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, b"version: \xff\xfe\x00")
    assert problem.startswith("1:1: not a text that YAML allows: ")


def test_a_missing_file(tmp_path: Path) -> None:
    from cem.config.loader import load_site_file
    from cem.errors import ConfigError

    file = tmp_path / "absent.yaml"
    with pytest.raises(ConfigError) as caught:
        load_site_file(file)
    assert str(caught.value) == f"{file}:1:1: cannot read {file}: no such file"


def test_password_in_the_clear_is_a_warning(tmp_path: Path) -> None:
    assert found(tmp_path, spoiled(("    fallback_a: 6", "    fallback_a: 6\n    password: hunter2"))) == [
        "32:15: warning: stations[0].password: a password in the clear: write '!secret NAME' and put it into secrets.yaml"
    ]


def test_a_misspelt_key_hides_no_other_mistake_of_its_entry(tmp_path):
    text = spoiled(
        ("    zone: row\n    breaker_a: 32\n    fallback_a: 6", "    zone: rwo\n    breaker_a: 10\n    fallbck_a: 6"),
        ("    model: meter_map\n    poll_s: 1", "    model: meter_mpa\n    polls: 1"),
    )
    assert refused(tmp_path, text) == [
        "20:12: devices[0].model: no device model 'meter_mpa' (did you mean 'meter_map'?)",
        "21:5: devices[0].polls: unknown key 'polls' (did you mean 'poll_s', in s?)",
        "29:11: stations[0].zone: no zone 'rwo' (did you mean 'row'?)",
        "31:5: stations[0].fallbck_a: unknown key 'fallbck_a' (did you mean 'fallback_a'?)",
        "32:28: stations[0].evses[0].max_a: EVSE 1 of station 'st-1' may draw 16 A, above the station's breaker of 10 A",
    ]
