"""``cem device`` with devices that speak by MQTT and OPC UA: a real mosquitto, a real server with Basic256Sha256."""

import json
import shutil
import threading

import paho.mqtt.client as paho
import pytest

from adapters.opcua.pki import own_identity
from tests.adapters.broker import Broker
from tests.adapters.opcua_secure_server import URI, SecureServer
from tests.adapters.test_device_tools import cem, site_file


class Plug:
    """A wallbox on a broker: says its power five times a second, takes a current of whole amperes up to 16."""

    def __init__(self, port: int) -> None:
        self.watts, self.amps, self.heard = 1380.0, 6, []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.on_message = self._told
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("box/set")
        self._client.loop_start()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._speak)
        self._thread.start()

    def _told(self, _client, _userdata, message) -> None:
        self.heard.append(message.payload)
        self.amps = min(16, json.loads(message.payload)["amps"])

    def _speak(self) -> None:
        while not self._stop.wait(0.2):
            self.watts += 1
            state = {"w": self.watts, "a": [self.watts / 230, 0, 0], "v": 230, "limit": self.amps}
            self._client.publish("box/state", json.dumps(state))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()


def box(port, **more):
    return {
        "id": "box", "role": "household_meter", "phases": 1,
        "connection": {"kind": "mqtt", "host": "127.0.0.1", "port": port},
        "values": {
            "total_power_w": {"topic": "box/state", "path": "w"},
            "current_l1_a": {"topic": "box/state", "path": "a.0"},
            "voltage_l1_v": {"topic": "box/state", "path": "v"},
        },
        "write_topics": {
            "current_a": {
                "topic": "box/set", "payload": '{"amps": {value}}', "valid": [0, 32],
                "read_topic": "box/state", "read_path": "limit", "settle_s": 1.5,
            },
            "enable": {"topic": "box/enable", "valid": [0, 1]},
        },
        **more,
    }  # fmt: skip


@pytest.fixture
def plug(tmp_path):
    broker = Broker(tmp_path)
    plug = Plug(broker.port)
    plug.broker = broker
    yield plug
    plug.close()
    broker.kill()


def test_a_device_on_a_broker_is_listed_read_watched_and_tested(tmp_path, plug):
    file = site_file(tmp_path, box(plug.broker.port))
    (row,) = json.loads(cem("device", "list", file, "--json").stdout)
    assert (row["where"], row["writes"]) == (f"mqtt 127.0.0.1:{plug.broker.port}", ["current_a", "enable"])
    read = cem("device", "read", file, "box")
    assert read.exit_code == 0, read.output
    assert "box: 13" in read.stdout
    assert " ms)" not in read.stdout  # nothing was asked, so nothing has a latency
    lines = cem("device", "watch", file, "--seconds", "1.2", "--json").stdout.splitlines()
    assert 3 <= len(lines) <= 8
    tested = cem("device", "test", file, "--seconds", "2", "--json")
    (report,) = json.loads(tested.stdout)
    assert report["verdict"] == "good", report
    assert report["figures"]["interval_p50_s"] == pytest.approx(0.2, abs=0.15)
    assert report["figures"]["errors_percent"] == 0
    assert report["figures"]["latency_p50_ms"] is None
    assert tested.exit_code == 0


def test_a_device_that_nobody_hears_is_not_usable(tmp_path, plug, monkeypatch):
    monkeypatch.setattr("adapters.listening.LONGEST_WAIT_S", 0.5)
    silent = box(plug.broker.port, values={"total_power_w": {"topic": "box/nothing"}}, poll_s=0.1)
    tested = cem("device", "test", site_file(tmp_path, silent), "--seconds", "1")
    assert tested.exit_code == 1
    assert "box: not usable" in tested.stdout
    assert "nothing came for" in tested.stdout
    plug.broker.kill()
    read = cem("device", "read", site_file(tmp_path, box(plug.broker.port)))
    assert read.exit_code == 1
    assert "cannot be reached" in read.stdout
    plug.broker.start()


