"""The failure drills of every adapter against real servers, as the product paces them; measured bounds are printed (-s).

Refused first connect, killed and restarted, frozen and thawed: Modbus TCP, Modbus RTU on a pty whose adapter is pulled out,
MQTT with TLS, client certificates and an ACL, OPC UA with Basic256Sha256. Closed in the middle of a request, and a late answer
after a time-out: all but MQTT, where nobody asks.
"""

import asyncio
import json
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import paho.mqtt.client as paho
import pytest

import adapters
from adapters.opcua.pki import own_identity
from cem.config.models import Device
from tests.adapters import field_peers
from tests.adapters.broker import broker_of_meter_and_cem, free_port
from tests.adapters.field import CLOCK, fresh, running, until
from tests.adapters.modbus_server import ServerProcess
from tests.adapters.modbus_server import device as modbus_device
from tests.adapters.opcua_secure_server import URI, SecureServer
from tests.adapters.serial_line import SerialLine
from tests.adapters.sunspec_image import chain, common, meter_203
from tests.adapters.test_modbus_rtu import sdm120

KEPT_S = 1.0
LATE_S = {"ModbusTcp": 0.8, "ModbusRtu": 0.5, "OpcUa": 4.0}
"""How long one answer is held back: longer than each waits for one."""


@pytest.fixture(autouse=True)
def each_drill_begins_after_a_good_run(monkeypatch):
    """Else every drill would be the same outage to the supervisor, with a longer pause each."""
    monkeypatch.setattr("cem.supervise.GOOD_RUN_S", 1.0)
    monkeypatch.setattr("cem.supervise.SETTLED_S", 0.7)
    monkeypatch.setattr("adapters.trouble.SETTLED_S", 0.7)


class ModbusTcp:
    notices_s, heals_s = 5.0, 5.0

    def __init__(self, folder: Path) -> None:
        del folder
        self.port = free_port()
        at = {"kind": "modbus_tcp", "host": "127.0.0.1", "port": self.port, "timeout_s": 0.5}
        self.device = {"role": "grid_meter", "model": "sunspec_meter", "connection": at}

    async def start(self) -> None:
        self._server = await asyncio.to_thread(ServerProcess, 40_000, chain(common(), meter_203()), self.port)
        self.freeze, self.thaw = self._server.freeze, self._server.thaw

    async def kill(self) -> None:
        self._server.kill()


class ModbusRtu:
    """The port's lasting name points at another pty after the adapter was plugged in again."""

    notices_s, heals_s = 5.0, 5.0

    def __init__(self, folder: Path) -> None:
        del folder
        self._name = Path(tempfile.mkdtemp(dir="/dev/shm")) / "rs485"
        at = {"kind": "modbus_rtu", "port": str(self._name), "baudrate": 115_200, "timeout_s": 0.3}
        self.device = {"role": "household_meter", "model": "eastron_sdm120", "phases": 1, "connection": at}

    async def start(self) -> None:
        self._line = SerialLine(modbus_device(1, {0: sdm120(5.0)}))
        await self._line.__aenter__()
        self._name.symlink_to(self._line.port)

    async def kill(self) -> None:
        self._name.unlink()
        await self._line.__aexit__(None, None, None)

    def freeze(self) -> None:
        self._line.swallow = lambda _request: True

    def thaw(self) -> None:
        self._line.swallow = None

    async def close(self) -> None:
        await self.kill()
        self._name.parent.rmdir()


class Mqtt:
    """The broker knows both sides by certificate; the ACL lets the meter write and us read, nothing else."""

    notices_s, heals_s = 12.0, 5.0  # a frozen broker: two keepalives

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._broker = broker_of_meter_and_cem(folder)
        self._broker.kill()
        self.freeze, self.thaw = self._broker.freeze, self._broker.thaw
        at = {
            "kind": "mqtt", "host": "127.0.0.1", "port": self._broker.port, "tls": True, "ca_file": f"{folder}/ca.pem",
            "certificate_file": f"{folder}/cem.pem", "key_file": f"{folder}/cem.key",
        }  # fmt: skip
        values = {"total_power_w": {"topic": "meter/em", "path": "w"}}
        self.device = {"role": "household_meter", "connection": at, "values": values}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._speak)
        self._thread.start()

    def _speak(self) -> None:
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.tls_set(f"{self._folder}/ca.pem", f"{self._folder}/meter.pem", f"{self._folder}/meter.key")
        client.reconnect_delay_set(1, 1)
        client.connect_async("127.0.0.1", self._broker.port, 5)
        client.loop_start()
        while not self._stop.wait(0.2):
            client.publish("meter/em", json.dumps({"w": 500}))
            client.publish("meter/other", json.dumps({"w": 1}))  # the ACL forbids it
        client.disconnect()
        client.loop_stop()

    async def start(self) -> None:
        await asyncio.to_thread(self._broker.start)

    async def kill(self) -> None:
        self._broker.kill()

    async def close(self) -> None:
        self._broker.kill()
        self._stop.set()
        await asyncio.to_thread(self._thread.join)


