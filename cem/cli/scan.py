"""``cem scan``: what is at the addresses that are named, as a piece of a site file.

Modbus devices, OPC UA servers, what announces itself by mDNS there, and the stations in the controller's waiting room.
"""

import asyncio
import ipaddress
import json
import re
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from adapters.announced import KINDS, Announced, announced
from adapters.modbus.scan import Found, is_open, scan_line
from adapters.opcua.scan import Endpoint, endpoints
from cem.cli.ask import DEFAULT_URL, Url, get
from cem.cli.scan_view import Scanned, as_json, snippet
from cem.config.modbus_models import ModbusConnection, ModbusRtu, ModbusRtuTcp, ModbusTcp
from cem.errors import CemError

MOST_ADDRESSES = 1024
AT_ONCE = 32
EXIT_NOTHING = 1
OPCUA = "opc.tcp://"
OPCUA_PORT = 4840


def scan(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="Addresses, names, or networks such as 192.168.1.0/24; HOST:PORT and opc.tcp://... too."),
    ] = None,
    serial: Annotated[str | None, typer.Option("--serial", help="A serial port instead, such as /dev/ttyUSB0.")] = None,
    port: Annotated[list[int] | None, typer.Option(help="TCP ports to try for Modbus.")] = None,
    units: Annotated[str, typer.Option(help="Unit ids to try, such as 1-5,71,247.")] = "1-3,71,100,126,240,247,255",
    rtu: Annotated[bool, typer.Option("--rtu", help="The TCP ports pass RTU frames on.")] = False,
    baudrate: Annotated[list[int] | None, typer.Option(help="Serial speeds to try.")] = None,
    parity: Annotated[str, typer.Option(help="Serial parity: N, E or O.")] = "N",
    timeout: Annotated[float, typer.Option(min=0.05, max=5, help="Longest wait for an answer, s.")] = 0.5,
    listen: Annotated[
        float,
        typer.Option("--listen", min=0, max=60, help="Networks: listen so long for announcements (mDNS), s; 0: not."),
    ] = 4.0,
    url: Url = DEFAULT_URL,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask the addresses you name, and no others, who is there; prints devices for a site file."""
    if bool(targets) == bool(serial):
        raise CemError("name addresses to scan, or a serial port with --serial")
    chosen = targets or []
    with asyncio.Runner() as runner:
        heard = runner.run(_heard(chosen, listen))
        if serial:
            lines = _serial_lines(serial, baudrate or [9600, 19200], parity, unit_ids(units))
        else:
            hosts = [target for target in chosen if not target.startswith(OPCUA)]
            told = [(one.host, one.port) for one in heard if one.kind == "_modbus._tcp.local."]
            where = dict.fromkeys([*addresses(hosts, port or [502]), *told])
            lines = _tcp_lines(list(where), unit_ids(units), rtu=rtu)
        servers = runner.run(_servers(opcua_urls(chosen, heard), timeout))
        modbus = runner.run(_all(lines, timeout, at_once=1 if serial else AT_ONCE))
    found = Scanned(tuple(modbus), tuple(servers), tuple(heard), () if serial else _waiting(url))
    print(json.dumps(as_json(found), indent=2) if json_output else snippet(found))
    raise typer.Exit(0 if any(each.models for each in modbus) or servers or heard or found.waiting else EXIT_NOTHING)


async def _heard(targets: Sequence[str], seconds: float) -> list[Announced]:
    """Announcements of what is inside the networks that are named, and of nobody else."""
    networks = [ipaddress.ip_network(target, strict=False) for target in targets if _is_network(target)]
    if not networks or not seconds:
        return []

    def named(one: Announced) -> bool:
        return any(ipaddress.ip_address(one.host) in network for network in networks)

    def tell(one: Announced) -> None:
        if named(one):
            say(f"{one.name} announces {KINDS[one.kind]} at {one.host}:{one.port}")

    try:
        return [one for one in await announced(seconds, tell) if named(one)]
    except OSError as error:
        say(f"nobody can be heard announcing himself ({error}); going on without")
        return []


def _is_network(target: str) -> bool:
    return "/" in target and not target.startswith(OPCUA)


def opcua_urls(targets: Sequence[str], heard: Sequence[Announced]) -> list[str]:
    """Where OPC UA servers may be: at the usual port of every host, where one is announced, and where one is named."""
    bare = [target for target in targets if not target.startswith(OPCUA)]
    usual = [f"{OPCUA}{host}:{port}" for host, port in addresses(bare, [OPCUA_PORT]) if port == OPCUA_PORT]
    told = [f"{OPCUA}{one.host}:{one.port}" for one in heard if one.kind == "_opcua-tcp._tcp.local."]
    return list(dict.fromkeys([*(t for t in targets if t.startswith(OPCUA)), *told, *usual]))


async def _servers(urls: Sequence[str], timeout_s: float) -> list[Endpoint]:
    found: dict[str, Endpoint] = {}
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(url: str) -> None:
        where = urlsplit(url)
        async with gate:
            if await is_open(where.hostname or "", where.port or OPCUA_PORT, timeout_s):
                for each in await endpoints(url, max(2.0, timeout_s)):  # a busy PLC takes its time
                    if each.url not in found:
                        say(f"{each.name or 'an OPC UA server'} at {each.url}")
                    found.setdefault(each.url, each)

    async with asyncio.TaskGroup() as group:
        for url in urls:
            group.create_task(one(url))
    return sorted(found.values(), key=lambda each: each.url)


def _waiting(url: str) -> tuple[dict[str, Any], ...]:
    """Stations that dialed in and that the site file does not name."""
    try:
        return tuple(get(url, "/api/v1/stations")["waiting_room"])
    except (CemError, KeyError, TypeError):
        say(f"no controller answers at {url}: which stations wait is not known (--url)")
        return ()


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


async def _all(lines: Sequence[Sequence[ModbusConnection]], timeout_s: float, *, at_once: int) -> list[Found]:
    found: list[Found] = []
    done = 0
    gate = asyncio.Semaphore(at_once)  # a serial port has one owner at a time

    async def one(connections: Sequence[ModbusConnection]) -> None:
        nonlocal done
        async with gate:
            async for each in _line(connections, timeout_s):
                found.append(each)
                say(f"{each.about or 'something'} at {each.connection.model_dump(exclude={'kind', 'timeout_s'})}")
            done += 1
            say(f"{done} of {len(lines)} addresses asked", passing=True)

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
        say(str(error))


def say(text: str, *, passing: bool = False) -> None:
    if passing and not sys.stderr.isatty():
        return
    print(f"\r{text}\x1b[K" if passing else text, end="" if passing else "\n", file=sys.stderr, flush=True)
