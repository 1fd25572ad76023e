"""``cem device``: the field devices of a site file, one at a time, without the controller."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from adapters.modbus.link import where_of
from adapters.modbus.maps import known_models, load_map
from adapters.modbus.wallbox import device_of
from adapters.probes import probe_for
from adapters.reading import Probe, Reading
from cem.cli.device_report import BAD, GOOD, Report, judge
from cem.clock import SystemClock
from cem.config.loader import load_site_file
from cem.config.modbus_models import ModbusConnection
from cem.config.models import Device, Virtual
from cem.config.mqtt_models import MqttBroker
from cem.config.opcua_models import OpcUaServer
from cem.errors import CemError

EXIT_BAD = 1
CLOSING_S = 30.0  # longest wait for a reading that was asked for in time
EXIT_REMARKS = 3

File = Annotated[Path, typer.Argument(help="The site file.", show_default=False)]
Names = Annotated[list[str] | None, typer.Argument(help="Devices; all where left out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

T = TypeVar("T")
_CLOCK = SystemClock()


def device_list(file: File, json_output: AsJson = False) -> None:
    """List the devices of a site file, stations by Modbus among them, and what their maps are."""
    rows = [_described(device) for device in _devices(file)]
    if json_output:
        print(json.dumps(rows, indent=2))
        return
    table = Table("device", "role", "where", "unit", "map", "checked", "may be written")
    for row in rows:
        checked = {True: "yes", False: "no", None: ""}[row["verified"]]
        table.add_row(row["id"], row["role"], row["where"], str(row["unit"] or ""), row["title"] or "", checked,
                      ", ".join(row["writes"]))  # fmt: skip
    Console(highlight=False).print(table)


def device_read(
    file: File,
    names: Names = None,
    points: Annotated[bool, typer.Option("--points", help="Every SunSpec point the device has.")] = False,
    json_output: AsJson = False,
) -> None:
    """Read devices once; exit 1 where one gives no sample."""
    failed = False
    shown: list[dict[str, Any]] = []
    for device in _chosen(file, names):

        async def once(probe: Probe, device: Device = device) -> tuple[Reading, list[Any]]:
            reading = await probe.read(device.id)
            return reading, await probe.models(device.id) if points and reading.answered else []

        reading, models = _with_probe(device, once)
        failed = failed or reading.measurement is None
        shown.append(_as_json(device, reading) | {"points": {str(m.number): m.values for m in models}})
        if not json_output:
            print(_line(device, reading))
            for model in models:
                for name, value in model.values.items():
                    print(f"  {model.number}.{name}: {value}")
    if json_output:
        print(json.dumps(shown, indent=2))
    raise typer.Exit(EXIT_BAD if failed else 0)


def device_watch(
    file: File,
    names: Names = None,
    seconds: Annotated[float, typer.Option(min=0, help="Stop after this long; 0 goes on.")] = 0,
    json_output: AsJson = False,
) -> None:
    """Read devices again and again, each at its own period, a line a reading; Ctrl-C ends it."""
    devices = _chosen(file, names)
    for device, reading in _series(devices, seconds or float("inf")):
        if json_output:
            print(json.dumps(_as_json(device, reading)), flush=True)
        else:
            print(f"{time.strftime('%H:%M:%S')} {_line(device, reading)}", flush=True)


def device_test(
    file: File,
    names: Names = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long each line is watched.")] = 20,
    json_output: AsJson = False,
) -> None:
    """Watch devices for a while and give a verdict: exit 0 good, 3 with remarks, 1 not usable."""
    devices = _chosen(file, names)
    readings: dict[str, list[Reading]] = {device.id: [] for device in devices}
    for device, reading in _series(devices, seconds):
        readings[device.id].append(reading)
        if sys.stderr.isatty():
            print(f"\r{sum(map(len, readings.values()))} reads", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    reports = [
        judge(
            device,
            readings[device.id],
            verified=known_models().get(device.model or "", True),
            now_s=_CLOCK.monotonic_s(),
        )
        for device in devices
        if readings[device.id]
    ]
    if json_output:
        print(json.dumps([asdict(report) | {"verdict": report.verdict} for report in reports], indent=2))
    else:
        for report in reports:
            _show(report)
    verdicts = {report.verdict for report in reports}
    raise typer.Exit(
        EXIT_BAD if BAD in verdicts else 0 if verdicts <= {GOOD} and len(reports) == len(devices) else EXIT_REMARKS
    )


def device_write(
    file: File,
    device_id: Annotated[str, typer.Argument(help="The device.", show_default=False)],
    name: Annotated[str, typer.Argument(help="What to set, see cem device list.", show_default=False)],
    value: Annotated[float, typer.Argument(help="In its unit; W in load convention.", show_default=False)],
    confirm: Annotated[bool, typer.Option("--confirm", help="Really write.")] = False,
    json_output: AsJson = False,
) -> None:
    """Set one value of a device and read it back. Negative values: put -- before them."""
    (device,) = _chosen(file, [device_id])
    if not confirm:
        raise CemError(f"would set {name} of {device_id} to {value:g}; say --confirm to do it")
    held = _with_probe(device, lambda probe: probe.write(device.id, name, value))
    if json_output:
        print(json.dumps({"device": device_id, "name": name, "asked": value, "held": held}))
    else:
        print(f"{device_id}: {name} is {held:g}")


def _devices(file: Path) -> list[Device]:
    """Those of the site file, and its stations by Modbus."""
    site = load_site_file(file, known_models=known_models()).file
    return [*site.devices, *(device_of(station) for station in site.stations if station.modbus is not None)]


def _chosen(file: Path, names: list[str] | None) -> list[Device]:
    devices = _devices(file)
    if not names:
        chosen = [device for device in devices if not isinstance(device.connection, Virtual)]
        if not chosen:  # a site without meters is a good one: nothing failed
            print(f"{file} has no devices to ask", file=sys.stderr)
        return chosen
    by_id = {device.id: device for device in devices}
    for name in names:
        if name not in by_id:
            raise CemError(f"no device {name!r} in {file}; there are {', '.join(by_id) or 'none'}")
        if isinstance(by_id[name].connection, Virtual):
            raise CemError(f"{name} is worked out from other devices; ask those")
    return [by_id[name] for name in names]


def _with_probe(device: Device, work: Callable[[Probe], Awaitable[T]]) -> T:
    async def run() -> T:
        async with probe_for([device], _CLOCK) as probe:
            return await work(probe)

    return asyncio.run(run())


def _series(devices: list[Device], seconds: float) -> Iterator[tuple[Device, Reading]]:
    """Readings of all devices, each line by one connection, as they come."""
    lines: dict[tuple[object, ...], list[Device]] = {}
    for device in devices:
        if not isinstance(device.connection, Virtual):
            lines.setdefault(device.connection.line, []).append(device)
    end_s = _CLOCK.monotonic_s() + seconds
    with asyncio.Runner() as runner:
        readings: asyncio.Queue[tuple[Device, Reading] | None] = asyncio.Queue()

        async def ask(probe: Probe, members: list[Device]) -> None:
            due_s = {device.id: _CLOCK.monotonic_s() for device in members}
            while (now_s := _CLOCK.monotonic_s()) < end_s:
                device = min(members, key=lambda each: due_s[each.id])
                if (pause_s := due_s[device.id] - now_s) > 0:
                    await asyncio.sleep(min(pause_s, end_s - now_s))
                    continue
                reading = await probe.read(device.id)
                readings.put_nowait((device, reading))
                period_s = device.poll_s if probe.one_at_a_time or not reading.answered else 0.0
                due_s[device.id] = max(due_s[device.id] + period_s, _CLOCK.monotonic_s())

        async def line(members: list[Device]) -> None:
            try:
                async with probe_for(members, _CLOCK) as probe, asyncio.timeout(seconds + CLOSING_S):
                    parts = [members] if probe.one_at_a_time else [[device] for device in members]
                    async with asyncio.TaskGroup() as group:
                        for part in parts:
                            group.create_task(ask(probe, part))
            finally:
                readings.put_nowait(None)

        async def begin() -> list[asyncio.Task[None]]:
            return [asyncio.create_task(line(members)) for members in lines.values()]

        tasks = runner.run(begin())
        for _ in tasks:
            while (item := runner.run(readings.get())) is not None:
                yield item
        for task in tasks:
            runner.run(_ended(task))


async def _ended(task: asyncio.Task[None]) -> None:
    await task


def _described(device: Device) -> dict[str, Any]:
    connection = device.connection
    known = device.model is not None and isinstance(connection, ModbusConnection)
    device_map = load_map(device.model) if known and device.model else None
    return {
        "id": device.id,
        "role": "wallbox" if device_map is not None and device_map.device == "wallbox" else device.role,
        "where": _where(device),
        "unit": connection.unit_id if isinstance(connection, ModbusConnection) else None,
        "model": device.model,
        "title": device_map.title if device_map else None,
        "verified": device_map.verified if device_map else None,
        "writes": sorted(device_map.writes if device_map else {**device.write_topics, **device.write_nodes}),
    }


def _where(device: Device) -> str:
    match device.connection:
        case MqttBroker(host=host, port=port):
            return f"mqtt {host}:{port}"
        case OpcUaServer(endpoint=endpoint):
            return endpoint
        case Virtual(formulas=formulas):
            return f"worked out: {formulas[0]}"
        case modbus:
            return where_of(modbus)


def _as_json(device: Device, reading: Reading) -> dict[str, Any]:
    measured = None if reading.measurement is None else asdict(reading.measurement)
    return {
        "device": device.id,
        "problem": reading.problem,
        "latency_ms": None if reading.latency_s is None else round(1000 * reading.latency_s, 1),
        "measurement": measured,
        "values": dict(reading.values),
    }


def _line(device: Device, reading: Reading) -> str:
    found = reading.measurement
    if found is None:
        return reading.problem or f"{device.id}: no sample"
    told = [f"{device.id}:"]
    if found.total_power_w is not None:
        told.append(f"{found.total_power_w:.0f} W")
    for unit, values in (("A", found.current_a), ("W", found.power_w), ("V", found.voltage_v)):
        if values is not None:
            told.append(f"{values.l1:.1f} {values.l2:.1f} {values.l3:.1f} {unit}")
    if found.soc_percent is not None:
        told.append(f"{found.soc_percent:.0f} %")
    if found.energy_wh is not None:
        told.append(f"{found.energy_wh / 1000:.1f} kWh")
    latency = [] if reading.latency_s is None else [f"({1000 * reading.latency_s:.0f} ms)"]
    return " ".join((told[0], ", ".join(told[1:]), *latency))


def _show(report: Report) -> None:
    print(f"{report.device_id}: {report.verdict}")
    figures = {name: value for name, value in report.figures.items() if value is not None}
    print("  " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    for text in (*report.bad, *report.remarks):
        print(f"  - {text}")
