"""Find SunSpec models in a device and lay out the points a map picks from them.

SunSpec Device Information Model Specification: the marker "SunS" stands at one of three base addresses; after it come
models, each as ID, length and that many registers, until ID 0xFFFF. Point offsets come from the SunSpec Alliance's own
definitions, which pysunspec2 carries as JSON.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from adapters.modbus.decode import WIDTH, Layout, Point, Request, WritePoint, grouped, sign_of
from cem.config.maps import RegisterType, SunSpecMap, SunSpecPick
from cem.errors import DeviceMisconfigured, DeviceRefused

BASES = (40_000, 50_000, 0)
MARKER = [0x5375, 0x6E53]  # "SunS"
END = 0xFFFF
MOST_MODELS = 64  # a chain longer than this is noise
_BATTERY_INPUT = re.compile(r"(st(dis)?cha|bat|storage)", re.IGNORECASE)
_PLAIN: dict[str, RegisterType] = {
    "enum16": "uint16", "bitfield16": "uint16", "count": "uint16", "enum32": "uint32", "bitfield32": "uint32",
}  # fmt: skip

Read = Callable[[Request], Awaitable[list[int]]]


async def discover(read: Read, device_map: SunSpecMap, device: str) -> Layout:
    """Walk the device's chain and lay out what the map picks.

    Args:
        read: Reads holding registers of this device.
        device_map: Which models and points.
        device: For messages.

    Raises:
        DeviceMisconfigured: It speaks no SunSpec, or lacks a model the map needs.
        DeviceUnavailable: It stopped answering.
    """
    chain = await read_chain(read, device)
    points: list[Point] = []
    unsigned = False
    for pick in device_map.picks:
        model = next((model for model in pick.models if model in chain), None)
        if model is not None:
            summed = {point.name for point in points if point.add}
            points.extend(point for point in _points(model, *chain[model], pick) if point.name not in summed)
            points.extend(await _module_points(read, model, *chain[model], pick))
            unsigned = unsigned or pick.unsigned_currents
        elif pick.required:
            raise _not_of_this_kind(device, chain, pick.models)
    if device_map.one_of and not set(device_map.one_of) & set(chain):
        raise _not_of_this_kind(device, chain, device_map.one_of)
    requests = grouped(points, max_count=device_map.max_count, max_gap=device_map.max_gap)
    return Layout(tuple(points), requests, unsigned, writes=_writes(device_map, chain))


def _not_of_this_kind(device: str, chain: Iterable[int], models: Iterable[int]) -> DeviceMisconfigured:
    has = ", ".join(str(model) for model in chain)
    needs = ", ".join(str(model) for model in models)
    return DeviceMisconfigured(
        f"{device}: has SunSpec models {has} but none of {needs}; check its model in the site file and its unit id"
    )


async def read_chain(read: Read, device: str) -> Mapping[int, tuple[int, int]]:
    """Every model's first place in the chain: ID to address of its ID register and its length."""
    address = await _first_model(read, device)
    found: dict[int, tuple[int, int]] = {}
    for _ in range(MOST_MODELS):
        if address + 2 > 0x1_0000:
            break
        model, length = await read(Request("holding", address, 2))
        if model == END:
            break
        found.setdefault(model, (address, length))
        address += 2 + length
    return found


async def _first_model(read: Read, device: str) -> int:
    for base in BASES:
        try:
            words = await read(Request("holding", base, 2))
        except DeviceRefused:  # no such register: try the next base
            continue
        if words == MARKER:
            return base + 2
    raise DeviceMisconfigured(
        f"{device}: no SunSpec marker at holding registers {', '.join(str(base) for base in BASES)}; "
        "switch SunSpec on in the device, or check its unit id and model"
    )


def _writes(device_map: SunSpecMap, chain: Mapping[int, tuple[int, int]]) -> dict[str, WritePoint]:
    found: dict[str, WritePoint] = {}
    for name, write in device_map.writes.items():
        model = next((model for model in write.points if model in chain), None)
        if model is None:
            continue
        base, length = chain[model]
        offset, kind, scale_point = _offsets(model)[write.points[model]]
        scale_offset = _offsets(model)[scale_point][0] if scale_point else None
        if max(offset + WIDTH[kind], (scale_offset or 0) + 1) > length + 2:
            continue
        reference = next((each for each in write.percent_of if each in chain), None)
        if write.percent_of and reference is None:
            continue  # a percentage of nobody knows what
        percent_of = None
        if reference is not None:
            at, (of, of_kind, of_scale) = chain[reference][0], _offsets(reference)[write.percent_of[reference]]
            percent_of = (at + of, of_kind, None if of_scale is None else at + _offsets(reference)[of_scale][0])
        found[str(name)] = WritePoint(
            name=name,
            address=base + offset,
            type=kind,
            scale=write.scale,
            valid=write.valid,
            scale_address=None if scale_offset is None else base + scale_offset,
            read_back=(base + offset, kind),
            percent_of=percent_of,
        )
    return found


