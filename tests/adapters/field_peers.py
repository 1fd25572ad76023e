"""One three-phase meter behind a real server of each field protocol, secured where the protocol can be, that says what a test wants.

Modbus TCP and RTU (on a pty) as an Eastron SDM630, MQTT by a mosquitto with TLS, client certificates and an ACL, OPC UA by an
asyncua server with Basic256Sha256.
"""

import asyncio
import json
import shutil
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import paho.mqtt.client as paho

import adapters
from adapters.opcua.pki import own_identity
from cem.config.models import Device
from tests.adapters.broker import broker_of_meter_and_cem
from tests.adapters.fault_proxy import FaultProxy
from tests.adapters.field import CLOCK, running
from tests.adapters.modbus_server import Server
from tests.adapters.modbus_server import device as modbus_device
from tests.adapters.opcua_secure_server import URI, SecureServer
from tests.adapters.serial_line import SerialLine

NAN = float("nan")
POLL_S = 0.2


class Peer:
    """A meter that imports 4 A on each phase until told otherwise; ``saying`` is changed in place, ``say`` puts it out."""

    sees_frequency = True

    def __init__(self) -> None:
        self.name = type(self).__name__
        self.saying = {"v": [230.0] * 3, "a": [4.0] * 3, "w": [920.0] * 3, "p": 2760.0, "hz": 50.0, "wh": 10_000.0}

    async def say(self, **values: object) -> None:
        """Currents alone bring the powers that belong to them; a negative one is given as a current that feeds in."""
        if "a" in values and "w" not in values:
            values["w"] = [v * a for v, a in zip(values.get("v", self.saying["v"]), values["a"], strict=True)]
        if "w" in values and "p" not in values:
            values["p"] = sum(values["w"])
        self.saying.update(values)
        await self._put()

    async def _put(self) -> None:
        raise NotImplementedError

    async def silence(self) -> None:
        raise NotImplementedError

    async def speak(self) -> None:
        raise NotImplementedError


class _Sdm630(Peer):
    def registers(self) -> dict[int, list[int]]:
        say = self.saying
        floats = {52: [say["p"]], 70: [say["hz"], say["wh"] / 1000]}
        floats[0] = [*say["v"], *(abs(a) for a in say["a"]), *say["w"]]
        return {at: [*struct.unpack(f">{2 * len(f)}H", struct.pack(f">{len(f)}f", *f))] for at, f in floats.items()}

    def image(self) -> dict[int, list[int]]:
        words = [0] * 80
        for at, some in self.registers().items():
            words[at : at + len(some)] = some
        return {0: words}


class ModbusTcp(_Sdm630):
    async def start(self, stack: AsyncExitStack, _folder: Path) -> dict:
        self._server = await stack.enter_async_context(Server(modbus_device(1, self.image())))
        self.proxy = await stack.enter_async_context(FaultProxy(self._server.port))
        at = {"kind": "modbus_tcp", "host": "127.0.0.1", "port": self.proxy.port, "timeout_s": 0.5}
        return {"model": "eastron_sdm630", "connection": at}

    async def _put(self) -> None:
        for at, words in self.registers().items():
            await self._server.set(1, at, words)

    async def silence(self) -> None:
        self.proxy.black_hole = True

    async def speak(self) -> None:
        self.proxy.black_hole = False
        self.proxy.drop()


class ModbusRtu(_Sdm630):
    async def start(self, stack: AsyncExitStack, _folder: Path) -> dict:
        self.line = await stack.enter_async_context(SerialLine(modbus_device(1, self.image())))
        at = {"kind": "modbus_rtu", "port": self.line.port, "baudrate": 115_200, "timeout_s": 0.3}
        return {"model": "eastron_sdm630", "connection": at}

    async def _put(self) -> None:
        for at, words in self.registers().items():
            await self.line.set(1, at, words)

    async def silence(self) -> None:
        self.line.swallow = lambda _request: True

    async def speak(self) -> None:
        self.line.swallow = None


