"""The table of what is publicly known of stations (``adapters/ocpp/quirks.yaml``)."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, TypeAdapter

from cem.config.basics import Section
from cem.csms.personality import Quirk


class QuirkRow(Section):
    """One row; every row names the pages that say so."""

    vendor: str = Field(min_length=1)
    model: str = Field(min_length=1)
    firmware: str = "*"
    rungs: tuple[Annotated[str, Field(pattern=r"^(tx|tx_default|station_max)/")], ...] = ()
    max_level: int | None = Field(None, ge=0)
    units: tuple[Literal["A", "W"], ...] = ()
    zero_ends: bool = False
    loses: tuple[Literal["reconnect", "resume"], ...] = ()
    note: str = Field(min_length=1)
    sources: tuple[Annotated[str, Field(pattern=r"^https://")], ...] = Field(min_length=1)


def read_quirks(path: Path) -> tuple[Quirk, ...]:
    """The rows of a table, in order; the first that knows something is believed.

    Raises:
        ValidationError: A row is not as it should be.
    """
    rows = TypeAdapter(tuple[QuirkRow, ...]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    return tuple(Quirk(**row.model_dump()) for row in rows)
