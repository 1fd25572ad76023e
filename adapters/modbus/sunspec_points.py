"""Everything a SunSpec device says of itself: every point of every model it has, for people and for a scan."""

from dataclasses import dataclass, field

from adapters.modbus.decode import Request, decode_words, exponent_of
from adapters.modbus.sunspec import Read, layout_of, read_chain, text_of

MOST_AT_ONCE = 100


@dataclass(frozen=True)
class Model:
    """One model of a device's chain.

    Attributes:
        values: Numbers in the model's units, texts; what is not implemented is left out.
    """

    number: int
    address: int
    length: int
    values: dict[str, float | str] = field(default_factory=dict)


async def read_models(read: Read, device: str, only: frozenset[int] | None = None) -> list[Model]:
    """Read the models of a device; of a repeating group nothing but how often it is there.

    Args:
        read: Reads holding registers of the device.
        device: For messages.
        only: These models; ``None`` reads all.

    Raises:
        DeviceMisconfigured: It speaks no SunSpec.
        DeviceUnavailable: It stopped answering.
    """
    models = []
    for number, (address, length) in (await read_chain(read, device)).items():
        model = Model(number, address, length)
        if only is None or number in only:
            words: list[int] = []
            while len(words) < length + 2:
                count = min(MOST_AT_ONCE, length + 2 - len(words))
                words += await read(Request("holding", address + len(words), count))
            model.values.update(values_of(number, words))
        models.append(model)
    return models


def values_of(number: int, words: list[int]) -> dict[str, float | str]:
    """The points of one model out of its words, ID register first; empty for a maker's own model."""
    values: dict[str, float | str] = {}
    try:
        points = layout_of(number)
    except FileNotFoundError:
        return values
    for name, (offset, size, kind, scale) in points.items():
        if offset + size > len(words) or name in {"ID", "L"} or kind in {"sunssf", "pad"}:
            continue
        raw = words[offset : offset + size]
        if kind == "string":
            if text := text_of(raw):
                values[name] = text
            continue
        number_read = decode_words(kind, raw)
        exponent = 0
        if isinstance(scale, str):
            found = exponent_of(words[points[scale][0]]) if points[scale][0] < len(words) else None
            if found is None:
                continue
            exponent = found
        if number_read is not None:
            values[name] = number_read * 10.0**exponent
    return values
