"""A site file as read: texts, lists and sections, each knowing where it was written. Nothing has a type yet."""

from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Where something is inside the document: ``("zones", 1, "protection", "rating_a")``."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; line and column are 1-based."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as written.

    Attributes:
        text: Its characters.
        quoted: It stood in quotes or as a text block.
        origin: The tag it came by (``!env NAME``, ``!secret NAME``); then its text is never shown to anybody.
    """

    text: str
    quoted: bool
    mark: Mark
    origin: str | None = None

    @property
    def is_null(self) -> bool:
        """Nothing, ``~`` or ``null``."""
        return not self.quoted and self.origin is None and self.text in {"", "~", "null", "Null", "NULL"}


@dataclass(frozen=True, slots=True)
class Pair:
    """One key and its value."""

    key: str
    key_mark: Mark
    value: "Tree"


@dataclass(frozen=True, slots=True)
class Section:
    """Keys with values."""

    pairs: tuple[Pair, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Listing:
    """A list."""

    items: tuple["Tree", ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Broken:
    """Something that could not be read and was already reported."""

    mark: Mark


Tree = Scalar | Section | Listing | Broken


def dotted(path: Path) -> str:
    """The path as people write it: ``zones[1].protection.rating_a``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + " ".join(part.split())[:60]
    return text
