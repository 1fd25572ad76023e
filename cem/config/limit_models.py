"""The keys of a site file for limits of the site's own: by the clock, and over groups of stations."""

from typing import Literal

from pydantic import Field

from cem.config.basics import CurrentA, Identifier, PowerW, Section


class ScheduledLimit(Section):
    """A limit that holds at certain times of the site's clock."""

    id: Identifier = Field(description="Name of the limit, shown as the source of what it binds.")
    kind: Literal["import", "export", "load", "generation"] = Field("import", description="As for external_limits.")
    zone: Identifier | None = Field(None, description="Root where left out.")
    value: float = Field(ge=0, le=100_000_000, description="The limit, in its unit.")
    unit: Literal["W", "kW", "A"] = Field("W", description="A is per phase.")
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = Field(
        ("mon", "tue", "wed", "thu", "fri", "sat", "sun"), min_length=1, description="Days on which it begins."
    )
    from_time: str = Field("00:00", description="Begin, in quotes, at a quarter of an hour.")
    to_time: str = Field("24:00", description="End; at or before from_time it is on the next day.")


class GroupSection(Section):
    """A limit on stations of several zones: a cable they share, a tenant's share."""

    id: Identifier = Field(description="Name of the group, shown where it binds.")
    stations: tuple[Identifier, ...] = Field(min_length=1, description="Its stations.")
    limit_a: CurrentA | None = Field(None, description="Most current of them together, per phase.")
    limit_w: PowerW | None = Field(None, description="Most power of them together.")
