"""What every section of a site file is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:\-]{0,47}$")]
PositiveA = Annotated[float, Field(gt=0, le=6300)]
CurrentA = Annotated[float, Field(ge=0, le=6300)]
PositiveS = Annotated[float, Field(gt=0, le=86_400)]
PowerW = Annotated[float, Field(ge=0, le=100_000_000)]
Port = Annotated[int, Field(ge=1, le=65_535)]


class Section(BaseModel):
    """Base of every section: unknown keys are refused, numbers are not guessed from strings."""

    model_config = ConfigDict(extra="forbid", frozen=True)
