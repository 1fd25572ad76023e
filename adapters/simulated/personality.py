"""What stations in the field do differently from the book."""

from dataclasses import dataclass

from adapters.simulated.profiles import HIGHEST_STACK_LEVEL, MAX


@dataclass(frozen=True, slots=True)
class Personality:
    """What a station does differently from the book.

    Attributes:
        ignore_limits: Says Accepted and charges with all it has.
        slow_s: Its pilot follows a new limit only after this.
        reconnect_s: Pause before it dials again, from and to.
        refuses: Purposes of profiles that it rejects (``Max``, ``TxDefault``, ``Tx``).
        highest_level: Stack level above which it rejects.
        units: Rate units it takes.
        zero_ends: A TxProfile of 0 ends its transaction.
        forgets_on_reconnect: All its profiles are gone after a reconnect.
        forgets_on_resume: All its profiles are gone when it goes on after a pause.
        phases: Phases that it really charges on; ``None``: as built.
        rotation: Grid phase behind each of its phases, whatever the site file says; ``None``: as that says.
        pipelines: Sends calls without waiting for the answer to the one before.
        boots_once: Never sends another BootNotification, not even after a power cut.
        mute: Actions that it never answers.
        idle_as_started: Its composite schedule while idle is that of a transaction which begins now.
        one_default: It keeps a single TxDefaultProfile, whatever their stack levels.
        keeps_ended: It does not heed the end of a schedule.
    """

    ignore_limits: bool = False
    slow_s: float = 0.0
    reconnect_s: tuple[float, float] = (1.0, 3.0)
    refuses: tuple[str, ...] = ()
    highest_level: int = HIGHEST_STACK_LEVEL
    units: tuple[str, ...] = ("A", "W")
    zero_ends: bool = False
    forgets_on_reconnect: bool = False
    forgets_on_resume: bool = False
    phases: int | None = None
    rotation: tuple[int, ...] | None = None
    pipelines: bool = False
    boots_once: bool = False
    mute: tuple[str, ...] = ()
    idle_as_started: bool = False
    one_default: bool = False
    keeps_ended: bool = False


ODD = {
    "rejects Max": Personality(refuses=(MAX,)),
    "only stack 0": Personality(highest_level=0),
    "only W": Personality(units=("W",)),
    "0 W means stop": Personality(units=("W",), zero_ends=True),
    "accepts and ignores": Personality(ignore_limits=True),
    "drops on reconnect": Personality(forgets_on_reconnect=True),
    "drops on resume": Personality(forgets_on_resume=True),
    "slow": Personality(slow_s=20.0),
    "single-phase": Personality(phases=1),
    "wrong rotation": Personality(phases=1, rotation=(1, 2, 0)),
    "pipelines calls": Personality(pipelines=True),
    "never boots again": Personality(boots_once=True),
}
"""Seen in the field, by name."""
