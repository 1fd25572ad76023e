"""``cem device`` and ``cem scan`` against devices served from the independent register images."""

import asyncio
import json
import re
import threading

import pytest
import yaml
from typer.testing import CliRunner

from cem.cli import make_app
from cem.cli.scan import addresses, unit_ids
from cem.config.models import Device
from cem.errors import CemError
from tests.adapters import image_files, sunspec_image
from tests.adapters.modbus_server import Server, device
from tests.adapters.serial_line import SerialLine

SITE = """
version: 1
site:
  name: Bench
  grid_connection: {fuse_a: 63}
zones:
  - {id: root, protection: {rating_a: 63}}
stations: []
devices:
"""


class Serving:
    """Something of the tests' servers, in a thread with a loop of its own, because the command brings its own loop."""

    def __init__(self, server) -> None:
        self._server = server

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self.run(self._server.__aenter__())

    def __exit__(self, *_: object) -> None:
        self.run(self._server.__aexit__(None, None, None))
        self.run(asyncio.sleep(0.05))  # its connections close in the loop's next turns
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


def cem(*words):
    return CliRunner().invoke(make_app(words), [str(word) for word in words], catch_exceptions=False)


def site_file(folder, *devices):
    path = folder / "site.yaml"
    path.write_text(SITE + yaml.safe_dump([dict(each) for each in devices]).replace("\n", "\n  ").join(["  ", "\n"]))
    return path


def entry(image, port, **more):
    at = {"kind": "modbus_tcp", "host": "127.0.0.1", "port": port, "unit_id": image.unit, "timeout_s": 0.5}
    return {"id": image.model, "role": image.role, "model": image.model, "phases": image.phases, "connection": at,
            "poll_s": 0.2, **more}  # fmt: skip


@pytest.fixture
def meter():
    with Serving(Server(image_files.load("abb_b23").served())) as server:
        yield server


def test_list_says_what_each_map_is(tmp_path):
    file = site_file(tmp_path, entry(image_files.load("keba_p30"), 502), entry(image_files.load("phoenix_charx"), 502))
    shown = json.loads(cem("device", "list", file, "--json").stdout)
    assert [(row["id"], row["unit"], row["verified"]) for row in shown] == [
        ("keba_p30", 255, True),
        ("phoenix_charx", 1, False),
    ]
    assert shown[0]["writes"] == ["current_a", "enable", "watchdog_current_a", "watchdog_s"]
    assert "keba_p30" in cem("device", "list", file).stdout


def test_read_prints_a_line_or_json(tmp_path, meter):
    file = site_file(tmp_path, entry(image_files.load("abb_b23"), meter.port))
    result = cem("device", "read", file)
    assert result.exit_code == 0
    assert "abb_b23: 1500 W, 12.5 -6.0 0.0 A, 2850.0 -1350.0 0.0 W, 230.3 231.5 229.0 V, 12345.7 kWh" in result.stdout
    (shown,) = json.loads(cem("device", "read", file, "abb_b23", "--json").stdout)
    assert shown["measurement"]["total_power_w"] == pytest.approx(1500)
    assert shown["values"]["frequency_hz"] == pytest.approx(50.03)


def test_read_of_a_dead_address_says_why(tmp_path):
    file = site_file(tmp_path, entry(image_files.load("abb_b23"), 1))
    result = cem("device", "read", file)
    assert result.exit_code == 1
    assert "modbus 127.0.0.1:1: no connection; check power, network cable" in result.stdout


def test_every_sunspec_point_for_people(tmp_path):
    chain = sunspec_image.chain(sunspec_image.common(), sunspec_image.inverter_103(), sunspec_image.nameplate_120())
    with Serving(Server(device(1, {40_000: chain}))) as server:
        at = {"kind": "modbus_tcp", "host": "127.0.0.1", "port": server.port}
        file = site_file(
            tmp_path, {"id": "pv", "role": "pv", "model": "sunspec_inverter", "connection": at, "max_w": 1}
        )
        shown = cem("device", "read", file, "--points").stdout
    assert "1.Mn: Hand made" in shown
    assert "120.WRtg: 10000" in shown


@pytest.mark.parametrize(("verb", "shown"), [("read", "[]\n"), ("test", "[]\n"), ("watch", "")])
def test_a_site_without_devices_says_so(tmp_path, verb, shown):
    file = tmp_path / "site.yaml"
    file.write_text(SITE.replace("devices:", "devices: []"))
    asked = cem("device", verb, file, "--json")
    assert (asked.exit_code, asked.stdout) == (0, shown)
    assert "has no devices to ask" in asked.stderr


def test_watch_reads_again_and_again(tmp_path, meter):
    file = site_file(tmp_path, entry(image_files.load("abb_b23"), meter.port))
    lines = cem("device", "watch", file, "--seconds", "1", "--json").stdout.splitlines()
    assert 3 <= len(lines) <= 6
    assert all(json.loads(line)["measurement"] for line in lines)


