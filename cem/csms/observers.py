"""CSMSs that see everything of a station and decide nothing: a second, reimbursing backend, say."""

from collections.abc import Sequence

from cem.csms.dialect import Dialect
from cem.csms.facts import Booted, Fact, StatusTold
from cem.csms.frames import Frame
from cem.csms.lane import Done, Priority
from cem.csms.moment import Now
from cem.csms.uplink import State, Uplink


class Observers:
    """The copies that go to them. What must not be lost is journaled for each; of the rest they miss what they miss."""

    def __init__(self, uplinks: Sequence[Uplink]) -> None:
        self._uplinks = uplinks

    def see(self, frame: Frame, fact: Fact | None, now: Now) -> None:
        """A CALL of the station that is not journaled; its answer is not theirs to give."""
        for uplink in self._uplinks:
            up = uplink.state is State.UP and uplink.usable
            if isinstance(fact, Booted):
                uplink.remember_boot(frame)
            if isinstance(fact, StatusTold):
                uplink.remember_status((fact.evse, fact.connector), frame, told=up)
            if up:
                uplink.relay(frame, frame.text, Priority.TELEMETRY, now.s, _answered(uplink, fact))

    def keep(self, frame: Frame, kind: str, local_id: str, dialect: Dialect, now: Now) -> None:
        """A message that was, or is about to be, acknowledged to the station."""
        for uplink in self._uplinks:
            begun = dialect.version != "1.6" or kind not in {"update", "stop"} or _knows(uplink, local_id)
            if begun and not uplink.repeats(frame) and not uplink.journal.refuses(kind):
                live = uplink.state is State.UP and uplink.usable
                uplink.hold_back(frame, kind, local_id, dialect.version, now, sent=live)


def _knows(uplink: Uplink, local_id: str) -> bool:
    """Whether it has heard the start of this transaction, or will; without, its id would be another's there (1.6)."""
    return uplink.ids.knows(local_id) or uplink.journal.holds(local_id) or uplink.journal.parks(local_id)


def _answered(uplink: Uplink, fact: Fact | None) -> Done:
    def done(answer: Frame | None, _now: Now) -> None:
        if answer is not None and isinstance(fact, Booted):
            uplink.remember_boot(None)

    return done
