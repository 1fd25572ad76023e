"""What was learned of one station: how it takes limits, and whether it lets go of them by itself. Kept over restarts.

It belongs to a vendor, model and firmware: another of these, and everything is learned anew. What is publicly known of a
model (``adapters/ocpp/quirks.yaml``) is where learning begins, never where it ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from cem.csms.ladder import DYNAMIC, Rung

NAME = "personality"


@dataclass(frozen=True, slots=True)
class Quirk:
    """What is publicly known of a model; patterns are as of file names, small letters.

    Attributes:
        rungs: Ways of asking that are refused or ignored, by the beginning of their names.
        max_level: Highest stack level it takes.
        units: Rate units it takes, where not both.
        zero_ends: A limit of 0 ends its transaction.
        loses: When it loses its limits: ``reconnect``, ``resume``.
        sources: Where that is written.
        note: For people.
    """

    vendor: str
    model: str
    sources: tuple[str, ...]
    firmware: str = "*"
    rungs: tuple[str, ...] = ()
    max_level: int | None = None
    units: tuple[str, ...] = ()
    zero_ends: bool = False
    loses: tuple[str, ...] = ()
    note: str = ""

    def fits(self, identity: Sequence[str]) -> bool:
        """Whether it speaks of a station that tells this vendor, model and firmware."""
        patterns = (self.vendor, self.model, self.firmware)
        return all(fnmatchcase(told.lower(), pattern) for told, pattern in zip(identity, patterns, strict=True))


@dataclass(slots=True)
class Personality:
    """One station as it was learned to be; ``None`` is not known.

    Attributes:
        identity: Vendor, model, firmware.
        way: The rung that works.
        bad: Rungs that were refused or ignored.
        max_level: Highest stack level, by its own word or publicly known.
        units: Rate units; empty where not known.
        switches_phases: By its own word.
        dead_man: A live limit ends by itself and its fallback takes over.
        dead_man_by: How that is known, or why it is not.
        idle: Why looking at it while idle did not tell; ``None`` where it did, or was not done yet.
        dynamic: It knows dynamic profiles, by its own word (2.1).
        dynamic_ends: Its composite schedule showed that such a profile ends when no update comes.
        no_offline_limit: It refuses ``maxOfflineDuration`` (2.1).
        zero_ends: A limit of 0 ends its transaction.
        ignores: It was seen to draw more than it had accepted.
        loses: When it lost its limit: ``reconnect``, ``resume``.
        reaction_s: From a cut to a draw that follows it, the longest seen of late.
        known: Publicly known of its model.
    """

    identity: tuple[str, str, str] = ("", "", "")
    way: str | None = None
    bad: tuple[str, ...] = ()
    max_level: int | None = None
    units: tuple[str, ...] = ()
    switches_phases: bool | None = None
    dead_man: bool | None = None
    dead_man_by: str = "not seen yet"
    idle: str | None = None
    dynamic: bool = False
    dynamic_ends: bool = False
    no_offline_limit: bool = False
    zero_ends: bool = False
    ignores: bool = False
    loses: tuple[str, ...] = ()
    reaction_s: float | None = None
    known: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As JSON keeps it, and as the API shows it."""
        return {name: getattr(self, name) for name in _FIELDS} | {"without_us": self.without_us}

    @property
    def without_us(self) -> str | None:
        """Why its maximum counts in every question of what happens when we die; ``None`` where it falls back by itself."""
        if self.ignores:
            return "it draws more than the limits that it accepts"
        if self.dead_man is False:
            return self.dead_man_by
        if self.dead_man is None and self.way is not None:
            return f"not proven: {self.dead_man_by}"
        if "resume" in self.loses:
            return "it loses its limits when it goes on after a pause"
        return None

    @property
    def keeps(self) -> bool:
        """It keeps to the limit that it has, as long as that lives."""
        return not self.ignores and "resume" not in self.loses

    def order(self, ladder: Sequence[Rung]) -> tuple[Rung, ...]:
        """The ladder with what works first and what does not last; a dynamic profile before what is as good."""

        def rank(rung: Rung) -> tuple[bool, bool, bool, bool]:
            return (
                rung.name != self.way,
                any(rung.name.startswith(bad) for bad in self.bad),
                bool(self.units) and rung.unit not in self.units,
                self.max_level is not None and rung.stack_level > self.max_level,
            )

        known = (DYNAMIC, *ladder) if self.dynamic and any(r.purpose is DYNAMIC.purpose for r in ladder) else ladder
        return tuple(sorted(known, key=rank))


_FIELDS = tuple(field.name for field in fields(Personality))


def begun(identity: tuple[str, str, str], quirks: Sequence[Quirk]) -> Personality:
    """A station nobody has met: what is publicly known of its model."""
    found = Personality(identity)
    for quirk in quirks:
        if quirk.fits(identity):
            found.bad += quirk.rungs
            found.max_level = quirk.max_level if found.max_level is None else found.max_level
            found.units = found.units or quirk.units
            found.loses += quirk.loses
            found.zero_ends = found.zero_ends or quirk.zero_ends
            found.known += (quirk.note, *quirk.sources)
    return found


def restored(kept: Any) -> Personality | None:
    """From what was kept; ``None`` where that cannot be read."""
    if not isinstance(kept, Mapping) or not isinstance(kept.get("identity"), list) or len(kept["identity"]) != 3:
        return None
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept.items() if k in _FIELDS}
    return Personality(**values)
