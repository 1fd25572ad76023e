"""The demo's site file and the free ports it is served on."""

import os
import shutil
import socket
from importlib import resources
from pathlib import Path

import yaml

from cem.errors import CemError

PORTS = ("METER", "GARAGE", "PV", "BATTERY", "MQTT", "OCPP", "CLOUD", "OPCUA", "WEB")

WITHOUT_BROKER = (
    "There is no MQTT broker here (mosquitto is not installed): the household meter comes by Modbus instead. "
    "On Debian: apt-get install mosquitto"
)

_MODBUS_HOUSE = """
id: house
role: household_meter
connection: {kind: modbus_tcp, host: 127.0.0.1, port: !env CEM_DEMO_MQTT_PORT, unit_id: 1}
model: eastron_sdm630
poll_s: 1
"""


def free_ports(folder: Path) -> dict[str, str]:
    """The environment for both processes: a free port for every address in the demo's site file."""
    sockets = [socket.socket() for _ in PORTS]
    try:
        for it in sockets:
            it.bind(("127.0.0.1", 0))
        ports = {f"CEM_DEMO_{name}_PORT": str(it.getsockname()[1]) for name, it in zip(PORTS, sockets, strict=True)}
    finally:
        for it in sockets:
            it.close()
    return {**os.environ, **ports, "CEM_DEMO_VAR": str(folder / "var")}


def demo_site_file(folder: Path) -> tuple[Path, str | None]:
    """Where the demo's site file is, and a remark for people.

    Where there is no MQTT broker a variant is written to ``folder`` whose household meter speaks Modbus.

    Raises:
        CemError: It is neither in a checkout nor in the installed package.
    """
    shipped = shipped_site_file()
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"  # Debian keeps daemons where PATH may not look
    if shutil.which("mosquitto", path=path) is not None:
        return shipped, None
    variant = folder / "demo.yaml"
    variant.write_text(without_broker(shipped.read_text(encoding="utf-8")), encoding="utf-8")
    return variant, WITHOUT_BROKER


def shipped_site_file() -> Path:
    """``demo.yaml`` beside the checkout, or as the wheel carries it.

    Raises:
        CemError: There is none.
    """
    package = Path(str(resources.files("cem")))
    for place in (package.parent / "site_configs" / "demo.yaml", package / "site_configs" / "demo.yaml"):
        if place.is_file():
            return place
    raise CemError(f"the demo's site file is missing from this installation (looked in {package}); install it again")


def without_broker(text: str) -> str:
    """A site file whose household meters on MQTT are replaced by one on Modbus, all else and every tag kept."""
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, section in tree.value if tree is not None else ():
        if key.value == "devices":
            section.value = [
                yaml.compose(_MODBUS_HOUSE, Loader=yaml.SafeLoader) if _is_mqtt(device) else device
                for device in section.value
            ]
    return str(yaml.serialize(tree, Dumper=yaml.SafeDumper))


def _is_mqtt(device: yaml.MappingNode) -> bool:
    connection = next((value for key, value in device.value if key.value == "connection"), None)
    if not isinstance(connection, yaml.MappingNode):
        return False
    return any(key.value == "kind" and value.value == "mqtt" for key, value in connection.value)
