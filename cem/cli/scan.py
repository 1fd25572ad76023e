"""``cem scan``: which Modbus devices are at the addresses that are named, as a piece of a site file."""

import asyncio
import ipaddress
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any

import typer

from adapters.modbus.maps import known_models, load_map
from adapters.modbus.scan import Found, is_open, scan_line
from cem.config.models import ModbusConnection, ModbusRtu, ModbusRtuTcp, ModbusTcp
from cem.errors import CemError

MOST_ADDRESSES = 1024
AT_ONCE = 32
EXIT_NOTHING = 1

_ROLES = {"meter": "grid_meter", "pv": "pv", "battery": "battery", "wallbox": "household_meter"}


def scan(
    targets: Annotated[
        list[str] | None, typer.Argument(help="Addresses, names, or networks such as 192.168.1.0/24; HOST:PORT too.")
    ] = None,
    serial: Annotated[str | None, typer.Option("--serial", help="A serial port instead, such as /dev/ttyUSB0.")] = None,
    port: Annotated[list[int] | None, typer.Option(help="TCP ports to try.")] = None,
    units: Annotated[str, typer.Option(help="Unit ids to try, such as 1-5,71,247.")] = "1-3,71,100,126,240,247,255",
    rtu: Annotated[bool, typer.Option("--rtu", help="The TCP ports pass RTU frames on.")] = False,
    baudrate: Annotated[list[int] | None, typer.Option(help="Serial speeds to try.")] = None,
    parity: Annotated[str, typer.Option(help="Serial parity: N, E or O.")] = "N",
    timeout: Annotated[float, typer.Option(min=0.05, max=5, help="Longest wait for an answer, s.")] = 0.5,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask the addresses you name, and no others, who is there; prints devices for a site file."""
    if bool(targets) == bool(serial):
        raise CemError("name addresses to scan, or a serial port with --serial")
    if serial:
        lines = _serial_lines(serial, baudrate or [9600, 19200], parity, unit_ids(units))
    else:
        lines = _tcp_lines(addresses(targets or [], port or [502]), unit_ids(units), rtu=rtu)
    found = asyncio.run(_all(lines, timeout, at_once=1 if serial else AT_ONCE))
    if json_output:
        print(json.dumps([_as_json(each) for each in found], indent=2))
    else:
        print(snippet(found))
    raise typer.Exit(0 if any(each.models for each in found) else EXIT_NOTHING)


def _serial_lines(port: str, speeds: Sequence[int], parity: str, units: Sequence[int]) -> list[list[ModbusConnection]]:
    try:
        return [
            [
                ModbusRtu.model_validate(
                    {"kind": "modbus_rtu", "port": port, "baudrate": speed, "parity": parity, "unit_id": unit}
                )
                for unit in units
                if 1 <= unit <= 247
            ]
            for speed in speeds
        ]
    except ValueError as error:
        raise CemError(
            f"cannot scan {port} so: a serial port is /dev/NAME, parity N, E or O, a speed one of 1200, 2400 ... 115200"
        ) from error


def _tcp_lines(where: Sequence[tuple[str, int]], units: Sequence[int], *, rtu: bool) -> list[list[ModbusConnection]]:
    lines: list[list[ModbusConnection]] = []
    for host, port in where:
        if rtu:
            lines.append(
                [
                    ModbusRtuTcp(kind="modbus_rtu_tcp", host=host, port=port, unit_id=unit)
                    for unit in units
                    if 1 <= unit <= 247
                ]
            )
        else:
            lines.append([ModbusTcp(kind="modbus_tcp", host=host, port=port, unit_id=unit) for unit in units])
    return lines


def unit_ids(text: str) -> list[int]:
    """``1-3,71`` as numbers.

    Raises:
        CemError: It is not of that form.
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:-(\d{1,3}))?\s*", part)
        if match is None or int(match[2] or match[1]) > 255:
            raise CemError(f"unit ids are written such as 1-5,71, up to 255; not {text!r}")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found