def test_test_gives_figures_hints_and_a_verdict(tmp_path, meter):
    file = site_file(tmp_path, entry(image_files.load("abb_b23"), meter.port))
    result = cem("device", "test", file, "--seconds", "1.5", "--json")
    (report,) = json.loads(result.stdout)
    figures = report["figures"]
    assert figures["errors_percent"] == 0
    assert 0 < figures["latency_p50_ms"] <= figures["latency_p95_ms"] < 500
    assert figures["age_s"] < 1.5
    assert figures["voltage_l1_v"] == pytest.approx(230.3)
    assert figures["frequency_hz"] == pytest.approx(50.03)
    assert figures["power_factor_l1"] == pytest.approx(2850 / (230.3 * 12.5))
    assert figures["sum_of_phases_w"] == pytest.approx(1500)
    assert report["verdict"] == "usable, with remarks"
    assert any("L2 exports while others import" in text for text in report["remarks"])
    assert any("no value moved" in text for text in report["remarks"])
    assert result.exit_code == 3


def test_test_finds_a_turned_sign(tmp_path):
    image = image_files.load("sma_inverter")
    with Serving(Server(image.served())) as server:
        file = site_file(tmp_path, entry(image, server.port, invert=True, max_w=8000))
        result = cem("device", "test", file, "--seconds", "1")
    assert result.exit_code == 1
    assert "sma_inverter: not usable" in result.stdout
    assert "a PV inverter that draws 6210 W: its sign is turned" in result.stdout


def test_test_of_a_total_only_meter_says_that_it_guards_nothing(tmp_path):
    image = image_files.load("sigenergy_grid")
    with Serving(Server(image.served())) as server:
        result = cem("device", "test", site_file(tmp_path, entry(image, server.port)), "--seconds", "1")
    assert result.exit_code == 1
    assert "it cannot guard a fuse" in result.stdout


def test_write_needs_confirm_and_reads_back(tmp_path):
    image = image_files.load("alfen_ng9xx")
    serving = Serving(Server(image.served()))
    with serving as server:
        file = site_file(tmp_path, entry(image, server.port))
        asked = cem("device", "write", file, "alfen_ng9xx", "current_a", "10.5")
        assert asked.exit_code == 1
        assert "say --confirm to do it" in asked.stderr
        assert serving.run(server.get(1, 1210, 2)) == [0x4180, 0]
        done = cem("device", "write", file, "alfen_ng9xx", "current_a", "10.5", "--confirm")
        assert (done.exit_code, done.stdout) == (0, "alfen_ng9xx: current_a is 10.5\n")
        assert serving.run(server.get(1, 1210, 2)) == [0x4128, 0]
        refused = cem("device", "write", file, "alfen_ng9xx", "current_a", "40", "--confirm")
        assert "current_a of 40 is outside 0 to 32" in refused.stderr


def test_check_warns_of_a_map_that_nobody_could_check(tmp_path):
    file = site_file(tmp_path, entry(image_files.load("phoenix_charx"), 502), entry(image_files.load("keba_p30"), 502))
    told = cem("check", file).stdout
    assert "warning" in told
    assert "the map 'phoenix_charx' could not be checked against the maker's document" in told
    assert "keba_p30' could not be checked" not in told


IDENTIFIED = [model for model in image_files.MODELS if image_files.load(model).identified]


def test_a_wallbox_is_scanned_as_a_station_and_commanded_by_what_the_scan_printed(tmp_path):
    """Alfen tells its maker as unit 200 (its Modbus document V2.3: register 117, "Alfen NV")."""
    image = image_files.load("alfen_ng9xx")
    told = device(200, {117: [0x416C, 0x6665, 0x6E20, 0x4E56, 0x0000]})
    serving = Serving(Server(image.served(), told))
    with serving as server:
        found = cem("scan", f"127.0.0.1:{server.port}", "--units", "1,2,200")
        assert found.exit_code == 0, found.output
        (station,) = yaml.safe_load(found.stdout)["stations"]
        assert (station["modbus"]["model"], station["modbus"]["connection"]["unit_id"]) == ("alfen_ng9xx", 1)
        path = tmp_path / "site.yaml"
        stations = yaml.safe_dump({"stations": [station | {"zone": "root"}]})
        path.write_text(SITE.replace("stations: []\ndevices:\n", "") + stations)
        (listed,) = json.loads(cem("device", "list", path, "--json").stdout)
        assert (listed["id"], listed["role"], listed["writes"]) == (station["id"], "wallbox", ["current_a"])
        (read,) = json.loads(cem("device", "read", path, "--json").stdout)
        assert read["measurement"]["total_power_w"] == image.expect["total_power_w"]
        done = cem("device", "write", path, station["id"], "current_a", "10.5", "--confirm")
        assert done.stdout == f"{station['id']}: current_a is 10.5\n", done.stderr
        assert serving.run(server.get(1, 1210, 2)) == [0x4128, 0]


def test_scan_names_a_maker_s_own_map_beside_sunspec():
    """A Plenticore speaks SunSpec as well, which knows nothing of its battery's set-point."""
    image = image_files.load("kostal_plenticore_battery")
    chain = sunspec_image.chain(sunspec_image.common(), sunspec_image.inverter_103())
    with Serving(Server(device(71, image.blocks() | {40_000: chain}))) as server:
        found = cem("scan", f"127.0.0.1:{server.port}", "--units", "71")
    models = {each["model"] for each in yaml.safe_load(found.stdout)["devices"]}
    assert models == {"sunspec_inverter", "kostal_plenticore_battery", "kostal_plenticore_meter"}