def _points(model: int, address: int, length: int, pick: SunSpecPick) -> list[Point]:
    offsets = _offsets(model)
    points = []
    for name, point_name in pick.values.items():
        if "." in point_name:
            continue
        offset, kind, scale_point = offsets[point_name]
        scale_offset = offsets[scale_point][0] if scale_point else None
        if max(offset + WIDTH[kind], (scale_offset or 0) + 1) > length + 2:
            continue  # an older, shorter edition of the model
        points.append(
            Point(
                name=name,
                table="holding",
                address=address + offset,
                type=kind,
                scale=sign_of(name, pick.positive, unsigned=pick.unsigned_currents),
                scale_address=None if scale_offset is None else address + scale_offset,
            )
        )
    return points


async def _module_points(read: Read, model: int, address: int, length: int, pick: SunSpecPick) -> list[Point]:
    """Points of a repeating group (``module.DCW`` of model 160), to be summed; inputs of a battery are left out."""
    points = []
    for name, point_name in pick.values.items():
        group, dot, inner = point_name.partition(".")
        if not dot:
            continue
        head, size, inside = _repeating(model, group)
        for start in range(address + head, address + 2 + length - size + 1, size):
            label = await read(Request("holding", start + inside["IDStr"][0], 8))
            if _BATTERY_INPUT.match(text_of(label)):
                continue
            offset, kind, scale_point = inside[inner]
            points.append(
                Point(
                    name=name,
                    table="holding",
                    address=start + offset,
                    type=kind,
                    scale=sign_of(name, pick.positive, unsigned=pick.unsigned_currents),
                    scale_address=address + _offsets(model)[scale_point][0] if scale_point else None,
                    add=True,
                )
            )
    return points


def text_of(words: Iterable[int]) -> str:
    """ASCII, two letters a register, up to the first zero."""
    raw = b"".join(word.to_bytes(2, "big") for word in words)
    return raw.split(b"\0")[0].decode("ascii", "replace").strip()


@cache
def _repeating(model: int, group: str) -> tuple[int, int, Mapping[str, tuple[int, RegisterType, str | None]]]:
    """Registers before a repeating group, of one turn of it, and its points."""
    top = _definition(model)
    (found,) = (each for each in top["groups"] if each["name"] == group)
    head = sum(point["size"] for point in top["points"])
    return head, sum(point["size"] for point in found["points"]), _laid_out(found["points"])


@cache
def _definition(model: int) -> Any:
    text = files("sunspec2").joinpath(f"models/json/model_{model}.json").read_text(encoding="utf-8")
    return json.loads(text)["group"]


@cache
def _offsets(model: int) -> Mapping[str, tuple[int, RegisterType, str | None]]:
    """Point name to its offset from the model's ID register, its type, and the name of its scale factor."""
    return _laid_out(_definition(model)["points"])


@cache
def layout_of(model: int) -> Mapping[str, tuple[int, int, Any, str | int | None]]:
    """Every point of a model: offset from its ID register, registers, type, and its scale factor's name.

    Raises:
        FileNotFoundError: No such model is defined.
    """
    offset = 0
    found: dict[str, tuple[int, int, Any, str | int | None]] = {}
    for point in _definition(model)["points"]:
        found[point["name"]] = (offset, point["size"], _PLAIN.get(point["type"], point["type"]), point.get("sf"))
        offset += point["size"]
    return found


def _laid_out(points: list[Any]) -> dict[str, tuple[int, RegisterType, str | None]]:
    offset = 0
    found: dict[str, tuple[int, RegisterType, str | None]] = {}
    for point in points:
        kind: Any = point["type"]
        found[point["name"]] = (offset, _PLAIN.get(kind, kind), point.get("sf"))
        offset += point["size"]
    return found
