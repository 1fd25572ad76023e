"""What a station says is wrong with it: 1.6 by the error code of a status, 2.x by a status or by events of its device model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cem.csms.actions import Action, Emit
from cem.csms.metering import items
from cem.csms.moment import Now, ocpp_time
from cem.csms.pace import Pace
from cem.csms.parsing import member, whole, words

MOST = 50
"""Faults of one station that are kept."""
SHOWN = 80


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, or is so no longer.

    Attributes:
        place: What tells it apart from other faults of the station: EVSE and connector, or EVSE, component and variable.
        evse: 0 is the station itself.
        code: The station's word for it; ``None``: it is over.
        info: What else the station says.
    """

    place: str
    evse: int
    code: str | None
    info: str = ""


def of_status(evse: int, connector: int, code: str | None, *more: Any) -> Fault:
    """The fault in the status of a connector; ``None`` as code: it tells of none."""
    return Fault(f"{evse}/{connector}", evse, code, _joined(more))


def of_events(payload: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults that a NotifyEvent tells of (OCPP 2.0.1 N07): events with a ``techCode``, and the variable ``Problem``."""
    for event in items(payload.get("eventData")):
        component, variable = event.get("component"), event.get("variable")
        code, named = words(event.get("techCode")), words(member(variable, "name")) or "?"
        evse = whole(member(member(component, "evse"), "id")) or 0
        words_of_place = (
            member(component, "name"), member(component, "instance"), named, member(variable, "instance"),
        )  # fmt: skip
        place = f"{evse}/" + ".".join(str(word)[:50] for word in words_of_place if word)
        over = event.get("cleared") is True or (named == "Problem" and event.get("actualValue") == "false")
        if over:
            yield Fault(place, evse, None)
        elif code is not None or named == "Problem":
            yield Fault(place, evse, code or "Problem", _joined((member(component, "name"), event.get("techInfo"))))


class Faults:
    """The faults of one station, told to people when they come and go.

    Args:
        station_id: Identity.
        out: Where actions go.
    """

    def __init__(self, station_id: str, out: list[Action]) -> None:
        self._station_id = station_id
        self._out = out
        self._active: dict[str, tuple[Fault, str]] = {}
        self._pace = Pace(1 / 30, 20, 20)

    def told(self, fault: Fault, now: Now) -> None:
        """A station told of a fault, or of its end."""
        known = self._active.get(fault.place)
        if fault.code is None:
            if known is not None:
                del self._active[fault.place]
                self._tell("station_fault_over", known[0], "no longer reports", now)
            return
        is_news = known is None or known[0].code != fault.code
        has_room = known is not None or len(self._active) < MOST
        if is_news and has_room:
            self._active[fault.place] = (fault, ocpp_time(now.utc))
            self._tell("station_fault", fault, "reports", now)

    def booted(self) -> None:
        """The station starts anew and will say again what is wrong."""
        self._active.clear()

    def status(self) -> list[dict[str, Any]]:
        """For the API."""
        return [
            {"evse": fault.evse or None, "code": _shown(fault.code), "info": fault.info, "since": since}
            for fault, since in self._active.values()
        ]

    def _tell(self, code: str, fault: Fault, says: str, now: Now) -> None:
        if not self._pace.take(now.s):  # a loose contact must not fill the history
            return
        where = f" EVSE {fault.evse}" if fault.evse else ""
        more = f" ({fault.info})" if fault.info and code == "station_fault" else ""
        text = f"{self._station_id}{where} {says} {_shown(fault.code)}{more}"
        evse = f"{self._station_id}/{fault.evse}" if fault.evse else None
        self._out.append(Emit(code, text, {"evse": evse, "said": _shown(fault.code)}))


def _joined(more: Any) -> str:
    return ", ".join(_shown(word) for word in more if words(word) is not None)


def _shown(word: Any) -> str:
    return "".join(c for c in str(word)[:SHOWN] if c.isprintable())