def test_a_command_by_mqtt_is_confirmed_by_what_the_device_says(tmp_path, plug):
    file = site_file(tmp_path, box(plug.broker.port))
    asked = cem("device", "write", file, "box", "current_a", "10")
    assert (asked.exit_code, plug.heard) == (1, [])
    done = cem("device", "write", file, "box", "current_a", "10", "--confirm")
    assert (done.exit_code, done.stdout) == (0, "box: current_a is 10\n"), done.output
    assert plug.heard == [b'{"amps": 10}']
    more = cem("device", "write", file, "box", "current_a", "20", "--confirm")
    assert more.exit_code == 1
    assert "box/state says 16 within 1.5 s" in more.stderr
    outside = cem("device", "write", file, "box", "current_a", "40", "--confirm")
    assert "current_a of 40 is outside 0 to 32" in outside.stderr
    unknown = cem("device", "write", file, "box", "power_w", "1", "--confirm")
    assert "cannot write 'power_w'; it has current_a, enable" in unknown.stderr
    assert len(plug.heard) == 2  # what was refused was never sent


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = SecureServer(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def plc(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    (folder / "trusted").mkdir()
    shutil.copy(server.folder / "server.der", folder / "trusted")
    shutil.copy(own_identity(folder)[0], server.folder / "clients" / "cem.der")
    return {
        "id": "plc", "role": "household_meter", "poll_s": 0.2, "heartbeat": "Objects/Meter/Life",
        "connection": {
            "kind": "opcua", "endpoint": f"opc.tcp://127.0.0.1:{server.port}/meter", "namespace_uri": URI,
            "security": "sign_and_encrypt", "username": "cem", "password": "right", "pki_folder": str(folder),
        },
        "nodes": {f"power_l{n}_w": {"node": f"Objects/Meter/L{n}", "scale": 1000} for n in (1, 2, 3)},
        "write_nodes": {
            "limit_percent": {"node": "Objects/Plc/Percent", "scale": 0.1, "valid": [0, 100]},
            "current_a": {"node": "Objects/Plc/Current", "valid": [0, 32]},
            "power_w": {"node": "Objects/Plc/Ignored", "read_node": "Objects/Plc/Shown", "valid": [-9000, 9000]},
            "enable": {"node": "Objects/Plc/Locked", "valid": [0, 1]},
        },
    }  # fmt: skip


def test_a_device_behind_a_secured_server_is_read_and_tested(tmp_path, server, plc):
    server.tell("l1 1")
    file = site_file(tmp_path, plc)
    read = cem("device", "read", file)
    assert read.exit_code == 0, read.output
    assert "plc: 6000 W, 1000.0 2000.0 3000.0 W" in read.stdout
    tested = cem("device", "test", file, "--seconds", "2.5", "--json")
    (report,) = json.loads(tested.stdout)
    assert report["figures"]["errors_percent"] == 0
    assert 0 < report["figures"]["latency_p50_ms"] <= report["figures"]["latency_p95_ms"] < 1000
    assert report["figures"]["sum_of_phases_w"] == 6000
    assert report["verdict"] == "usable, with remarks"
    assert report["remarks"] == ["no value moved during the test: is it measuring?"]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("limit_percent", "60.5", "plc: limit_percent is 60.5\n"),
        ("current_a", "13.7", "plc: current_a is 13.7\n"),
        ("power_w", "500", "power_w was set to 500 and reads back as 7"),
        ("enable", "1", "the server refuses enable of 1 (BadUserAccessDenied)"),
        ("limit_percent", "101", "is outside 0 to 100"),
    ],
)
def test_limits_go_to_a_plc_in_its_own_type_and_are_read_back(tmp_path, server, plc, name, value, told):
    result = cem("device", "write", site_file(tmp_path, plc), "plc", name, value, "--confirm")
    assert told in result.output
    assert result.exit_code == (0 if told.startswith("plc: ") else 1)


def test_a_name_that_no_device_has_and_a_turned_range_are_found_by_check(tmp_path, plc):
    wrong = {**plc, "write_nodes": {"curent_a": {"node": "i=1", "valid": [0, 1]}}}
    assert "unknown key 'curent_a'" in cem("check", site_file(tmp_path, wrong)).output
    turned = {**plc, "write_nodes": {"current_a": {"node": "i=1", "valid": [5, 1]}}}
    assert "valid goes from least to most" in cem("check", site_file(tmp_path, turned)).output


def test_what_is_worked_out_is_not_asked(tmp_path, plc):
    house = {"id": "house", "role": "household_meter", "connection": {"kind": "virtual", "formulas": ["plc"]}}
    file = site_file(tmp_path, plc, house)
    assert "worked out from other devices" in cem("device", "read", file, "house").stderr
    rows = {row["id"]: row["where"] for row in json.loads(cem("device", "list", file, "--json").stdout)}
    assert rows["house"] == "worked out: plc"
