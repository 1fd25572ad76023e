"""Device maps: what a Modbus device has in which register, as data (``adapters/modbus_maps``)."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError

from cem.config.models import Section, ValueName
from cem.errors import ConfigError, Problem

MapValue = ValueName | Literal["frequency_hz"]
"""What a map may name: everything that is measured, and the frequency, which is only checked."""

RegisterType = Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "acc32", "acc64"]
Address = Annotated[int, Field(ge=0, le=65_535)]


class MapRegister(Section):
    """One value in a plain register map."""

    address: Address = Field(description="As sent in the request, counted from 0.")
    type: RegisterType
    table: Literal["input", "holding"] | None = Field(None, description="The map's own where left out.")
    scale: float = Field(1.0, description="Multiplied with the number read.")
    scale_register: Address | None = Field(None, description="An int16 register with the power of ten to multiply by.")


class SunSpecPick(Section):
    """Values out of the first of some SunSpec models that the device has."""

    models: tuple[int, ...] = Field(min_length=1)
    values: dict[MapValue, str] = Field(min_length=1, description="Value name to SunSpec point name.")
    positive: Literal["import", "export"] = "import"
    required: bool = Field(False, description="A device without it is not of this model.")
    unsigned_currents: bool = False


class MapBase(Section):
    """What every map says of itself."""

    title: str = Field(min_length=1)
    verified: bool = Field(description="Checked against the maker's document or two independent public sources.")
    sources: tuple[str, ...] = Field(min_length=1, description="Public documents the figures come from.")
    notes: str = ""
    max_count: int = Field(125, ge=1, le=125, description="Most registers the device gives in one request.")
    max_gap: int = Field(8, ge=0, le=100, description="Unused registers worth reading to save a request.")


class RegisterMap(MapBase):
    """A device with fixed registers."""

    kind: Literal["registers"]
    table: Literal["input", "holding"]
    word_order: Literal["big", "little"] = Field("big", description="big: high word first.")
    positive: Literal["import", "export"] = Field("import", description="What the device counts as positive.")
    unsigned_currents: bool = Field(False, description="Currents are magnitudes; the power tells the direction.")
    values: dict[MapValue, MapRegister] = Field(min_length=1)


class SunSpecMap(MapBase):
    """A device that describes itself by SunSpec models."""

    kind: Literal["sunspec"]
    picks: tuple[SunSpecPick, ...] = Field(min_length=1, description="An earlier pick wins where two give a value.")


DeviceMap = RegisterMap | SunSpecMap


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
