"""``cem scan`` of a network: OPC UA endpoints, announcements by mDNS, and the controller's waiting room."""

import http.server
import json
import threading
from contextlib import contextmanager

import pytest
import yaml
from asyncua import Server as OpcUaServer
from asyncua import ua
from zeroconf import ServiceInfo, Zeroconf

from adapters.announced import announced
from cem.cli.scan import opcua_urls
from cem.config.models import Device
from tests.adapters import image_files
from tests.adapters.modbus_server import Server
from tests.adapters.opcua_secure_server import SecureServer
from tests.adapters.test_device_tools import Serving, cem

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    server = SecureServer(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


class OpenServer:
    """Without any security; tells a host name that nobody resolves, as many do."""

    async def __aenter__(self):
        self._server = OpcUaServer()
        await self._server.init()
        self._server.set_endpoint("opc.tcp://127.0.0.1:0/plc")
        self._server.set_server_name("PLC\n of the hall")
        self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        await self._server.start()
        self.port = self._server.bserver._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        await self._server.stop()


@contextmanager
def controller(waiting):
    class Api(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"stations": [], "waiting_room": waiting}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_opc_ua_server_is_found_with_the_best_way_in(secure):
    found = cem("scan", f"opc.tcp://127.0.0.1:{secure.port}", "--url", NOWHERE)
    assert found.exit_code == 0, found.output
    (device,) = yaml.safe_load(found.stdout)["devices"]
    at = device["connection"]
    assert at["endpoint"] == f"opc.tcp://127.0.0.1:{secure.port}/meter"
    assert (at["security"], at["policy"]) == ("sign_and_encrypt", "Basic256Sha256")
    Device.model_validate(device)
    assert "it offers sign_and_encrypt Basic256Sha256, sign Basic256Sha256" in found.stdout
    assert "which stations wait is not known" in found.stderr


def test_a_server_without_security_cannot_write_into_the_site_file():
    with Serving(OpenServer()) as server:
        found = cem("scan", f"opc.tcp://127.0.0.1:{server.port}", "--url", NOWHERE, "--json")
        (only,) = json.loads(found.stdout)
        assert (only["protocol"], only["securities"], only["anonymous"]) == ("opcua", [["none", ""]], True)
        shown = cem("scan", f"opc.tcp://127.0.0.1:{server.port}", "--url", NOWHERE).stdout
        assert "# OPC UA: PLC? of the hall" in shown
        (device,) = yaml.safe_load(shown)["devices"]
        assert "security" not in device["connection"]


def test_who_speaks_something_else_on_that_port_is_no_opc_ua_server():
    with Serving(Server(image_files.load("abb_b23").served())) as server:
        found = cem("scan", f"opc.tcp://127.0.0.1:{server.port}", "--url", NOWHERE, "--json")
    assert (found.exit_code, json.loads(found.stdout)) == (1, [])


def test_stations_that_wait_are_part_of_what_was_found():
    waiting = [{"id": "CP-7", "ocpp_version": "2.0.1", "vendor": "Maker", "model": "Box\n- evil"}]
    with controller(waiting) as url:
        found = cem("scan", "127.0.0.1:1", "--url", url)
        assert found.exit_code == 0
        assert yaml.safe_load(found.stdout) == {"stations": [{"id": "CP-7", "zone": "ZONE", "breaker_a": 32}]}
        assert "# waits: Maker Box?- evil, OCPP 2.0.1" in found.stdout
        (only,) = json.loads(cem("scan", "127.0.0.1:1", "--url", url, "--json").stdout)
    assert (only["protocol"], only["id"]) == ("ocpp", "CP-7")


def service(kind, name, port, **texts):
    return ServiceInfo(
        kind, f"{name}.{kind}", port=port, addresses=[b"\x7f\x00\x00\x01"], properties=texts, server=f"{name}.local."
    )


@pytest.fixture(scope="module")
def devices():
    """On the loopback interface, where multicast needs no network."""
    zeroconf = Zeroconf(interfaces=["127.0.0.1"])
    for each in (
        service("_shelly._tcp.local.", "shellypro3em-aabbcc", 80, gen="2", app="Pro3EM"),
        service("_modbus._tcp.local.", "gateway", 502),
        service("_opcua-tcp._tcp.local.", "plc", 4841),
        service("_http._tcp.local.", "printer", 80),
        service("_http._tcp.local.", "evcc", 7070),
    ):
        zeroconf.register_service(each, cooperating_responders=True)
    yield
    zeroconf.close()


async def test_what_announces_itself_is_told_and_printers_are_not(devices):
    heard = []
    found = await announced(2.0, heard.append, ["127.0.0.1"])
    told = {(one.kind.partition(".")[0], one.name, one.host, one.port, one.about) for one in found}
    assert told == {
        ("_shelly", "shellypro3em-aabbcc", "127.0.0.1", 80, "app=Pro3EM gen=2"),
        ("_modbus", "gateway", "127.0.0.1", 502, ""),
        ("_opcua-tcp", "plc", "127.0.0.1", 4841, ""),
        ("_http", "evcc", "127.0.0.1", 7070, ""),
    }
    assert sorted(one.name for one in heard) == sorted(one.name for one in found)
    assert opcua_urls(["127.0.0.1"], found) == ["opc.tcp://127.0.0.1:4841", "opc.tcp://127.0.0.1:4840"]
    assert opcua_urls(["127.0.0.1:502", "opc.tcp://plc.local:48010/x"], []) == ["opc.tcp://plc.local:48010/x"]


def test_only_what_is_inside_the_named_network_is_told(devices, monkeypatch):
    def here(seconds, tell):
        return announced(min(seconds, 1.5), tell, ["127.0.0.1"])

    monkeypatch.setattr("cem.cli.scan.announced", here)
    more = ("--port", "1", "--url", NOWHERE, "--json", "--timeout", "0.05")
    found = json.loads(cem("scan", "127.0.0.1/32", *more).stdout)
    assert {one["name"] for one in found if one["protocol"] == "mdns"} == {
        "shellypro3em-aabbcc",
        "gateway",
        "plc",
        "evcc",
    }
    assert json.loads(cem("scan", "127.0.0.2/32", *more).stdout) == []
