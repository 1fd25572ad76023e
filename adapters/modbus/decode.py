"""Register words to numbers and back. No I/O: points in, requests out; words in, values out."""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cem.config.maps import RegisterMap, RegisterType

WIDTH: dict[RegisterType, int] = {
    "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "acc32": 2, "float32": 2,
    "int64": 4, "uint64": 4, "acc64": 4, "float64": 4,
}  # fmt: skip
_FORMAT: dict[RegisterType, str] = {
    "int16": ">h", "uint16": ">H", "int32": ">i", "uint32": ">I", "acc32": ">I", "float32": ">f",
    "int64": ">q", "uint64": ">Q", "acc64": ">Q", "float64": ">d",
}  # fmt: skip
# "Not implemented" (SunSpec Device Information Model Specification, point types; most other makers do the same).
_MISSING: dict[RegisterType, int] = {
    "int16": -0x8000, "uint16": 0xFFFF, "int32": -0x8000_0000, "uint32": 0xFFFF_FFFF, "acc32": 0,
    "int64": -0x8000_0000_0000_0000, "uint64": 0xFFFF_FFFF_FFFF_FFFF, "acc64": 0,
}  # fmt: skip
_LARGEST_EXPONENT = 10  # SunSpec: a scale factor is -10 to 10


@dataclass(frozen=True, slots=True)
class Point:
    """Where one value lives and how it is written.

    Attributes:
        name: Name of the value, as in ``config.maps.MapValue``.
        table: ``input`` or ``holding``.
        address: From 0, as sent in the request.
        scale: Multiplied with the number; carries the sign.
        scale_address: Register of the power of ten, read together with the value because some devices change it.
        high_word_first: Word order of numbers wider than one register.
        valid: Smallest and largest number, after scaling, that means anything.
        slow: Worth reading only now and then.
        add: Points of the same name are summed, as far as they give numbers.
    """

    name: str
    table: str
    address: int
    type: RegisterType
    scale: float = 1.0
    scale_address: int | None = None
    high_word_first: bool = True
    valid: tuple[float, float] | None = None
    slow: bool = False
    add: bool = False


@dataclass(frozen=True, slots=True)
class WritePoint:
    """One holding register, or a few that make one number, that may be written.

    Attributes:
        name: As in ``config.names.WriteName``.
        scale: Register times this is the value.
        scale_address: Register of the power of ten, read before writing.
        valid: Smallest and largest value, after scaling.
        single: By function code 6 instead of 16.
        read_back: Address and type where the value shows; ``None`` where it shows nowhere.
        settle_s: How long the device takes until it shows there.
        percent_of: Address, type and scale factor's address of the power that the register is a percentage of.
        codes: What the register holds for each of our whole numbers.
    """

    name: str
    address: int
    type: RegisterType
    scale: float
    valid: tuple[float, float]
    scale_address: int | None = None
    high_word_first: bool = True
    single: bool = False
    read_back: tuple[int, RegisterType] | None = None
    settle_s: float = 0.0
    percent_of: tuple[int, RegisterType, int | None] | None = None
    codes: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One read of neighbouring registers."""

    table: str
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything needed to read one device.

    Attributes:
        points: Where two have the same name, the first that gives a number wins.
        requests: Reads of every sample.
        slow_requests: Reads worth making now and then.
        writes: What may be written, by name.
    """

    points: tuple[Point, ...]
    requests: tuple[Request, ...]
    unsigned_currents: bool = False
    slow_requests: tuple[Request, ...] = ()
    writes: Mapping[str, WritePoint] = field(default_factory=dict)


def plain_layout(device_map: RegisterMap) -> Layout:
    """The layout of a device with fixed registers."""
    points = tuple(
        Point(
            name=name,
            table=register.table or device_map.table,
            address=register.address,
            type=register.type,
            scale=register.scale * sign_of(name, device_map.positive, unsigned=device_map.unsigned_currents),
            scale_address=register.scale_register,
            high_word_first=(register.word_order or device_map.word_order) == "big",
            valid=register.valid,
            slow=register.poll == "slow",
        )
        for name, register in device_map.values.items()
    )
    points += tuple(
        Point(
            name=name,
            table=state.table or device_map.table,
            address=state.address,
            type=state.type,
            high_word_first=device_map.word_order == "big",
        )
        for name, state in (("plugged", device_map.plugged), ("charging", device_map.charging))
        if state is not None
    )
    writes = {
        str(name): WritePoint(
            name=name,
            address=register.address,
            type=register.type,
            scale=register.scale,
            valid=register.valid,
            high_word_first=device_map.word_order == "big",
            single=register.function == "single",
            read_back=(
                (register.address if register.read_address is None else register.read_address),
                register.read_type or register.type,
            )
            if register.read_back
            else None,
            settle_s=register.settle_s,
            codes=register.codes,
        )
        for name, register in device_map.writes.items()
    }
    limits = {"max_count": device_map.max_count, "max_gap": device_map.max_gap}
    return Layout(
        points,
        grouped((point for point in points if not point.slow), **limits),
        device_map.unsigned_currents,
        grouped((point for point in points if point.slow), **limits),
        writes,
    )


def sign_of(name: str, positive: str, *, unsigned: bool) -> float:
    """Load convention: import +, production -. The sign is turned here and nowhere else."""
    directed = name.startswith("power_") or name == "total_power_w" or (name.startswith("current_") and not unsigned)
    return -1.0 if directed and positive == "export" else 1.0


