"""MQTT load of the field benchmark: 500 meters, each a JSON message of nine values twice a second: 1,000 messages/s.

Debian's mosquitto and the meters are processes of their own; where it is not installed the load is left out.
"""

import asyncio
import ctypes
import getpass
import json
import signal
import subprocess
import tempfile
from pathlib import Path

import paho.mqtt.client as paho

import adapters
from adapters.simulated.mqtt_meter import find_mosquitto
from cem.clock import SystemClock
from cem.config.models import Device
from tests.adapters.broker import free_port

DEVICES = 500
PER_S = 2
TURN_S = 0.01
PATHS = {f"{name}_l{n}_{unit}": f"em.{name}.{n - 1}" for name, unit in (("power", "w"), ("current", "a"), ("voltage", "v"))
         for n in (1, 2, 3)}  # fmt: skip


def available() -> bool:
    return find_mosquitto() is not None


async def peer() -> None:
    """Broker and meters until killed; prints the port."""
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
        # as the user that we are: to change it would undo PR_SET_PDEATHSIG
        config.write(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n")
        config.flush()
        Path(config.name).chmod(0o644)
        libc = ctypes.CDLL("libc.so.6")
        broker = subprocess.Popen(
            [find_mosquitto(), "-c", config.name],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # PR_SET_PDEATHSIG: it dies with us, however we die
            preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),  # noqa: PLW1509 - no other thread runs yet
        )
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        for _ in range(200):
            await asyncio.sleep(0.02)
            try:
                client.connect("127.0.0.1", port)
            except OSError:
                continue
            break
        client.loop_start()
        print(port, flush=True)
        loop = asyncio.get_running_loop()
        began_s, said = loop.time(), 0
        while broker.poll() is None:
            await asyncio.sleep(TURN_S)
            while said < (loop.time() - began_s) * DEVICES * PER_S:
                number, turn = said % DEVICES, said // DEVICES
                watts = 1000.0 + turn % 100
                document = {
                    "em": {"power": [watts] * 3, "current": [watts / 230] * 3, "voltage": [230.0, 231.0, 229.0]}
                }
                client.publish(f"meter/{number}", json.dumps(document))
                said += 1


async def ours(ports: list[int]) -> list:
    """One adapter for the broker and all meters."""
    connection = {"kind": "mqtt", "host": "127.0.0.1", "port": ports[0]}
    devices = [
        Device.model_validate(
            {
                "id": f"q{number}",
                "role": "zone_meter",
                "connection": connection,
                "values": {name: {"topic": f"meter/{number}", "path": path} for name, path in PATHS.items()},
            }
        )
        for number in range(DEVICES)
    ]
    return [adapters.create("mqtt", devices[0].connection, devices, SystemClock(), lambda: None)]


async def bare(ports: list[int]) -> None:
    """The library alone, its callback reading the same nine numbers."""
    latest: dict[str, tuple[float, ...]] = {}

    def heard(_client, _userdata, message) -> None:
        em = json.loads(message.payload)["em"]
        latest[message.topic] = tuple(float(em[name][n]) for name in ("power", "current", "voltage") for n in range(3))

    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_message = heard
    client.connect("127.0.0.1", ports[0])
    client.subscribe([(f"meter/{number}", 0) for number in range(DEVICES)])
    client.loop_start()
    await asyncio.Event().wait()