class Mqtt(Peer):
    sees_frequency = False

    async def start(self, stack: AsyncExitStack, folder: Path) -> dict:
        self._broker = broker_of_meter_and_cem(folder)
        stack.callback(self._broker.kill)
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.tls_set(f"{folder}/ca.pem", f"{folder}/meter.pem", f"{folder}/meter.key")
        self._client.connect("127.0.0.1", self._broker.port, 5)
        self._client.loop_start()
        stack.callback(self._client.loop_stop)
        stack.callback(self._client.disconnect)
        self._silent = False
        speaking = asyncio.create_task(self._speak())
        stack.callback(speaking.cancel)
        values = {"total_power_w": {"topic": "meter/em", "path": "p"}, "energy_wh": {"topic": "meter/em", "path": "wh"}}
        for n in (1, 2, 3):
            for name, path in ((f"voltage_l{n}_v", "v"), (f"current_l{n}_a", "a"), (f"power_l{n}_w", "w")):
                values[name] = {"topic": "meter/em", "path": f"{path}.{n - 1}"}
        at = {
            "kind": "mqtt", "host": "127.0.0.1", "port": self._broker.port, "tls": True, "ca_file": f"{folder}/ca.pem",
            "certificate_file": f"{folder}/cem.pem", "key_file": f"{folder}/cem.key",
        }  # fmt: skip
        return {"values": values, "connection": at}

    async def _speak(self) -> None:
        while True:
            if not self._silent:
                self._client.publish("meter/em", json.dumps(self.saying))
            await asyncio.sleep(POLL_S)

    async def _put(self) -> None:
        await asyncio.sleep(0)

    async def silence(self) -> None:
        self._silent = True

    async def speak(self) -> None:
        self._silent = False


class OpcUa(Peer):
    sees_frequency = False

    async def start(self, stack: AsyncExitStack, folder: Path) -> dict:
        self._server = await asyncio.to_thread(SecureServer, folder)
        stack.callback(self._server.kill)
        (folder / "pki" / "trusted").mkdir(parents=True)
        shutil.copy(folder / "server.der", folder / "pki" / "trusted")
        shutil.copy(own_identity(folder / "pki")[0], folder / "clients" / "cem.der")
        self.proxy = await stack.enter_async_context(FaultProxy(self._server.port))
        await self._put()
        at = {
            "kind": "opcua", "endpoint": f"opc.tcp://127.0.0.1:{self.proxy.port}/meter", "namespace_uri": URI,
            "security": "sign_and_encrypt", "username": "cem", "password": "right", "pki_folder": str(folder / "pki"),
        }  # fmt: skip
        nodes = {"total_power_w": {"node": "Objects/Em/p1"}, "energy_wh": {"node": "Objects/Em/wh1"}}
        for n in (1, 2, 3):
            for name, node in ((f"voltage_l{n}_v", "v"), (f"current_l{n}_a", "a"), (f"power_l{n}_w", "w")):
                nodes[name] = {"node": f"Objects/Em/{node}{n}"}
        return {"nodes": nodes, "connection": at}

    async def _put(self) -> None:
        say = self.saying | {"p": [self.saying["p"]], "wh": [self.saying["wh"]]}
        flat = {f"{key}{n}": value for key in ("v", "a", "w", "p", "wh") for n, value in enumerate(say[key], 1)}
        await asyncio.to_thread(self._server.tell, "em " + json.dumps(flat, separators=(",", ":")))

    async def silence(self) -> None:
        self.proxy.black_hole = True

    async def speak(self) -> None:
        self.proxy.black_hole = False
        self.proxy.drop()


KINDS = (ModbusTcp, ModbusRtu, Mqtt, OpcUa)


@asynccontextmanager
async def all_of_them(folder: Path, kinds=KINDS, **section) -> AsyncIterator[list[tuple[Peer, object]]]:
    """Peers with the adapters that hear them, all running at once; the device is called ``meter``."""
    async with AsyncExitStack() as stack:
        found = []
        for kind in kinds:
            peer = kind()
            (folder / peer.name).mkdir()
            more = await peer.start(stack, folder / peer.name)
            device = Device.model_validate({"id": "meter", "role": "grid_meter", "poll_s": POLL_S, **more, **section})
            adapter = adapters.create(device.connection.kind, device.connection, [device], CLOCK, lambda: None)
            await stack.enter_async_context(running(adapter))
            found.append((peer, adapter))
        yield found
