"""Device maps: what a Modbus device has in which register, as data (``adapters/modbus_maps``)."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from cem.config.basics import Section
from cem.config.models import ValueName
from cem.config.names import WriteName
from cem.errors import ConfigError, Problem

MapValue = ValueName | Literal["frequency_hz"]
"""What a map may name: everything that is measured, and the frequency, which is only checked."""

RegisterType = Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "acc32", "acc64"]
Address = Annotated[int, Field(ge=0, le=65_535)]
Table = Literal["input", "holding"]

SLOW_VALUES = ("energy_wh", "soc_percent")
"""What may be read seldom: nothing that control compares with something else of the same moment."""


class MapRegister(Section):
    """One value in a plain register map."""

    address: Address = Field(description="As sent in the request, counted from 0.")
    type: RegisterType
    table: Table | None = Field(None, description="The map's own where left out.")
    scale: float = Field(1.0, description="Multiplied with the number read.")
    scale_register: Address | None = Field(None, description="An int16 register with the power of ten to multiply by.")
    word_order: Literal["big", "little"] | None = Field(None, description="The map's own where left out.")
    valid: tuple[float, float] | None = Field(
        None, description="In our unit and sign; outside, the value counts as missing (the maker's own sentinels)."
    )
    poll: Literal["fast", "slow"] = Field("fast", description="slow: every half minute; for counters and charge.")


class MapWrite(Section):
    """One register that may be written."""

    address: Address = Field(description="Holding register, as sent in the request, counted from 0.")
    type: RegisterType
    scale: float = Field(1.0, description="Register times this is the value; a negative number turns the sign.")
    valid: tuple[float, float] = Field(description="What may be written, in our unit and sign.")
    function: Literal["single", "multiple"] = Field("multiple", description="Function code 6 or 16.")
    read_back: bool = Field(True, description="False where the register cannot be read and no other shows it.")
    read_address: Address | None = Field(None, description="Where it is read back, if not where it is written.")
    read_type: RegisterType | None = Field(None, description="Type there, if another.")
    settle_s: float = Field(0.0, ge=0, le=10, description="How long the device takes until it reads back.")
    codes: dict[int, int] = Field(
        default_factory=dict, description="What the register holds for each of our whole numbers; others are refused."
    )


class MapState(Section):
    """A register that tells in which state a wallbox is."""

    address: Address
    type: RegisterType = Field("uint16")
    table: Table | None = Field(None, description="The map's own where left out.")
    shift: int = Field(0, ge=0, le=63, description="Bits to the right of those that count.")
    mask: int = Field(0xFFFF_FFFF, ge=1, description="Of what is left, the bits that count.")
    one_of: tuple[int, ...] = Field(min_length=1, description="It is so while they are any of these.")

    def holds(self, number: float) -> bool:
        """Whether it is so by this number."""
        return (int(number) >> self.shift) & self.mask in self.one_of


class MapIdentity(Section):
    """How a scan recognises the device: registers that hold what no other device holds there."""

    address: Address
    table: Table | None = Field(None, description="The map's own where left out.")
    words: tuple[int, ...] = Field((), description="These very words.")
    one_of: tuple[int, ...] = Field((), description="One word that is any of these.")
    text: str | None = Field(None, description="ASCII, two letters a register, that begins like this.")
    low_byte_first: bool = Field(False, description="Of each register's two letters the second comes first.")
    count: int | None = Field(None, ge=1, le=125, description="So many registers must be asked for at once.")
    unit_id: int | None = Field(None, ge=0, le=255, description="Another unit of the same device tells it (TCP).")

    @model_validator(mode="after")
    def one_criterion(self) -> Self:
        """Exactly one of words, one_of and text."""
        if sum((bool(self.words), bool(self.one_of), bool(self.text))) != 1:
            raise ValueError("give one of words, one_of and text")
        return self


class SunSpecPick(Section):
    """Values out of the first of some SunSpec models that the device has."""

    models: tuple[int, ...] = Field(min_length=1)
    values: dict[MapValue, str] = Field(min_length=1, description="Value name to SunSpec point name.")
    positive: Literal["import", "export"] = "import"
    required: bool = Field(False, description="A device without it is not of this model.")
    unsigned_currents: bool = False


class SunSpecWrite(Section):
    """A point that may be written; the first of these models that the device has."""

    points: dict[int, str] = Field(min_length=1, description="Model to the point in it.")
    scale: float = Field(1.0, description="Point times this is the value; a negative number turns the sign.")
    valid: tuple[float, float] = Field(description="What may be written, in our unit and sign.")
    percent_of: dict[int, str] = Field(
        default_factory=dict,
        description="The point is a percentage of the power in this point; the first of these models that the device "
        "has. Ours is W then, and is never rounded up.",
    )


class MapBase(Section):
    """What every map says of itself."""

    title: str = Field(min_length=1)
    device: Literal["meter", "pv", "battery", "wallbox"] = Field("meter", description="What a scan proposes it for.")
    verified: bool = Field(description="Checked against the maker's document or two independent public sources.")
    sources: tuple[str, ...] = Field(min_length=1, description="Public documents the figures come from.")
    notes: str = ""
    phases: Literal[1, 3] = 3
    max_count: int = Field(125, ge=1, le=125, description="Most registers the device gives in one request.")
    max_gap: int = Field(8, ge=0, le=100, description="Unused registers worth reading to save a request.")
    lapses_s: float | None = Field(
        None, gt=0, description="A command that is not written anew for this long lapses in the device by itself."
    )
    connect_pause_s: float = Field(0.0, ge=0, le=10, description="After connecting it does not answer at once.")


class RegisterMap(MapBase):
    """A device with fixed registers."""

    kind: Literal["registers"]
    table: Table
    word_order: Literal["big", "little"] = Field("big", description="big: high word first.")
    positive: Literal["import", "export"] = Field("import", description="What the device counts as positive.")
    unsigned_currents: bool = Field(False, description="Currents are magnitudes; the power tells the direction.")
    values: dict[MapValue, MapRegister] = Field(min_length=1)
    writes: dict[WriteName, MapWrite] = Field(default_factory=dict)
    identify: tuple[MapIdentity, ...] = Field((), description="All must match.")
    plugged: MapState | None = Field(None, description="Wallbox: a car is plugged in.")
    charging: MapState | None = Field(None, description="Wallbox: it draws power.")

    @model_validator(mode="after")
    def only_counters_are_slow(self) -> Self:
        """Currents and powers are always of one moment."""
        if fast := [name for name, at in self.values.items() if at.poll == "slow" and name not in SLOW_VALUES]:
            raise ValueError(f"only {' and '.join(SLOW_VALUES)} may be polled slowly, not {', '.join(fast)}")
        return self


class SunSpecMap(MapBase):
    """A device that describes itself by SunSpec models."""

    kind: Literal["sunspec"]
    picks: tuple[SunSpecPick, ...] = Field(min_length=1, description="An earlier pick wins where two give a value.")
    one_of: tuple[int, ...] = Field((), description="A device with none of these models is not of this kind.")
    writes: dict[WriteName, SunSpecWrite] = Field(default_factory=dict)


DeviceMap = RegisterMap | SunSpecMap


class ModelBook(Mapping[str, bool]):
    """Every map by name with whether it was checked against its sources; a map itself is read when it is needed.

    Args:
        verified: As in each map.
        load: Reads one.
    """

    def __init__(self, verified: Mapping[str, bool], load: Callable[[str], DeviceMap]) -> None:
        self._verified, self.load = dict(verified), load

    def __getitem__(self, name: str) -> bool:
        """Whether it was checked."""
        return self._verified[name]

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._verified)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._verified)


def read_map(path: Path) -> DeviceMap:
    """Read one device map.

    Raises:
        ConfigError: With every problem the file has.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError((Problem(str(path), 1, 1, "", f"cannot be read as YAML: {error}"),)) from error
    model = SunSpecMap if isinstance(data, dict) and data.get("kind") == "sunspec" else RegisterMap
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(
            tuple(
                Problem(str(path), 1, 1, ".".join(str(part) for part in found["loc"]), found["msg"])
                for found in error.errors()
            )
        ) from error