def grouped(points: Iterable[Point], *, max_count: int, max_gap: int) -> tuple[Request, ...]:
    """Reads that cover all points: near registers share one request, no number is split over two."""
    spans = sorted(
        {(point.table, point.address, WIDTH[point.type]) for point in points}
        | {(point.table, point.scale_address, 1) for point in points if point.scale_address is not None}
    )
    requests: list[Request] = []
    for table, address, width in spans:
        if requests:
            last = requests[-1]
            end = max(last.address + last.count, address + width)
            near = address - (last.address + last.count) <= max_gap
            if table == last.table and near and end - last.address <= max_count:
                requests[-1] = Request(table, last.address, end - last.address)
                continue
        requests.append(Request(table, address, width))
    return tuple(requests)


class Decoder:
    """Words to values, worked out once for a layout: one unpacking for each request, then scale and range.

    Args:
        points: What to decode. Where two have the same name, the first that gives a number wins.
        requests: What will be read; every point lies within one of them.
    """

    def __init__(self, points: Iterable[Point], requests: Sequence[Request]) -> None:
        self._unpackers: list[tuple[int, struct.Struct]] = []
        self._slots = 0
        places: dict[tuple[str, int, str, bool], int] = {}
        points = tuple(points)
        spans = {(p.table, p.address, p.type, p.high_word_first) for p in points}
        spans |= {(p.table, p.scale_address, "int16", True) for p in points if p.scale_address is not None}
        for number, request in enumerate(requests):
            inside = sorted(
                (address, kind, high)
                for table, address, kind, high in spans
                if table == request.table and request.address <= address < request.address + request.count
            )
            while inside:  # spans that overlap another go to a further unpacking
                inside = self._unpack(number, request, inside, places)
        self._steps = [
            (
                point,
                places[point.table, point.address, point.type, point.high_word_first],
                None if point.scale_address is None else places[point.table, point.scale_address, "int16", True],
                _MISSING.get(point.type),
                None if point.high_word_first or WIDTH[point.type] == 1 else point.type,
            )
            for point in points
        ]

    def _unpack(
        self,
        number: int,
        request: Request,
        spans: list[tuple[int, RegisterType, bool]],
        places: dict[tuple[str, int, str, bool], int],
    ) -> list[tuple[int, RegisterType, bool]]:
        form, at, left = ">", request.address, []
        for address, kind, high in spans:
            if address < at:
                left.append((address, kind, high))
                continue
            width = WIDTH[kind]
            whole = high or width == 1
            form += f"{2 * (address - at)}x" + (_FORMAT[kind][1:] if whole else "H" * width)
            places[request.table, address, kind, high] = self._slots
            self._slots += 1 if whole else width
            at = address + width
        self._unpackers.append((number, struct.Struct(form)))
        return left

    def decode(self, blocks: Sequence[bytes]) -> dict[str, float]:
        """Values by name; what is not implemented, out of its range, NaN or infinite is left out (M4).

        Args:
            blocks: The registers of each request, high byte first.
        """
        numbers: list[float] = []
        for number, unpacker in self._unpackers:
            numbers += unpacker.unpack_from(blocks[number])
        values: dict[str, float] = {}
        for point, slot, scale_slot, missing, turned in self._steps:
            name = point.name
            if name in values and not point.add:
                continue
            read = numbers[slot]
            if turned is not None:
                words = [int(word) for word in numbers[slot : slot + WIDTH[turned]]]
                (read,) = struct.unpack(_FORMAT[turned], struct.pack(f">{len(words)}H", *words[::-1]))
            if read == missing or not math.isfinite(read):
                continue
            value = read * point.scale
            if scale_slot is not None:
                if abs(numbers[scale_slot]) > _LARGEST_EXPONENT:
                    continue
                value *= 10.0 ** numbers[scale_slot]
            if point.valid is None or point.valid[0] <= value <= point.valid[1]:
                values[name] = value + (values.get(name, 0.0) if point.add else 0.0)
        return values


def block_of(words: Sequence[int]) -> bytes:
    """Registers as they came over the wire."""
    return struct.pack(f">{len(words)}H", *words)


def decode_words(kind: RegisterType, words: Sequence[int], *, high_word_first: bool = True) -> float | None:
    """One number out of its words; ``None`` where it is not implemented."""
    (number,) = struct.unpack(_FORMAT[kind], block_of(words if high_word_first else words[::-1]))
    return float(number) if math.isfinite(number) and number != _MISSING.get(kind) else None


def encode_words(kind: RegisterType, number: float, *, high_word_first: bool = True) -> list[int]:
    """The words of a number; whole numbers are rounded.

    Raises:
        ValueError: It does not fit.
    """
    try:
        raw = struct.pack(_FORMAT[kind], number if kind.startswith("float") else round(number))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{number:g} does not fit {kind}") from error
    words = list(struct.unpack(f">{len(raw) // 2}H", raw))
    return words if high_word_first else words[::-1]


def exponent_of(word: int) -> int | None:
    """The power of ten in a scale factor register; ``None`` where it is none."""
    exponent = word - 0x1_0000 if word >= 0x8000 else word
    return exponent if abs(exponent) <= _LARGEST_EXPONENT else None