def addresses(targets: Sequence[str], ports: Sequence[int]) -> list[tuple[str, int]]:
    """Every host and port that the targets name.

    Raises:
        CemError: A network is too large to be meant.
    """
    found: list[tuple[str, int]] = []
    for target in targets:
        if "/" in target:
            try:
                network = ipaddress.ip_network(target, strict=False)
            except ValueError as error:
                raise CemError(f"{target!r} is not a network such as 192.168.1.0/24") from error
            if network.num_addresses > MOST_ADDRESSES:
                raise CemError(f"{target} has {network.num_addresses} addresses; name at most {MOST_ADDRESSES}")
            found += [(str(host), port) for host in network.hosts() for port in ports]
            continue
        host, colon, port = target.rpartition(":")
        if colon and port.isdigit() and ":" not in host:
            found.append((host, int(port)))
        else:
            found += [(target, port) for port in ports]
    return found


def snippet(found: Sequence[Found]) -> str:
    """The devices as a piece of a site file; what is not known stays a comment."""
    lines = ["devices:"]
    for each in found:
        at = each.connection
        where = at.port if isinstance(at, ModbusRtu) else f"{at.host}:{at.port}"
        if not each.models:
            lines.append(f"  # {where} unit {at.unit_id} answers, but no known map fits; name its model yourself")
            continue
        if each.about:
            lines.append(f"  # {each.about}")
        for model, role in _proposals(each):
            lines.append(f"  - id: {_name(each, model)}")
            wallbox = load_map(model).device == "wallbox"
            lines.append(f"    role: {role}" + ("  # a wallbox, read as a meter" if wallbox else ""))
            lines.append(f"    connection: {{{', '.join(_connection(at))}}}")
            unsure = "" if known_models()[model] else "  # this map could not be checked: compare with the display"
            lines.append(f"    model: {model}{unsure}")
            if load_map(model).phases == 1:
                lines.append("    phases: 1")
            if each.max_w is not None and role in {"pv", "battery"}:
                lines.append(f"    max_w: {each.max_w:.0f}")
    return "\n".join(lines) if len(lines) > 1 else "# nothing answered"


def _connection(at: ModbusConnection) -> Iterator[str]:
    yield f"kind: {at.kind}"
    for key, value in at.model_dump(exclude={"kind", "timeout_s"}).items():
        yield f"{key}: {value}"


def _proposals(found: Found) -> list[tuple[str, str]]:
    return [(model, _ROLES[load_map(model).device]) for model in found.models]


def _name(found: Found, model: str) -> str:
    at = found.connection
    where = at.port.rpartition("/")[2] if isinstance(at, ModbusRtu) else at.host.rpartition(".")[2]
    return re.sub(r"[^A-Za-z0-9_.:-]", "_", f"{model}_{where}_{at.unit_id}")[:48]


def _as_json(found: Found) -> dict[str, Any]:
    return {
        "connection": found.connection.model_dump(),
        "models": list(found.models),
        "about": found.about,
        "max_w": found.max_w,
    }


async def _all(lines: Sequence[Sequence[ModbusConnection]], timeout_s: float, *, at_once: int) -> list[Found]:
    found: list[Found] = []
    done = 0
    gate = asyncio.Semaphore(at_once)  # a serial port has one owner at a time

    async def one(connections: Sequence[ModbusConnection]) -> None:
        nonlocal done
        async with gate:
            async for each in _line(connections, timeout_s):
                found.append(each)
                _say(f"{each.about or 'something'} at {each.connection.model_dump(exclude={'kind', 'timeout_s'})}")
            done += 1
            _say(f"{done} of {len(lines)} addresses asked", passing=True)

    async with asyncio.TaskGroup() as group:
        for connections in lines:
            group.create_task(one(connections))
    return sorted(found, key=lambda each: str(each.connection))


async def _line(connections: Sequence[ModbusConnection], timeout_s: float) -> AsyncIterator[Found]:
    first = connections[0]
    if not isinstance(first, ModbusRtu) and not await is_open(first.host, first.port, timeout_s):
        return
    try:
        async for each in scan_line(connections, timeout_s):
            if each is not None:
                yield each
    except CemError as error:
        _say(str(error))


def _say(text: str, *, passing: bool = False) -> None:
    if passing and not sys.stderr.isatty():
        return
    print(f"\r{text}\x1b[K" if passing else text, end="" if passing else "\n", file=sys.stderr, flush=True)