def test_scan_identifies_the_images_and_its_snippet_is_a_site_file(tmp_path):
    """Many devices behind one gateway: found, named, read through what the scan printed."""
    units = {number: image_files.load(model) for number, model in enumerate(IDENTIFIED, 1)}
    chain = sunspec_image.chain(sunspec_image.common(), sunspec_image.inverter_103(), sunspec_image.nameplate_120())
    served = [image.served(number) for number, image in units.items()]
    serving = Serving(Server(*served, device(100, {40_000: chain}), device(101, {0: [1, 2, 3]})))
    with serving as server:
        found = cem("scan", f"127.0.0.1:{server.port}", "--units", f"1-{len(units)},100,101,102")
        assert found.exit_code == 0, found.output
        devices = yaml.safe_load(found.stdout)["devices"]
        by_unit = {}
        for each in devices:
            by_unit.setdefault(each["connection"]["unit_id"], set()).add(each["model"])
            Device.model_validate(each)
        for number, image in units.items():
            assert image.model in by_unit[number], image.model
        assert by_unit[100] == {"sunspec_inverter"}
        assert "max_w: 10000" in found.stdout
        assert "# Hand made Image 0001" in found.stdout
        assert re.search(r"unit 101 answers, but no known map fits", found.stdout)
        file = site_file(tmp_path, *devices)
        shown = json.loads(cem("device", "read", file, "--json").stdout)
        commanded = 0
        for number, image in units.items():
            for write in image.writes:
                name = f"{image.model}_1_{number}"
                done = cem("device", "write", "--confirm", "--", file, name, write["name"], write["value"])
                assert done.stdout == f"{name}: {write['name']} is {write['value']:g}\n", done.stderr
                held = serving.run(server.get(number, write["address"], len(write["words"])))
                assert held == write["words"], (name, write)  # the source's words, on the wire
                commanded += 1
        assert commanded >= 5
    expected = {(number, image.model): image.expect["total_power_w"] for number, image in units.items()}
    for each, read in zip(devices, shown, strict=True):
        watts = expected.get((each["connection"]["unit_id"], each["model"]))
        if watts is not None:
            assert read["measurement"]["total_power_w"] == pytest.approx(watts), each


def test_scan_of_a_serial_line():
    image = image_files.load("eastron_sdm120")
    with Serving(SerialLine(image.served(3))) as line:
        found = cem("scan", "--serial", line.port, "--units", "1-4", "--baudrate", "115200", "--timeout", "0.2")
    assert found.exit_code == 0, found.output
    (only,) = yaml.safe_load(found.stdout)["devices"]
    assert (only["model"], only["phases"], only["connection"]["unit_id"]) == ("eastron_sdm120", 1, 3)
    assert only["connection"]["baudrate"] == 115_200


def test_scan_of_a_meter_that_is_silent_about_what_it_does_not_know():
    """As many RS-485 meters: no refusal. A dead unit costs three time-outs, whatever is asked of those that live."""
    image = image_files.load("eastron_sdm120")
    asked = []

    def foreign(request):
        address, count = int.from_bytes(request[2:4], "big"), int.from_bytes(request[4:6], "big")
        asked.append(request[0])
        known = (request[1], address, count) == (3, 0xFC02, 1) or (request[1] == 4 and address + count <= 80)
        return request[0] != 3 or not known

    with Serving(SerialLine(image.served(3))) as line:
        line.swallow = foreign
        found = cem("scan", "--serial", line.port, "--units", "1-4", "--baudrate", "115200", "--timeout", "0.2")
    assert found.exit_code == 0, found.output
    (only,) = yaml.safe_load(found.stdout)["devices"]
    assert (only["model"], only["connection"]["unit_id"]) == ("eastron_sdm120", 3)
    assert [asked.count(unit) for unit in (1, 2, 4)] == [3, 3, 3]


def test_scan_where_nobody_is():
    nobody = cem("scan", "127.0.0.1:1", "--json")
    assert (nobody.exit_code, json.loads(nobody.stdout)) == (1, [])


def test_scan_asks_only_what_is_named():
    assert addresses(["10.0.0.0/30", "10.0.1.1:5020", "meter.local"], [502]) == [
        ("10.0.0.1", 502),
        ("10.0.0.2", 502),
        ("10.0.1.1", 5020),
        ("meter.local", 502),
    ]
    with pytest.raises(CemError, match="name at most 1024"):
        addresses(["10.0.0.0/16"], [502])
    with pytest.raises(CemError, match="is not a network"):
        addresses(["10.0.0.x/24"], [502])
    assert unit_ids("1-3, 71") == [1, 2, 3, 71]
    with pytest.raises(CemError, match="unit ids are written such as"):
        unit_ids("1;2")
    assert "name addresses to scan" in cem("scan").stderr
    assert "a serial port is /dev/NAME" in cem("scan", "--serial", "COM1").stderr