class OpcUa:
    notices_s, heals_s = 5.0, 8.0  # its server takes seconds to start, in which our pauses grow to 4 s

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder / "server", free_port()
        self._folder.mkdir()
        first = SecureServer(self._folder, self._port)  # makes its certificates
        first.kill()
        (folder / "pki" / "trusted").mkdir(parents=True)
        shutil.copy(self._folder / "server.der", folder / "pki" / "trusted")
        shutil.copy(own_identity(folder / "pki")[0], self._folder / "clients" / "cem.der")
        at = {
            "kind": "opcua", "endpoint": f"opc.tcp://127.0.0.1:{self._port}/meter", "namespace_uri": URI,
            "security": "sign_and_encrypt", "username": "cem", "password": "right", "pki_folder": str(folder / "pki"),
        }  # fmt: skip
        nodes = {f"power_l{n}_w": {"node": f"Objects/Meter/L{n}", "scale": 1000} for n in (1, 2, 3)}
        self.device = {"role": "household_meter", "connection": at, "nodes": nodes, "heartbeat": "Objects/Meter/Life"}

    async def start(self) -> None:
        self._server = await asyncio.to_thread(SecureServer, self._folder, self._port)
        self.freeze, self.thaw = self._server.freeze, self._server.thaw

    async def kill(self) -> None:
        self._server.kill()


# paho and asyncua leave the socket of a failed attempt to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", [ModbusTcp, ModbusRtu, Mqtt, OpcUa], ids=lambda kind: kind.__name__)
async def test_drills_refused_killed_frozen(kind, tmp_path, caplog, record_property):
    peer = await asyncio.to_thread(kind, tmp_path)
    device = Device.model_validate({"id": "meter", "poll_s": 0.2, **peer.device})
    adapter = adapters.create(device.connection.kind, device.connection, [device], CLOCK, lambda: None)
    took_s = {}

    def told_since(count):
        return len(caplog.records) > count

    try:
        async with running(adapter):
            await until(lambda: told_since(0), 6)
            assert adapter.measurements() == {}
            await peer.start()
            took_s["refused, then there"] = await _healed(adapter)

            await asyncio.sleep(1.5)
            count, began_s = len(caplog.records), time.monotonic()
            await peer.kill()
            took_s["killed: told"] = await until(lambda: told_since(count), kind.notices_s)
            await asyncio.sleep(KEPT_S)
            assert adapter.measurements()["meter"].taken_s < began_s + 0.5  # kept; its age tells
            await peer.start()
            took_s["restarted: fresh"] = await _healed(adapter)

            await asyncio.sleep(1.5)
            count, began_s = len(caplog.records), time.monotonic()
            peer.freeze()
            try:
                took_s["frozen: told"] = await until(lambda: told_since(count), kind.notices_s)
                assert adapter.measurements()["meter"].taken_s < began_s + 0.5
            finally:
                peer.thaw()
            took_s["thawed: fresh"] = await _healed(adapter)
    finally:
        with suppress(AttributeError, OSError):
            await (peer.close() if hasattr(peer, "close") else peer.kill())
    line = f"{kind.__name__}: " + ", ".join(f"{what} in {seconds:.1f} s" for what, seconds in took_s.items())
    print(line)
    record_property("drills", line)
    for what, seconds in took_s.items():
        if not what.endswith("told"):
            assert seconds < kind.heals_s, line


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_drills_cut_short_and_late(tmp_path, record_property):
    """What the old answer says, 4 A, is never believed once the meter reads 9 A."""

    async def drills(peer, adapter):
        path = peer.line if isinstance(peer, field_peers.ModbusRtu) else peer.proxy
        took_s = {}
        await fresh(adapter, timeout_s=15)
        await asyncio.sleep(1.5)
        path.truncate = 5
        await until(lambda: path.truncate is None)
        took_s["closed in the middle: fresh"] = await _healed(adapter)
        assert adapter.measurements()["meter"].current_a == pytest.approx((4, 4, 4), rel=1e-4)

        await asyncio.sleep(1.5)
        path.delays_s.append(LATE_S[peer.name])
        await until(lambda: not path.delays_s)
        await peer.say(a=[9.0] * 3)
        said_s, seen = time.monotonic(), set()
        while not seen or time.monotonic() - said_s < LATE_S[peer.name] + 3:
            found = adapter.measurements()["meter"]
            if found.taken_s > said_s:
                took_s.setdefault("late answer: fresh", time.monotonic() - said_s)
                seen.add(round(found.current_a.l1, 2))
            assert time.monotonic() - said_s < 15
            await asyncio.sleep(0.01)
        assert seen == {9.0}
        return took_s

    async with field_peers.all_of_them(
        tmp_path, tuple(kind for kind in field_peers.KINDS if kind.__name__ in LATE_S)
    ) as found:
        for (peer, _), took_s in zip(found, await asyncio.gather(*(drills(*one) for one in found)), strict=True):
            line = f"{peer.name}: " + ", ".join(f"{what} in {seconds:.1f} s" for what, seconds in took_s.items())
            print(line)
            record_property("drills", line)
            assert max(took_s.values()) < 8, line


async def _healed(adapter) -> float:
    began_s = time.monotonic()
    await fresh(adapter, timeout_s=15)
    return time.monotonic() - began_s
