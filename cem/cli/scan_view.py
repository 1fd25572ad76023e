"""What ``cem scan`` found, as a piece of a site file or as JSON."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapters.announced import KINDS, Announced
from adapters.modbus.maps import known_models, load_map
from adapters.modbus.scan import Found
from adapters.opcua.scan import Endpoint
from cem.config.modbus_models import ModbusConnection, ModbusRtu

_ROLES = {"meter": "grid_meter", "pv": "pv", "battery": "battery"}


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a scan found.

    Attributes:
        modbus: Units that answer.
        servers: OPC UA servers.
        announced: Services by mDNS.
        waiting: Stations of the controller's waiting room, as its API tells them.
    """

    modbus: tuple[Found, ...]
    servers: tuple[Endpoint, ...]
    announced: tuple[Announced, ...]
    waiting: tuple[dict[str, Any], ...]


def snippet(found: Scanned) -> str:
    """Everything as a piece of a site file; what is not known stays a comment."""
    devices = [*_modbus(found.modbus), *(line for each in found.servers for line in _server(each))]
    stations = [line for each in found.modbus for line in _wallboxes(each)]
    stations += [line for each in found.waiting for line in _station(each)]
    lines = [
        f"# {printable(one.name)} announces {KINDS[one.kind]} at {one.host}:{one.port} {printable(one.about)}".rstrip()
        for one in found.announced
    ]
    lines += ["devices:", *devices] if devices else []
    lines += ["stations:", *stations] if stations else []
    return "\n".join(lines) if lines else "# nothing answered"


def printable(text: str) -> str:
    """What a stranger says of himself, on one line of a comment."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _server(found: Endpoint) -> Iterator[str]:
    security, policy = found.securities[0] if found.securities else ("none", "")
    ways = ", ".join(f"{mode} {name}".strip() for mode, name in found.securities) or "nothing that we speak"
    yield f"  # OPC UA: {printable(found.name)}; it offers {ways}"
    where = re.sub(r"[^A-Za-z0-9_.-]", "_", found.url.partition("//")[2])
    yield f"  - id: {f'opcua_{where}'[:48]}"
    yield "    role: grid_meter  # or what it is"
    yield "    connection:"
    yield "      kind: opcua"
    yield f"      endpoint: {json.dumps(found.url)}"
    if security != "none":
        yield f"      security: {security}"
        yield f"      policy: {policy}"
    if found.by_password and not found.anonymous:
        yield "      username: USER"
        yield "      password: !secret OPCUA_PASSWORD"
    yield "      # namespace_uri: and below the node of each value, from the server's documents"
    yield "    nodes:"
    yield "      total_power_w: {node: Objects/NAME}"


def _station(waiting: dict[str, Any]) -> Iterator[str]:
    about = " ".join(printable(str(waiting.get(key) or "")) for key in ("vendor", "model"))
    yield f"  # waits: {about.strip() or 'unknown maker'}, OCPP {waiting.get('ocpp_version') or '?'}; see cem station approve"
    yield f"  - id: {json.dumps(str(waiting['id']))}"
    yield "    zone: ZONE"
    yield "    breaker_a: 32  # its own breaker, per phase"


def _modbus(found: Sequence[Found]) -> list[str]:
    lines = []
    for each in found:
        at = each.connection
        where = at.port if isinstance(at, ModbusRtu) else f"{at.host}:{at.port}"
        if not each.models:
            lines.append(f"  # {where} unit {at.unit_id} answers, but no known map fits; name its model yourself")
            continue
        proposals = [(model, role) for model in each.models if (role := _ROLES.get(load_map(model).device))]
        if each.about and proposals:
            lines.append(f"  # {each.about}")
        for model, role in proposals:
            lines.append(f"  - id: {_name(each, model)}")
            lines.append(f"    role: {role}")
            lines.append(f"    connection: {{{', '.join(_connection(at))}}}")
            lines.append(f"    model: {model}{_unsure(model)}")
            if load_map(model).phases == 1:
                lines.append("    phases: 1")
            if each.max_w is not None and role in {"pv", "battery"}:
                lines.append(f"    max_w: {each.max_w:.0f}")
    return lines


def _wallboxes(found: Found) -> Iterator[str]:
    for model in found.models:
        if load_map(model).device in _ROLES:
            continue
        yield f"  # {found.about}"
        yield f"  - id: {_name(found, model)}"
        yield "    zone: ZONE"
        yield "    breaker_a: 32  # its own breaker, per phase"
        yield "    modbus:"
        yield f"      connection: {{{', '.join(_connection(found.connection))}}}"
        yield f"      model: {model}{_unsure(model)}"


def _unsure(model: str) -> str:
    return "" if known_models()[model] else "  # this map could not be checked: compare with the display"


def _connection(at: ModbusConnection) -> Iterator[str]:
    yield f"kind: {at.kind}"
    for key, value in at.model_dump(exclude={"kind", "timeout_s"}).items():
        yield f"{key}: {value}"


def _name(found: Found, model: str) -> str:
    at = found.connection
    where = at.port.rpartition("/")[2] if isinstance(at, ModbusRtu) else at.host.rpartition(".")[2]
    return re.sub(r"[^A-Za-z0-9_.:-]", "_", f"{model}_{where}_{at.unit_id}")[:48]


def as_json(found: Scanned) -> list[dict[str, Any]]:
    """For programs."""
    modbus = [
        {
            "protocol": "modbus",
            "connection": each.connection.model_dump(),
            "models": list(each.models),
            "about": each.about,
            "max_w": each.max_w,
        }
        for each in found.modbus
    ]
    servers = [{"protocol": "opcua", **asdict(each)} for each in found.servers]
    heard = [{"protocol": "mdns", **asdict(each)} for each in found.announced]
    waiting = [{"protocol": "ocpp", **each} for each in found.waiting]
    return [*modbus, *servers, *heard, *waiting]
