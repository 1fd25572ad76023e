"""Register images of real devices, transcribed from their sources and not from our maps (``register_images``)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.adapters.modbus_server import device

FOLDER = Path(__file__).parent / "register_images"
NEAR = 130  # no request is longer


@dataclass(frozen=True)
class Image:
    """One device: what its registers hold, and what we should make of it.

    Attributes:
        readable_gaps: Registers between the known ones read as 0; else such a read is refused, as some devices do.
        identified: A scan can tell it.
    """

    model: str
    role: str
    phases: int
    unit: int
    readable_gaps: bool
    identified: bool
    registers: dict[int, list[int]]
    expect: dict[str, Any]
    writes: list[dict[str, Any]]

    def served(self, unit: int | None = None):
        """The device, for a server."""
        return device(self.unit if unit is None else unit, self.blocks())

    def blocks(self) -> dict[int, list[int]]:
        """Runs of registers by their first address."""
        runs: dict[int, list[int]] = {}
        start = None
        for address in sorted(self.registers):
            end = None if start is None else start + len(runs[start])
            if end is not None and (address == end or (self.readable_gaps and address - end < NEAR)):
                runs[start] += [0] * (address - end) + self.registers[address]
            else:
                start = address
                runs[start] = list(self.registers[address])
        return runs


def load(model: str) -> Image:
    data = yaml.safe_load((FOLDER / f"{model}.yaml").read_text("utf-8"))
    return Image(
        model=data["model"],
        role=data["role"],
        phases=data["phases"],
        unit=data["unit"],
        readable_gaps=data["gaps"] == "readable",
        identified=data["identified"],
        registers=data["registers"],
        expect=data["expect"],
        writes=data.get("writes", []),
    )


MODELS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
