"""Every error the product raises on purpose.

Library exceptions become one of these at the adapter's edge. A message is for an installer: what happened, which
device, what was seen, what to try next.
"""

from dataclasses import dataclass


class CemError(Exception):
    """Base of every error this product raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in a site file.

    Attributes:
        file: Path of the file as the user named it.
        line: 1-based line of the offending key or value.
        column: 1-based column.
        path: Dotted path inside the document, for example ``zones[1].protection.rating_a``.
        message: What is wrong and what would be right.
        severity: ``error`` (the file is refused), ``warning``, or ``note``: how things are, nothing to mend.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    severity: str = "error"

    def __str__(self) -> str:
        """One line as editors and terminals can follow it: ``file:line:col: path: message``."""
        mark = "" if self.severity == "error" else f"{self.severity}: "
        where = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {mark}{where}{self.message}"


class ConfigError(CemError):
    """The site file cannot be used; carries every problem at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(p) for p in problems))


class AdapterError(CemError):
    """Something outside did not work; the message names the device."""


class DeviceUnavailable(AdapterError):
    """The device does not answer; trying again later may help."""


class DeviceRefused(AdapterError):
    """The device answered and said no."""


class DeviceMisconfigured(AdapterError):
    """The device answers, but not as the site file says it should."""
